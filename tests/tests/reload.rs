//! Are the graphs that queries used in memory again after a restart, before anybody asks?

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use harness::answers::{ask, assert_recall, prefer_index};
use harness::cluster::Stop;
use harness::items::Source;
use harness::process::signal_process;
use harness::upkeep::{flush, segments};
use harness::wait::wait_until;
use harness::{Cluster, Items, Metric};
use nix::sys::signal::Signal;
use postgres::Client;

const DIMENSIONS: usize = 24;

/// Long enough for a small graph to be loaded, where one must not be.
const A_WHILE: Duration = Duration::from_millis(1500);

fn table(client: &mut Client, name: &str, rows: usize, seed: u64) -> Items {
    let items =
        Items::create(client, name, Metric::L2, Source::new(seed, DIMENSIONS).vectors(rows));
    items.index(client, "");
    items
}

/// Asks so often that the use of a graph is beyond doubt.
fn query(client: &mut Client, items: &Items, times: usize) {
    prefer_index(client);
    let mut source = Source::new(99, DIMENSIONS);
    for _ in 0..times {
        ask(client, items, &source.vector(), 5);
    }
}

/// Segments whose graphs are in memory.
fn in_memory(client: &mut Client) -> BTreeSet<String> {
    let sql = "SELECT index_uuid || '/' || segment_uuid FROM s3vector_stat_graphs
               WHERE state = 'ready'";
    client.query(sql, &[]).expect("graphs").iter().map(|row| row.get(0)).collect()
}

/// Segments of an index.
fn of(client: &mut Client, index: &str) -> BTreeSet<String> {
    segments(client, index).into_iter().map(|segment| segment.prefix).collect()
}

/// Graphs that anything is done about, in memory or not.
fn known(client: &mut Client) -> i64 {
    client.query_one("SELECT count(*) FROM s3vector_stat_graphs", &[]).expect("graphs").get(0)
}

fn errors(client: &mut Client) -> i64 {
    client.query_one("SELECT errors FROM s3vector_stat_worker", &[]).expect("statistics").get(0)
}

fn list(cluster: &Cluster) -> PathBuf {
    cluster.data().join("s3vector.graphs")
}

#[track_caller]
fn wait_for_graphs(client: &mut Client, wanted: &BTreeSet<String>) {
    wait_until("graphs to be loaded", || in_memory(client) == *wanted);
}

#[test]
fn graphs_are_in_memory_before_any_query() {
    let mut cluster = Cluster::start();
    let mut client = cluster.client();
    let one = table(&mut client, "one", 800, 1);
    let other = table(&mut client, "other", 500, 2);
    table(&mut client, "unused", 500, 3);
    query(&mut client, &one, 3);
    query(&mut client, &other, 1);
    let wanted: BTreeSet<String> = &of(&mut client, "one_index") | &of(&mut client, "other_index");
    assert_eq!(in_memory(&mut client), wanted);

    for how in [Stop::Fast, Stop::Immediate] {
        cluster.stop(how);
        cluster.start_server();
        wait_for_graphs(&mut cluster.client(), &wanted);
    }
    // Killed: only the file that the first stop left tells.
    cluster.crash();
    cluster.start_server();
    let mut client = cluster.client();
    wait_for_graphs(&mut client, &wanted);
    // A session that dies takes all shared memory with it.
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
    signal_process(pid, Signal::SIGKILL);
    let mut client = cluster.client_after_recovery(1);
    wait_for_graphs(&mut client, &wanted);
    assert_eq!(errors(&mut client), 0);
    assert_recall(&mut client, &one, &Source::new(1, DIMENSIONS).vectors(200), 0.95);
}

