//! Does a flush turn the delta into a segment, whatever else goes on, and lose nothing?
//!
//! No maintenance worker runs here: the tests flush when they mean to.

use harness::answers::{assert_all_found, assert_recall, prefer_index};
use harness::items::{Source, literal};
use harness::upkeep::{flush, info, segments};
use harness::{Cluster, Items, Metric};
use postgres::Client;

mod beside;
mod refused;

const DIMENSIONS: usize = 24;

fn quiet() -> Cluster {
    Cluster::builder().set("s3vector.maintenance_workers", 0).start()
}

fn indexed(client: &mut Client, rows: usize) -> (Items, Source) {
    let mut source = Source::new(81, DIMENSIONS);
    let mut items = Items::create(client, "items", Metric::L2, source.vectors(1));
    items.copy(client, source.vectors(rows - 1));
    items.index(client, "");
    prefer_index(client);
    (items, source)
}

/// Entries in segments that are not removed.
fn live_entries(client: &mut Client) -> i64 {
    let found = info(client, "items_index");
    found.entries - found.tombstones
}

fn count(rows: usize) -> i64 {
    rows.try_into().expect("a small number")
}

#[test]
fn a_flush_turns_the_delta_into_a_segment_and_says_so() {
    let cluster = quiet();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 500);
    items.copy(&mut client, source.vectors(200));
    assert_eq!(info(&mut client, "items_index").delta_entries, 200);

    let done = flush(&mut client, "items_index");
    assert_eq!((done.rows_flushed, done.rows_merged), (200, 0), "{done:?}");
    assert_eq!((done.segments_written, done.segments_replaced), (1, 0), "{done:?}");
    assert!(done.bytes_written >= 200 * count(DIMENSIONS) * 4, "{done:?}");
    assert_eq!(done.segments, 2, "{done:?}");
    let found = info(&mut client, "items_index");
    assert_eq!((found.segments, found.delta_entries, found.entries), (2, 0, 700), "{found:?}");
    assert!(segments(&mut client, "items_index").iter().all(|segment| segment.generation == 0));
    assert_all_found(&mut client, &items, 0..700);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn a_flush_with_nothing_to_do_does_nothing() {
    let cluster = quiet();
    let mut client = cluster.client();
    let (items, mut source) = indexed(&mut client, 500);
    let before = segments(&mut client, "items_index");
    for _ in 0..2 {
        let done = flush(&mut client, "items_index");
        assert_eq!((done.rows_flushed, done.rows_merged, done.bytes_written), (0, 0, 0));
        assert_eq!((done.segments_written, done.segments_replaced, done.segments), (0, 0, 1));
    }
    assert_eq!(before[0].prefix, segments(&mut client, "items_index")[0].prefix);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// An index created on an empty table has no segment at all until its first flush.
#[test]
fn an_index_filled_by_inserts_alone() {
    let cluster = quiet();
    let mut client = cluster.client();
    let mut source = Source::new(82, DIMENSIONS);
    client.batch_execute("CREATE TABLE items (id int, embedding vector(24))").expect("a table");
    let mut items = Items { table: "items".to_owned(), metric: Metric::Cosine, rows: Vec::new() };
    items.index(&mut client, "");
    assert_eq!(flush(&mut client, "items_index").segments, 0);
    for _ in 0..3 {
        items.copy(&mut client, source.vectors(500));
        assert_eq!(flush(&mut client, "items_index").rows_flushed, 500);
    }
    assert_eq!(live_entries(&mut client), 1500);
    assert_all_found(&mut client, &items, (0..1500).step_by(3));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Entries wider than a page.
#[test]
fn rows_that_span_pages() {
    let cluster = quiet();
    let mut client = cluster.client();
    let mut source = Source::new(83, 2100);
    let mut items = Items::create(&mut client, "items", Metric::L2, source.vectors(50));
    items.index(&mut client, "");
    items.copy(&mut client, source.vectors(150));
    items.delete(&mut client, |id| id % 5 == 0);
    client.batch_execute("VACUUM items").expect("vacuum");
    assert_eq!(flush(&mut client, "items_index").rows_flushed, 120);
    assert_eq!(info(&mut client, "items_index").delta_entries, 0);
    items.copy(&mut client, source.vectors(40));
    assert_all_found(&mut client, &items, (0..240).filter(|id| *id >= 200 || id % 5 != 0));
    assert_recall(&mut client, &items, &source.vectors(20), 0.95);
}

/// Rows without an index entry stay without one.
#[test]
fn nulls_and_zero_vectors_are_no_entries() {
    let cluster = quiet();
    let mut client = cluster.client();
    let mut source = Source::new(84, DIMENSIONS);
    let mut items = Items::create(&mut client, "items", Metric::Cosine, source.vectors(200));
    items.index(&mut client, "");
    items.copy(&mut client, source.vectors(200));
    let zero = literal(&[0.0; DIMENSIONS]);
    client
        .batch_execute(&format!("INSERT INTO items VALUES (-1, NULL), (-2, {zero})"))
        .expect("rows without a direction");
    assert_eq!(flush(&mut client, "items_index").rows_flushed, 200);
    assert_eq!(live_entries(&mut client), 400);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}
