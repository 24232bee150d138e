//! Flushes beside writers, VACUUM and readers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use harness::answers::{self, Answer, assert_all_found, assert_recall, prefer_index};
use harness::items::{Source, literal};
use harness::upkeep::flush;
use harness::wait::AtWork;

use super::{DIMENSIONS, count, indexed, live_entries, quiet};

#[test]
fn rows_written_while_flushes_run_are_found_at_once_and_kept_once() {
    let cluster = quiet();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 500);
    let writers: Vec<Vec<Vec<f32>>> = (0..3).map(|_| source.vectors(300)).collect();
    let first = items.rows.len();
    items.rows.extend(writers.iter().flatten().cloned().map(Some));
    let writing = AtWork::new(writers.len());
    let flushes = AtomicUsize::new(0);
    let items = &items;
    thread::scope(|scope| {
        for (number, vectors) in writers.iter().enumerate() {
            let (cluster, writing) = (&cluster, &writing);
            scope.spawn(move || {
                let _shift = writing.shift();
                let mut client = cluster.client();
                prefer_index(&mut client);
                for (position, vector) in vectors.iter().enumerate() {
                    let id = first + number * vectors.len() + position;
                    client
                        .batch_execute(&format!(
                            "INSERT INTO items VALUES ({id}, {})",
                            literal(vector)
                        ))
                        .expect("a row is inserted");
                    let answer = answers::ask(&mut client, items, vector, 3);
                    assert_eq!(answer[0].0, i32::try_from(id).expect("small"), "{answer:?}");
                }
            });
        }
        scope.spawn(|| {
            let mut client = cluster.client();
            while writing.goes_on() {
                flush(&mut client, "items_index");
                flushes.fetch_add(1, Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            let (mut client, mut source) = (cluster.client(), Source::new(85, DIMENSIONS));
            prefer_index(&mut client);
            while writing.goes_on() {
                assert_eq!(answers::ask(&mut client, items, &source.vector(), 40).len(), 40);
            }
        });
    });
    assert!(flushes.into_inner() >= 2, "hardly a flush went on beside the writers");
    flush(&mut client, "items_index");
    assert_eq!(live_entries(&mut client), count(items.len()));
    assert_all_found(&mut client, items, 0..items.rows.len());
    assert_recall(&mut client, items, &source.vectors(200), 0.95);
}

#[test]
fn two_flushes_at_once_share_the_work() {
    let cluster = quiet();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 300);
    for _ in 0..10 {
        items.copy(&mut client, source.vectors(100));
        let flushed: i64 = thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| flush(&mut cluster.client(), "items_index").rows_flushed))
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("a flush")).sum()
        });
        assert_eq!(flushed, 100);
    }
    assert_eq!(live_entries(&mut client), 1300);
    assert_all_found(&mut client, &items, 0..1300);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Rows that VACUUM removes while a flush turns them into a segment must be tombstones there: the
/// heap puts other rows into their places at once.
#[test]
fn rows_vacuumed_during_a_flush_stay_gone() {
    let cluster = quiet();
    let (mut client, mut other) = (cluster.client(), cluster.client());
    let (mut items, mut source) = indexed(&mut client, 400);
    let mut rng = Rng::with_seed(86);
    let mut overlapped = 0;
    for round in 0..25 {
        let first = items.rows.len();
        items.copy(&mut client, source.vectors(400));
        let pause = Duration::from_micros(rng.u64(0..8000));
        thread::scope(|scope| {
            let flushing = scope.spawn(|| {
                let start = Instant::now();
                flush(&mut other, "items_index");
                (start, Instant::now())
            });
            thread::sleep(pause);
            items.delete(&mut client, |id| (id >= first && id % 2 == 0) || id % 25 == round);
            let start = Instant::now();
            client.batch_execute("VACUUM items").expect("vacuum");
            let (flush_start, flush_end) = flushing.join().expect("the flush ends");
            overlapped += usize::from(start < flush_end && flush_start < Instant::now());
        });
        // The places of the removed rows are taken again.
        items.copy(&mut client, source.vectors(150));
        for query in source.vectors(3) {
            assert_eq!(answers::ask(&mut client, &items, &query, 300).len(), 300);
        }
    }
    assert!(overlapped >= 3, "VACUUM met a flush in {overlapped} of 25 rounds only");
    assert_all_found(&mut client, &items, items.live().step_by(3));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    client.batch_execute("VACUUM items").expect("vacuum");
    flush(&mut client, "items_index");
    assert_eq!(live_entries(&mut client), count(items.len()));
}

/// A snapshot taken before goes on seeing its rows, whatever is removed and rewritten meanwhile.
#[test]
fn an_old_snapshot_sees_its_rows_over_flushes() {
    let cluster = quiet();
    let (mut client, mut other) = (cluster.client(), cluster.client());
    let (mut items, mut source) = indexed(&mut client, 300);
    items.copy(&mut client, source.vectors(300));
    let before = items.clone();
    client
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT id FROM items LIMIT 1")
        .expect("a snapshot");
    for round in 0..6 {
        items.copy(&mut other, source.vectors(200));
        items.delete(&mut other, |id| id % 6 == round);
        other.batch_execute("VACUUM items").expect("vacuum");
        flush(&mut other, "items_index");
        assert_all_found(&mut client, &before, (0..600).step_by(5));
    }
    assert_recall(&mut client, &before, &source.vectors(200), 0.95);
    client.batch_execute("COMMIT").expect("committed");
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// A cursor that was opened before reads on over flushes, merges and reused pages.
#[test]
fn an_open_cursor_goes_on_over_flushes() {
    let cluster = quiet();
    let (mut client, mut other) = (cluster.client(), cluster.client());
    let (mut items, mut source) = indexed(&mut client, 300);
    items.copy(&mut client, source.vectors(300));
    let query = source.vector();
    let expected = answers::ask(&mut client, &items, &query, 500);
    let sql = answers::sql("items", items.metric, &query, 500);
    let mut transaction = client.transaction().expect("a transaction");
    transaction.batch_execute(&format!("DECLARE c CURSOR FOR {sql}")).expect("declared");
    let mut answer = Answer::new();
    for _ in 0..10 {
        let rows = transaction.query("FETCH 50 FROM c", &[]).expect("fetched");
        answer.extend(rows.iter().map(|row| (row.get::<_, i32>(0), row.get::<_, f64>(1))));
        // What is written now is none of the cursor's business.
        items.copy(&mut other, source.vectors(100));
        flush(&mut other, "items_index");
    }
    transaction.commit().expect("committed");
    assert_eq!(answer, expected);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Deletes, updates and flushes in one transaction that commits.
#[test]
fn a_flush_between_the_statements_of_a_transaction() {
    let cluster = quiet();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 300);
    let writing = AtWork::new(1);
    thread::scope(|scope| {
        let _shift = writing.shift();
        scope.spawn(|| {
            let mut other = cluster.client();
            while writing.goes_on() {
                flush(&mut other, "items_index");
            }
        });
        for round in 0..20 {
            client.batch_execute("BEGIN").expect("begun");
            let id = items.rows.len();
            items.insert(&mut client, source.vector());
            flush(&mut client, "items_index");
            items.update(&mut client, id, source.vector());
            items.delete(&mut client, |id| id == round);
            assert_all_found(&mut client, &items, [id]);
            client.batch_execute("COMMIT").expect("committed");
            assert_all_found(&mut client, &items, [id]);
        }
    });
    assert_all_found(&mut client, &items, 20..items.rows.len());
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}
