//! Do removed rows stay away, and is the rest found, after VACUUM?

use harness::answers::{assert_all_found, assert_recall};
use harness::items::Source;
use harness::{Cluster, Items, Metric, answers};
use postgres::Client;

fn indexed(client: &mut Client, rows: usize) -> (Items, Source) {
    let mut source = Source::new(21, 32);
    let items = Items::create(client, "items", Metric::L2, source.vectors(rows));
    items.index(client, "");
    (items, source)
}

fn vacuum(client: &mut Client) {
    client.batch_execute("VACUUM items").expect("vacuum");
}

#[test]
fn recall_after_delete_and_vacuum() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 2000);
    let queries = source.vectors(200);
    assert_recall(&mut client, &items, &queries, 0.95);
    items.delete(&mut client, |id| id % 2 == 0);
    // Dead rows are filtered by their visibility before VACUUM, by tombstones after it.
    assert_recall(&mut client, &items, &queries, 0.95);
    vacuum(&mut client);
    assert_recall(&mut client, &items, &queries, 0.95);
}

/// The heap puts new rows where removed ones were: an entry that outlived its row would return
/// the new row at the distance of the old one, which every answer is checked for.
#[test]
fn places_are_reused() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 1000);
    for _ in 0..3 {
        let first = items.rows.len();
        items.delete(&mut client, |id| id % 4 == 1);
        vacuum(&mut client);
        items.copy(&mut client, source.vectors(250));
        assert_all_found(&mut client, &items, (first..first + 250).step_by(5));
        assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    }
}

#[test]
fn rows_inserted_after_the_build_are_removed_too() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 300);
    items.copy(&mut client, source.vectors(300));
    items.delete(&mut client, |id| id >= 300 && id % 2 == 0);
    vacuum(&mut client);
    items.copy(&mut client, source.vectors(200));
    assert_all_found(&mut client, &items, 600..800);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn an_emptied_table() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 500);
    items.delete(&mut client, |_| true);
    vacuum(&mut client);
    answers::prefer_index(&mut client);
    assert_eq!(answers::ask(&mut client, &items, &source.vector(), 10), []);
    items.copy(&mut client, source.vectors(100));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Equal vectors share a node: removing some of its rows must not hide the others.
#[test]
fn some_of_many_equal_rows() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let mut source = Source::new(22, 32);
    let distinct = source.vectors(20);
    let copies = (0..400).map(|id| distinct[id % 20].clone()).collect();
    let mut items = Items::create(&mut client, "items", Metric::L2, copies);
    items.index(&mut client, "");
    items.delete(&mut client, |id| id >= 100);
    vacuum(&mut client);
    answers::prefer_index(&mut client);
    for vector in &distinct {
        let answer = answers::ask(&mut client, &items, vector, 5);
        assert!(answer.iter().all(|row| row.1 < 1e-3), "five equal rows exist: {answer:?}");
    }
    assert_recall(&mut client, &items, &distinct, 0.95);
}

/// A row whose insertion was rolled back is dead from the start.
#[test]
fn a_rolled_back_insert() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 300);
    client
        .batch_execute("BEGIN; INSERT INTO items SELECT id + 10000, embedding FROM items; ROLLBACK")
        .expect("rolled back");
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    vacuum(&mut client);
    items.copy(&mut client, source.vectors(300));
    assert_all_found(&mut client, &items, (300..600).step_by(7));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}
