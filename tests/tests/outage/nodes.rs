//! Two PostgreSQL servers share one bucket and one Redis: what one has read the other need not.

use harness::Redis;
use harness::answers::{ask, assert_recall, prefer_index, try_ask};
use harness::reading::{drop_cache, last_scan};
use harness::wait::wait_until;

use super::{Ground, ROWS, indexed};

#[test]
fn the_second_node_reads_what_the_first_has_put_into_redis() {
    let redis = Redis::start();
    let mut settings = redis.settings();
    // A busy machine must not make a miss of a hit.
    settings.push(("s3vector.redis_timeout", "200ms".to_owned()));
    let ground = Ground::new(&settings);
    let (mut client, _) = ground.client();
    let (items, mut source) = indexed(&mut client, "items", ROWS);
    let queries = source.vectors(30);
    let standby = ground.cluster.standby();
    standby.catch_up(&mut client);
    let mut replica = standby.client();
    prefer_index(&mut replica);

    // Its graph comes from the bucket; an answer of estimates reads nothing else.
    replica.batch_execute("SET s3vector.rerank = off").expect("a setting");
    try_ask(&mut replica, &items, &queries[0], 10).expect("an answer");
    replica.batch_execute("SET s3vector.rerank = strict").expect("a setting");

    // The first node reads from the bucket, and fills Redis behind its answers.
    wait_until("Redis to be filled", || {
        queries.iter().for_each(|query| {
            drop_cache(&mut client);
            ask(&mut client, &items, query, 10);
        });
        queries.iter().all(|query| {
            drop_cache(&mut client);
            ask(&mut client, &items, query, 10);
            let scan = last_scan(&mut client);
            scan.requests == 0 && scan.redis_chunks == scan.chunks_fetched
        })
    });
    assert!(redis.size() > 0);

    // The second one connects to Redis in the background of its first query.
    wait_until("the second node to use Redis", || {
        drop_cache(&mut replica);
        ask(&mut replica, &items, &queries[0], 10);
        last_scan(&mut replica).redis_chunks > 0
    });
    ground.proxy.take_log();
    for query in &queries {
        drop_cache(&mut replica);
        let answer = ask(&mut replica, &items, query, 10);
        let scan = last_scan(&mut replica);
        assert!(scan.redis_chunks > 0 && scan.cache_hits == 0, "{scan:?}");
        assert_eq!((scan.requests, scan.waves), (0, 1), "{scan:?}");
        assert_eq!(answer, ask(&mut client, &items, query, 10));
    }
    assert_eq!(ground.proxy.take_log(), [], "the bucket was asked");
    assert_recall(&mut replica, &items, &source.vectors(200), 0.95);
}
