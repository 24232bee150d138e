//! How storage is asked: all at once, no more often than needed, twice when it is slow.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use harness::Items;
use harness::answers::{ask, assert_recall};
use harness::items::Source;
use harness::proxy::{Effect, Fault};
use harness::reading::{drop_cache, last_scan};
use harness::upkeep::{flush, info};
use postgres::Client;

use super::{Ground, ask_cold, indexed};

/// Rows of the segments of an index: each is larger than all that come after it, so that they stay
/// apart.
const SEGMENTS: [usize; 4] = [4000, 1200, 350, 100];

/// Sessions that ask the same at the same time.
const SESSIONS: usize = 12;

/// Requests made a second time so far, by the whole server.
fn hedges(client: &mut Client) -> i64 {
    client.query_one("SELECT hedges FROM s3vector_stat_storage", &[]).expect("a count").get(0)
}

/// A table whose index has several segments, so that a query makes several requests.
fn segmented(client: &mut Client) -> (Items, Source) {
    let (mut items, mut source) = indexed(client, "items", SEGMENTS[0]);
    for rows in &SEGMENTS[1..] {
        items.copy(client, source.vectors(*rows));
        flush(client, "items_index");
    }
    assert_eq!(info(client, "items_index").segments, 4);
    (items, source)
}

#[test]
fn requests_of_a_query_leave_together() {
    let ground = Ground::new(&[("s3vector.fetch_timeout", "10s".to_owned())]);
    let (mut client, warnings) = ground.client();
    let (items, mut source) = segmented(&mut client);
    let latency = Duration::from_millis(600);
    ground.proxy.set_latency(latency);
    let mut several = 0;
    for query in source.vectors(8) {
        // Connections that are to be made are not what is measured.
        ask_cold(&mut client, &items, &query);
        let start = Instant::now();
        ask_cold(&mut client, &items, &query);
        let taken = start.elapsed();
        let scan = last_scan(&mut client);
        assert!(scan.waves == 1 && scan.requests > 0, "{scan:?}");
        assert!(taken >= latency && taken < 2 * latency, "{taken:?} {scan:?}");
        several += usize::from(scan.requests > 1);
    }
    assert!(several >= 3, "only {several} queries needed several requests");
    assert_eq!(warnings.take().len(), 0);
    ground.proxy.set_latency(Duration::ZERO);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn a_burst_of_equal_misses_is_one_fetch() {
    let ground = Ground::new(&[("s3vector.fetch_timeout", "10s".to_owned())]);
    let (mut client, _) = ground.client();
    let (items, mut source) = segmented(&mut client);
    let mut sessions: Vec<_> = (0..SESSIONS).map(|_| ground.client().0).collect();
    ground.proxy.set_latency(Duration::from_millis(700));
    for query in source.vectors(4) {
        ask_cold(&mut client, &items, &query);
        let alone = last_scan(&mut client).requests;
        let before = ground.proxy.counts().gets;
        drop_cache(&mut client);
        let together = Barrier::new(SESSIONS);
        thread::scope(|scope| {
            for session in &mut sessions {
                let (items, query, together) = (&items, &query, &together);
                scope.spawn(move || {
                    together.wait();
                    ask(session, items, query, 10);
                });
            }
        });
        let gets = ground.proxy.counts().gets - before;
        assert_eq!(gets, u64::try_from(alone).expect("few"), "for {SESSIONS} sessions");
    }
    ground.proxy.set_latency(Duration::ZERO);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// A request that takes ten times as long as others is made again, and its answer not waited for.
#[test]
fn slow_requests_are_made_twice() {
    let ground = Ground::new(&[("s3vector.fetch_timeout", "20s".to_owned())]);
    let (mut client, warnings) = ground.client();
    let (items, mut source) = segmented(&mut client);
    ground.proxy.set_latency(Duration::from_millis(10));
    // What is slow is known by what is usual.
    for query in source.vectors(100) {
        ask_cold(&mut client, &items, &query);
    }
    let slow = Duration::from_secs(3);
    let (mut helped, before) = (0, hedges(&mut client));
    for query in source.vectors(10) {
        ground.proxy.inject(Fault::new(Effect::Late(slow)).method("GET").first(1));
        let start = Instant::now();
        ask_cold(&mut client, &items, &query);
        helped += i64::from(start.elapsed() < slow);
        ground.proxy.heal();
        // What is saved up for hedges is earned by requests.
        for query in source.vectors(20) {
            ask_cold(&mut client, &items, &query);
        }
    }
    // The budget for it may have been spent on other requests.
    assert!(helped >= 6, "{helped} of 10 slow answers were not waited for");
    assert!(hedges(&mut client) >= before + helped);
    assert_eq!(warnings.take().len(), 0);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// When everything is slow, or the server asks for less, asking twice would make it worse.
#[test]
fn a_slow_server_is_not_asked_twice() {
    let ground = Ground::new(&[("s3vector.fetch_timeout", "10s".to_owned())]);
    let (mut client, _) = ground.client();
    let (items, mut source) = segmented(&mut client);
    for query in source.vectors(60) {
        ask_cold(&mut client, &items, &query);
    }
    let before = (hedges(&mut client), ground.proxy.counts().gets);
    ground.proxy.set_latency(Duration::from_millis(60));
    for query in source.vectors(60) {
        ask_cold(&mut client, &items, &query);
    }
    let twice = hedges(&mut client) - before.0;
    let gets = i64::try_from(ground.proxy.counts().gets - before.1).expect("few");
    // A twentieth, and what had been saved up.
    assert!(twice <= 9 + gets / 20, "{twice} of {gets} requests were made twice");

    ground.proxy.set_latency(Duration::ZERO);
    ground.proxy.inject(Fault::new(Effect::SlowDown(None)).method("GET").first(1));
    ask_cold(&mut client, &items, &source.vector());
    let before = hedges(&mut client);
    ground
        .proxy
        .inject(Fault::new(Effect::Late(Duration::from_millis(150))).method("GET").every(3));
    for query in source.vectors(20) {
        ask_cold(&mut client, &items, &query);
    }
    assert_eq!(hedges(&mut client), before, "asked twice after 503 SlowDown");
    ground.proxy.heal();
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}
