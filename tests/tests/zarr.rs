//! Do segments open in zarr-python, and do they hold the table's vectors?

use harness::items::Source;
use harness::{Cluster, Items, Metric, answers, python};

/// Segments, segment rows and table rows, as `check_segments.py` counted them.
fn check(cluster: &Cluster, items: &Items) -> (usize, usize, usize) {
    let printed = python::run(
        "check_segments.py",
        &[
            &cluster.socket().to_string_lossy(),
            &cluster.store().to_string_lossy(),
            &format!("{}_index", items.table),
            &items.table,
        ],
    );
    let counts: Vec<usize> =
        printed.split_whitespace().map(|count| count.parse().expect("a count")).collect();
    (counts[0], counts[1], counts[2])
}

/// Builds an index WITH the options given and checks its segment and its recall.
fn stored_as(metric: Metric, dimensions: usize, with: &str, floor: f64) {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let mut source = Source::new(1, dimensions);
    let items = Items::create(&mut client, "items", metric, source.vectors(700));
    items.index(&mut client, with);
    assert_eq!(check(&cluster, &items), (1, 700, 700));
    answers::assert_recall(&mut client, &items, &source.vectors(200), floor);
}

#[test]
fn float32_is_exact() {
    stored_as(Metric::L2, 40, "WITH (payload = 'float32')", 0.95);
}

#[test]
fn cosine_keeps_vectors_unnormalised() {
    stored_as(Metric::Cosine, 40, "", 0.95);
}

#[test]
fn inner_product_keeps_vectors_as_they_are() {
    stored_as(Metric::InnerProduct, 33, "", 0.9);
}

#[test]
fn zstd_is_readable() {
    stored_as(Metric::L2, 40, "WITH (compression = 'zstd')", 0.95);
}

#[test]
fn lz4_is_readable() {
    stored_as(Metric::L2, 40, "WITH (compression = 'lz4', bits = '8')", 0.95);
}

#[test]
fn small_chunks_and_shards_are_readable() {
    stored_as(Metric::L2, 7, "WITH (chunk_rows = 8, shard_rows = 64, bits = '1', m = 5)", 0.9);
}

/// Half precision rounds the stored vectors, and answers stay in order of the stored distance: so
/// this asks for the segment only.
#[test]
fn float16_rounds_to_nearest() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let items = Items::create(&mut client, "items", Metric::L2, Source::new(2, 40).vectors(700));
    items.index(&mut client, "WITH (payload = 'float16', compression = 'zstd')");
    assert_eq!(check(&cluster, &items), (1, 700, 700));
}

#[test]
fn equal_vectors_share_a_row() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let mut source = Source::new(3, 24);
    let distinct = source.vectors(50);
    let copies = (0..600).map(|id| distinct[id % 50].clone()).collect();
    let items = Items::create(&mut client, "items", Metric::L2, copies);
    client.batch_execute("INSERT INTO items SELECT -id, NULL FROM items LIMIT 20").expect("NULLs");
    items.index(&mut client, "");
    assert_eq!(check(&cluster, &items), (1, 50, 600));
    answers::assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// A segment is as large as the codes and links that fit `maintenance_work_mem`; many links make it
/// small here. The vectors, which fit even less, go through a temporary file.
#[test]
fn a_table_beyond_memory_becomes_several_segments() {
    // A maintenance worker would merge them.
    let cluster = Cluster::builder().set("s3vector.maintenance_workers", 0).start();
    let mut client = cluster.client();
    let mut source = Source::new(4, 128);
    let items = Items::create(&mut client, "items", Metric::L2, source.vectors(6000));
    client.batch_execute("SET maintenance_work_mem = '1MB'").expect("a setting");
    items.index(&mut client, "WITH (m = 100)");
    let (segments, rows, entries) = check(&cluster, &items);
    assert!(segments > 1, "11 MB of codes, links and vectors were built as one segment");
    assert_eq!((rows, entries), (6000, 6000));
    answers::assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}
