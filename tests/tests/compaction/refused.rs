//! Flushes that are refused, cancelled or rolled back.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use harness::answers::{assert_all_found, assert_recall};
use harness::errors::failure;
use harness::upkeep::{flush, info, segments, sweep, try_flush};
use harness::{Cluster, store};
use postgres::NoTls;

use super::{count, indexed, live_entries, quiet};

/// Like `gin_clean_pending_list`: what was flushed stays flushed, and nothing of the transaction
/// stays visible.
#[test]
fn a_flush_in_a_transaction_that_rolls_back() {
    let cluster = quiet();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 300);
    items.copy(&mut client, source.vectors(200));
    client
        .batch_execute(
            "BEGIN; INSERT INTO items SELECT id + 10000, embedding FROM items LIMIT 50;
             SELECT s3vector_flush('items_index'); ROLLBACK",
        )
        .expect("rolled back");
    assert_eq!(info(&mut client, "items_index").delta_entries, 0);
    assert_all_found(&mut client, &items, 0..500);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    client.batch_execute("VACUUM items").expect("vacuum");
    items.copy(&mut client, source.vectors(100));
    assert_all_found(&mut client, &items, 0..600);
    flush(&mut client, "items_index");
    assert_eq!(live_entries(&mut client), 600);
}

/// The index that TRUNCATE makes belongs to the transaction; the one of before comes back.
#[test]
fn a_flush_after_a_truncate_that_rolls_back() {
    let cluster = quiet();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 300);
    items.copy(&mut client, source.vectors(100));
    let before = items.clone();
    client.batch_execute("BEGIN; TRUNCATE items").expect("truncated");
    items.rows.fill(None);
    items.copy(&mut client, source.vectors(250));
    assert_eq!(flush(&mut client, "items_index").rows_flushed, 250);
    assert_all_found(&mut client, &items, 400..650);
    client.batch_execute("ROLLBACK").expect("rolled back");
    assert_eq!(info(&mut client, "items_index").delta_entries, 100);
    assert_all_found(&mut client, &before, 0..400);
    assert_eq!(flush(&mut client, "items_index").rows_flushed, 100);
    assert_recall(&mut client, &before, &source.vectors(200), 0.95);
}

/// Cancelled at any moment, a flush has done its work or none of it, and stops soon.
#[test]
fn a_cancelled_flush() {
    let cluster = Cluster::builder()
        .set("s3vector.maintenance_workers", 0)
        .set("s3vector.gc_grace", 0)
        .start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 4000);
    let mut cancelled = 0;
    let mut whole = Duration::from_millis(600);
    for step in 1..=8 {
        items.copy(&mut client, source.vectors(3500));
        let token = client.cancel_token();
        let start = Instant::now();
        let pause = whole * step / 9;
        let canceller = thread::spawn(move || {
            thread::sleep(pause);
            token.cancel_query(NoTls).expect("the request is sent");
            Instant::now()
        });
        let result = try_flush(&mut client, "items_index");
        let ended = Instant::now();
        let asked = canceller.join().expect("the canceller ends");
        if result.is_err() {
            failure(result).expect("57014", &[]);
            assert!(ended - asked < Duration::from_secs(1), "it went on for {:?}", ended - asked);
            cancelled += 1;
        } else {
            whole = ended - start;
            // The request may come late, and meet a statement of no account.
            let _ = client.batch_execute("SELECT pg_sleep(0.1)");
        }
        let last = items.rows.len() - 1;
        assert_all_found(&mut client, &items, [0, last - 3499, last - 1700, last]);
        items.delete(&mut client, |id| id >= last - 3000);
        client.batch_execute("VACUUM items").expect("vacuum");
    }
    assert!(cancelled >= 3, "only {cancelled} of 8 flushes could be cancelled");
    flush(&mut client, "items_index");
    assert_eq!(live_entries(&mut client), count(items.len()));
    sweep(&mut client, false);
    let stored = store::segments(&cluster.store());
    let named: BTreeSet<String> =
        segments(&mut client, "items_index").into_iter().map(|segment| segment.prefix).collect();
    assert_eq!(stored, named, "what cancelled flushes left");
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn a_flush_needs_the_owner_or_maintain() {
    let cluster = quiet();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 300);
    client.batch_execute("CREATE ROLE plain LOGIN; GRANT SELECT ON items TO plain").expect("roles");
    items.copy(&mut client, source.vectors(100));
    let mut plain = cluster.client_as("plain");
    failure(try_flush(&mut plain, "items_index")).expect("42501", &["items"]);
    assert_eq!(info(&mut client, "items_index").delta_entries, 100);
    client.batch_execute("GRANT MAINTAIN ON items TO plain").expect("granted");
    assert_eq!(flush(&mut plain, "items_index").rows_flushed, 100);
    assert_recall(&mut plain, &items, &source.vectors(200), 0.95);
}

#[test]
fn a_flush_is_refused_where_nothing_may_be_written() {
    let cluster = quiet();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 300);
    items.copy(&mut client, source.vectors(100));
    let standby = cluster.standby();
    standby.catch_up(&mut client);
    failure(try_flush(&mut standby.client(), "items_index")).expect("25006", &["recovery"]);

    client.batch_execute("SET default_transaction_read_only = on").expect("a setting");
    failure(try_flush(&mut client, "items_index")).expect("25006", &["read-only"]);
    assert_recall(&mut standby.client(), &items, &source.vectors(200), 0.95);
    client.batch_execute("RESET default_transaction_read_only").expect("a setting");
    assert_eq!(flush(&mut client, "items_index").rows_flushed, 100);
}

#[test]
fn a_flush_of_something_else_is_refused() {
    let cluster = quiet();
    let mut client = cluster.client();
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, embedding vector(3));
             CREATE TABLE p (id int, embedding vector(3)) PARTITION BY RANGE (id);
             CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10);
             CREATE INDEX p_index ON p USING s3vector (embedding)",
        )
        .expect("tables");
    for name in ["t", "t_pkey", "p_index"] {
        failure(try_flush(&mut client, name)).expect("42809", &[name]);
    }
    failure(try_flush(&mut client, "nothing")).expect("42P01", &["nothing"]);
    assert_eq!(flush(&mut client, "p_1_embedding_idx").rows_flushed, 0);
}
