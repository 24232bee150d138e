//! Does the maintenance worker look after indexes by itself, without standing in anybody's way?

use std::thread::sleep;
use std::time::Duration;

use harness::answers::{assert_all_found, assert_recall, prefer_index};
use harness::items::Source;
use harness::upkeep::{backlog, flush, info, maintenance, segments, wait_for_rest};
use harness::wait::{wait_for, wait_until};
use harness::{Cluster, Items, Metric};
use postgres::Client;

mod down;
mod yields;

const DIMENSIONS: usize = 32;

/// A cluster whose maintenance worker has something to do soon: 64 kB are about 450 rows.
fn busy() -> Cluster {
    Cluster::builder().set("s3vector.flush_size", "64kB").start()
}

/// A session in a new database that has the extension.
fn database(cluster: &Cluster, name: &str) -> Client {
    cluster.client().batch_execute(&format!("CREATE DATABASE {name}")).expect("a database");
    let mut client = cluster.client_of(name);
    client.batch_execute("CREATE EXTENSION s3vector CASCADE").expect("the extension");
    client
}

/// An empty table with an index: all rows are in the delta until a flush.
fn empty(client: &mut Client, name: &str) -> (Items, Source) {
    client
        .batch_execute(&format!("CREATE TABLE {name} (id int, embedding vector({DIMENSIONS}))"))
        .expect("a table");
    let items = Items { table: name.to_owned(), metric: Metric::L2, rows: Vec::new() };
    items.index(client, "");
    prefer_index(client);
    (items, Source::new(91, DIMENSIONS))
}

/// Process ids of maintenance workers.
fn workers(client: &mut Client) -> Vec<i32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 's3vector maintenance worker'";
    client.query(sql, &[]).expect("processes").iter().map(|row| row.get(0)).collect()
}

#[test]
fn a_delta_beyond_flush_size_is_flushed() {
    let cluster = busy();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client, "items");
    items.copy(&mut client, source.vectors(2000));
    wait_until("the backlog to go", || !backlog(&mut client, "items_index"));
    let found = info(&mut client, "items_index");
    assert!(found.segments >= 1, "{found:?}");
    assert_eq!(found.entries + found.delta_entries, 2000, "{found:?}");
    wait_for_rest(&mut client);
    let seen = maintenance(&mut client, "postgres").expect("maintenance went on");
    assert!(seen.flushes >= 1 && seen.errors == 0, "{seen:?}");
    assert_all_found(&mut client, &items, (0..2000).step_by(3));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn a_delta_below_flush_size_stays() {
    let cluster = busy();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client, "items");
    items.copy(&mut client, source.vectors(100));
    sleep(Duration::from_secs(1));
    assert_eq!(info(&mut client, "items_index").delta_entries, 100);
    assert!(!backlog(&mut client, "items_index"));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// The worker is started when it is needed, can be seen, ends when it is not, and comes again.
#[test]
fn the_worker_comes_and_goes() {
    let cluster = busy();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client, "items");
    for _ in 0..2 {
        items.copy(&mut client, source.vectors(1000));
        let pids = wait_for("a worker", || Some(workers(&mut client)).filter(|w| !w.is_empty()));
        assert_eq!(pids.len(), 1, "one worker a database");
        let seen = maintenance(&mut client, "postgres").expect("maintenance goes on");
        assert_eq!(seen.pid, Some(pids[0]), "{seen:?}");
        wait_until("the worker to end", || workers(&mut client).is_empty());
        let seen = maintenance(&mut client, "postgres").expect("maintenance went on");
        assert_eq!((seen.pid, seen.state.as_str()), (None, "idle"), "{seen:?}");
        assert!(!backlog(&mut client, "items_index"));
    }
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Rows keep coming while the worker is at it: the delta stays small, nothing is lost.
#[test]
fn the_worker_keeps_up_with_inserts() {
    let cluster = busy();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client, "items");
    for _ in 0..20 {
        items.copy(&mut client, source.vectors(200));
        for vector in source.vectors(5) {
            items.insert(&mut client, vector);
        }
        let last = items.rows.len() - 1;
        assert_all_found(&mut client, &items, [last, last - 100, last - 204]);
    }
    wait_until("the backlog to go", || !backlog(&mut client, "items_index"));
    wait_for_rest(&mut client);
    let found = info(&mut client, "items_index");
    assert_eq!(found.entries + found.delta_entries, 4100, "{found:?}");
    assert!(found.segments <= 6, "{found:?}");
    assert_all_found(&mut client, &items, (0..4100).step_by(7));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn every_database_has_a_worker_of_its_own() {
    let cluster = busy();
    let mut client = cluster.client();
    let mut other = database(&cluster, "other");
    let (mut here, mut source) = empty(&mut client, "items");
    let (mut there, _) = empty(&mut other, "items");
    here.copy(&mut client, source.vectors(1500));
    there.copy(&mut other, source.vectors(1000));
    wait_until("both backlogs to go", || {
        !backlog(&mut client, "items_index") && !backlog(&mut other, "items_index")
    });
    for database in ["postgres", "other"] {
        // Counted when all that follows from a flush is done.
        wait_until("a flush to be counted", || {
            maintenance(&mut client, database).is_some_and(|seen| seen.flushes >= 1)
        });
    }
    assert_recall(&mut client, &here, &source.vectors(200), 0.95);
    assert_recall(&mut other, &there, &source.vectors(200), 0.95);
}

/// VACUUM finds nothing to flush here, but most of a segment dead.
#[test]
fn vacuum_asks_for_maintenance() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client, "items");
    items.copy(&mut client, source.vectors(1200));
    flush(&mut client, "items_index");
    items.delete(&mut client, |id| id % 2 == 0);
    client.batch_execute("VACUUM items").expect("vacuum");
    wait_until("the dead entries to go", || {
        let found = info(&mut client, "items_index");
        (found.entries, found.tombstones) == (600, 0)
    });
    assert!(segments(&mut client, "items_index").iter().all(|segment| segment.generation == 1));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn without_workers_nothing_happens_by_itself() {
    let mut cluster = Cluster::builder()
        .set("s3vector.flush_size", "64kB")
        .set("s3vector.maintenance_workers", 0)
        .start();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client, "items");
    items.copy(&mut client, source.vectors(1500));
    client.batch_execute("VACUUM items").expect("vacuum");
    sleep(Duration::from_secs(2));
    let found = info(&mut client, "items_index");
    assert_eq!((found.segments, found.delta_entries), (0, 1500), "{found:?}");
    assert!(backlog(&mut client, "items_index"));
    assert_eq!(workers(&mut client), []);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    // Asked for, it happens all the same.
    assert_eq!(flush(&mut client, "items_index").rows_flushed, 1500);
    assert!(!backlog(&mut client, "items_index"));

    items.copy(&mut client, source.vectors(1000));
    cluster.reconfigure(&[("s3vector.maintenance_workers", "1".to_owned())]);
    items.copy(&mut client, source.vectors(10));
    wait_until("the backlog to go", || !backlog(&mut client, "items_index"));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}
