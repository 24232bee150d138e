//! Is every committed row found, and no removed one, whatever crashed in between?

use std::thread;
use std::time::Duration;

use harness::answers::{ask, assert_all_found, assert_recall, prefer_index};
use harness::cluster::Stop;
use harness::items::{Source, literal};
use harness::process::signal_process;
use harness::upkeep::flush;
use harness::wait::{wait_for, wait_until};
use harness::{Cluster, Items, Metric};
use nix::sys::signal::Signal;
use postgres::Client;

const DIMENSIONS: usize = 24;

/// A cluster with 800 indexed rows.
fn indexed() -> (Cluster, Items, Source) {
    let cluster = Cluster::start();
    let mut source = Source::new(7, DIMENSIONS);
    let mut client = cluster.client();
    let items = Items::create(&mut client, "items", Metric::L2, source.vectors(800));
    items.index(&mut client, "");
    drop(client);
    (cluster, items, source)
}

/// Process id of the storage worker, when there is one.
fn worker(client: &mut Client) -> Option<i32> {
    client.query_one("SELECT pid FROM s3vector_stat_worker", &[]).expect("statistics").get(0)
}

/// Ends the storage worker as `pg_ctl` or an administrator would.
fn terminate(pid: i32) {
    signal_process(pid, Signal::SIGTERM);
}

#[test]
fn rows_committed_before_an_immediate_stop() {
    let (mut cluster, mut items, mut source) = indexed();
    let mut client = cluster.client();
    for _ in 0..60 {
        items.insert(&mut client, source.vector());
    }
    items.copy(&mut client, source.vectors(200));
    cluster.stop(Stop::Immediate);
    cluster.start_server();
    let mut client = cluster.client();
    assert_all_found(&mut client, &items, 800..1060);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn rows_committed_before_the_postmaster_is_killed() {
    let (mut cluster, mut items, mut source) = indexed();
    let mut client = cluster.client();
    for _ in 0..60 {
        items.insert(&mut client, source.vector());
    }
    cluster.crash();
    cluster.start_server();
    let mut client = cluster.client();
    assert_all_found(&mut client, &items, 800..860);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// The rows of an index built just before the crash: its relation was never checkpointed.
#[test]
fn an_index_built_just_before_a_crash() {
    let (mut cluster, items, mut source) = indexed();
    cluster.crash();
    cluster.start_server();
    assert_recall(&mut cluster.client(), &items, &source.vectors(200), 0.95);
}

/// With `wal_level = minimal` what is made and filled in one transaction is not in WAL: it must be
/// on disk when the transaction commits.
#[test]
fn an_index_made_in_one_transaction_with_minimal_wal() {
    let mut cluster =
        Cluster::builder().set("wal_level", "minimal").set("max_wal_senders", 0).start();
    let mut client = cluster.client();
    let mut source = Source::new(8, DIMENSIONS);
    client.batch_execute("BEGIN").expect("begun");
    let mut items = Items::create(&mut client, "items", Metric::L2, source.vectors(500));
    items.index(&mut client, "");
    items.copy(&mut client, source.vectors(200));
    flush(&mut client, "items_index");
    items.copy(&mut client, source.vectors(100));
    client.batch_execute("COMMIT").expect("committed");
    cluster.crash();
    cluster.start_server();
    let mut client = cluster.client();
    assert_all_found(&mut client, &items, 0..800);
    client.batch_execute("BEGIN; TRUNCATE items").expect("truncated");
    items.rows.fill(None);
    items.copy(&mut client, source.vectors(300));
    client.batch_execute("COMMIT").expect("committed");
    cluster.crash();
    cluster.start_server();
    let mut client = cluster.client();
    assert_all_found(&mut client, &items, 800..1100);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn a_backend_killed_while_it_inserts() {
    let (cluster, mut items, mut source) = indexed();
    let vectors = source.vectors(5000);
    for round in 0..3_u16 {
        let mut client = cluster.client();
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
        // Every statement is a transaction: those that returned are committed.
        let killer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(60 + 40 * u64::from(round)));
            signal_process(pid, Signal::SIGKILL);
        });
        for vector in &vectors {
            let id = items.rows.len();
            if client
                .batch_execute(&format!("INSERT INTO items VALUES ({id}, {})", literal(vector)))
                .is_err()
            {
                break;
            }
            items.rows.push(Some(vector.clone()));
        }
        killer.join().expect("the killer ends");
        // A killed backend makes the postmaster restart everything.
        let mut client = cluster.client_after_recovery(usize::from(round) + 1);
        // The insert under way may have been committed without our hearing of it.
        let heard = items.rows.len();
        let stored: i64 =
            client.query_one("SELECT count(*) FROM items", &[]).expect("a count").get(0);
        let stored = usize::try_from(stored).expect("a count");
        assert!(stored == heard || stored == heard + 1, "{stored} rows, {heard} were committed");
        if stored == heard + 1 {
            let text: String = client
                .query_one("SELECT embedding::text FROM items ORDER BY id DESC LIMIT 1", &[])
                .expect("the last row")
                .get(0);
            let vector =
                text.trim_matches(['[', ']']).split(',').map(|x| x.parse().expect("a number"));
            items.rows.push(Some(vector.collect()));
        }
        assert_all_found(&mut client, &items, (800..items.rows.len()).step_by(7));
        assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    }
    assert!(items.rows.len() > 803, "no insert was under way when the backends were killed");
}

