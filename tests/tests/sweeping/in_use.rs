//! Does a sweep leave what a transaction, a build or a query still needs?

use std::collections::BTreeSet;
use std::thread;

use harness::answers::{assert_all_found, assert_recall};
use harness::items::Source;
use harness::upkeep::{flush, sweep};
use harness::wait::AtWork;
use harness::{Cluster, Items, Metric, store};

use super::{DIMENSIONS, indexed, live, strict, unused};

/// What a transaction that is not over has built, or has given up for now, is none to sweep.
#[test]
fn an_open_transaction_keeps_its_objects() {
    let cluster = strict();
    let (mut client, mut other) = (cluster.client(), cluster.client());
    let (items, mut source) = indexed(&mut client, "items", 300);
    let before = store::written(&cluster.store());
    for end in ["ROLLBACK", "COMMIT"] {
        client.batch_execute("BEGIN; REINDEX INDEX items_index").expect("rebuilt");
        let during = store::written(&cluster.store());
        assert!(during.len() > before.len());
        let swept = sweep(&mut other, false);
        assert!(swept.is_empty(), "{end}: {swept:?}");
        assert!(during == store::written(&cluster.store()), "{end}: a sweep deleted something");
        client.batch_execute(end).expect("ended");
        assert_all_found(&mut client, &items, (0..300).step_by(10));
        assert!(!sweep(&mut other, false).is_empty(), "{end}: one of both is unused");
        assert_eq!(unused(&cluster, &mut client), BTreeSet::new(), "{end}");
    }
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn a_build_under_way_keeps_its_objects() {
    let cluster = strict();
    let mut client = cluster.client();
    let mut source = Source::new(132, DIMENSIONS);
    let items = Items::create(&mut client, "items", Metric::L2, source.vectors(15_000));
    let mut builder = cluster.client();
    thread::scope(|scope| {
        let building = scope.spawn(|| items.index(&mut builder, "WITH (shard_rows = 512)"));
        let mut sweeps = 0;
        while !building.is_finished() {
            let swept = sweep(&mut client, false);
            assert!(swept.is_empty(), "{swept:?}");
            sweeps += 1;
        }
        building.join().expect("the build ends");
        assert!(sweeps >= 3, "{sweeps} sweeps went on beside the build");
    });
    assert_all_found(&mut client, &items, (0..15_000).step_by(100));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// A prepared transaction has no process, and outlives the server.
#[test]
fn a_prepared_transaction_keeps_its_objects() {
    let mut cluster = strict();
    let mut client = cluster.client();
    let (items, mut source) = indexed(&mut client, "items", 300);
    client
        .batch_execute("BEGIN; REINDEX INDEX items_index; PREPARE TRANSACTION 'rebuilt'")
        .expect("prepared");
    let during = store::written(&cluster.store());
    // The index is locked by the transaction: a sweep must not wait for that.
    client.batch_execute("SET statement_timeout = '10s'").expect("a setting");
    sweep(&mut client, false);
    cluster.restart();
    let mut client = cluster.client();
    client.batch_execute("SET statement_timeout = '10s'").expect("a setting");
    let swept = sweep(&mut client, false);
    assert!(swept.is_empty(), "{swept:?}");
    assert!(during == store::written(&cluster.store()), "a sweep deleted something");
    client.batch_execute("COMMIT PREPARED 'rebuilt'").expect("committed");
    assert!(!sweep(&mut client, false).is_empty(), "the index of before is unused");
    assert_eq!(unused(&cluster, &mut client), BTreeSet::new());
    cluster.restart();
    let mut client = cluster.client();
    assert_all_found(&mut client, &items, (0..300).step_by(10));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Sweeps beside flushes and merges that replace segments all the time.
#[test]
fn sweeping_while_others_flush_and_query() {
    let cluster = Cluster::builder()
        .set("s3vector.maintenance_workers", 0)
        .set("s3vector.gc_grace", 10)
        .start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, "items", 300);
    let writing = AtWork::new(1);
    thread::scope(|scope| {
        let _shift = writing.shift();
        scope.spawn(|| {
            let mut client = cluster.client();
            while writing.goes_on() {
                let live = live(&mut client);
                let swept = sweep(&mut client, false);
                // What was live before the sweep may be replaced by now, but not deleted.
                assert!(!swept.iter().any(|line| line.deleted && live.contains(&line.prefix)));
            }
        });
        for _ in 0..15 {
            items.copy(&mut client, source.vectors(100));
            flush(&mut client, "items_index");
            assert_recall(&mut client, &items, &source.vectors(100), 0.95);
        }
    });
    let missing: Vec<String> =
        live(&mut client).difference(&store::segments(&cluster.store())).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}
