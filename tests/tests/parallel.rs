//! CREATE INDEX with parallel workers that help to read the table.

use std::thread;
use std::time::{Duration, Instant};

use harness::answers::{assert_all_found, assert_recall};
use harness::errors::failure;
use harness::items::Source;
use harness::upkeep::{indexes, info};
use harness::wait::wait_until;
use harness::{Cluster, Items, Metric};
use postgres::{Client, NoTls};

/// Longest time a cancelled build may go on.
const PROMPTLY: Duration = Duration::from_secs(1);

/// An index whose rows take a while to compute: a third of a second in each of three processes.
const SLOW: &str = "CREATE INDEX items_index ON items \
    USING s3vector ((slow(embedding)::vector(24)) vector_l2_ops)";

/// A table that is read by two workers and the builder.
fn table(cluster: &Cluster, dimensions: usize, rows: usize) -> (Items, Source) {
    let mut source = Source::new(71, dimensions);
    let mut client = cluster.client();
    let items = Items::create(&mut client, "items", Metric::L2, source.vectors(rows));
    client.batch_execute("ALTER TABLE items SET (parallel_workers = 2)").expect("altered");
    (items, source)
}

/// A function for [`SLOW`]; fails for vectors that `fails` picks.
fn slow(client: &mut Client, fails: &str) {
    client
        .batch_execute(&format!(
            "CREATE FUNCTION slow(v vector) RETURNS vector
             LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$ BEGIN
                PERFORM pg_sleep(0.0005);
                IF {fails} THEN RAISE EXCEPTION 'no such thing'; END IF;
                RETURN v;
             END $$"
        ))
        .expect("a function");
}

fn workers(client: &mut Client) -> i64 {
    client
        .query_one(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE backend_type = 'parallel worker' AND query LIKE 'CREATE INDEX%'",
            &[],
        )
        .expect("a count")
        .get(0)
}

/// Waits until two workers are there.
fn wait_for_workers(client: &mut Client) {
    wait_until("two workers", || workers(client) == 2);
}

#[test]
fn all_rows_of_all_workers_arrive() {
    // Without autovacuum CREATE INDEX keeps no statistics.
    let cluster = Cluster::builder().set("autovacuum", "on").start();
    let (mut items, mut source) = table(&cluster, 24, 3000);
    let mut client = cluster.client();
    slow(&mut client, "false");
    // Rows that get no entry.
    client
        .batch_execute("INSERT INTO items SELECT 100000, NULL FROM generate_series(1, 20)")
        .expect("inserted");
    items.delete(&mut client, |id| id % 10 == 3);
    thread::scope(|scope| {
        let building = scope.spawn(|| cluster.client().batch_execute(SLOW).expect("built"));
        wait_for_workers(&mut client);
        building.join().expect("the builder ends");
    });
    assert_eq!(workers(&mut client), 0);
    let found = info(&mut client, "items_index");
    assert_eq!((found.entries, found.delta_entries), (2700, 0), "{found:?}");
    let tuples: f32 = client
        .query_one("SELECT reltuples FROM pg_class WHERE relname = 'items'", &[])
        .expect("statistics")
        .get(0);
    assert_eq!(tuples, 2720.0);
    client.batch_execute("DROP INDEX items_index").expect("dropped");

    items.index(&mut client, "");
    assert_all_found(&mut client, &items, items.live().step_by(3));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Where less memory than the table needs makes several segments, workers wait while one is written.
#[test]
fn several_segments() {
    let cluster = Cluster::builder().set("maintenance_work_mem", "1MB").start();
    let (items, mut source) = table(&cluster, 48, 20_000);
    let mut client = cluster.client();
    items.index(&mut client, "");
    let found = info(&mut client, "items_index");
    assert!(found.segments > 1, "{found:?}");
    assert_eq!((found.entries, found.delta_entries), (20_000, 0), "{found:?}");
    assert_all_found(&mut client, &items, (0..20_000).step_by(50));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Vectors that lie out of line, and rows larger than a message.
#[test]
fn large_vectors() {
    let cluster = Cluster::start();
    for dimensions in [1000, 16_000] {
        let (items, mut source) = table(&cluster, dimensions, 40_000_000 / dimensions / 100);
        let mut client = cluster.client();
        items.index(&mut client, "");
        assert_all_found(&mut client, &items, items.live().step_by(7));
        assert_recall(&mut client, &items, &source.vectors(20), 0.95);
        client.batch_execute("DROP TABLE items").expect("dropped");
    }
}

/// PostgreSQL may have fewer workers to give than a build asks for.
#[test]
fn without_any_worker_to_be_had() {
    let cluster = Cluster::builder().set("max_parallel_workers", 0).start();
    let (items, mut source) = table(&cluster, 24, 2000);
    let mut client = cluster.client();
    items.index(&mut client, "");
    assert_all_found(&mut client, &items, (0..2000).step_by(10));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn a_worker_that_fails() {
    let cluster = Cluster::start();
    let (items, mut source) = table(&cluster, 24, 3000);
    let mut client = cluster.client();
    // The builder itself has the first part of the table, others the last rows.
    let last = harness::items::text(items.rows[2999].as_ref().expect("a row"));
    slow(&mut client, &format!("v::text = '{last}'"));
    for _ in 0..3 {
        failure(client.batch_execute(SLOW)).expect("P0001", &["no such thing"]);
        assert_eq!((indexes(&mut client), workers(&mut client)), (0, 0));
    }
    items.index(&mut client, "");
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// What the index cannot hold is found by whoever reads it.
#[test]
fn a_row_that_cannot_be_indexed() {
    let cluster = Cluster::start();
    let (mut items, mut source) = table(&cluster, 24, 3000);
    let mut client = cluster.client();
    let mut large = source.vector();
    large[5] = 1e6;
    items.copy(&mut client, vec![large]);
    let with = "WITH (payload = float16)";
    failure(items.try_index(&mut client, with))
        .expect("22003", &["1000000 is out of range for an index with payload = float16"]);
    items.delete(&mut client, |id| id == 3000);
    client.batch_execute("VACUUM items").expect("vacuumed");
    items.index(&mut client, with);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn cancelled_while_workers_read() {
    let cluster = Cluster::start();
    let (_items, _) = table(&cluster, 24, 20_000);
    let mut client = cluster.client();
    slow(&mut client, "false");
    let mut builder = cluster.client();
    let token = builder.cancel_token();
    thread::scope(|scope| {
        let building = scope.spawn(move || (builder.batch_execute(SLOW), Instant::now()));
        wait_for_workers(&mut client);
        let asked = Instant::now();
        token.cancel_query(NoTls).expect("the request is sent");
        let (outcome, ended) = building.join().expect("the builder ends");
        failure(outcome).expect("57014", &[]);
        assert!(ended - asked < PROMPTLY, "the build went on for {:?}", ended - asked);
    });
    assert_eq!((indexes(&mut client), workers(&mut client)), (0, 0));
}

/// A worker that somebody ends takes the build with it, and nothing else.
#[test]
fn a_worker_that_is_terminated() {
    let cluster = Cluster::start();
    let (items, mut source) = table(&cluster, 24, 20_000);
    let mut client = cluster.client();
    slow(&mut client, "false");
    thread::scope(|scope| {
        let building = scope.spawn(|| cluster.client().batch_execute(SLOW));
        wait_for_workers(&mut client);
        client
            .batch_execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE backend_type = 'parallel worker'",
            )
            .expect("terminated");
        failure(building.join().expect("the builder ends")).expect("57P01", &[]);
    });
    assert_eq!(indexes(&mut client), 0);
    items.index(&mut client, "");
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}
