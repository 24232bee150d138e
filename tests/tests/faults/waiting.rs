//! Sessions that wait for a graph while others need the memory for other graphs.

use std::thread::{self, ScopedJoinHandle};

use harness::answers::{self, ask, prefer_index};
use harness::errors::failure;
use harness::items::Source;
use harness::model::assert_whole;
use harness::process::exists;
use harness::wait::wait_until;
use harness::{Cluster, Items, Metric};
use postgres::Client;

use super::ways::LOCK;

const DIMENSIONS: usize = 64;
/// Of so many rows a graph takes more than half of the memory there is.
const ROWS: usize = 4000;
/// Of so many it takes more than all of it.
const TOO_MANY: usize = 9000;
const MEMORY: i64 = 1 << 20;

/// Tables with an index each, in a server with memory for the graph of one of them.
struct Crowd {
    cluster: Cluster,
    source: Source,
}

impl Crowd {
    fn new() -> Self {
        let cluster = Cluster::builder()
            .set("s3vector.maintenance_workers", 0)
            .set("s3vector.graph_memory", "1MB")
            .start();
        Self { cluster, source: Source::new(95, DIMENSIONS) }
    }

    fn table(&mut self, name: &str, rows: usize) -> Items {
        let mut client = self.client();
        let items = Items::create(&mut client, name, Metric::L2, self.source.vectors(rows));
        items.index(&mut client, "");
        let sql = format!("SELECT resident_bytes FROM s3vector_segments('{name}_index')");
        let bytes: i64 = client.query_one(&sql, &[]).expect("one segment").get(0);
        assert_eq!(bytes > MEMORY / 2, rows >= ROWS, "{name}: {bytes} bytes");
        assert_eq!(bytes > MEMORY, rows >= TOO_MANY, "{name}: {bytes} bytes");
        items
    }

    fn client(&self) -> Client {
        let mut client = self.cluster.client();
        prefer_index(&mut client);
        client
    }

    /// A session whose statement stands still when it has asked for a graph.
    fn slow_client(&self) -> (Client, i32) {
        let mut client = self.client();
        client
            .batch_execute("SET s3vector.fault_point = 'graph.requested=block'")
            .expect("a build with fault points");
        let pid = client.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
        (client, pid)
    }

    /// Makes statements of slow clients stand still, as long as the session lives.
    fn barrier(&self) -> Client {
        let mut keeper = self.client();
        keeper.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).expect("the lock is free");
        keeper
    }

    /// Waits until a slow client has asked for the graph of `items`, and the graph is there.
    fn wait_for_graph<T>(&self, slow: &ScopedJoinHandle<'_, T>, items: &Items) {
        let mut client = self.client();
        let mut found =
            |sql: &str| client.query_one(sql, &[]).expect("an answer").get::<_, bool>(0);
        let standing = format!(
            "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
             AND classid = 0 AND objid = {LOCK} AND objsubid = 1)"
        );
        wait_until("the statement to stand still", || {
            assert!(!slow.is_finished(), "it has not asked for a graph");
            found(&standing)
        });
        let ready = format!(
            "SELECT EXISTS (SELECT FROM s3vector_stat_graphs g JOIN s3vector_segments('{}_index') s
             ON s.prefix = g.index_uuid || '/' || g.segment_uuid WHERE g.state = 'ready')",
            items.table
        );
        wait_until("the graph to be loaded", || found(&ready));
    }

    /// Bytes of the graphs in memory.
    fn bytes(&self) -> i64 {
        let sql = "SELECT coalesce(sum(bytes), 0)::bigint FROM s3vector_stat_graphs";
        self.client().query_one(sql, &[]).expect("graphs").get(0)
    }
}

/// A query for the row nearest to the first one.
fn query(items: &Items) -> String {
    let row = items.rows[0].as_ref().expect("no row is gone");
    answers::sql(&items.table, items.metric, row, 1)
}

/// Asserts that some rows are the nearest to themselves.
#[track_caller]
fn assert_nearest(client: &mut Client, items: &Items, count: usize) {
    for id in (0..items.rows.len()).step_by(items.rows.len().div_ceil(count)) {
        let row = items.rows[id].as_ref().expect("no row is gone");
        let answer = ask(client, items, row, 5);
        let id = i32::try_from(id).expect("ids are small");
        assert!(answer[0].0 == id && answer[0].1 == 0.0, "row {id} of {}: {answer:?}", items.table);
    }
}

