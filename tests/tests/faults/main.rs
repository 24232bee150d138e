//! Is everything as it must be when something dies at any named point of any verb?
//!
//! Needs an extension with fault points. A fault point lets a process kill itself, fail, or stand
//! still until the test has done to it, or to the whole server, what it wants ([`ways`]). Every
//! test goes through a table of points ([`verbs`]) in a cluster of its own ([`ground`]) and fails
//! when a point is never reached.

mod ground;
mod verbs;
mod waiting;
mod ways;

use std::collections::HashSet;

use harness::wait::wait_until;

use ground::Ground;
use verbs::{
    BUILD, FLUSH, INSERT, INSERT_MANY, MERGE, REBUILD, REPACK, SWEEP, VACUUM, VERBS, Verb, churn,
    replace,
};
use ways::{WAYS, Way};

const DIMENSIONS: usize = 16;
const ROWS: usize = 300;

/// Invariant 1 of the architecture: a committed row is found by a scan from the next statement on,
/// whatever crashed in between.
#[test]
fn invariant_1_a_committed_row_is_found() {
    let mut ground = Ground::new(DIMENSIONS, ROWS);
    for (verb, point) in points() {
        println!("{point}");
        (verb.prepare)(&mut ground, point);
        // Committed just before: in the delta, and nowhere else.
        ground.grow(5);
        let statement = (verb.statement)(&ground);
        ground.strike(point, Way::Kill, &statement, |_| ());
        ground.committed_rows_are_found();
    }
}

/// Invariant 2: after VACUUM has returned no scan returns a vacuumed tuple's place, also when
/// another row has taken it.
#[test]
fn invariant_2_a_vacuumed_row_stays_away() {
    let mut ground = Ground::new(DIMENSIONS, ROWS);
    let mut reused = 0;
    for (verb, point) in points() {
        println!("{point}");
        (verb.prepare)(&mut ground, point);
        let before = places(&mut ground);
        ground.thin();
        ground.vacuum();
        let removed: HashSet<String> = &before - &places(&mut ground);
        // For VACUUM itself to have something to remove.
        ground.trim(10);
        let statement = (verb.statement)(&ground);
        ground.strike(point, Way::Kill, &statement, |_| ());
        ground.vacuumed_rows_stay_away();
        reused += places(&mut ground).intersection(&removed).count();
    }
    assert!(reused > 100, "{reused} places were reused: too few to prove anything");
}

/// Invariant 3: objects named by the manifest exist, whatever crashed, even though a sweep then
/// deletes everything else.
#[test]
fn invariant_3_a_named_object_exists() {
    let mut ground = Ground::new(DIMENSIONS, ROWS);
    for (verb, point) in points() {
        println!("{point}");
        (verb.prepare)(&mut ground, point);
        let statement = (verb.statement)(&ground);
        ground.strike(point, Way::Kill, &statement, |_| ());
        ground.named_objects_exist();
    }
}

#[test]
fn dying_in_a_build() {
    BUILD.die_everywhere(&mut Ground::new(DIMENSIONS, ROWS), &WAYS);
}

#[test]
fn dying_in_a_rebuild() {
    REBUILD.die_everywhere(&mut Ground::new(DIMENSIONS, ROWS), &WAYS);
}

#[test]
fn dying_in_an_insert() {
    INSERT.die_everywhere(&mut Ground::new(DIMENSIONS, ROWS), &WAYS);
    INSERT_MANY.die_everywhere(&mut Ground::new(DIMENSIONS, ROWS), &WAYS);
}

#[test]
fn dying_in_a_flush() {
    FLUSH.die_everywhere(&mut Ground::new(DIMENSIONS, ROWS), &WAYS);
}

#[test]
fn dying_in_a_merge() {
    MERGE.die_everywhere(&mut Ground::new(DIMENSIONS, ROWS), &WAYS);
}

#[test]
fn dying_while_the_relation_is_packed() {
    REPACK.die_everywhere(&mut Ground::new(DIMENSIONS, ROWS), &WAYS);
}

#[test]
fn dying_in_a_vacuum() {
    VACUUM.die_everywhere(&mut Ground::new(DIMENSIONS, ROWS), &WAYS);
}

#[test]
fn dying_in_a_sweep() {
    SWEEP.die_everywhere(&mut Ground::new(DIMENSIONS, ROWS), &WAYS);
}

/// The maintenance worker in the place of a session, in a flush.
#[test]
fn the_maintenance_worker_dying_in_a_flush() {
    worker_dies_everywhere(&FLUSH);
}

/// The maintenance worker in the place of a session, in a merge.
#[test]
fn the_maintenance_worker_dying_in_a_merge() {
    worker_dies_everywhere(&MERGE);
}

/// Rows that take more than a page: the point between their pages, and all the others.
#[test]
fn dying_with_rows_of_several_pages() {
    let mut ground = Ground::new(2100, 40);
    let spanning = Verb {
        points: &["insert.spanning_written"],
        prepare: |ground, _| ground.reserve(1),
        ..INSERT
    };
    for verb in [&spanning, &INSERT, &FLUSH, &MERGE, &REPACK, &VACUUM] {
        verb.die_everywhere(&mut ground, &[Way::Kill]);
    }
    for verb in [&FLUSH, &MERGE] {
        verb.die_everywhere(&mut ground, &[Way::GoOn]);
    }
}

/// Every point with the verb that passes it.
fn points() -> impl Iterator<Item = (&'static Verb, &'static str)> {
    VERBS.into_iter().flat_map(|verb| verb.points.iter().map(move |point| (verb, *point)))
}

/// Where the rows lie in the table.
fn places(ground: &mut Ground) -> HashSet<String> {
    let rows = ground.client.query("SELECT ctid::text FROM items", &[]).expect("places");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Lets the maintenance worker die in every way at every point of a verb, and work at last.
fn worker_dies_everywhere(verb: &Verb) {
    // A delta of 250 of these rows is worth a flush.
    let mut ground = Ground::new(64, ROWS);
    for way in WAYS {
        for point in verb.points {
            println!("{point}: {way:?}");
            churn(&mut ground);
            ground.grow(260);
            ground.strike_worker(point, way, |ground| replace(ground, point));
            ground.check();
        }
    }
    ground.configure(&[("s3vector.maintenance_workers", "2")]);
    ground.grow(260);
    wait_until("the worker to flush", || {
        ground.number("SELECT coalesce(sum(flushes), 0)::bigint FROM s3vector_stat_maintenance") > 0
    });
    ground.committed_rows_are_found();
}
