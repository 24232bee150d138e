//! What happens when the S3 server or Redis is slow, fails, lies or is gone? Through real sockets:
//! no statement hangs, no answer is wrong, nothing leaks, and all is well when they are back.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use harness::answers::{self, Answer, prefer_index, try_ask};
use harness::errors::Warnings;
use harness::items::Source;
use harness::proxy::Effect;
use harness::reading::{drop_cache, last_scan};
use harness::wait::wait_until;
use harness::{Cluster, Garage, Items, Metric, Proxy};
use postgres::Client;

mod builds;
mod cancelled;
mod gone;
mod invariants;
mod leaks;
mod load;
mod nodes;
mod redis;
mod rest;
mod waves;
mod writes;

const DIMENSIONS: usize = 48;
const ROWS: usize = 1500;

/// Longest time a statement may take whatever storage does: `s3vector.fetch_timeout` is a second
/// here, a machine may be busy, and what a statement does besides takes time too.
const BOUND: Duration = Duration::from_secs(8);

/// A server that can be made to fail, and how its failures are called.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    effect: Effect,
    sqlstate: &'static str,
    /// What the report says of it.
    word: &'static str,
}

const fn trouble(effect: Effect, sqlstate: &'static str, word: &'static str) -> Trouble {
    Trouble { effect, sqlstate, word }
}

/// Everything that an S3 server can do wrong when it is read from.
const TROUBLES: [Trouble; 9] = [
    trouble(Effect::InternalError, "08006", "InternalError"),
    trouble(Effect::SlowDown(None), "08006", "SlowDown"),
    trouble(Effect::Expired, "42501", "ExpiredToken"),
    trouble(Effect::Missing, "58P01", "NoSuchKey"),
    trouble(Effect::Reset, "08006", "127.0.0.1"),
    trouble(Effect::HalfBody, "08006", "broke off"),
    trouble(Effect::WrongBody, "XX001", "checksum"),
    trouble(Effect::ShortBody, "XX001", "bytes"),
    trouble(Effect::Stall, "08006", "127.0.0.1"),
];

/// A cluster, and the S3 server that it reaches through a proxy.
struct Ground {
    cluster: Cluster,
    proxy: Proxy,
    garage: Garage,
}

impl Ground {
    /// With more settings than those of storage. Nothing is flushed or swept unless they say so.
    fn new(settings: &[(&str, String)]) -> Self {
        let garage = Garage::start();
        let proxy = Proxy::start(&garage.endpoint());
        let cluster = Cluster::builder()
            .set("s3vector.fetch_timeout", "1s")
            .set("s3vector.maintenance_workers", 0)
            .set_all(&proxy.settings(&garage))
            .set_all(settings)
            .start();
        Self { cluster, proxy, garage }
    }

    /// See [`connect`].
    fn client(&self) -> (Client, Warnings) {
        connect(&self.cluster)
    }

    /// Takes all faults back and waits until queries read from storage again.
    fn heal(&self, client: &mut Client, warnings: &Warnings, items: &Items) {
        self.proxy.heal();
        wait_for_storage(client, warnings, items);
    }
}

/// The check that a cluster ends with reads the store, which may still be in trouble.
impl Drop for Ground {
    fn drop(&mut self) {
        self.proxy.heal();
        self.proxy.resume();
        self.proxy.set_latency(Duration::ZERO);
    }
}

/// A connection that prefers the index, the warnings it gets, and no patience.
fn connect(cluster: &Cluster) -> (Client, Warnings) {
    let (mut client, warnings) = cluster.client_with_warnings();
    prefer_index(&mut client);
    // A hang becomes a failure instead of a test that does not end.
    client.batch_execute("SET statement_timeout = '30s'").expect("a setting");
    (client, warnings)
}

/// A table with an index, whose graph is in memory.
fn indexed(client: &mut Client, table: &str, rows: usize) -> (Items, Source) {
    let mut source = Source::new(161, DIMENSIONS);
    let items = Items::create(client, table, Metric::L2, source.vectors(rows));
    items.index(client, "");
    prefer_index(client);
    answers::ask(client, &items, &source.vector(), 1);
    (items, source)
}

/// The ten nearest rows with an empty payload cache, checked.
#[track_caller]
fn ask_cold(client: &mut Client, items: &Items, query: &[f32]) -> Answer {
    drop_cache(client);
    bounded("a query", || answers::ask(client, items, query, 10))
}

/// Waits until queries read from storage (or Redis) again, and until the graph has been loaded.
#[track_caller]
fn wait_for_storage(client: &mut Client, warnings: &Warnings, items: &Items) {
    let query = items.rows.iter().flatten().next().expect("a row");
    wait_until("storage to be used again", || {
        warnings.take();
        drop_cache(client);
        let Ok(answer) = bounded("a query", || try_ask(client, items, query, 10)) else {
            return false;
        };
        answers::check(items, query, &answer);
        warnings.take().is_empty() && last_scan(client).chunks_fetched > 0
    });
}

/// Does something that must not take long.
#[track_caller]
fn bounded<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let outcome = work();
    assert!(start.elapsed() < BOUND, "{what} took {:?}", start.elapsed());
    outcome
}

/// A statement that must succeed within [`BOUND`].
#[track_caller]
fn run(client: &mut Client, sql: &str) {
    let outcome = bounded(sql, || client.batch_execute(sql));
    outcome.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// Asserts that there was exactly one warning, that it tells of the table and of the cause.
#[track_caller]
fn assert_warned_once(warnings: &Warnings, words: &[&str], context: &dyn Debug) {
    let told = warnings.take();
    assert_eq!(told.len(), 1, "{context:?}: {told:#?}");
    told[0].expect("01000", &["from the table"]).expect("01000", words);
}