/// A query that is slow to see that its graph is there searches that graph and no other, and so do
/// the session's next ones.
#[test]
fn a_query_searches_the_graph_it_has_waited_for() {
    let mut crowd = Crowd::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| crowd.table(name, ROWS));
    let barrier = crowd.barrier();
    thread::scope(|scope| {
        let (mut client, _) = crowd.slow_client();
        let (a, b, c) = (&a, &b, &c);
        let slow = scope.spawn(move || {
            for items in [a, a, b, c, a] {
                assert_nearest(&mut client, items, 3);
            }
        });
        crowd.wait_for_graph(&slow, a);
        let mut client = crowd.client();
        // The first takes the memory, the second the place in the registry.
        assert_nearest(&mut client, c, 3);
        assert_nearest(&mut client, b, 3);
        drop(barrier);
        slow.join().expect("the slow session gets right answers");
    });
}

/// VACUUM would put its tombstones on other rows' entries.
#[test]
fn vacuum_asks_the_graph_it_has_waited_for() {
    let mut crowd = Crowd::new();
    let mut a = crowd.table("a", ROWS);
    let [b, c] = ["b", "c"].map(|name| crowd.table(name, ROWS));
    let mut client = crowd.client();
    a.delete(&mut client, |id| id % 2 == 1);
    let barrier = crowd.barrier();
    thread::scope(|scope| {
        let (mut vacuuming, _) = crowd.slow_client();
        let slow = scope.spawn(move || {
            vacuuming.batch_execute("VACUUM (INDEX_CLEANUP ON) a").expect("vacuumed");
        });
        crowd.wait_for_graph(&slow, &a);
        assert_nearest(&mut client, &c, 1);
        assert_nearest(&mut client, &b, 1);
        drop(barrier);
        slow.join().expect("VACUUM ends");
    });
    a.copy(&mut client, crowd.source.vectors(500));
    assert_whole(&mut client, &a, &crowd.source.vector(), 1.0);
}

/// The failure to load another graph is not this one's.
#[test]
fn a_query_does_not_fail_for_another_graph() {
    let mut crowd = Crowd::new();
    let [a, c] = ["a", "c"].map(|name| crowd.table(name, ROWS));
    let large = crowd.table("large", TOO_MANY);
    let barrier = crowd.barrier();
    thread::scope(|scope| {
        let (mut client, _) = crowd.slow_client();
        let (a, c) = (&a, &c);
        let slow = scope.spawn(move || {
            for items in [a, c, a] {
                assert_nearest(&mut client, items, 3);
            }
        });
        crowd.wait_for_graph(&slow, a);
        let mut client = crowd.client();
        assert_nearest(&mut client, c, 1);
        let report = failure(client.query(&query(&large), &[]));
        report.expect("53200", &["s3vector.graph_memory"]);
        drop(barrier);
        slow.join().expect("the slow session gets right answers");
    });
    // No check of it could load its graph.
    crowd.client().batch_execute("DROP TABLE large").expect("dropped");
}

/// A statement that waits keeps its graph in memory beside what others load. When it ends, in whatever
/// way, there is no more than there may be, soon and without another load.
#[test]
fn a_statement_that_has_ended_keeps_no_graph_in_memory() {
    let mut crowd = Crowd::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| crowd.table(name, ROWS));
    let query = query(&a);
    for way in ["pg_cancel_backend", "pg_terminate_backend"] {
        let barrier = crowd.barrier();
        thread::scope(|scope| {
            let (mut client, pid) = crowd.slow_client();
            let query = &query;
            let slow = scope.spawn(move || {
                let error = client.query(query, &[]).expect_err("the statement is ended");
                // The session, if there still is one, outlives the statement.
                (error, client)
            });
            crowd.wait_for_graph(&slow, &a);
            // Loaded although there is no room beside the other one, and dropped once it is mapped.
            assert_nearest(&mut crowd.client(), &b, 1);
            crowd.client().execute(&format!("SELECT {way}($1)"), &[&pid]).expect("a signal");
            let (error, _session) = slow.join().expect("the statement ends");
            if way == "pg_cancel_backend" {
                failure::<()>(Err(error)).expect("57014", &[]);
            } else {
                wait_until("the process to end", || !exists(pid));
            }
            assert_nearest(&mut crowd.client(), &c, 1);
            wait_until("the other graphs to be dropped", || crowd.bytes() <= MEMORY);
            drop(barrier);
        });
    }

    // In a transaction that goes on.
    let (mut client, _) = crowd.slow_client();
    let mut transaction = client.transaction().expect("a transaction");
    transaction
        .batch_execute(&format!(
            "SET LOCAL s3vector.fault_point = 'graph.requested=error';
             DO $$ BEGIN PERFORM * FROM ({query}) AS found; RAISE 'no failure';
             EXCEPTION WHEN internal_error THEN NULL; END $$"
        ))
        .expect("the failure is caught");
    for items in [&b, &c] {
        assert_nearest(&mut crowd.client(), items, 1);
    }
    wait_until("the other graphs to be dropped", || crowd.bytes() <= MEMORY);
    transaction.commit().expect("committed");
}
