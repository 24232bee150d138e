//! Do merges keep the number of segments small, and every row and the recall as they were?
//!
//! No maintenance worker runs here: the tests flush, and so merge, when they mean to.

use harness::answers::{self, assert_all_found, assert_recall, prefer_index};
use harness::items::Source;
use harness::upkeep::{Segment, flush, info, segments};
use harness::{Cluster, Items, Metric};
use postgres::Client;

mod kinds;

const DIMENSIONS: usize = 24;

fn quiet() -> Cluster {
    Cluster::builder().set("s3vector.maintenance_workers", 0).start()
}

/// An empty table with an index.
fn empty(client: &mut Client, metric: Metric, dimensions: usize, with: &str) -> Items {
    client
        .batch_execute(&format!("CREATE TABLE items (id int, embedding vector({dimensions}))"))
        .expect("a table");
    let items = Items { table: "items".to_owned(), metric, rows: Vec::new() };
    items.index(client, with);
    prefer_index(client);
    items
}

/// Adds rows and flushes them, `times` times.
fn grow(client: &mut Client, items: &mut Items, source: &mut Source, rows: usize, times: usize) {
    for _ in 0..times {
        items.copy(client, source.vectors(rows));
        flush(client, "items_index");
    }
}

fn entries(segments: &[Segment]) -> i64 {
    segments.iter().map(|segment| segment.entries).sum()
}

/// Waves of fetches and segments of this session's last scan.
fn last_scan(client: &mut Client) -> (i32, i32) {
    let row =
        client.query_one("SELECT waves, segments FROM s3vector_last_scan()", &[]).expect("a scan");
    (row.get(0), row.get(1))
}

