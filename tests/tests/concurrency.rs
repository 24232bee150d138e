//! Several clients at once: is every committed row found from the next statement on?

use std::thread;

use harness::answers::{self, assert_all_found, assert_recall, prefer_index};
use harness::items::{Source, literal};
use harness::wait::AtWork;
use harness::{Cluster, Items, Metric};

const DIMENSIONS: usize = 24;

#[test]
fn inserting_while_others_query() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let mut source = Source::new(61, DIMENSIONS);
    let mut items = Items::create(&mut client, "items", Metric::L2, source.vectors(500));
    items.index(&mut client, "");
    let writers: Vec<Vec<Vec<f32>>> = (0..4).map(|_| source.vectors(150)).collect();
    let first = items.rows.len();
    items.rows.extend(writers.iter().flatten().cloned().map(Some));
    let writing = AtWork::new(writers.len());
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
                    if position % 10 == 0 {
                        let answer = answers::ask(&mut client, items, vector, 3);
                        assert_eq!(answer[0].0, i32::try_from(id).expect("small"), "{answer:?}");
                    }
                }
            });
        }
        for seed in 0..2 {
            let (cluster, writing) = (&cluster, &writing);
            scope.spawn(move || {
                let mut client = cluster.client();
                prefer_index(&mut client);
                let mut source = Source::new(100 + seed, DIMENSIONS);
                while writing.goes_on() {
                    assert_eq!(answers::ask(&mut client, items, &source.vector(), 10).len(), 10);
                }
            });
        }
    });
    assert_all_found(&mut client, items, first..items.rows.len());
    assert_recall(&mut client, items, &source.vectors(200), 0.95);
}

/// Vacuum and deletes in one client while another asks: an answer never holds a row that was gone
/// before the question.
#[test]
fn vacuuming_while_others_query() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let mut source = Source::new(62, DIMENSIONS);
    let mut items = Items::create(&mut client, "items", Metric::L2, source.vectors(1200));
    items.index(&mut client, "");
    // Removed before any question is asked; the others stay for good.
    items.delete(&mut client, |id| id % 3 == 0);
    let vacuuming = AtWork::new(1);
    let refills: Vec<Vec<Vec<f32>>> = (0..5).map(|_| source.vectors(200)).collect();
    let first = items.rows.len();
    let mut after = items.rows.clone();
    after.extend(refills.iter().flatten().cloned().map(Some));
    let after = Items { table: items.table.clone(), metric: items.metric, rows: after };
    thread::scope(|scope| {
        let _shift = vacuuming.shift();
        for seed in 0..2 {
            let (cluster, vacuuming, after) = (&cluster, &vacuuming, &after);
            scope.spawn(move || {
                let mut client = cluster.client();
                prefer_index(&mut client);
                let mut source = Source::new(200 + seed, DIMENSIONS);
                while vacuuming.goes_on() {
                    assert_eq!(answers::ask(&mut client, after, &source.vector(), 10).len(), 10);
                }
            });
        }
        for vectors in refills {
            client.batch_execute("VACUUM items").expect("vacuum");
            items.copy(&mut client, vectors);
        }
    });
    assert_all_found(&mut client, &items, (first..items.rows.len()).step_by(3));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Several indexes whose graphs take turns in a memory with room for one: every query is answered by
/// its own.
#[test]
fn graphs_that_take_turns() {
    let cluster = Cluster::builder()
        .set("s3vector.graph_memory", "1MB")
        .set("s3vector.maintenance_workers", 0)
        .start();
    let mut client = cluster.client();
    let mut source = Source::new(63, 64);
    let tables = ["a", "b", "c"].map(|name| {
        let items = Items::create(&mut client, name, Metric::L2, source.vectors(4000));
        items.index(&mut client, "");
        items
    });
    thread::scope(|scope| {
        for number in 0..9 {
            let (cluster, items) = (&cluster, &tables[number % tables.len()]);
            scope.spawn(move || {
                let mut client = cluster.client();
                prefer_index(&mut client);
                for id in (number..items.rows.len()).step_by(100) {
                    let row = items.rows[id].as_ref().expect("the row exists");
                    let answer = answers::ask(&mut client, items, row, 1);
                    assert_eq!(answer[0].0, i32::try_from(id).expect("small"), "{}", items.table);
                }
            });
        }
    });
}
