//! A Redis that dies, freezes or refuses: queries go on without it.

use std::time::{Duration, Instant};

use storage::{Operation, RedisState};

use crate::node::{Node, PATIENCE, TIMEOUT, count, folder, piece, right, until};
use crate::server::{RedisServer, free_port};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_may_die_and_come_back() {
    let (mut redis, (folder, bodies)) = (RedisServer::start(), folder().await);
    let node = Node::ready(&folder, &redis.url()).await;
    let pieces: Vec<_> = (0..16).map(|n| piece("b", n * 6000..n * 6000 + 5000)).collect();
    node.read_and_fill(&pieces).await;
    for round in 1..=2 {
        redis.kill();
        for _ in 0..20 {
            let batch = node.read(&pieces).await;
            assert!(right(&batch, &pieces, &bodies));
            assert_eq!(batch.cost.redis_hits, 0);
        }
        node.is(RedisState::Down).await;
        assert_eq!(count(&node.metrics.redis_breaks), round);
        redis.start_again();
        node.is(RedisState::Up).await;
        assert_eq!(node.read_and_fill(&pieces).await.cost.redis_hits, 0);
        assert_eq!(node.read(&pieces).await.cost.redis_hits, 16);
    }
    let told = node.told();
    let states: Vec<_> = told.iter().map(|(state, _)| *state).collect();
    use RedisState::{Down, Up};
    assert_eq!(states, [Up, Down, Up, Down, Up], "once a change: {told:?}");
    let address = format!("\"redis://127.0.0.1:{}\"", redis.port());
    assert!(told.iter().all(|(_, text)| text.contains(&address)), "{told:?}");
    assert!(told[1].1.contains("refused"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_redis_is_asked_three_times_and_then_left_alone() {
    let (redis, (folder, bodies)) = (RedisServer::start(), folder().await);
    let node = Node::new(&folder, &redis.url(), Duration::from_millis(200));
    node.is(RedisState::Up).await;
    let pieces = [piece("a", 0..1000), piece("c", 0..1000)];
    node.read_and_fill(&pieces).await;
    let before = (node.reads(), node.writes());
    redis.freeze();
    for _ in 0..50 {
        assert!(right(&node.read(&pieces).await, &pieces, &bodies));
    }
    assert_eq!((node.reads(), node.writes()), (before.0 + 3, before.1));
    assert_eq!(count(&node.metrics.redis_breaks), 1);
    assert_eq!(count(&node.metrics.redis_state), RedisState::Down as u64);
    let told = node.told();
    assert!(told[1].1.contains("no answer within 200 ms"), "{told:?}");
    redis.thaw();
    node.is(RedisState::Up).await;
    // On a busy machine a first answer may be late.
    let started = Instant::now();
    while node.read(&pieces).await.cost.redis_hits < 2 {
        assert!(started.elapsed() < PATIENCE, "Redis is back and not used");
    }
}

#[tokio::test]
async fn what_redis_does_not_take_does_not_keep_it_from_answering() {
    let (redis, (folder, bodies)) = (RedisServer::start(), folder().await);
    let node = Node::ready(&folder, &redis.url()).await;
    let known = [piece("a", 0..1000)];
    node.read_and_fill(&known).await;
    let mut connection = redis.connect();
    for (key, value) in [("maxmemory-policy", "noeviction"), ("maxmemory", "1")] {
        redis::cmd("CONFIG").arg("SET").arg(key).arg(value).exec(&mut connection).expect("set");
    }
    let failed = || count(&node.metrics.of(Operation::RedisWrite).errors);
    for n in 0..5 {
        let more = [piece("b", n * 10..n * 10 + 500), known[0].clone()];
        let batch = node.read_and_fill(&more).await;
        assert!(right(&batch, &more, &bodies));
        assert_eq!(batch.cost.redis_hits, 1);
        until("the failure", || failed() == n + 1).await;
    }
    assert_eq!((redis.keys().len(), count(&node.metrics.redis_breaks)), (1, 0));
}

#[tokio::test]
async fn a_dead_redis_costs_nothing() {
    let (folder, bodies) = folder().await;
    let url = format!("redis://127.0.0.1:{}", free_port());
    let node = Node::new(&folder, &url, TIMEOUT);
    let pieces = [piece("a", 0..1000)];
    for _ in 0..20 {
        assert!(right(&node.read(&pieces).await, &pieces, &bodies));
    }
    node.is(RedisState::Down).await;
    assert_eq!((node.reads(), node.writes(), node.requests()), (0, 0, 20));
}
