//! Writers, VACUUM, flushes and merges beside the check: is what is right found to be right?

use std::thread;

use harness::Cluster;
use harness::check::{findings, try_check};
use harness::errors::failure;
use harness::items::{Source, literal};
use harness::upkeep::{segments, try_flush};
use harness::wait::{AtWork, wait_until};
use postgres::Client;

const DIMENSIONS: usize = 8;

/// Checks that are made while others work.
const CHECKS: usize = 25;

fn table(client: &mut Client, rows: i32) {
    client
        .batch_execute(&format!(
            "CREATE TABLE items (id int, note int, embedding vector({DIMENSIONS}))"
        ))
        .expect("a table");
    let mut source = Source::new(75, DIMENSIONS);
    for id in 0..rows {
        let sql = format!("INSERT INTO items VALUES ({id}, 0, {})", literal(&source.vector()));
        client.batch_execute(&sql).expect("a row");
    }
    client
        .batch_execute(
            "CREATE INDEX items_index ON items USING s3vector (embedding) WITH (m = 4, ef_construction = 16);
             CREATE INDEX part ON items USING s3vector (embedding) WHERE note % 2 = 0",
        )
        .expect("indexes");
}

/// Changes rows of its own in every way until the checks are made.
fn write(client: &mut Client, number: i32, checks: &AtWork) {
    let mut source = Source::new(80 + number as u64, DIMENSIONS);
    let mut random = fastrand::Rng::with_seed(number as u64);
    let mut next = 100_000 * (number + 1);
    while checks.goes_on() {
        let (vector, some) = (literal(&source.vector()), random.i32(2..9));
        let end = if random.bool() { "COMMIT" } else { "ROLLBACK" };
        let sql = match random.u32(..7) {
            0 => format!("INSERT INTO items SELECT {next} + i, i, {vector}::vector FROM generate_series(1, 40) i"),
            1 => format!("UPDATE items SET note = note + 1 WHERE id % {some} = {number}"),
            2 => format!("UPDATE items SET embedding = {vector} WHERE id % 97 = {number}"),
            3 => format!("UPDATE items SET embedding = NULL WHERE id % 89 = {number}"),
            4 => format!("DELETE FROM items WHERE id % 31 = {} AND id > 2000", random.i32(..31)),
            5 => format!(
                "BEGIN; INSERT INTO items SELECT {next} + i, i, {vector}::vector FROM generate_series(1, 40) i;
                 UPDATE items SET note = note + 1 WHERE id % 23 = {number}; {end}"
            ),
            _ => format!(
                "BEGIN; SAVEPOINT a; INSERT INTO items SELECT {next} + i, i, {vector}::vector FROM generate_series(1, 40) i;
                 ROLLBACK TO a; DELETE FROM items WHERE id % 37 = {number} AND id > 2000; {end}"
            ),
        };
        next += 50;
        // Two that want each other's rows: one of them goes on.
        if let Err(error) = client.batch_execute(&sql) {
            let code = error.code().map(|code| code.code().to_owned());
            assert_eq!(code.as_deref(), Some("40P01"), "{sql}: {error:?}");
            client.batch_execute("ROLLBACK").expect("rolled back");
        }
    }
}

/// Removes, flushes, merges and sweeps until the checks are made, and at least twice.
fn keep_house(client: &mut Client, checks: &AtWork) {
    let mut rounds = 0;
    while rounds < 2 || checks.goes_on() {
        client.batch_execute("VACUUM items").expect("vacuum");
        for index in ["items_index", "part"] {
            try_flush(client, index).expect("flush");
        }
        client.batch_execute("SELECT FROM s3vector_sweep()").expect("sweep");
        rounds += 1;
    }
}

#[test]
fn nothing_wrong_is_seen_in_what_others_do() {
    let cluster = Cluster::builder()
        // Objects of replaced segments go as soon as they can.
        .set("s3vector.gc_grace", 0)
        .set("s3vector.flush_size", "64kB")
        .set("deadlock_timeout", "100ms")
        .set("max_locks_per_transaction", 256)
        .start();
    table(&mut cluster.client(), 3000);
    let checks = AtWork::new(2);
    thread::scope(|scope| {
        for number in 0..3 {
            let (cluster, checks) = (&cluster, &checks);
            scope.spawn(move || write(&mut cluster.client(), number, checks));
        }
        scope.spawn(|| keep_house(&mut cluster.client(), &checks));
        for index in ["items_index", "part"] {
            let (cluster, checks) = (&cluster, &checks);
            scope.spawn(move || {
                let _shift = checks.shift();
                let mut client = cluster.client();
                // A few ranges at a time.
                client.batch_execute("SET maintenance_work_mem = '64kB'").expect("a setting");
                for number in 0..CHECKS {
                    let found = try_check(&mut client, index, number % 2 == 0)
                        .unwrap_or_else(|error| panic!("check {number} of {index}: {error:?}"));
                    assert_eq!(found, [], "check {number} of {index}");
                }
            });
        }
    });
}