#[test]
fn the_most_used_graphs_when_memory_is_short() {
    let mut cluster = Cluster::start();
    let mut client = cluster.client();
    let tables = [("a", 4), ("b", 1), ("c", 9)].map(|(name, uses)| {
        let items = table(&mut client, name, 5_000, 5);
        query(&mut client, &items, uses);
        name
    });
    let [a, b, c] = tables.map(|name| of(&mut client, &format!("{name}_index")));
    let size: i64 = client
        .query_one("SELECT max(resident_bytes) FROM s3vector_segments('a_index')", &[])
        .expect("a size")
        .get(0);
    assert!(size > 512 * 1024, "{size} bytes: the setting allows no less than 1 MB");

    cluster.reconfigure(&[("s3vector.graph_memory", format!("{}kB", size * 5 / 2 / 1024))]);
    cluster.restart();
    let mut client = cluster.client();
    wait_for_graphs(&mut client, &(&a | &c));
    sleep(A_WHILE);
    assert_eq!(in_memory(&mut client), &a | &c);

    // What is needed now goes before what was needed once; of that, the less used goes.
    let items = Items {
        table: "b".to_owned(),
        metric: Metric::L2,
        rows: Source::new(5, DIMENSIONS).vectors(5_000).into_iter().map(Some).collect(),
    };
    query(&mut client, &items, 1);
    assert_eq!(in_memory(&mut client), &b | &c);

    // The uses of before the restart count: `c`, which nobody has used since, is still the first.
    cluster.stop(Stop::Fast);
    let text = fs::read_to_string(list(&cluster)).expect("a list");
    let listed: Vec<String> = text
        .lines()
        .filter_map(|line| {
            let (index, rest) = line.split_once(' ')?;
            let (segment, _) = rest.split_once(' ')?;
            segment.contains('-').then(|| format!("{index}/{segment}"))
        })
        .collect();
    assert_eq!(listed, [c.first().expect("one").clone(), b.first().expect("one").clone()]);
}

#[test]
fn an_index_that_is_gone_is_no_trouble() {
    let mut cluster = Cluster::builder().set("s3vector.maintenance_workers", 0).start();
    let mut client = cluster.client();
    let kept = table(&mut client, "kept", 500, 1);
    let gone = table(&mut client, "gone", 500, 2);
    query(&mut client, &kept, 1);
    query(&mut client, &gone, 3);
    let wanted = of(&mut client, "kept_index");
    let segment = of(&mut client, "gone_index").pop_first().expect("a segment");
    client.batch_execute("DROP INDEX gone_index").expect("dropped");
    // Not by this server's sweep, which would forget the graph: by another node's, say.
    fs::remove_dir_all(cluster.store().join(&segment)).expect("deleted");
    for _ in 0..2 {
        cluster.restart();
        let mut client = cluster.client();
        wait_for_graphs(&mut client, &wanted);
        wait_until("the other to be given up", || known(&mut client) == 1);
        assert_eq!(errors(&mut client), 0);
        query(&mut client, &kept, 1);
    }
    let uuid = segment.split_once('/').expect("two names").1;
    let said = cluster.log().matches(&format!("segment {uuid} is not loaded again")).count();
    assert_eq!(said, 1, "it is tried once and forgotten");
}

/// Segments that a merge has replaced are not loaded, though their objects are still there.
#[test]
fn replaced_segments_are_not_loaded() {
    let mut cluster = Cluster::builder().set("s3vector.maintenance_workers", 0).start();
    let mut client = cluster.client();
    let mut items = table(&mut client, "items", 600, 1);
    query(&mut client, &items, 5);
    let before = of(&mut client, "items_index");
    let mut source = Source::new(4, DIMENSIONS);
    for rows in [400, 300] {
        items.copy(&mut client, source.vectors(rows));
        flush(&mut client, "items_index");
    }
    query(&mut client, &items, 1);
    let after = of(&mut client, "items_index");
    assert!(before.is_disjoint(&after), "merged");
    cluster.restart();
    let mut client = cluster.client();
    wait_for_graphs(&mut client, &after);
    sleep(A_WHILE);
    assert_eq!(in_memory(&mut client), after);
    assert!(cluster.store().join(before.first().expect("one")).exists());
}

