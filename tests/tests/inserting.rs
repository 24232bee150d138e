//! Rows between their insertion and the delta: a statement writes many of them together.

use std::thread;

use harness::answers::{assert_all_found, assert_recall, prefer_index};
use harness::items::{Source, literal};
use harness::upkeep::info;
use harness::{Cluster, Items, Metric};
use postgres::Client;

const DIMENSIONS: usize = 32;

fn empty(client: &mut Client) -> (Items, Source) {
    client
        .batch_execute(&format!("CREATE TABLE items (id int, embedding vector({DIMENSIONS}))"))
        .expect("a table");
    let items = Items { table: "items".to_owned(), metric: Metric::L2, rows: Vec::new() };
    items.index(client, "");
    prefer_index(client);
    (items, Source::new(81, DIMENSIONS))
}

/// An INSERT of `vectors` as a query whose execution can be left unfinished.
fn inserting(items: &mut Items, vectors: Vec<Vec<f32>>) -> String {
    let rows: Vec<String> = vectors
        .into_iter()
        .map(|vector| {
            let row = format!("({}, {}::vector)", items.rows.len(), literal(&vector));
            items.rows.push(Some(vector));
            row
        })
        .collect();
    format!(
        "WITH new AS (INSERT INTO items VALUES {} RETURNING id) SELECT id FROM new",
        rows.join(", ")
    )
}

/// A cluster in which nothing flushes by itself.
fn cluster() -> Cluster {
    Cluster::builder()
        .set("s3vector.maintenance_workers", 0)
        .set("max_prepared_transactions", 5)
        .start()
}

/// Four sessions and COPY: pages of all of them end up in one list.
#[test]
fn copying_side_by_side() {
    let cluster = cluster();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client);
    let parts: Vec<Vec<Vec<f32>>> = (0..4).map(|_| source.vectors(2500)).collect();
    let copied: Vec<Items> = thread::scope(|scope| {
        let writers: Vec<_> = parts
            .into_iter()
            .enumerate()
            .map(|(number, vectors)| {
                let (cluster, mut part) = (&cluster, items.clone());
                scope.spawn(move || {
                    part.rows = vec![None; 2500 * number];
                    let mut client = cluster.client();
                    // Statements that fill a part of a page, a page and several.
                    for rows in vectors.chunks(625).flat_map(|rows| {
                        let (few, rest) = rows.split_at(3);
                        let (page, many) = rest.split_at(60);
                        [few, page, many]
                    }) {
                        part.copy(&mut client, rows.to_vec());
                    }
                    part
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer")).collect()
    });
    for (number, mut part) in copied.into_iter().enumerate() {
        items.rows.extend(part.rows.drain(2500 * number..));
    }
    let found = info(&mut client, "items_index");
    assert_eq!(found.delta_entries, 10_000, "{found:?}");
    assert_all_found(&mut client, &items, (0..10_000).step_by(37));
    assert_recall(&mut client, &items, &source.vectors(50), 0.95);
    let all = client
        .query("SELECT id FROM items ORDER BY embedding <-> (SELECT embedding FROM items WHERE id = 1)", &[])
        .expect("all rows");
    assert_eq!(all.len(), 10_000);
    // Not by far more pages than the rows take.
    let pages: i64 = client
        .query_one("SELECT pg_relation_size('items_index') / 8192", &[])
        .expect("a size")
        .get(0);
    let needed = 10_000 / (8150 / (8 + 4 * DIMENSIONS as i64));
    assert!(pages <= needed + needed / 10 + 10, "{pages} pages, {needed} needed");
}

/// A client that has not fetched all of what RETURNING returns: the rows are there for the session's
/// next statement, and for everybody after the commit.
#[test]
fn a_portal_that_stays_open() {
    let cluster = cluster();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client);
    let mut transaction = client.transaction().expect("a transaction");
    let portal =
        transaction.bind(&*inserting(&mut items, source.vectors(20)), &[]).expect("a portal");
    assert_eq!(transaction.query_portal(&portal, 1).expect("a row").len(), 1);
    let seen = transaction
        .query(
            &format!("SELECT id FROM items ORDER BY embedding <-> {}", literal(&source.vector())),
            &[],
        )
        .expect("a search");
    assert_eq!(seen.len(), 20);
    let portal =
        transaction.bind(&*inserting(&mut items, source.vectors(20)), &[]).expect("a portal");
    assert_eq!(transaction.query_portal(&portal, 1).expect("a row").len(), 1);
    transaction.commit().expect("committed");
    assert_all_found(&mut cluster.client(), &items, 0..40);

    let mut transaction = client.transaction().expect("a transaction");
    let portal =
        transaction.bind(&*inserting(&mut items, source.vectors(20)), &[]).expect("a portal");
    assert_eq!(transaction.query_portal(&portal, 1).expect("a row").len(), 1);
    transaction.batch_execute("PREPARE TRANSACTION 'later'").expect("prepared");
    drop(transaction);
    let mut client = cluster.client();
    client.batch_execute("COMMIT PREPARED 'later'").expect("committed");
    prefer_index(&mut client);
    assert_all_found(&mut client, &items, 0..60);
}

/// The places of rows that have been rolled back with a savepoint are given away by VACUUM while their
/// transaction still runs.
#[test]
fn rolled_back_to_a_savepoint() {
    let cluster = cluster();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client);
    let mut transaction = client.transaction().expect("a transaction");
    items.rows.push(None);
    transaction.batch_execute("SAVEPOINT here").expect("a savepoint");
    let mut gone = items.clone();
    let statement = inserting(&mut gone, source.vectors(20));
    let portal = transaction.bind(&*statement, &[]).expect("a portal");
    assert_eq!(transaction.query_portal(&portal, 1).expect("a row").len(), 1);
    transaction.batch_execute("ROLLBACK TO here").expect("rolled back");
    drop(portal);
    // Others take the places.
    let mut other = cluster.client();
    prefer_index(&mut other);
    other.batch_execute("VACUUM (INDEX_CLEANUP ON) items").expect("vacuumed");
    items.copy(&mut other, source.vectors(20));
    let vector = source.vector();
    transaction
        .batch_execute(&format!("INSERT INTO items VALUES (0, {})", literal(&vector)))
        .expect("inserted");
    items.rows[0] = Some(vector);
    transaction.commit().expect("committed");
    let found = info(&mut other, "items_index");
    assert_eq!(found.delta_entries, 21, "{found:?}");
    assert_all_found(&mut other, &items, 0..21);
}

/// What is inserted in a subtransaction belongs to the transaction when that ends well.
#[test]
fn released_savepoints() {
    let cluster = cluster();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client);
    let mut transaction = client.transaction().expect("a transaction");
    for round in 0..4 {
        transaction.batch_execute("SAVEPOINT first; SAVEPOINT second").expect("savepoints");
        let mut next = items.clone();
        let statement = inserting(&mut next, source.vectors(20));
        assert_eq!(transaction.query(&*statement, &[]).expect("inserted").len(), 20);
        transaction.batch_execute("RELEASE second").expect("released");
        if round % 2 == 0 {
            transaction.batch_execute("RELEASE first").expect("released");
            items = next;
        } else {
            transaction.batch_execute("ROLLBACK TO first; RELEASE first").expect("rolled back");
        }
    }
    transaction.commit().expect("committed");
    assert_all_found(&mut client, &items, 0..40);
}
