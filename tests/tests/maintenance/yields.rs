//! Does the worker stand in nobody's way, and come back when somebody ended it?

use harness::answers::{self, assert_all_found, assert_recall, prefer_index};
use harness::items::Source;
use harness::upkeep::{backlog, info, maintenance, wait_for_rest, wait_for_work};
use harness::wait::{wait_for, wait_until};
use harness::{Cluster, Items};

use super::{busy, database, empty};

/// Runs `statement` while the worker is at work on the index: it must not wait for its end.
fn not_held_up(statement: &str) -> (Cluster, Items, Source) {
    let cluster = busy();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client, "items");
    client.batch_execute("SET lock_timeout = '1s'").expect("a setting");
    let index: u32 =
        client.query_one("SELECT 'items_index'::regclass::oid", &[]).expect("an index").get(0);
    // Some seconds of work.
    items.copy(&mut client, source.vectors(15_000));
    wait_until("the worker to be at the index", || {
        maintenance(&mut client, "postgres").is_some_and(|seen| seen.index == Some(index))
    });
    client.batch_execute(statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    drop(client);
    (cluster, items, source)
}

#[test]
fn drop_index_is_not_held_up_by_the_worker() {
    let (cluster, mut items, mut source) = not_held_up("DROP INDEX items_index");
    let mut client = cluster.client();
    // The worker goes on with other indexes.
    items.delete(&mut client, |id| id >= 1000);
    items.index(&mut client, "");
    items.copy(&mut client, source.vectors(1000));
    wait_until("the backlog to go", || !backlog(&mut client, "items_index"));
    assert_recall(&mut client, &items, &source.vectors(100), 0.95);
}

#[test]
fn truncate_is_not_held_up_by_the_worker() {
    let (cluster, mut items, mut source) = not_held_up("TRUNCATE items");
    let mut client = cluster.client();
    items.rows.fill(None);
    prefer_index(&mut client);
    assert_eq!(answers::ask(&mut client, &items, &source.vector(), 10), []);
    items.copy(&mut client, source.vectors(1000));
    wait_until("the backlog to go", || !backlog(&mut client, "items_index"));
    assert_recall(&mut client, &items, &source.vectors(100), 0.95);
}

#[test]
fn reindex_is_not_held_up_by_the_worker() {
    let (cluster, items, mut source) = not_held_up("REINDEX INDEX items_index");
    let mut client = cluster.client();
    wait_for_rest(&mut client);
    let found = info(&mut client, "items_index");
    assert_eq!((found.entries, found.delta_entries), (15_000, 0), "{found:?}");
    assert_recall(&mut client, &items, &source.vectors(100), 0.95);
}

#[test]
fn a_flush_is_not_held_up_by_the_worker() {
    let (cluster, items, mut source) = not_held_up("SELECT s3vector_flush('items_index')");
    let mut client = cluster.client();
    wait_for_rest(&mut client);
    let found = info(&mut client, "items_index");
    assert_eq!((found.entries, found.delta_entries), (15_000, 0), "{found:?}");
    assert_recall(&mut client, &items, &source.vectors(100), 0.95);
}

/// An administrator ends the worker again and again.
#[test]
fn a_worker_that_is_terminated_comes_back() {
    let cluster = busy();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client, "items");
    let mut ended = 0;
    for _ in 0..4 {
        items.copy(&mut client, source.vectors(1000));
        if let Some(pid) = wait_for_work(&mut client).pid {
            client.execute("SELECT pg_terminate_backend($1, 10000)", &[&pid]).expect("terminated");
            ended += 1;
        }
        assert_recall(&mut client, &items, &source.vectors(100), 0.95);
    }
    assert!(ended >= 2, "the worker was terminated {ended} times only");
    items.insert(&mut client, source.vector());
    wait_until("the backlog to go", || !backlog(&mut client, "items_index"));
    wait_for_rest(&mut client);
    let found = info(&mut client, "items_index");
    assert_eq!(found.entries + found.delta_entries, 4001, "{found:?}");
    assert_all_found(&mut client, &items, (0..4001).step_by(10));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Nobody asks a second time for what has been asked for: a worker that is ended on its way into
/// the database must leave the request in place.
#[test]
fn a_worker_that_is_terminated_before_it_is_there_comes_back() {
    let mut cluster = Cluster::builder()
        .set("s3vector.flush_size", "64kB")
        .set("s3vector.maintenance_workers", 0)
        // A round through all databases would ask again.
        .set("s3vector.sweep_interval", 0)
        .start();
    let mut client = cluster.client();
    let mut other = database(&cluster, "other");
    let (mut items, mut source) = empty(&mut other, "items");
    items.copy(&mut other, source.vectors(1500));
    drop(other);

    // Nobody gets into a database that is being renamed.
    let mut door = cluster.client();
    let rename = "BEGIN; ALTER DATABASE other RENAME TO another";
    // The session that has just ended may still be there.
    wait_until("the database to be renamed", || {
        let renamed = door.batch_execute(rename).is_ok();
        if !renamed {
            door.batch_execute("ROLLBACK").expect("rolled back");
        }
        renamed
    });
    cluster.reconfigure(&[("s3vector.maintenance_workers", "1".to_owned())]);
    let pid = wait_for("a worker at the door", || {
        maintenance(&mut client, "other").and_then(|seen| seen.pid)
    });
    let ended: bool = client
        .query_one("SELECT pg_terminate_backend($1, 10000)", &[&pid])
        .expect("terminated")
        .get(0);
    assert!(ended, "the worker is still there");
    door.batch_execute("ROLLBACK").expect("rolled back");

    let mut other = cluster.client_of("other");
    prefer_index(&mut other);
    wait_until("the backlog to go", || !backlog(&mut other, "items_index"));
    assert_recall(&mut other, &items, &source.vectors(100), 0.95);
}

/// A worker is connected to its database, which others want for themselves.
#[test]
fn copying_and_dropping_a_database_is_not_held_up_by_its_worker() {
    let cluster = Cluster::builder()
        .set("s3vector.flush_size", "64kB")
        .set("s3vector.sweep_interval", 1)
        .start();
    let mut client = cluster.client();
    for round in 0..3 {
        let mut original = database(&cluster, "original");
        let (mut items, mut source) = empty(&mut original, "items");
        items.copy(&mut original, source.vectors(6000));
        drop(original);
        wait_for("its worker to work", || {
            maintenance(&mut client, "original").filter(|seen| seen.pid.is_some())
        });
        client
            .batch_execute("CREATE DATABASE copy TEMPLATE original")
            .unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        let mut copy = cluster.client_of("copy");
        assert_recall(&mut copy, &items, &source.vectors(200), 0.95);
        drop(copy);
        for database in ["copy", "original"] {
            client
                .batch_execute(&format!("DROP DATABASE {database}"))
                .unwrap_or_else(|error| panic!("round {round}, {database}: {error:?}"));
        }
    }
}