#[test]
fn vacuumed_rows_stay_away_after_a_crash() {
    let (mut cluster, mut items, mut source) = indexed();
    let mut client = cluster.client();
    items.copy(&mut client, source.vectors(200));
    items.delete(&mut client, |id| id % 3 == 0);
    client.batch_execute("VACUUM items").expect("vacuum");
    // The heap reuses the places of the removed rows at once.
    items.copy(&mut client, source.vectors(300));
    cluster.crash();
    cluster.start_server();
    let mut client = cluster.client();
    assert_all_found(&mut client, &items, 1000..1300);
    // `assert_recall` checks that every row returned exists and is at its distance: a removed
    // entry would lead to a row with another vector.
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn a_terminated_storage_worker_comes_back() {
    let (mut cluster, items, mut source) = indexed();
    // Nothing cached: queries need the worker.
    cluster.restart();
    let mut client = cluster.client();
    let before = wait_for("the worker", || worker(&mut client));
    terminate(before);
    wait_until("another worker", || worker(&mut client).is_some_and(|pid| pid != before));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Queries under way while the worker is terminated again and again end, with rows or an error.
#[test]
fn queries_survive_a_storage_worker_that_keeps_ending() {
    let (mut cluster, items, mut source) = indexed();
    cluster.restart();
    let queries = source.vectors(150);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut client = cluster.client();
            prefer_index(&mut client);
            client.batch_execute("SET statement_timeout = '60s'").expect("a setting");
            for query in &queries {
                if let Err(error) = harness::answers::try_ask(&mut client, &items, query, 10) {
                    let report = harness::errors::failure::<()>(Err(error));
                    assert_ne!(report.sqlstate, "57014", "a query hung: {report:?}");
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        let mut client = cluster.client();
        while !asking.is_finished() {
            if let Some(pid) = worker(&mut client) {
                terminate(pid);
            }
            thread::sleep(Duration::from_millis(50));
        }
    });
    let mut client = cluster.client();
    wait_until("the worker", || worker(&mut client).is_some());
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// A worker killed with SIGKILL takes the server through crash recovery, and all is well after.
#[test]
fn a_killed_storage_worker() {
    let (cluster, mut items, mut source) = indexed();
    let mut client = cluster.client();
    items.copy(&mut client, source.vectors(50));
    let pid = wait_for("the worker", || worker(&mut client));
    signal_process(pid, Signal::SIGKILL);
    let mut client = cluster.client_after_recovery(1);
    assert_all_found(&mut client, &items, 800..850);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// The first query after a restart loads the graph, and several at once load it once.
#[test]
fn many_clients_right_after_a_restart() {
    let (mut cluster, items, mut source) = indexed();
    cluster.restart();
    let queries = source.vectors(8);
    thread::scope(|scope| {
        for query in &queries {
            scope.spawn(|| {
                let mut client = cluster.client();
                prefer_index(&mut client);
                assert_eq!(ask(&mut client, &items, query, 10).len(), 10);
            });
        }
    });
    let mut client = cluster.client();
    let graphs: i64 =
        client.query_one("SELECT count(*) FROM s3vector_stat_graphs", &[]).expect("a count").get(0);
    assert_eq!(graphs, 1);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}
