//! The two invariants of docs/architecture.md that are about storage, by their numbers.

use harness::Redis;
use std::thread::sleep;
use std::time::Duration;

use harness::answers::{ask, assert_all_found, assert_recall, try_ask};
use harness::errors::failure;
use harness::proxy::{Effect, Fault};
use harness::reading::{drop_cache, last_scan};
use harness::wait::wait_until;

use super::{Ground, ROWS, ask_cold, bounded, connect, indexed, run, wait_for_storage};

/// The arrays that a graph is loaded from.
const GRAPH: [&str; 5] = ["codes", "factors", "neighbors", "tids", "tid_offsets"];

/// What can be wrong with an object.
const DAMAGES: [(Effect, &str); 4] = [
    (Effect::Missing, "58P01"),
    (Effect::WrongBody, "XX001"),
    (Effect::ShortBody, "XX001"),
    (Effect::HalfBody, "08006"),
];

#[test]
fn invariant_4_a_damaged_object_is_an_error_or_the_heap_never_a_wrong_row() {
    let redis = Redis::start();
    let mut settings = redis.settings();
    settings.push(("s3vector.graph_reload", "off".to_owned()));
    let mut ground = Ground::new(&settings);
    let (mut client, warnings) = ground.client();
    let (items, mut source) = indexed(&mut client, "items", ROWS);

    // Vectors: the table instead, or the error; and none of it may be kept anywhere.
    for (effect, sqlstate) in DAMAGES {
        println!("vectors {effect:?}");
        ground.proxy.inject(Fault::new(effect).method("GET").path("/vectors/c/"));
        // What good reads have left to be put into Redis is put there first.
        sleep(Duration::from_millis(300));
        redis.flush();
        warnings.take();
        for query in source.vectors(5) {
            ask_cold(&mut client, &items, &query);
            assert!(last_scan(&mut client).heap_rows > 0);
            assert_eq!(warnings.take().len(), 1);
        }
        assert_recall(&mut client, &items, &source.vectors(100), 0.95);
        client.batch_execute("SET s3vector.payload_fallback = error").expect("a setting");
        let outcome = bounded("a query", || try_ask(&mut client, &items, &source.vector(), 10));
        failure(outcome).expect(sqlstate, &["/vectors/c/", "bytes"]);
        client.batch_execute("SET s3vector.payload_fallback = heap").expect("a setting");
        assert_eq!(redis.size(), 0, "damaged vectors went to Redis");
        ground.heal(&mut client, &warnings, &items);
    }
    // Vectors in Redis: not taken for answers either.
    wait_until("Redis to be filled", || {
        source.vectors(5).iter().for_each(|query| _ = ask_cold(&mut client, &items, query));
        redis.size() > 0
    });
    assert!(redis.damage() > 0);
    warnings.take();
    drop_cache(&mut client);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    assert_eq!(warnings.take().len(), 0);

    // Graphs: the error, until the object is whole.
    for array in GRAPH {
        ground.cluster.restart();
        let (mut client, warnings) = ground.client();
        for (effect, sqlstate) in DAMAGES {
            println!("{array} {effect:?}");
            let path = format!("/{array}/c/");
            ground.proxy.inject(Fault::new(effect).method("GET").path(&path));
            for _ in 0..2 {
                let query = source.vector();
                let outcome = bounded("a query", || try_ask(&mut client, &items, &query, 10));
                failure(outcome).expect(sqlstate, &[&path, "not in memory"]);
            }
            ground.proxy.heal();
        }
        wait_for_storage(&mut client, &warnings, &items);
        assert_recall(&mut client, &items, &source.vectors(50), 0.95);
    }
}

#[test]
fn invariant_7_with_storage_and_redis_down_writes_work_and_queries_answer_or_say_why() {
    let mut redis = Redis::start();
    let mut settings = redis.settings();
    settings.push(("s3vector.graph_reload", "off".to_owned()));
    let mut ground = Ground::new(&settings);
    let (mut client, warnings) = ground.client();
    let (mut items, mut source) = indexed(&mut client, "items", ROWS);
    let cached = source.vectors(10);
    cached.iter().for_each(|query| _ = ask(&mut client, &items, query, 10));

    ground.garage.kill();
    redis.kill();
    // From the cache: nothing is missing, nothing is said.
    warnings.take();
    cached.iter().for_each(|query| _ = ask(&mut client, &items, query, 10));
    assert_eq!(warnings.take().len(), 0);
    // From the table.
    for query in source.vectors(5) {
        ask_cold(&mut client, &items, &query);
        assert_eq!(warnings.take().len(), 1);
    }
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    // Writing.
    bounded("COPY", || items.copy(&mut client, source.vectors(100)));
    bounded("INSERT", || items.insert(&mut client, source.vector()));
    bounded("UPDATE", || items.update(&mut client, 5, source.vector()));
    bounded("DELETE", || items.delete(&mut client, |id| id % 9 == 1));
    run(&mut client, "VACUUM items");
    assert_all_found(&mut client, &items, items.live().rev().take(20));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);

    // With nothing in memory: writing goes on, queries say why they cannot.
    ground.cluster.restart();
    let (mut client, warnings) = connect(&ground.cluster);
    bounded("INSERT", || items.insert(&mut client, source.vector()));
    bounded("DELETE", || items.delete(&mut client, |id| id % 9 == 2));
    let outcome = bounded("a query", || try_ask(&mut client, &items, &source.vector(), 10));
    failure(outcome).expect("08006", &["not in memory", "s3://vectors/test", "enable_indexscan"]);

    ground.garage.start_server();
    redis.start_server();
    wait_for_storage(&mut client, &warnings, &items);
    run(&mut client, "VACUUM items");
    assert_all_found(&mut client, &items, items.live().rev().take(20));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    assert_eq!(warnings.take().len(), 0);
}
