//! Indexes of temporary tables: storage is asked for a place when a segment is written, and not before.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use harness::answers::{assert_all_found, assert_recall, prefer_index};
use harness::items::Source;
use harness::upkeep::{flush, info};
use harness::wait::wait_until;
use harness::{Cluster, Items, Metric, store};
use postgres::Client;

use super::{DIMENSIONS, indexed};

/// The store is away: where its folder was lies a file.
pub struct Away(PathBuf);

impl Away {
    pub fn new(folder: &Path) -> Self {
        if folder.exists() {
            fs::rename(folder, aside(folder)).expect("the folder is moved aside");
        }
        fs::write(folder, "").expect("a file in its place");
        Self(folder.to_owned())
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        fs::remove_file(&self.0).expect("the file goes");
        if aside(&self.0).exists() {
            fs::rename(aside(&self.0), &self.0).expect("the folder is moved back");
        }
    }
}

fn aside(folder: &Path) -> PathBuf {
    folder.with_extension("aside")
}

fn count(client: &mut Client, table: &str) -> i64 {
    client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).expect("a count").get(0)
}

/// PostgreSQL builds the index anew at every commit of a session that has used temporary tables.
#[test]
fn commits_of_a_session_with_a_temporary_table_need_no_storage() {
    let cluster = Cluster::builder().set("s3vector.maintenance_workers", 0).start();
    let mut client = cluster.client();
    let (kept, mut source) = indexed(&mut client, 300);
    client
        .batch_execute(
            "CREATE TABLE ordinary (i int);
             CREATE TEMP TABLE emptied (id int, embedding vector(16)) ON COMMIT DELETE ROWS;
             CREATE TEMP TABLE other (i int)",
        )
        .expect("tables");
    client
        .batch_execute("CREATE INDEX emptied_index ON emptied USING s3vector (embedding)")
        .expect("an index");
    let folders = store::folders(&cluster.store());
    for _ in 0..20 {
        count(&mut client, "emptied");
        count(&mut client, "other");
        client
            .batch_execute(
                "BEGIN; INSERT INTO emptied SELECT id, embedding FROM items; SELECT * FROM emptied \
                 ORDER BY embedding <-> (SELECT embedding FROM items LIMIT 1) LIMIT 3; COMMIT",
            )
            .expect("a transaction");
    }
    assert_eq!(store::folders(&cluster.store()), folders, "commits claimed folders");

    let away = Away::new(&cluster.store());
    client.batch_execute("INSERT INTO ordinary VALUES (1)").expect("inserted");
    client
        .batch_execute(
            "BEGIN; INSERT INTO ordinary VALUES (2); SELECT count(*) FROM emptied; COMMIT",
        )
        .expect("committed");
    count(&mut client, "emptied");
    client
        .batch_execute(
            "BEGIN; INSERT INTO ordinary VALUES (3); \
             INSERT INTO emptied SELECT id, embedding FROM items; COMMIT",
        )
        .expect("committed");
    assert_eq!(count(&mut client, "ordinary"), 3);
    assert_eq!(count(&mut client, "emptied"), 0);
    drop(away);
    assert_recall(&mut client, &kept, &source.vectors(50), 0.95);
}

/// Made, emptied and filled in one transaction, and in a function's: nothing is asked of storage.
#[test]
fn a_temporary_table_without_segments_needs_no_storage() {
    let cluster = Cluster::builder().set("s3vector.maintenance_workers", 0).start();
    let mut client = cluster.client();
    prefer_index(&mut client);
    let away = Away::new(&cluster.store());
    client
        .batch_execute(
            "BEGIN;
             CREATE TEMP TABLE emptied (id int, embedding vector(16)) ON COMMIT DELETE ROWS;
             CREATE INDEX emptied_index ON emptied USING s3vector (embedding);
             COMMIT;
             CREATE TEMP TABLE items (id int, embedding vector(16));
             CREATE INDEX items_index ON items USING s3vector (embedding)",
        )
        .expect("tables");
    let mut source = Source::new(173, DIMENSIONS);
    let mut items = Items { table: "items".to_owned(), metric: Metric::L2, rows: Vec::new() };
    for _ in 0..2 {
        items.copy(&mut client, source.vectors(100));
        assert_all_found(&mut client, &items, items.live().step_by(7));
        client.batch_execute("TRUNCATE items; REINDEX INDEX items_index").expect("emptied");
        items.rows.fill(None);
    }
    items.copy(&mut client, source.vectors(300));
    drop(away);
    flush(&mut client, "items_index");
    let uuid = info(&mut client, "items_index").uuid;
    assert_eq!(store::folders(&cluster.store()), BTreeSet::from([uuid]));
    assert_recall(&mut client, &items, &source.vectors(50), 0.95);
    drop(client);
    wait_until("the session's objects to go", || store::folders(&cluster.store()).is_empty());
}

/// A session that goes on making temporary tables does not gather what those that are gone have left.
#[test]
fn temporary_tables_that_are_gone_leave_little_to_their_session() {
    let cluster = Cluster::builder().set("s3vector.maintenance_workers", 0).start();
    let mut client = cluster.client();
    prefer_index(&mut client);
    let mut source = Source::new(174, DIMENSIONS);
    let mut kept = Items { table: "kept".to_owned(), metric: Metric::L2, rows: Vec::new() };
    client.batch_execute("CREATE TEMP TABLE kept (id int, embedding vector(16))").expect("a table");
    kept.copy(&mut client, source.vectors(100));
    kept.index(&mut client, "");
    let graphs = |client: &mut Client| count(client, "s3vector_stat_graphs");
    for round in 0..12 {
        client
            .batch_execute(
                "BEGIN;
                 CREATE TEMP TABLE items (id int, embedding vector(16)) ON COMMIT DROP;
                 INSERT INTO items SELECT id, embedding FROM kept;
                 CREATE INDEX ON items USING s3vector (embedding);
                 SELECT id FROM items ORDER BY embedding <-> (SELECT embedding FROM kept LIMIT 1) LIMIT 3;
                 COMMIT",
            )
            .expect("a transaction");
        assert_all_found(&mut client, &kept, kept.live().step_by(9));
        let folders = store::folders(&cluster.store()).len();
        assert!(folders <= 4 && graphs(&mut client) <= 4, "round {round}: {folders} folders");
    }
    // One that comes back was not gone.
    client
        .batch_execute(
            "BEGIN; SAVEPOINT before; REINDEX INDEX kept_index; DROP TABLE kept; \
             CREATE TEMP TABLE items AS SELECT * FROM generate_series(1, 50) AS id, \
             LATERAL (SELECT array_fill(id::real, ARRAY[16])::vector(16) AS embedding) AS v; \
             CREATE INDEX ON items USING s3vector (embedding); REINDEX TABLE items; \
             ROLLBACK TO before; COMMIT",
        )
        .expect("rolled back");
    for _ in 0..3 {
        client
            .batch_execute(
                "CREATE TEMP TABLE items AS SELECT * FROM kept; \
                 CREATE INDEX ON items USING s3vector (embedding); DROP TABLE items",
            )
            .expect("another");
    }
    cluster.client().batch_execute("SELECT s3vector_drop_cache()").expect("the cache is empty");
    assert_all_found(&mut client, &kept, kept.live());
    client.batch_execute("DISCARD TEMP").expect("discarded");
    drop(client);
    wait_until("the session's objects to go", || store::folders(&cluster.store()).is_empty());
}
