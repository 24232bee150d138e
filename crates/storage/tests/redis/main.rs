//! The Redis tier, in front of a file store that counts what it is asked for, with real servers.

#[path = "../common/mod.rs"]
mod common;
mod node;
mod server;
mod trouble;
mod trust;

use std::sync::Arc;

use node::{Node, TIMEOUT, count, folder, piece, right, until};
use redis::Commands;
use server::{RedisServer, free_port};
use storage::{Effect, ErrorKind, Fault, Operation, RedisState, Store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tier_keeps_the_promises_of_a_store() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    common::keeps_its_promises(Arc::new(Node::ready(&folder, &redis.url()).await.store)).await;
}

#[tokio::test]
async fn what_one_node_has_read_another_gets_from_redis() {
    let (redis, (folder, bodies)) = (RedisServer::start(), folder().await);
    let (one, two) =
        (Node::ready(&folder, &redis.url()).await, Node::ready(&folder, &redis.url()).await);
    let pieces: Vec<_> = (0..16).map(|n| piece("a", n * 6000..n * 6000 + 5000)).collect();
    let batch = one.read_and_fill(&pieces).await;
    assert!(right(&batch, &pieces, &bodies));
    assert_eq!((batch.cost.redis_hits, batch.cost.requests), (0, 1));
    assert_eq!(count(&one.metrics.redis_misses), 16);
    let batch = two.read(&pieces).await;
    assert!(right(&batch, &pieces, &bodies));
    assert_eq!((batch.cost.redis_hits, batch.cost.redis_bytes), (16, 80_000));
    assert_eq!((batch.cost.requests, batch.cost.bytes), (0, 0));
    assert_eq!((two.requests(), two.reads(), two.writes()), (0, 1, 0));
    assert_eq!((count(&two.metrics.redis_hits), count(&two.metrics.redis_misses)), (16, 0));
    assert_eq!(one.writes(), 1, "all pieces go in one write");
    assert_eq!(count(&one.metrics.redis_plain_bytes), 80_000);
    // A store that is down is not missed.
    two.faulty.set_script(vec![Fault::always(Effect::Fail(ErrorKind::Unreachable))]);
    assert!(right(&two.read(&pieces).await, &pieces, &bodies));
    let error = two.store.get_pieces(&[piece("b", 0..5)]).await.expect_err("not in Redis");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}

#[tokio::test]
async fn hits_and_misses_of_several_objects_keep_their_order() {
    let (redis, (folder, bodies)) = (RedisServer::start(), folder().await);
    let node = Node::ready(&folder, &redis.url()).await;
    let some = [piece("c", 40_000..60_000), piece("a", 10..20), piece("b", 0..100_000)];
    node.read_and_fill(&some).await;
    let all = [
        piece("b", 5..25),
        piece("a", 10..20),
        piece("c", 0..30),
        piece("c", 40_000..60_000),
        piece("a", 10..20),
        piece("a", 0..1),
        piece("b", 0..100_000),
        piece("b", 5..25),
    ];
    let batch = node.read_and_fill(&all).await;
    assert!(right(&batch, &all, &bodies));
    assert_eq!(batch.cost.redis_hits, 4);
    let requests = node.requests();
    let batch = node.read(&all).await;
    assert!(right(&batch, &all, &bodies));
    assert_eq!((batch.cost.redis_hits, node.requests()), (8, requests));
    let asked = node.reads();
    let batch = node.store.get_pieces(&[]).await.expect("nothing");
    assert!(batch.pieces.is_empty() && batch.cost == storage::Cost::default());
    assert_eq!((node.reads(), node.requests()), (asked, requests));
}

#[tokio::test]
async fn values_are_compressed_where_that_helps_and_expire() {
    let (redis, (folder, bodies)) = (RedisServer::start(), folder().await);
    let node = Node::ready(&folder, &redis.url()).await;
    let pieces = [piece("c", 0..20_000), piece("c", 60_000..80_000)];
    node.read_and_fill(&pieces).await;
    let keys = ["s3vector1:c:0+20000", "s3vector1:c:60000+20000"];
    assert_eq!(redis.keys(), keys);
    let [noise, zeros] = keys.map(|key| redis.value(key));
    assert_eq!((noise[..2].to_vec(), noise.len()), (vec![1, 0], 20_010));
    assert!(zeros[..2] == [1, 1] && zeros.len() < 300, "{}", zeros.len());
    let written = count(&node.metrics.of(Operation::RedisWrite).bytes);
    assert_eq!(written, (noise.len() + zeros.len()) as u64);
    for key in keys {
        let left: i64 = redis.connect().ttl(key).expect("a time");
        assert!((900..=1000).contains(&left), "{left}");
    }
    assert!(right(&node.read(&pieces).await, &pieces, &bodies));
    assert_eq!(node.requests(), 1);
}

#[tokio::test]
async fn a_large_piece_goes_through() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::ready(&folder, &redis.url()).await;
    let body = common::body(4 << 20, 9);
    node.store.put("large", body.clone()).await.expect("put");
    let pieces = [piece("large", 0..4 << 20), piece("large", 0..10)];
    node.read_and_fill(&pieces).await;
    until("both values", || redis.keys().len() == 2).await;
    let batch = node.read(&pieces).await;
    assert_eq!(batch.cost.redis_hits, 2);
    assert!(batch.pieces[0] == body && batch.pieces[1] == body[..10]);
}

