//! After ten thousand faults nothing is left of them: no memory, no descriptors, no connections.

use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use harness::answers::{ask, assert_recall};
use harness::items::Source;
use harness::proxy::{Effect, Fault, Proxy};
use harness::reading::{Worker, drop_cache, worker};
use harness::upkeep::try_flush;
use harness::wait::wait_until;
use harness::{Cluster, Items};

use super::{DIMENSIONS, Ground, ROWS, connect, indexed, wait_for_storage};

/// Faults to be met.
const FAULTS: u64 = 10_000;

/// Longest time to wait for them.
const PATIENCE: Duration = Duration::from_secs(120);

const CLIENTS: usize = 6;

/// Memory the worker may have more than before: what allocators and connection pools keep.
const SLACK: u64 = 8 << 20;

/// Faults of every kind, so that most are met one by one: those that make a server seem dead would
/// have it left alone for a while.
fn inject(proxy: &Proxy) {
    let shares = [
        (Effect::WrongBody, 0.2),
        (Effect::ShortBody, 0.2),
        (Effect::Expired, 0.25),
        (Effect::Missing, 0.25),
        (Effect::InternalError, 0.02),
        (Effect::SlowDown(None), 0.02),
        (Effect::Reset, 0.02),
        (Effect::HalfBody, 0.02),
    ];
    for (seed, (effect, share)) in (0..).zip(shares) {
        proxy.inject(Fault::new(effect).method("GET").path("/vectors/c/").chance(share, seed));
    }
    // Uploads and listings fail, too.
    proxy.inject(Fault::new(Effect::Expired).method("PUT").chance(0.3, 100));
    proxy.inject(Fault::new(Effect::Reset).method("DELETE").chance(0.2, 101));
}

/// Queries with an empty cache, until the proxy has seen `faults`.
fn meet(cluster: &Cluster, proxy: &Proxy, items: &Items, faults: u64) {
    let start = Instant::now();
    let goes_on = || proxy.counts().faults < faults && start.elapsed() < PATIENCE;
    thread::scope(|scope| {
        for seed in 0..CLIENTS as u64 {
            let goes_on = &goes_on;
            scope.spawn(move || {
                let (mut client, _) = connect(cluster);
                let mut source = Source::new(180 + seed, DIMENSIONS);
                while goes_on() {
                    drop_cache(&mut client);
                    assert_eq!(ask(&mut client, items, &source.vector(), 10).len(), 10);
                }
            });
        }
        scope.spawn(|| {
            let (mut client, _) = connect(cluster);
            while goes_on() {
                let insert = "INSERT INTO written SELECT * FROM items WHERE id < 20";
                client.batch_execute(insert).expect("rows are inserted");
                // It may fail.
                let _ = try_flush(&mut client, "written_index");
            }
        });
    });
    assert!(proxy.counts().faults >= faults, "{:?} in {:?}", proxy.counts(), start.elapsed());
    println!("{:?} after {:?}", proxy.counts(), start.elapsed());
}

/// What the worker holds, and connections at the proxy, once all is quiet.
fn held(ground: &Ground, items: &Items) -> (Worker, usize) {
    ground.proxy.heal();
    let (mut client, warnings) = connect(&ground.cluster);
    wait_for_storage(&mut client, &warnings, items);
    // What queries have left to be finished behind them.
    sleep(Duration::from_secs(2));
    (worker(&mut client), ground.proxy.counts().connections)
}

#[test]
fn ten_thousand_faults() {
    let ground = Ground::new(&[]);
    let (mut client, warnings) = ground.client();
    let (items, mut source) = indexed(&mut client, "items", ROWS);
    client
        .batch_execute(
            "CREATE TABLE written (LIKE items); \
             CREATE INDEX written_index ON written USING s3vector (embedding)",
        )
        .expect("another index");
    // The first ones fill pools and buffers that stay.
    inject(&ground.proxy);
    meet(&ground.cluster, &ground.proxy, &items, FAULTS / 10);
    let (before, connections_before) = held(&ground, &items);
    inject(&ground.proxy);
    meet(&ground.cluster, &ground.proxy, &items, FAULTS + FAULTS / 10);
    let (after, connections_after) = held(&ground, &items);
    println!("{before:?} {connections_before}, {after:?} {connections_after}");

    assert_eq!(after.pid, before.pid, "the storage worker was restarted");
    assert!(after.memory <= before.memory + SLACK, "{before:?} {after:?}");
    assert!(after.descriptors <= before.descriptors + 8, "{before:?} {after:?}");
    assert!(after.threads <= before.threads + 4, "{before:?} {after:?}");
    assert!(connections_after <= connections_before + 8);
    // Every slot still serves: as many sessions as there may be ask at once.
    let mut sessions: Vec<_> = (0..30).map(|_| connect(&ground.cluster).0).collect();
    drop_cache(&mut client);
    thread::scope(|scope| {
        for (seed, session) in (0..).zip(&mut sessions) {
            let items = &items;
            scope.spawn(move || {
                ask(session, items, &Source::new(seed, DIMENSIONS).vector(), 10);
            });
        }
    });
    warnings.take();
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    assert_eq!(warnings.take().len(), 0);
    // Backends that had errors and fallbacks hold no more of the worker's work.
    wait_until("requests to end", || ground.proxy.counts().connections <= connections_before + 32);
}