#[test]
fn the_number_of_segments_grows_with_the_logarithm_of_the_rows() {
    const ROWS: usize = 50;
    let cluster = quiet();
    let mut client = cluster.client();
    let mut source = Source::new(101, DIMENSIONS);
    let mut items = empty(&mut client, Metric::L2, DIMENSIONS, "");
    let mut rewritten = 0;
    for flushes in 1..=40_usize {
        items.copy(&mut client, source.vectors(ROWS));
        let done = flush(&mut client, "items_index");
        rewritten += done.rows_merged;
        let bound = i32::try_from(flushes.ilog2()).expect("small") + 2;
        assert!(done.segments <= bound, "{} segments after {flushes} flushes", done.segments);
        let found = segments(&mut client, "items_index");
        assert_eq!(entries(&found), i64::try_from(items.len()).expect("small"));
    }
    // Every row is rewritten as often as its segment's size doubles, not with every flush.
    let rows = i64::try_from(items.len()).expect("small");
    assert!(rewritten <= rows * 6, "{rewritten} entries rewritten for {rows} rows");
    let deepest = segments(&mut client, "items_index").iter().map(|s| s.generation).max();
    assert!(deepest.is_some_and(|generation| (1..=6).contains(&generation)), "{deepest:?}");
    assert_all_found(&mut client, &items, 0..items.rows.len());
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn removed_rows_leave_the_segments() {
    let cluster = quiet();
    let mut client = cluster.client();
    let mut source = Source::new(102, DIMENSIONS);
    let mut items = empty(&mut client, Metric::L2, DIMENSIONS, "");
    grow(&mut client, &mut items, &mut source, 1000, 1);
    grow(&mut client, &mut items, &mut source, 300, 1);
    items.delete(&mut client, |id| id % 3 == 0);
    client.batch_execute("VACUUM items").expect("vacuum");
    assert_eq!(info(&mut client, "items_index").tombstones, 434);
    let done = flush(&mut client, "items_index");
    assert!(done.segments_replaced >= 1 && done.rows_merged >= 866, "{done:?}");
    let found = info(&mut client, "items_index");
    assert_eq!((found.entries, found.tombstones), (866, 0), "{found:?}");
    assert_all_found(&mut client, &items, (0..1300).filter(|id| id % 3 != 0).step_by(2));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// A segment of which nothing is left goes without another in its place.
#[test]
fn an_emptied_segment_disappears() {
    let cluster = quiet();
    let mut client = cluster.client();
    let mut source = Source::new(103, DIMENSIONS);
    let mut items = empty(&mut client, Metric::L2, DIMENSIONS, "");
    grow(&mut client, &mut items, &mut source, 400, 1);
    grow(&mut client, &mut items, &mut source, 100, 1);
    items.delete(&mut client, |id| id < 400);
    client.batch_execute("VACUUM items").expect("vacuum");
    flush(&mut client, "items_index");
    let found = info(&mut client, "items_index");
    assert_eq!((found.segments, found.entries, found.tombstones), (1, 100, 0), "{found:?}");
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);

    items.delete(&mut client, |_| true);
    client.batch_execute("VACUUM items").expect("vacuum");
    flush(&mut client, "items_index");
    let found = info(&mut client, "items_index");
    assert_eq!((found.segments, found.entries, found.tombstones), (0, 0, 0), "{found:?}");
    assert_eq!(answers::ask(&mut client, &items, &source.vector(), 10), []);
    grow(&mut client, &mut items, &mut source, 200, 1);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Built with little memory, an index has many segments; there is more memory for a merge.
#[test]
fn a_build_in_little_memory_is_merged() {
    let cluster = quiet();
    let mut client = cluster.client();
    let mut source = Source::new(104, 128);
    let mut items = Items::create(&mut client, "items", Metric::L2, source.vectors(6000));
    client.batch_execute("SET maintenance_work_mem = '1MB'").expect("a setting");
    items.index(&mut client, "WITH (m = 100)");
    let before = info(&mut client, "items_index").segments;
    assert!(before >= 2, "11 MB of codes, links and vectors were built as one segment");
    items.copy(&mut client, source.vectors(10));
    let done = flush(&mut client, "items_index");
    assert!(done.segments_replaced >= 2 && done.rows_merged >= 2000, "{done:?}");
    assert!(done.segments < before, "{done:?}");
    assert_eq!(info(&mut client, "items_index").entries, 6010);
    assert_all_found(&mut client, &items, (0..6010).step_by(20));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn segments_that_need_more_than_merge_memory_stay_apart() {
    let cluster = Cluster::builder()
        .set("s3vector.maintenance_workers", 0)
        .set("s3vector.merge_memory", "4MB")
        .start();
    let mut client = cluster.client();
    let mut source = Source::new(105, DIMENSIONS);
    let mut items = empty(&mut client, Metric::L2, DIMENSIONS, "WITH (m = 100)");
    for _ in 0..6 {
        // Links of 1500 rows take 1.2 MB.
        items.copy(&mut client, source.vectors(1500));
        flush(&mut client, "items_index");
    }
    let found = segments(&mut client, "items_index");
    assert!(found.len() >= 2, "9000 rows with 7 MB of links are one segment: {found:?}");
    assert_eq!(entries(&found), 9000);
    assert_all_found(&mut client, &items, (0..9000).step_by(30));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// A delta too large to become one segment becomes several.
#[test]
fn a_delta_beyond_merge_memory_is_flushed() {
    let cluster = Cluster::builder()
        .set("s3vector.maintenance_workers", 0)
        .set("s3vector.merge_memory", "4MB")
        .start();
    let mut client = cluster.client();
    let mut source = Source::new(111, 128);
    let mut items = empty(&mut client, Metric::L2, 128, "WITH (m = 100)");
    items.copy(&mut client, source.vectors(9000));
    let done = flush(&mut client, "items_index");
    assert_eq!(done.rows_flushed, 9000);
    assert!(done.segments >= 2, "11 MB of codes, links and vectors became one segment: {done:?}");
    assert_eq!(info(&mut client, "items_index").entries, 9000);
    assert_all_found(&mut client, &items, (0..9000).step_by(30));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn equal_vectors_of_several_segments_are_returned_once_each() {
    let cluster = quiet();
    let mut client = cluster.client();
    let mut source = Source::new(106, DIMENSIONS);
    let distinct = source.vectors(40);
    let mut items = empty(&mut client, Metric::L2, DIMENSIONS, "");
    for round in 0..6 {
        let copies = (0..200 - 20 * round).map(|id| distinct[id % 40].clone()).collect();
        items.copy(&mut client, copies);
        flush(&mut client, "items_index");
        for vector in &distinct {
            let equal = items.rows.iter().flatten().filter(|row| *row == vector).count();
            let answer = answers::ask(&mut client, &items, vector, equal + 5);
            assert_eq!(answer.iter().filter(|row| row.1 < 1e-3).count(), equal, "round {round}");
        }
    }
    // Merged, they share rows again.
    let found = segments(&mut client, "items_index");
    let rows: i64 = found.iter().map(|segment| segment.rows).sum();
    assert!(rows <= 40 * i64::try_from(found.len()).expect("small"), "{found:?}");
    items.delete(&mut client, |id| id % 7 == 0);
    client.batch_execute("VACUUM items").expect("vacuum");
    flush(&mut client, "items_index");
    for vector in &distinct {
        let equal = items.rows.iter().flatten().filter(|row| *row == vector).count();
        let answer = answers::ask(&mut client, &items, vector, equal + 5);
        assert_eq!(answer.iter().filter(|row| row.1 < 1e-3).count(), equal);
    }
    assert_recall(&mut client, &items, &distinct, 0.95);
}

/// With so thin a search that it shows: an index grown by flushes and merges alone finds as much as
/// one built at once.
#[test]
fn recall_after_merges_is_that_of_a_rebuilt_index() {
    let cluster = quiet();
    let mut client = cluster.client();
    let mut source = Source::around(107, 32, 1);
    let mut items = empty(&mut client, Metric::L2, 32, "");
    grow(&mut client, &mut items, &mut source, 150, 20);
    // One more flush of about the size of all makes one segment of all.
    grow(&mut client, &mut items, &mut source, 2900, 1);
    let found = segments(&mut client, "items_index");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].generation >= 1);
    let queries = source.vectors(1000);
    let thin = |client: &mut Client, ef: usize| {
        client.batch_execute(&format!("SET s3vector.ef_search = {ef}")).expect("a setting");
        // A walk for more rows than half of `ef_search` is wider than that.
        answers::recall(client, &items, &queries, (ef / 2).min(10))
    };
    let merged = [10, 100].map(|ef| thin(&mut client, ef));
    client.batch_execute("REINDEX INDEX items_index").expect("rebuilt");
    let fresh = [10, 100].map(|ef| thin(&mut client, ef));
    println!("recall at ef_search 10 and 100: {merged:?} merged, {fresh:?} rebuilt");
    assert!(fresh[0] < 0.99, "a search that finds all shows no difference");
    for (merged, fresh) in merged.iter().zip(&fresh) {
        assert!(*merged >= fresh - 0.01, "{merged} after merges, {fresh} rebuilt");
    }
    assert_recall(&mut client, &items, &queries, 0.95);
}

/// A scan over many segments fetches what it needs of all of them at once.
#[test]
fn a_scan_over_many_segments_waits_once() {
    let mut cluster = quiet();
    let mut client = cluster.client();
    let mut source = Source::new(109, 128);
    let mut items = empty(&mut client, Metric::L2, 128, "");
    for rows in [1600, 800, 400, 200, 100] {
        grow(&mut client, &mut items, &mut source, rows, 1);
    }
    assert_eq!(segments(&mut client, "items_index").len(), 5);
    cluster.restart();
    let mut client = cluster.client();
    prefer_index(&mut client);
    let mut waited = 0;
    for query in source.vectors(100) {
        assert_eq!(answers::ask(&mut client, &items, &query, 10).len(), 10);
        let (waves, segments) = last_scan(&mut client);
        assert_eq!(segments, 5);
        assert!(waves <= 1, "{waves} waves");
        waited += waves;
    }
    assert!(waited > 0, "nothing was fetched after a restart");
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}
