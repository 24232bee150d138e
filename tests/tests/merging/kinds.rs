//! Merges of every kind of index.

use harness::answers::assert_recall;
use harness::items::Source;
use harness::upkeep::{flush, segments};
use harness::{Metric, python};

use super::{empty, grow, quiet};

/// Every kind of index: grown by flushes that merge, with rows removed meanwhile.
fn merges(metric: Metric, dimensions: usize, with: &str, rows: usize, floor: f64) {
    let cluster = quiet();
    let mut client = cluster.client();
    let mut source = Source::new(108, dimensions);
    let mut items = empty(&mut client, metric, dimensions, with);
    for round in 0..5 {
        items.copy(&mut client, source.vectors(rows));
        items.delete(&mut client, |id| id % 11 == round);
        client.batch_execute("VACUUM items").expect("vacuum");
        flush(&mut client, "items_index");
    }
    let found = segments(&mut client, "items_index");
    assert!(found.iter().any(|segment| segment.generation >= 1), "nothing was merged: {found:?}");
    let live: i64 = found.iter().map(|segment| segment.entries - segment.tombstones).sum();
    assert_eq!(live, i64::try_from(items.len()).expect("small"));
    assert_recall(&mut client, &items, &source.vectors(200), floor);
}

#[test]
fn half_precision_merges() {
    merges(Metric::L2, 40, "WITH (payload = 'float16')", 200, 0.95);
}

#[test]
fn compressed_segments_merge() {
    merges(
        Metric::L2,
        40,
        "WITH (compression = 'zstd', chunk_rows = 8, shard_rows = 64)",
        200,
        0.95,
    );
}

#[test]
fn eight_bits_merge() {
    merges(Metric::L2, 70, "WITH (bits = '8')", 200, 0.95);
}

#[test]
fn one_bit_merges() {
    merges(Metric::L2, 70, "WITH (bits = '1')", 200, 0.95);
}

#[test]
fn cosine_merges() {
    merges(Metric::Cosine, 40, "", 200, 0.95);
}

#[test]
fn inner_product_merges() {
    merges(Metric::InnerProduct, 40, "", 200, 0.95);
}

#[test]
fn three_dimensions_merge() {
    merges(Metric::L2, 3, "", 200, 0.95);
}

#[test]
fn two_thousand_one_hundred_dimensions_merge() {
    merges(Metric::L2, 2100, "", 40, 0.95);
}

/// What merges write is as open as what a build writes, and holds the table's vectors bit for bit.
#[test]
fn merged_segments_open_in_zarr_python() {
    for with in ["", "WITH (payload = 'float16', compression = 'zstd')"] {
        let cluster = quiet();
        let mut client = cluster.client();
        let mut source = Source::new(110, 40);
        let mut items = empty(&mut client, Metric::Cosine, 40, with);
        grow(&mut client, &mut items, &mut source, 150, 5);
        let distinct = items.len();
        items
            .copy(&mut client, (0..100).map(|id| items.rows[id].clone().expect("a row")).collect());
        flush(&mut client, "items_index");
        let found = segments(&mut client, "items_index");
        assert!(found.iter().any(|segment| segment.generation >= 1), "{found:?}");
        let printed = python::run(
            "check_segments.py",
            &[
                &cluster.socket().to_string_lossy(),
                &cluster.store().to_string_lossy(),
                "items_index",
                "items",
            ],
        );
        let counts: Vec<usize> =
            printed.split_whitespace().map(|count| count.parse().expect("a count")).collect();
        assert_eq!((counts[0], counts[2]), (found.len(), distinct + 100));
        assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    }
}
