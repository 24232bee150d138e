//! Redis is slow, lies or is gone: storage is asked instead, and nobody hears of it.

use std::time::{Duration, Instant};

use harness::answers::assert_recall;
use harness::errors::Warnings;
use harness::items::Source;
use harness::reading::last_scan;
use harness::redis::settings_at;
use harness::tcp_proxy::{TcpProxy, Trouble};
use harness::wait::wait_until;
use harness::{Items, Redis};
use postgres::Client;

use super::{Ground, ROWS, ask_cold, indexed};

/// Cold queries that are asked together.
const QUERIES: usize = 20;

/// Longest time they may take without Redis: a wait of a few milliseconds each would be a second
/// at most, and nobody may wait for a Redis that is known to be silent.
const TOGETHER: Duration = Duration::from_secs(6);

/// A server that uses Redis. A busy machine must not make a miss of every hit.
fn ground(redis: Vec<(&'static str, String)>) -> Ground {
    let mut settings = redis;
    settings.push(("s3vector.redis_timeout", "100ms".to_owned()));
    Ground::new(&settings)
}

/// Waits until all that a query needs comes from Redis.
#[track_caller]
fn wait_for_redis(client: &mut Client, items: &Items, source: &mut Source) {
    let query = source.vector();
    wait_until("Redis to be used", || {
        ask_cold(client, items, &query);
        let scan = last_scan(client);
        scan.requests == 0 && scan.redis_chunks > 0 && scan.redis_chunks == scan.chunks_fetched
    });
}

/// Cold queries while Redis is of no use: storage answers them.
#[track_caller]
fn assert_storage_answers(
    client: &mut Client,
    warnings: &Warnings,
    items: &Items,
    source: &mut Source,
) {
    let start = Instant::now();
    for query in source.vectors(QUERIES) {
        ask_cold(client, items, &query);
        let scan = last_scan(client);
        assert!(scan.requests > 0 && scan.redis_chunks == 0 && scan.heap_rows == 0, "{scan:?}");
    }
    assert!(start.elapsed() < TOGETHER, "{QUERIES} queries took {:?}", start.elapsed());
    assert_recall(client, items, &source.vectors(200), 0.95);
    assert_eq!(warnings.take().len(), 0);
}

#[test]
fn redis_is_killed_and_comes_back() {
    let mut redis = Redis::start();
    let ground = ground(redis.settings());
    let (mut client, warnings) = ground.client();
    let (items, mut source) = indexed(&mut client, "items", ROWS);
    for _ in 0..2 {
        wait_for_redis(&mut client, &items, &mut source);
        redis.kill();
        assert_storage_answers(&mut client, &warnings, &items, &mut source);
        redis.start_server();
    }
    wait_for_redis(&mut client, &items, &mut source);
    assert!(redis.size() > 0);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    let log = ground.cluster.log();
    assert!(log.contains("Redis is not in use") && log.contains("Redis is in use"), "{log}");
}

#[test]
fn redis_is_frozen_and_thaws() {
    let redis = Redis::start();
    let ground = ground(redis.settings());
    let (mut client, warnings) = ground.client();
    let (items, mut source) = indexed(&mut client, "items", ROWS);
    wait_for_redis(&mut client, &items, &mut source);
    redis.freeze();
    assert_storage_answers(&mut client, &warnings, &items, &mut source);
    redis.thaw();
    wait_for_redis(&mut client, &items, &mut source);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn the_way_to_redis_is_bad() {
    let redis = Redis::start();
    let way = TcpProxy::start(redis.address());
    let ground = ground(settings_at(way.address()));
    let (mut client, warnings) = ground.client();
    let (items, mut source) = indexed(&mut client, "items", ROWS);
    for trouble in [Trouble::Stall, Trouble::Reset, Trouble::Garbage] {
        println!("{trouble:?}");
        wait_for_redis(&mut client, &items, &mut source);
        way.set_trouble(Some(trouble));
        assert_storage_answers(&mut client, &warnings, &items, &mut source);
        way.set_trouble(None);
    }
    wait_for_redis(&mut client, &items, &mut source);
    way.pause();
    assert_storage_answers(&mut client, &warnings, &items, &mut source);
    way.resume();
    wait_for_redis(&mut client, &items, &mut source);
    // Longer than is waited for.
    way.set_latency(Duration::from_millis(300));
    assert_storage_answers(&mut client, &warnings, &items, &mut source);
    way.set_latency(Duration::ZERO);
    wait_for_redis(&mut client, &items, &mut source);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// What somebody else has written under our keys, or has damaged, is no answer, and is replaced.
#[test]
fn values_that_are_not_ours() {
    let redis = Redis::start();
    let ground = ground(redis.settings());
    let (mut client, warnings) = ground.client();
    let (items, mut source) = indexed(&mut client, "items", ROWS);
    let queries = source.vectors(QUERIES);
    let warm = |client: &mut Client| {
        wait_until("Redis to be filled", || {
            queries.iter().all(|query| {
                ask_cold(client, &items, query);
                last_scan(client).requests == 0
            })
        });
    };
    let long = vec![b'x'; 100_000];
    for foreign in [None, Some(&b""[..]), Some(b"hello"), Some(&long)] {
        warm(&mut client);
        let values = match foreign {
            Some(bytes) => redis.overwrite(bytes),
            None => redis.damage(),
        };
        assert!(values > 0);
        for query in &queries {
            ask_cold(&mut client, &items, query);
        }
        // The second time, most is in the cache: answers from there are right, too.
        for query in &queries {
            harness::answers::ask(&mut client, &items, query, 10);
        }
        assert_eq!(warnings.take().len(), 0);
    }
    warm(&mut client);
    redis.flush();
    warm(&mut client);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// A Redis that has never been there, and one that asks for a password nobody has given.
#[test]
fn redis_is_of_no_use_from_the_start() {
    let redis = Redis::start();
    redis.ask(&[b"CONFIG", b"SET", b"requirepass", b"hunter2"]);
    let secret = format!("redis://:letmein@{}", redis.address());
    for url in ["redis://127.0.0.1:1", "redis://no-such-host.invalid", "garbage", &secret] {
        println!("{url}");
        let ground = ground(vec![("s3vector.redis_url", url.to_owned())]);
        let (mut client, warnings) = ground.client();
        let (items, mut source) = indexed(&mut client, "items", ROWS);
        assert_storage_answers(&mut client, &warnings, &items, &mut source);
        wait_until("a word about Redis in the log", || {
            ground.cluster.log().contains("Redis is not in use")
        });
        assert!(!ground.cluster.log().contains("letmein"), "a password in the log");
    }
}
