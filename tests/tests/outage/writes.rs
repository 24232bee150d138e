//! Writing while storage is down: statements do not notice, maintenance waits and comes back.

use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::answers::{assert_all_found, assert_recall};
use harness::errors::failure;
use harness::model::assert_whole;
use harness::proxy::{Effect, Fault};
use harness::upkeep::{backlog, flush, info, maintenance, try_flush, wait_for_rest};
use harness::wait::wait_until;

use super::{Ground, ROWS, bounded, indexed, run};

/// Everything that writes, while the server does not let anybody in, never answers, or says no.
#[test]
fn statements_that_write_need_no_storage() {
    let ground = Ground::new(&[]);
    let (mut client, warnings) = ground.client();
    let (mut items, mut source) = indexed(&mut client, "items", ROWS);
    for effect in [None, Some(Effect::Stall), Some(Effect::InternalError), Some(Effect::Expired)] {
        println!("{effect:?}");
        match effect {
            Some(effect) => ground.proxy.inject(Fault::new(effect)),
            None => ground.proxy.pause(),
        }
        let requests = ground.proxy.counts().requests;
        let first = items.rows.len();
        bounded("COPY", || items.copy(&mut client, source.vectors(100)));
        for vector in source.vectors(10) {
            bounded("INSERT", || items.insert(&mut client, vector));
        }
        let changed = source.vector();
        bounded("UPDATE", || items.update(&mut client, first + 1, changed));
        bounded("DELETE", || items.delete(&mut client, |id| id % 50 == 3 || id == first + 2));
        run(&mut client, "VACUUM items");
        run(&mut client, "CREATE TABLE other (id int, embedding vector(3))");
        run(&mut client, "DROP TABLE other");
        assert_eq!(ground.proxy.counts().requests, requests, "writing made requests");
        // What was written is found at once.
        assert_all_found(&mut client, &items, items.live().filter(|id| *id >= first).step_by(9));
        match effect {
            Some(_) => ground.proxy.heal(),
            None => ground.proxy.resume(),
        }
        ground.heal(&mut client, &warnings, &items);
    }
    flush(&mut client, "items_index");
    assert_whole(&mut client, &items, &source.vector(), 0.95);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// A flush by hand says why it cannot be, keeps nobody waiting, and loses nothing.
#[test]
fn a_flush_that_fails() {
    let ground = Ground::new(&[]);
    let (mut client, warnings) = ground.client();
    let (mut items, mut source) = indexed(&mut client, "items", ROWS);
    for (effect, sqlstate, word) in [
        (Effect::InternalError, "08006", "InternalError"),
        (Effect::Expired, "42501", "ExpiredToken"),
        (Effect::Reset, "08006", "127.0.0.1"),
        (Effect::Stall, "08006", "127.0.0.1"),
    ] {
        println!("{effect:?}");
        items.copy(&mut client, source.vectors(60));
        let before = info(&mut client, "items_index");
        ground.proxy.inject(Fault::new(effect).method("PUT"));
        let outcome = bounded("a flush", || try_flush(&mut client, "items_index"));
        failure(outcome).expect(sqlstate, &["s3://vectors/test", word]);
        let after = info(&mut client, "items_index");
        assert_eq!(
            (before.segments, before.entries, before.delta_entries),
            (after.segments, after.entries, after.delta_entries)
        );
        ground.proxy.heal();
        // Reading is what a merge does first.
        ground.proxy.inject(Fault::new(effect).method("GET"));
        let _ = bounded("a flush", || try_flush(&mut client, "items_index"));
        assert_all_found(&mut client, &items, items.live().rev().step_by(7).take(20));
        ground.proxy.heal();
        ground.heal(&mut client, &warnings, &items);
    }
    flush(&mut client, "items_index");
    let found = info(&mut client, "items_index");
    let live = i64::try_from(items.len()).expect("small");
    assert_eq!((found.entries - found.tombstones, found.delta_entries), (live, 0), "{found:?}");
    assert_whole(&mut client, &items, &source.vector(), 0.95);
}

/// The worker tries less and less often, tells why, and makes all good when it can.
#[test]
fn maintenance_backs_off_and_resumes() {
    let ground = Ground::new(&[
        ("s3vector.flush_size", "64kB".to_owned()),
        ("s3vector.maintenance_workers", "1".to_owned()),
    ]);
    let (mut client, warnings) = ground.client();
    let (mut items, mut source) = indexed(&mut client, "items", 200);
    ground.proxy.inject(Fault::new(Effect::SlowDown(None)).method("PUT"));
    items.copy(&mut client, source.vectors(1000));
    let start = Instant::now();
    let mut failures = Vec::new();
    while start.elapsed() < Duration::from_secs(12) {
        // Rows keep coming, as they do.
        items.insert(&mut client, source.vector());
        let last = items.rows.len() - 1;
        assert_all_found(&mut client, &items, [last]);
        if let Some(seen) = maintenance(&mut client, "postgres") {
            while failures.len() < usize::try_from(seen.errors).expect("not negative") {
                failures.push(start.elapsed());
            }
            if seen.errors > 0 {
                let error = seen.last_error.expect("an error");
                assert!(error.contains("s3://vectors/test"), "{error}");
            }
        }
        sleep(Duration::from_millis(50));
    }
    println!("failures at {failures:?}");
    assert!((2..=8).contains(&failures.len()), "failures at {failures:?}");
    assert!(backlog(&mut client, "items_index"));
    assert_eq!(warnings.take().len(), 0);

    ground.proxy.heal();
    wait_until("the backlog to go", || !backlog(&mut client, "items_index"));
    wait_for_rest(&mut client);
    let found = info(&mut client, "items_index");
    let live = i64::try_from(items.len()).expect("small");
    assert_eq!(found.entries + found.delta_entries, live, "{found:?}");
    assert_whole(&mut client, &items, &source.vector(), 0.95);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}