#[tokio::test]
async fn values_that_are_not_what_was_written_are_misses_and_repaired() {
    let (redis, (folder, bodies)) = (RedisServer::start(), folder().await);
    let node = Node::ready(&folder, &redis.url()).await;
    let pieces: Vec<_> = (0..8).map(|n| piece("c", 45_000 + n..55_000 + n)).collect();
    node.read_and_fill(&pieces).await;
    let keys = redis.keys();
    assert_eq!(keys.len(), 8);
    let good: Vec<_> = keys.iter().map(|key| redis.value(key)).collect();
    let mut flipped = good[0].clone();
    flipped[5_000] ^= 4;
    let mut codec = good[1].clone();
    codec[1] ^= 1;
    let mut version = good[2].clone();
    version[0] = 9;
    let mut connection = redis.connect();
    for (key, value) in [
        (0, flipped),
        (1, codec),
        (2, version),
        (3, good[3][..good[3].len() - 1].to_vec()),
        (4, Vec::new()),
        (5, b"somebody else's".to_vec()),
        // Of the same length and whole, but another piece.
        (6, good[7].clone()),
    ] {
        let () = connection.set(&keys[key], value).expect("set");
    }
    let () = connection.del(&keys[7]).expect("deleted");
    let () = connection.rpush(&keys[7], "a list, not a string").expect("a list");
    let batch = node.read_and_fill(&pieces).await;
    assert!(right(&batch, &pieces, &bodies));
    assert_eq!(batch.cost.redis_hits, 0);
    let repaired: Vec<_> = keys.iter().map(|key| redis.value(key)).collect();
    assert_eq!(repaired, good);
    assert_eq!(node.read(&pieces).await.cost.redis_hits, 8);
}

#[tokio::test]
async fn what_the_store_breaks_does_not_stay_in_redis() {
    let (redis, (folder, bodies)) = (RedisServer::start(), folder().await);
    let mut node = Node::ready(&folder, &redis.url()).await;
    node.faulty.set_script(vec![Fault::always(Effect::Truncate(7))]);
    node.read(&[piece("a", 0..10)]).await;
    node.faulty.set_script(Vec::new());
    node.read_and_fill(&[piece("b", 0..10)]).await;
    assert_eq!(redis.keys(), ["s3vector1:b:0+10"], "a short piece is not written");
    // With a check, damage is not written either, and not taken from Redis.
    node.store = node.store.with_check(|body| body.iter().all(|byte| *byte == 0));
    let pieces = [piece("c", 50_000..60_000), piece("b", 0..10)];
    let batch = node.read_and_fill(&pieces).await;
    assert!(right(&batch, &pieces, &bodies));
    assert_eq!(batch.cost.redis_hits, 0);
    node.faulty.set_script(vec![Fault::always(Effect::FlipBit(1))]);
    node.read(&[piece("c", 60_000..70_000)]).await;
    node.faulty.set_script(Vec::new());
    node.read_and_fill(&[piece("c", 70_000..80_000)]).await;
    let keys = redis.keys();
    assert!(!keys.contains(&"s3vector1:c:60000+10000".to_owned()), "{keys:?}");
    assert_eq!(keys.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_serves_as_well() {
    let (mut redis, (folder, bodies)) = (RedisServer::cluster(), folder().await);
    let address = format!("127.0.0.1:{}", redis.port());
    let (one, both) = (
        format!("redis+cluster://{address}"),
        format!("redis://{address},redis://127.0.0.1:{}", free_port()),
    );
    let one = Node::ready(&folder, &one).await;
    // Keys of many hash slots.
    let pieces: Vec<_> = (0..50).map(|n| piece("c", n * 2000..n * 2000 + 1000)).collect();
    one.read_and_fill(&pieces).await;
    assert_eq!(redis.keys().len(), 50);
    let two = Node::ready(&folder, &both).await;
    let batch = two.read(&pieces).await;
    assert!(right(&batch, &pieces, &bodies));
    assert_eq!((batch.cost.redis_hits, two.requests()), (50, 0));
    assert_eq!(two.reads(), 1);

    redis.kill();
    for _ in 0..10 {
        let batch = one.read(&pieces).await;
        assert!(right(&batch, &pieces, &bodies));
    }
    until("a rest", || count(&one.metrics.redis_state) == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_it_ends_its_connections() {
    let ((folder, bodies), redis) = (folder().await, RedisServer::start());
    assert_eq!(redis.connections(), 0);
    let node = Node::ready(&folder, &redis.url()).await;
    assert_eq!(redis.connections(), 2);
    let pieces = [piece("a", 0..1000)];
    assert!(right(&node.read_and_fill(&pieces).await, &pieces, &bodies));
    drop(node);
    until("the connections to end", || redis.connections() == 0).await;
    // Nor do tasks go on when there is no connection.
    let node = Node::new(&folder, &format!("redis://127.0.0.1:{}", free_port()), TIMEOUT);
    let told = Arc::clone(&node.told);
    node.is(RedisState::Down).await;
    drop(node);
    until("the task to end", || Arc::strong_count(&told) == 1).await;
}

#[test]
fn it_can_be_made_before_there_is_a_runtime() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::new(&folder, &redis.url(), TIMEOUT);
    assert_eq!(redis.connections(), 0);
    let runtime = storage::runtime("test", 1).expect("a runtime");
    runtime.block_on(async {
        node.store.put("a", common::body(100, 1)).await.expect("put");
        let pieces = [piece("a", 5..50)];
        node.read(&pieces).await;
        node.is(RedisState::Up).await;
        node.read_and_fill(&pieces).await;
        assert_eq!(node.read(&pieces).await.cost.redis_hits, 1);
    });
}
