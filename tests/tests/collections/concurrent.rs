//! Many sessions at one name: one truth, and no error but those that say so.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;

use harness::errors::{Report, failure};
use postgres::Client;

use crate::ground::{Ground, count, gives, holds, one, run, texts};

const SESSIONS: usize = 8;

/// Runs `work` in as many sessions at once; it gets its number and its connection.
fn together<T: Send>(ground: &Ground, work: impl Fn(usize, &mut Client) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(SESSIONS);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..SESSIONS)
            .map(|number| {
                let (work, start) = (&work, &start);
                scope.spawn(move || {
                    let mut client = ground.client();
                    run(
                        &mut client,
                        "SET deadlock_timeout = '200ms'; SET statement_timeout = '30s'",
                    );
                    start.wait();
                    work(number, &mut client)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a session ends")).collect()
    })
}

/// Asserts that a statement succeeds or fails with one of these; returns whether it did.
#[track_caller]
fn succeeds_or(client: &mut Client, sql: &str, sqlstates: &[&str]) -> Result<(), Report> {
    let result = client.batch_execute(sql);
    if result.is_ok() {
        return Ok(());
    }
    let report = failure(result);
    assert!(sqlstates.contains(&report.sqlstate.as_str()), "{sql}: {report:?}");
    Err(report)
}

#[test]
fn one_of_eight_creates() {
    let ground = Ground::new();
    for round in 0..5 {
        let outcomes = together(&ground, |_, client| {
            succeeds_or(
                client,
                &format!("SELECT s3vector.create_collection('docs{round}', 2)"),
                &["42P07"],
            )
        });
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(won, 1, "{outcomes:?}");
        for report in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            report.expect("42P07", &[&format!("collection \"docs{round}\" already exists")]);
        }
        assert_eq!(count(&mut ground.client(), &format!("docs{round}")), 0);
    }
}