#[test]
fn a_damaged_list_is_ignored_and_replaced() {
    let mut cluster = Cluster::start();
    let mut client = cluster.client();
    let items = table(&mut client, "items", 500, 1);
    query(&mut client, &items, 2);
    let wanted = of(&mut client, "items_index");
    cluster.stop(Stop::Fast);
    let sound = fs::read_to_string(list(&cluster)).expect("a list");
    for (damaged, damages) in [
        sound[..sound.len() - 4].to_owned(),
        String::new(),
        "\0".repeat(200),
        sound.replace(' ', "\t"),
    ]
    .into_iter()
    .zip(1..)
    {
        fs::write(list(&cluster), &damaged).expect("damaged");
        cluster.start_server();
        let mut client = cluster.client();
        wait_until("the list to be replaced", || {
            fs::read_to_string(list(&cluster)).expect("a list") != damaged
        });
        assert_eq!(known(&mut client), 0);
        let said = cluster.log().matches("s3vector: ignoring the file").count();
        assert_eq!(said, damages, "one line each time");
        query(&mut client, &items, 1);
        cluster.restart();
        wait_for_graphs(&mut cluster.client(), &wanted);
        cluster.stop(Stop::Fast);
    }
    fs::remove_file(list(&cluster)).expect("removed");
    cluster.start_server();
    let mut client = cluster.client();
    query(&mut client, &items, 1);
    cluster.restart();
    wait_for_graphs(&mut cluster.client(), &wanted);
}

#[test]
fn nothing_is_loaded_when_switched_off() {
    let mut cluster = Cluster::start();
    let mut client = cluster.client();
    let items = table(&mut client, "items", 500, 1);
    query(&mut client, &items, 2);
    let wanted = of(&mut client, "items_index");
    cluster.reconfigure(&[("s3vector.graph_reload", "off".to_owned())]);
    cluster.restart();
    sleep(A_WHILE);
    let mut client = cluster.client();
    assert_eq!(known(&mut client), 0);
    query(&mut client, &items, 1);
    cluster.reconfigure(&[("s3vector.graph_reload", "on".to_owned())]);
    cluster.restart();
    wait_for_graphs(&mut cluster.client(), &wanted);
}

/// A standby starts with the list of the base backup it was made from, then keeps its own.
#[test]
fn a_standby() {
    let mut cluster = Cluster::start();
    let mut client = cluster.client();
    let one = table(&mut client, "one", 500, 1);
    let other = table(&mut client, "other", 500, 2);
    query(&mut client, &one, 1);
    let first = of(&mut client, "one_index");
    let second = of(&mut client, "other_index");
    cluster.restart();

    let mut standby = cluster.standby();
    let mut client = standby.client();
    wait_for_graphs(&mut client, &first);
    query(&mut client, &other, 1);
    standby.restart();
    wait_for_graphs(&mut standby.client(), &(&first | &second));
    assert_eq!(in_memory(&mut cluster.client()), first);
}

/// A store that does not answer when the server starts is asked again.
#[test]
fn storage_that_comes_later() {
    let mut cluster = Cluster::start();
    let mut client = cluster.client();
    let items = table(&mut client, "items", 500, 1);
    query(&mut client, &items, 1);
    let wanted = of(&mut client, "items_index");
    let url = format!("file://{}", cluster.store().display());
    // Nobody listens there.
    cluster.reconfigure(&[
        ("s3vector.storage_url", "s3://bucket/prefix".to_owned()),
        ("s3vector.s3_endpoint", "http://127.0.0.1:1".to_owned()),
        ("s3vector.s3_region", "nowhere".to_owned()),
        ("s3vector.s3_access_key_id", "key".to_owned()),
        ("s3vector.s3_secret_access_key", "secret".to_owned()),
        ("s3vector.fetch_timeout", "1s".to_owned()),
    ]);
    cluster.restart();
    sleep(A_WHILE);
    let mut client = cluster.client();
    assert!(in_memory(&mut client).is_empty());
    cluster.reconfigure(&[("s3vector.storage_url", url)]);
    wait_for_graphs(&mut client, &wanted);
}
