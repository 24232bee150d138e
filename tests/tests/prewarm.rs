//! Prewarming an index that is larger than the memory for it, and stopping that.

use std::time::{Duration, Instant};

use harness::errors::failure;
use harness::items::Source;
use harness::process::signal_process;
use harness::upkeep::flush;
use harness::wait::wait_until;
use harness::{Cluster, Items, Metric, answers};
use nix::sys::signal::Signal;
use postgres::Client;

const MIB: i64 = 1 << 20;

/// Chunks fetched, and their bytes.
fn prewarm(client: &mut Client, what: &str) -> (i64, i64) {
    let sql = "SELECT chunks, payload_bytes FROM s3vector_prewarm('items_index', $1)";
    let row = client.query_one(sql, &[&what]).unwrap_or_else(|error| panic!("{error:?}"));
    (row.get(0), row.get(1))
}

/// Capacity, bytes used, evictions.
fn cache(client: &mut Client) -> (i64, i64, i64) {
    let sql = "SELECT capacity_bytes, used_bytes, evictions FROM s3vector_stat_cache";
    let row = client.query_one(sql, &[]).expect("statistics");
    (row.get(0), row.get(1), row.get(2))
}

fn graphs(client: &mut Client) -> i64 {
    let sql = "SELECT count(*) FROM s3vector_stat_graphs WHERE state = 'ready'";
    client.query_one(sql, &[]).expect("graphs").get(0)
}

/// 8,000 rows of 64 dimensions: 2 MB of vectors.
fn indexed(cluster: &Cluster) -> (Items, Source) {
    let mut source = Source::new(61, 64);
    let mut client = cluster.client();
    let items = Items::create(&mut client, "items", Metric::L2, source.vectors(8_000));
    items.index(&mut client, "");
    (items, source)
}

/// Vectors fill the cache and go no further.
#[test]
fn a_cache_that_is_too_small_is_filled() {
    let cluster = Cluster::builder().set("s3vector.cache_size", "1MB").start();
    let (items, mut source) = indexed(&cluster);
    let mut client = cluster.client();
    let (chunks, bytes) = prewarm(&mut client, "payload");
    assert!(chunks > 0 && bytes <= MIB && bytes > MIB - 32 * 1024, "{bytes} bytes");
    wait_until("the cache to be full", || {
        let (capacity, used, evictions) = cache(&mut client);
        assert_eq!(evictions, 0, "nothing has to go for what is loaded");
        used > capacity - 64 * 1024
    });
    let (again, _) = prewarm(&mut client, "payload");
    assert!(again <= 2, "{again} chunks into a full cache");
    answers::assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Of graphs that do not fit together the largest are loaded, and none is dropped for another.
#[test]
fn graphs_that_do_not_fit_together() {
    let mut cluster = Cluster::builder().set("s3vector.maintenance_workers", 0).start();
    let mut client = cluster.client();
    let mut source = Source::new(62, 64);
    let mut items = Items::create(&mut client, "items", Metric::L2, source.vectors(8_000));
    items.index(&mut client, "");
    items.copy(&mut client, source.vectors(2_000));
    flush(&mut client, "items_index");
    let sizes: Vec<i64> = client
        .query("SELECT resident_bytes FROM s3vector_segments('items_index') ORDER BY 1 DESC", &[])
        .expect("segments")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(sizes.len() > 1 && sizes[0] > MIB, "{sizes:?}");
    let loaded = |client: &mut Client| -> (i32, i64) {
        let row = client
            .query_one(
                "SELECT graphs, graph_bytes FROM s3vector_prewarm('items_index', 'graph')",
                &[],
            )
            .expect("prewarmed");
        (row.get(0), row.get(1))
    };
    let all = (i32::try_from(sizes.len()).expect("few"), sizes.iter().sum::<i64>());
    assert_eq!(loaded(&mut client), all);
    cluster.reconfigure(&[("s3vector.graph_memory", format!("{}kB", sizes[0] / 1024 + 64))]);
    cluster.restart();
    let mut client = cluster.client();
    assert_eq!(loaded(&mut client), (1, sizes[0]));
    assert_eq!(loaded(&mut client), (1, sizes[0]));
    assert_eq!(graphs(&mut client), 1);
    // Not even the largest: what a query would say.
    cluster.reconfigure(&[("s3vector.graph_memory", "1MB".to_owned())]);
    cluster.restart();
    let mut client = cluster.client();
    let result = client.query("SELECT s3vector_prewarm('items_index', 'graph')", &[]);
    failure(result).expect("53200", &["s3vector.graph_memory"]);
    cluster.reconfigure(&[("s3vector.graph_memory", "64MB".to_owned())]);
    assert_eq!(loaded(&mut client), all);
}

/// Storage that hangs does not keep a prewarming session from being cancelled.
#[test]
fn cancelled() {
    let cluster = Cluster::start();
    indexed(&cluster);
    let mut client = cluster.client();
    let worker: i32 =
        client.query_one("SELECT pid FROM s3vector_stat_worker", &[]).expect("a worker").get(0);
    for what in ["graph", "payload", "all"] {
        signal_process(worker, Signal::SIGSTOP);
        client.batch_execute("SET statement_timeout = '200ms'").expect("a setting");
        let start = Instant::now();
        let result = client.execute("SELECT s3vector_prewarm('items_index', $1)", &[&what]);
        signal_process(worker, Signal::SIGCONT);
        failure(result).expect("57014", &[]);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        client.batch_execute("RESET statement_timeout").expect("a setting");
    }
    let (_, bytes) = prewarm(&mut client, "all");
    assert!(bytes > 0 || cache(&mut client).1 > 0);
    assert_eq!(graphs(&mut client), 1);
}
