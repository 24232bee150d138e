//! Storage fails while nothing else goes on: what queries answer, and what they say.

use std::time::Duration;

use harness::answers::{self, assert_recall, try_ask};
use harness::errors::failure;
use harness::proxy::{Effect, Fault};
use harness::reading::{drop_cache, last_scan};

use super::{Ground, TROUBLES, ask_cold, assert_warned_once, bounded, indexed};

/// By default the table stands in for storage: right answers, and one warning a statement.
#[test]
fn the_table_stands_in_for_storage() {
    let ground = Ground::new(&[]);
    let (mut client, warnings) = ground.client();
    let (items, mut source) = indexed(&mut client, "items", super::ROWS);
    for trouble in TROUBLES {
        println!("{trouble:?}");
        ground.proxy.inject(Fault::new(trouble.effect).method("GET"));
        drop_cache(&mut client);
        warnings.take();
        for query in source.vectors(10) {
            assert_eq!(ask_cold(&mut client, &items, &query).len(), 10);
            let scan = last_scan(&mut client);
            assert!(scan.heap_rows > 0 && scan.cache_hits == 0, "{trouble:?}: {scan:?}");
            assert_warned_once(&warnings, &[trouble.word], &trouble);
        }
        assert_recall(&mut client, &items, &source.vectors(200), 0.95);
        ground.heal(&mut client, &warnings, &items);
    }
    // All that was wrong has left no trace in the cache.
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    assert_eq!(warnings.take().len(), 0);
}

/// Asked to fail rather than to be slow, a query tells the object and the bytes it wanted.
#[test]
fn the_error_names_the_object_and_the_bytes() {
    let ground = Ground::new(&[]);
    let (mut client, warnings) = ground.client();
    let (items, mut source) = indexed(&mut client, "items", super::ROWS);
    for trouble in TROUBLES {
        println!("{trouble:?}");
        client.batch_execute("SET s3vector.payload_fallback = error").expect("a setting");
        ground.proxy.inject(Fault::new(trouble.effect).method("GET"));
        for _ in 0..5 {
            drop_cache(&mut client);
            let query = source.vector();
            let outcome = bounded("a query", || try_ask(&mut client, &items, &query, 10));
            let words = ["/vectors/c/", "bytes", trouble.word];
            failure(outcome).expect(trouble.sqlstate, &words);
        }
        assert_eq!(warnings.take().len(), 0);
        client.batch_execute("SET s3vector.payload_fallback = heap").expect("a setting");
        ground.heal(&mut client, &warnings, &items);
    }
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// A failure now and then is made good by asking again: nobody hears of it.
#[test]
fn requests_are_made_again() {
    let ground = Ground::new(&[("s3vector.fetch_timeout", "5s".to_owned())]);
    let (mut client, warnings) = ground.client();
    let (items, mut source) = indexed(&mut client, "items", super::ROWS);
    for effect in [
        Effect::InternalError,
        Effect::SlowDown(None),
        Effect::SlowDown(Some(1)),
        Effect::Reset,
        Effect::HalfBody,
    ] {
        println!("{effect:?}");
        let faults = ground.proxy.counts().faults;
        ground.proxy.inject(Fault::new(effect).method("GET").once_each());
        for query in source.vectors(8) {
            ask_cold(&mut client, &items, &query);
            assert!(last_scan(&mut client).requests > 0);
        }
        ground.proxy.heal();
        assert_eq!(warnings.take().len(), 0, "{effect:?}");
        assert!(ground.proxy.counts().faults >= faults + 4, "{effect:?} was not met");
    }
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Several scans in one statement warn once; a cursor's next FETCH is a statement of its own.
#[test]
fn one_warning_a_statement() {
    let ground = Ground::new(&[]);
    let (mut client, warnings) = ground.client();
    let (items, mut source) = indexed(&mut client, "items", super::ROWS);
    ground.proxy.inject(Fault::new(Effect::InternalError).method("GET"));
    let mut half = || answers::sql("items", items.metric, &source.vector(), 5);
    let both = format!("({}) UNION ALL ({})", half(), half());
    assert_eq!(client.query(&both, &[]).expect("answers").len(), 10);
    assert_warned_once(&warnings, &["InternalError"], &"a union");
    // A correlated subquery scans once a row.
    let rows = client
        .query(
            "SELECT id, (SELECT near.id FROM items AS near ORDER BY near.embedding <-> far.embedding \
             LIMIT 1) FROM items AS far WHERE id < 20",
            &[],
        )
        .expect("answers");
    for row in &rows {
        assert_eq!(row.get::<_, i32>(0), row.get::<_, i32>(1), "a row is its own neighbour");
    }
    assert_eq!(rows.len(), 20);
    assert_warned_once(&warnings, &["InternalError"], &"a correlated subquery");
    let query = source.vector();
    client
        .batch_execute(&format!(
            "BEGIN; DECLARE c CURSOR FOR {}",
            answers::sql("items", items.metric, &query, super::ROWS)
        ))
        .expect("a cursor");
    warnings.take();
    let mut answer = Vec::new();
    for _ in 0..5 {
        let rows = client.query("FETCH 30 FROM c", &[]).expect("rows");
        answer.extend(rows.iter().map(|row| (row.get::<_, i32>(0), row.get::<_, f64>(1))));
        assert!(warnings.take().len() <= 1);
    }
    client.batch_execute("COMMIT").expect("committed");
    assert_eq!(answer.len(), 150);
    answers::check(&items, &query, &answer);
}

/// What is in the cache needs no storage; nothing is said.
#[test]
fn cached_answers_need_no_storage() {
    let ground = Ground::new(&[]);
    let (mut client, warnings) = ground.client();
    let (items, mut source) = indexed(&mut client, "items", super::ROWS);
    let queries = source.vectors(20);
    let ask_all = |client: &mut postgres::Client| -> Vec<answers::Answer> {
        queries.iter().map(|query| answers::ask(client, &items, query, 10)).collect()
    };
    let before = ask_all(&mut client);
    ground.proxy.pause();
    assert_eq!(before, ask_all(&mut client));
    assert_eq!(warnings.take().len(), 0);
    // Nor does an answer of estimates.
    drop_cache(&mut client);
    client.batch_execute("SET s3vector.rerank = off").expect("a setting");
    for query in &queries {
        assert_eq!(try_ask(&mut client, &items, query, 10).expect("an answer").len(), 10);
    }
    assert_eq!(warnings.take().len(), 0);
    assert_eq!(last_scan(&mut client).waves, 0);
    ground.proxy.resume();
}

/// A slow server is not a broken one.
#[test]
fn slow_storage_is_waited_for() {
    let ground = Ground::new(&[]);
    let (mut client, warnings) = ground.client();
    let (items, mut source) = indexed(&mut client, "items", super::ROWS);
    ground.proxy.set_latency(Duration::from_millis(150));
    for query in source.vectors(10) {
        ask_cold(&mut client, &items, &query);
        let scan = last_scan(&mut client);
        assert!(scan.requests > 0 && scan.waves == 1 && scan.heap_rows == 0, "{scan:?}");
    }
    assert_eq!(warnings.take().len(), 0);
    ground.proxy.set_latency(Duration::ZERO);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}
