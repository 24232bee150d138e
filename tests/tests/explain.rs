//! What EXPLAIN (ANALYZE) says while storage is away.

use std::fs;

use harness::answers::{self, prefer_index};
use harness::items::Source;
use harness::{Cluster, Items, Metric};

#[test]
fn rows_from_the_table() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let mut source = Source::new(71, 24);
    let items = Items::create(&mut client, "items", Metric::L2, source.vectors(2_000));
    items.index(&mut client, "");
    prefer_index(&mut client);
    client
        .batch_execute("SELECT s3vector_prewarm('items_index', 'graph')")
        .expect("the graph is in memory");
    let away = cluster.socket().join("away");
    fs::rename(cluster.store(), &away).expect("storage goes away");

    let sql = answers::sql("items", Metric::L2, &source.vector(), 10);
    let explain = format!("EXPLAIN (ANALYZE, COSTS OFF) {sql}");
    let rows = client.query(&explain, &[]).unwrap_or_else(|error| panic!("{error:?}"));
    let lines: Vec<String> = rows.iter().map(|row| row.get::<_, String>(0)).collect();
    let said = |label: &str| {
        let found = lines.iter().find_map(|line| line.trim().strip_prefix(label));
        found.unwrap_or_else(|| panic!("{label}: {lines:#?}"))
    };
    let scan = client
        .query_one("SELECT reranked, cache_hits, heap_rows, waves FROM s3vector_last_scan()", &[])
        .expect("a scan");
    let [reranked, hits, heap, waves] = [0, 1, 2, 3].map(|column| scan.get::<_, i32>(column));
    assert!(heap >= 10 && (hits, waves) == (0, 0), "{scan:?}");
    assert_eq!(said("Rows Reranked: "), format!("{reranked} (0 in cache, {heap} from the table)"));
    assert!(said("Storage: ").starts_with("failed, "), "{lines:#?}");
    fs::rename(&away, cluster.store()).expect("storage comes back");
}
