//! The S3 server is gone altogether, or cannot be found; and what a graph that is not in memory
//! means then.

use harness::Items;
use harness::answers::{assert_recall, prefer_index, try_ask};
use harness::errors::{Warnings, failure};
use harness::items::Source;
use harness::proxy::Fault;
use harness::reading::{drop_cache, last_scan};
use postgres::Client;

use super::{
    Ground, ROWS, TROUBLES, ask_cold, assert_warned_once, bounded, indexed, wait_for_storage,
};

/// Both kinds of answer while storage is out of reach: from the table, and the error.
#[track_caller]
fn assert_out_of_reach(
    client: &mut Client,
    warnings: &Warnings,
    items: &Items,
    source: &mut Source,
    word: &str,
) {
    drop_cache(client);
    warnings.take();
    for query in source.vectors(10) {
        ask_cold(client, items, &query);
        assert_warned_once(warnings, &[word], &"a query");
    }
    assert_recall(client, items, &source.vectors(200), 0.95);
    client.batch_execute("SET s3vector.payload_fallback = error").expect("a setting");
    let query = source.vector();
    let outcome = bounded("a query", || try_ask(client, items, &query, 10));
    failure(outcome).expect("08006", &["could not read object", word]);
    client.batch_execute("SET s3vector.payload_fallback = heap").expect("a setting");
}

#[test]
fn garage_is_killed_and_comes_back() {
    let mut ground = Ground::new(&[]);
    // Past the proxy: the connections of the worker itself are those that break.
    let settings = ground.garage.settings();
    ground.cluster.reconfigure(&settings);
    let (mut client, warnings) = ground.client();
    let (items, mut source) = indexed(&mut client, "items", ROWS);
    for _ in 0..2 {
        ground.garage.kill();
        assert_out_of_reach(&mut client, &warnings, &items, &mut source, "127.0.0.1");
        ground.garage.start_server();
        wait_for_storage(&mut client, &warnings, &items);
        assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    }
    assert_eq!(ground.proxy.counts().requests, 0);
}

#[test]
fn nobody_listens_for_a_while() {
    let ground = Ground::new(&[]);
    let (mut client, warnings) = ground.client();
    let (items, mut source) = indexed(&mut client, "items", ROWS);
    ground.proxy.pause();
    assert_out_of_reach(&mut client, &warnings, &items, &mut source, "127.0.0.1");
    ground.proxy.resume();
    wait_for_storage(&mut client, &warnings, &items);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn the_name_of_the_server_is_unknown() {
    let mut ground = Ground::new(&[]);
    let (mut client, warnings) = ground.client();
    let (items, mut source) = indexed(&mut client, "items", ROWS);
    let right = ground.proxy.endpoint();
    let endpoint = |url: &str| [("s3vector.s3_endpoint", url.to_owned())];
    ground.cluster.reconfigure(&endpoint("http://no-such-host.invalid"));
    assert_out_of_reach(&mut client, &warnings, &items, &mut source, "no-such-host.invalid");
    ground.cluster.reconfigure(&endpoint(&right));
    wait_for_storage(&mut client, &warnings, &items);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Without its graph an index cannot answer: the error says what storage said, and what to do.
#[test]
fn a_graph_that_is_not_in_memory() {
    let mut ground = Ground::new(&[("s3vector.graph_reload", "off".to_owned())]);
    let (mut client, _) = ground.client();
    let (mut items, mut source) = indexed(&mut client, "items", ROWS);
    for trouble in TROUBLES {
        println!("{trouble:?}");
        ground.proxy.heal();
        ground.cluster.restart();
        ground.proxy.inject(Fault::new(trouble.effect).method("GET"));
        let (mut client, warnings) = ground.client();
        for _ in 0..4 {
            let query = source.vector();
            let outcome = bounded("a query", || try_ask(&mut client, &items, &query, 10));
            let report = failure(outcome);
            report.expect(trouble.sqlstate, &["not in memory", "enable_indexscan"]);
            // Damage is called by what is wrong with the object that is read first.
            if trouble.sqlstate != "XX001" {
                report.expect(trouble.sqlstate, &[trouble.word]);
            }
        }
        // What the hint says does help, and writing needs no graph.
        client
            .batch_execute("SET enable_indexscan = off; SET enable_seqscan = on")
            .expect("settings");
        let query = source.vector();
        let answer = bounded("a query", || try_ask(&mut client, &items, &query, 10));
        let truth: Vec<i32> = items.nearest(&query, 10).iter().map(|row| row.0).collect();
        let answer: Vec<i32> = answer.expect("an answer").iter().map(|row| row.0).collect();
        assert_eq!(answer, truth);
        client.batch_execute("RESET enable_indexscan").expect("a setting");
        prefer_index(&mut client);
        items.insert(&mut client, source.vector());
        ground.heal(&mut client, &warnings, &items);
        assert_recall(&mut client, &items, &source.vectors(100), 0.95);
        assert_eq!(last_scan(&mut client).heap_rows, 0);
    }
}