/// A replica is checked as its primary is, while it replays.
#[test]
fn on_a_replica() {
    let primary = Cluster::builder()
        .set("s3vector.flush_size", "64kB")
        // The check is not to be cancelled, replay can wait.
        .set("max_standby_streaming_delay", -1)
        .set("deadlock_timeout", "100ms")
        .start();
    let mut client = primary.client();
    table(&mut client, 1500);
    client
        .batch_execute(
            "CREATE UNLOGGED TABLE light AS SELECT * FROM items;
             CREATE INDEX light_index ON light USING s3vector (embedding)",
        )
        .expect("an unlogged index");
    let standby = primary.standby();
    standby.catch_up(&mut client);
    let (mut reader, warnings) = standby.client_with_warnings();
    assert_eq!(findings(&mut reader, "light_index"), []);
    assert!(warnings.take().is_empty());
    let checks = AtWork::new(1);
    thread::scope(|scope| {
        for number in 0..2 {
            let (primary, checks) = (&primary, &checks);
            scope.spawn(move || write(&mut primary.client(), number, checks));
        }
        scope.spawn(|| {
            let mut client = primary.client();
            while checks.goes_on() {
                client.batch_execute("VACUUM items").expect("vacuum");
                try_flush(&mut client, "items_index").expect("flush");
            }
        });
        let shift = checks.shift();
        for number in 0..CHECKS {
            for index in ["items_index", "part"] {
                let found = try_check(&mut reader, index, number % 2 == 0)
                    .unwrap_or_else(|error| panic!("check {number} of {index}: {error:?}"));
                assert_eq!(found, [], "check {number} of {index}");
            }
        }
        drop(shift);
    });
    standby.catch_up(&mut client);
    assert_eq!(findings(&mut reader, "items_index"), []);
    let none: bool = reader
        .query_one("SELECT pg_current_xact_id_if_assigned() IS NULL", &[])
        .expect("a transaction")
        .get(0);
    assert!(none);
}

/// Nobody waits for the check but who would wait for a query, and it ends when it is told to.
#[test]
fn it_keeps_nobody_waiting_and_can_be_cancelled() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    table(&mut client, 2000);
    client
        .batch_execute(
            "CREATE FUNCTION slow(v vector) RETURNS vector LANGUAGE plpgsql IMMUTABLE
                 AS $$ BEGIN PERFORM pg_sleep(0.05) WHERE current_setting('x.slow', true) = '1'; RETURN v; END $$;
             CREATE INDEX slow ON items USING s3vector ((slow(embedding)::vector(8)))",
        )
        .expect("an index");
    assert_eq!(findings(&mut client, "slow"), []);
    let mut checker = cluster.client();
    let token = checker.cancel_token();
    thread::scope(|scope| {
        let checking = scope.spawn(move || {
            checker.batch_execute("SET x.slow = '1'").expect("a setting");
            try_check(&mut checker, "slow", false)
        });
        wait_until("the check to read the table", || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%s3vector_check%'
                       AND wait_event = 'PgSleep'";
            client.query_one(sql, &[]).expect("activity").get::<_, i64>(0) == 1
        });
        for sql in [
            "SET lock_timeout = '5s'",
            "INSERT INTO items SELECT id + 9000, note, embedding FROM items WHERE id < 50",
            "UPDATE items SET note = 3 WHERE id < 100",
            "DELETE FROM items WHERE id < 20",
            "VACUUM items",
            "SELECT FROM s3vector_flush('slow')",
        ] {
            client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
        token.cancel_query(postgres::NoTls).expect("cancelled");
        failure(checking.join().expect("the checker")).expect("57014", &[]);
    });
    assert!(!segments(&mut client, "slow").is_empty());
}