/// The winner's rollback lets another in.
#[test]
fn a_creation_that_is_undone_makes_way() {
    let ground = Ground::new();
    let mut first = ground.client();
    run(&mut first, "BEGIN; SELECT s3vector.create_collection('docs', 2)");
    thread::scope(|scope| {
        let second = scope
            .spawn(|| run(&mut ground.client(), "SELECT s3vector.create_collection('docs', 3)"));
        harness::wait::wait_until("the second to wait", || {
            one(
                &mut ground.client(),
                "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            )
        });
        run(&mut first, "ROLLBACK");
        second.join().expect("the second creates it");
    });
    gives(&mut first, "SELECT dimension::text FROM s3vector.get_collection_info('docs')", &["3"]);
}

/// Names whose indexes would be called alike do not get in each other's way.
#[test]
fn long_names_that_begin_alike() {
    let ground = Ground::new();
    let name = |round, number| format!("{}{round}_{number}", "n".repeat(59));
    for round in 0..4 {
        together(&ground, |number, client| {
            run(
                client,
                &format!("SELECT s3vector.create_collection('{}', 2)", name(round, number)),
            );
        });
    }
    assert_eq!(
        texts(&mut ground.client(), "SELECT name FROM s3vector.list_collections()").len(),
        4 * SESSIONS
    );
}

#[test]
fn a_storm_of_creations_and_deletions() {
    let ground = Ground::new();
    let outcomes = together(&ground, |number, client| {
        let mut done = BTreeMap::<_, usize>::new();
        for round in 0..25 {
            let what = match (number + round) % 4 {
                0 | 1 => "create_collection('docs', 2)",
                2 => "delete_collection('docs')",
                _ => "create_collection('docs', 2, overwrite => true)",
            };
            // Deleting what another has just deleted is a failure, creating what exists too.
            let outcome =
                succeeds_or(client, &format!("SELECT s3vector.{what}"), &["42P07", "42P01"]);
            if let Err(report) = &outcome {
                let wanted = if what.starts_with("create") { "42P07" } else { "42P01" };
                report.expect(wanted, &["docs"]);
                assert!(!what.contains("overwrite"), "{report:?}");
            }
            *done.entry((what, outcome.is_ok())).or_default() += 1;
            // What looks on meets the collection, none, or one on its way.
            for look in [
                "SELECT * FROM s3vector.list_collections()",
                "SELECT s3vector.count_vectors('docs')",
                "SELECT * FROM s3vector.search_vectors('docs', '[1,2]')",
                "SELECT * FROM s3vector.get_collection_info('docs')",
            ] {
                let _ = succeeds_or(client, look, &["42P01"]);
            }
        }
        done
    });
    let total = |what: &str| -> usize {
        outcomes
            .iter()
            .flatten()
            .filter(|((call, ok), _)| *ok && *call == what)
            .map(|(_, n)| n)
            .sum()
    };
    let (created, deleted) =
        (total("create_collection('docs', 2)"), total("delete_collection('docs')"));
    assert!(
        created > 0
            && deleted > 0
            && total("create_collection('docs', 2, overwrite => true)") == 50
    );
    assert_one_truth(&ground, "docs");
}

/// Asserts that the list, the catalogs and the calls agree about a collection.
fn assert_one_truth(ground: &Ground, name: &str) {
    let mut client = ground.client();
    let listed = texts(&mut client, "SELECT name FROM s3vector.list_collections()");
    let tables = texts(
        &mut client,
        "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
    );
    assert_eq!(listed, tables);
    if listed.is_empty() {
        run(&mut client, &format!("SELECT s3vector.create_collection('{name}', 2)"));
    } else {
        assert_eq!(listed, [name]);
    }
    let before = count(&mut client, name);
    run(
        &mut client,
        &format!("SELECT s3vector.add_vectors('{name}', ARRAY[[1,2]], ids => '{{last}}')"),
    );
    assert_eq!(count(&mut client, name), before + 1);
    assert_eq!(one::<i64>(&mut client, &format!("SELECT count(*) FROM {name}")), before + 1);
    holds(
        &mut client,
        &format!(
            "3 = (SELECT count(*) FROM pg_index WHERE indrelid = '{name}'::regclass AND indisvalid)"
        ),
    );
}

/// Overwriting under the hands of those who add and search: they add to the old one or the new one,
/// and what is counted in the end is what was added since.
#[test]
fn a_storm_of_overwriting() {
    let ground = Ground::new();
    run(&mut ground.client(), "SELECT s3vector.create_collection('docs', 2)");
    together(&ground, |number, client| {
        for round in 0..20 {
            if number < 3 {
                run(client, "SELECT s3vector.create_collection('docs', 2, overwrite => true)");
                continue;
            }
            let id = format!("s{number}r{round}");
            let _ = succeeds_or(
                client,
                &format!(
                    "SELECT s3vector.add_vectors('docs', ARRAY[[{number},{round}]], ids => '{{{id}}}')"
                ),
                &["42P01"],
            );
            let _ = succeeds_or(
                client,
                "SELECT * FROM s3vector.search_vectors('docs', '[1,2]', '{\"a\": 1}')",
                &["42P01"],
            );
            let _ = succeeds_or(
                client,
                "SELECT s3vector.search_vectors_page('docs', '[1,2]')",
                &["42P01"],
            );
        }
    });
    assert_one_truth(&ground, "docs");
    let mut client = ground.client();
    let rows = count(&mut client, "docs");
    assert_eq!(
        one::<i64>(
            &mut client,
            "SELECT count(*) FROM s3vector.search_vectors('docs', '[1,2]', \"limit\" => 1000)"
        ),
        rows
    );
}

/// Eight sessions that add the same ids: each id is there once, those who lost are told.
#[test]
fn adding_the_same_ids() {
    let ground = Ground::new();
    run(&mut ground.client(), "SELECT s3vector.create_collection('docs', 2)");
    let outcomes = together(&ground, |number, client| {
        let mut added = 0;
        for id in 0..20 {
            let sql = format!(
                "SELECT s3vector.add_vectors('docs', ARRAY[[{number},1]], ids => '{{i{id}}}')"
            );
            added += usize::from(succeeds_or(client, &sql, &["23505"]).is_ok());
            // In one call with an id of its own: neither is kept.
            let sql = format!(
                "SELECT s3vector.add_vectors('docs', ARRAY[[1,1],[2,2]], ids => '{{own{number}_{id},i{id}}}')"
            );
            succeeds_or(client, &sql, &["23505"])
                .expect_err("the id is taken")
                .expect("23505", &["row 2"]);
            run(
                client,
                &format!(
                    "SELECT s3vector.add_vectors('docs', ARRAY[[{number},2]], ids => '{{u{id}}}', update => true)"
                ),
            );
        }
        added
    });
    assert_eq!(outcomes.iter().sum::<usize>(), 20);
    let mut client = ground.client();
    assert_eq!(count(&mut client, "docs"), 40);
    holds(&mut client, "NOT EXISTS (SELECT FROM docs WHERE id LIKE 'own%')");
}

/// Replacing many rows in opposite orders: a deadlock is resolved by PostgreSQL, nothing hangs, and
/// whoever is told of success has all rows replaced.
#[test]
fn removing_while_others_remove() {
    let ground = Ground::new();
    let mut client = ground.client();
    run(&mut client, "SELECT s3vector.create_collection('docs', 2)");
    run(
        &mut client,
        "SELECT s3vector.add_vectors('docs', array_agg(ARRAY[i, 1]), ids => array_agg(i::text)) FROM generate_series(1, 400) i",
    );
    let removed = together(&ground, |number, client| {
        let mut removed = 0;
        for part in 0..10 {
            // Two sessions each want the same rows.
            let first = (number / 2 * 10 + part) * 10;
            removed += one::<i64>(
                client,
                &format!(
                    "SELECT s3vector.remove_vectors('docs', array(SELECT i::text FROM generate_series({first} + 1, {first} + 10) i))"
                ),
            );
        }
        removed
    });
    assert_eq!(removed.iter().sum::<i64>(), 400, "every row is counted by one session");
    assert_eq!(count(&mut client, "docs"), 0);
}
