//! CREATE INDEX CONCURRENTLY and REINDEX, while rows are written and compacted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use harness::answers::{assert_all_found, assert_recall};
use harness::items::{Source, literal};
use harness::{Cluster, Items, Metric};
use postgres::Client;

const DIMENSIONS: usize = 64;

/// Runs `statement` while another client inserts, updates and deletes rows; afterwards every row
/// must be found. Returns with the writes done in `items`.
fn while_writing(cluster: &Cluster, items: &mut Items, source: &mut Source, statement: &str) {
    let vectors = source.vectors(3000);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = cluster.client();
            for (turn, vector) in vectors.into_iter().enumerate() {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                match turn % 4 {
                    0 => {
                        let id = turn / 4;
                        client
                            .batch_execute(&format!(
                                "UPDATE items SET embedding = {} WHERE id = {id}",
                                literal(&vector)
                            ))
                            .expect("a row is updated");
                        items.rows[id] = Some(vector);
                    }
                    1 => items.delete(&mut client, |id| id == 2000 + turn / 4),
                    _ => items.insert(&mut client, vector),
                }
            }
        });
        cluster
            .client()
            .batch_execute(statement)
            .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
        done.store(true, Ordering::Relaxed);
        writer.join().expect("the writer ends");
    });
}

fn check(client: &mut Client, items: &Items, source: &mut Source) {
    let valid: bool = client
        .query_one(
            "SELECT bool_and(indisvalid) FROM pg_index WHERE indrelid = 'items'::regclass",
            &[],
        )
        .expect("the index")
        .get(0);
    assert!(valid);
    assert_recall(client, items, &source.vectors(200), 0.95);
    assert_all_found(
        client,
        items,
        (4000..items.rows.len()).filter(|id| items.rows[*id].is_some()),
    );
    assert_all_found(client, items, (0..50).filter(|id| items.rows[*id].is_some()));
}

/// A cluster whose maintenance worker is busy: 64 kB are 240 rows.
fn busy() -> Cluster {
    Cluster::builder().set("s3vector.flush_size", "64kB").start()
}

fn table(cluster: &Cluster) -> (Items, Source) {
    let mut source = Source::new(31, DIMENSIONS);
    let items = Items::create(&mut cluster.client(), "items", Metric::L2, source.vectors(4000));
    (items, source)
}

/// CREATE INDEX CONCURRENTLY, with so many parallel workers.
fn create_concurrently(workers: u32) {
    let cluster = busy();
    let (mut items, mut source) = table(&cluster);
    cluster
        .client()
        .batch_execute(&format!("ALTER TABLE items SET (parallel_workers = {workers})"))
        .expect("altered");
    let statement =
        "CREATE INDEX CONCURRENTLY items_index ON items USING s3vector (embedding vector_l2_ops)";
    while_writing(&cluster, &mut items, &mut source, statement);
    assert!(items.rows.len() > 4000, "nothing was written meanwhile");
    check(&mut cluster.client(), &items, &mut source);
}

#[test]
fn create_index_concurrently() {
    create_concurrently(0);
}

/// The first scan, which workers share, sees what its snapshot does.
#[test]
fn create_index_concurrently_with_workers() {
    create_concurrently(2);
}

#[test]
fn reindex_concurrently() {
    let cluster = busy();
    let (mut items, mut source) = table(&cluster);
    items.index(&mut cluster.client(), "");
    while_writing(&cluster, &mut items, &mut source, "REINDEX INDEX CONCURRENTLY items_index");
    assert!(items.rows.len() > 4000, "nothing was written meanwhile");
    check(&mut cluster.client(), &items, &mut source);
}

#[test]
fn reindex() {
    let cluster = busy();
    let (mut items, mut source) = table(&cluster);
    items.index(&mut cluster.client(), "");
    let uuid = |client: &mut Client| -> String {
        client
            .query_one("SELECT index_uuid FROM s3vector_index_info('items_index')", &[])
            .expect("described")
            .get(0)
    };
    let mut client = cluster.client();
    let before = uuid(&mut client);
    while_writing(&cluster, &mut items, &mut source, "REINDEX INDEX items_index");
    assert_ne!(before, uuid(&mut client), "a rebuilt index is another one in the store");
    check(&mut client, &items, &mut source);
}

#[test]
fn vacuum_full_rebuilds_with_moved_rows() {
    let cluster = busy();
    let (mut items, mut source) = table(&cluster);
    let mut client = cluster.client();
    items.index(&mut client, "");
    items.delete(&mut client, |id| id < 1000);
    client.batch_execute("VACUUM FULL items").expect("vacuum full");
    check(&mut client, &items, &mut source);
}

#[test]
fn truncate_and_refill() {
    let cluster = busy();
    let (mut items, mut source) = table(&cluster);
    let mut client = cluster.client();
    items.index(&mut client, "");
    client.batch_execute("TRUNCATE items").expect("truncated");
    items.rows.fill(None);
    items.copy(&mut client, source.vectors(300));
    check(&mut client, &items, &mut source);
}

/// A rolled back REINDEX leaves the old index answering.
#[test]
fn a_rolled_back_reindex() {
    let cluster = busy();
    let (items, mut source) = table(&cluster);
    let mut client = cluster.client();
    items.index(&mut client, "");
    client.batch_execute("BEGIN; REINDEX INDEX items_index; ROLLBACK").expect("rolled back");
    check(&mut client, &items, &mut source);
}
