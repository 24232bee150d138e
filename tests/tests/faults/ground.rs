//! A cluster with one indexed table, and what must hold in it after anything has died.

use std::collections::{BTreeSet, HashSet};

use harness::answers::{assert_all_found, assert_recall};
use harness::errors::failure;
use harness::items::Source;
use harness::model::{assert_whole, stored_segments};
use harness::wait::wait_for;
use harness::{Cluster, Items, Metric};
use postgres::Client;

/// Tables with fewer rows than this are too small to measure recall on.
const ENOUGH_FOR_RECALL: usize = 200;
/// Queries that recall is measured with.
const QUERIES: usize = 100;

/// An indexed table `items` in a cluster where nothing happens by itself, and what it holds.
pub struct Ground {
    /// The cluster.
    pub cluster: Cluster,
    /// The rows that are committed.
    pub items: Items,
    /// A session without faults; a new one after every restart.
    pub client: Client,
    /// The rows that a faulty INSERT writes: their ids are taken, but they are no rows yet.
    pub pending: Vec<(usize, Vec<f32>)>,
    source: Source,
}

impl Ground {
    /// A cluster whose table has `rows` rows; no maintenance worker, and sweeps spare nothing.
    pub fn new(dimensions: usize, rows: usize) -> Self {
        let cluster = Cluster::builder()
            .set("s3vector.maintenance_workers", 0)
            .set("s3vector.flush_size", "64kB")
            .set("s3vector.sweep_interval", 0)
            .set("s3vector.gc_grace", 0)
            .start();
        let mut client = session(&cluster);
        let mut source = Source::new(91, dimensions);
        let items = Items::create(&mut client, "items", Metric::L2, source.vectors(rows));
        items.index(&mut client, "");
        Self { cluster, items, client, pending: Vec::new(), source }
    }

    /// Runs a statement that must succeed.
    #[track_caller]
    pub fn run(&mut self, statement: &str) {
        self.client
            .batch_execute(statement)
            .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }

    /// Runs a statement that must wait for another session, and cancels it after a moment.
    #[track_caller]
    pub fn waits(&mut self, statement: &str) {
        self.run("SET statement_timeout = '200ms'");
        failure(self.client.batch_execute(statement)).expect("57014", &[]);
        self.run("SET statement_timeout = '30s'");
    }

    /// A number that a query returns.
    #[track_caller]
    pub fn number(&mut self, query: &str) -> i64 {
        let row = self.client.query_one(query, &[]);
        row.unwrap_or_else(|error| panic!("{query}: {error:?}")).get(0)
    }

    /// Connects anew, once the server accepts it.
    pub fn connect(&mut self) {
        self.client = wait_for("a connection", || try_session(&self.cluster));
    }

    /// Gives the server settings that every process reads before this returns or soon after, also
    /// when it is just recovering.
    pub fn configure(&self, settings: &[(&str, &str)]) {
        let loaded = |client: &mut Client| -> Result<String, postgres::Error> {
            Ok(client.query_one("SELECT pg_conf_load_time()::text", &[])?.get(0))
        };
        wait_for("the settings to be taken", || {
            let mut client = self.cluster.try_client("postgres").ok()?;
            let before = loaded(&mut client).ok()?;
            for (name, value) in settings {
                client.batch_execute(&format!("ALTER SYSTEM SET {name} = '{value}'")).ok()?;
            }
            client.batch_execute("SELECT pg_reload_conf()").ok()?;
            // A server that restarts meanwhile is told again.
            let taken = wait_for("the configuration to be read", || match loaded(&mut client) {
                Ok(now) => (now != before).then_some(true),
                Err(_) => Some(false),
            });
            taken.then_some(())
        });
    }

    /// Adds committed rows.
    pub fn grow(&mut self, count: usize) {
        let vectors = self.source.vectors(count);
        self.items.copy(&mut self.client, vectors);
    }

    /// Deletes every third row, so that every segment is worth rewriting.
    pub fn thin(&mut self) {
        let gone: HashSet<usize> = self.live().into_iter().step_by(3).collect();
        self.items.delete(&mut self.client, |id| gone.contains(&id));
    }

    /// Deletes up to `count` of the newest rows.
    pub fn trim(&mut self, count: usize) {
        let gone: HashSet<usize> = self.live().into_iter().rev().take(count).collect();
        self.items.delete(&mut self.client, |id| gone.contains(&id));
    }

    /// Sets ids and vectors aside for [`Ground::pending`].
    pub fn reserve(&mut self, count: usize) {
        let ids = self.items.rows.len()..;
        self.pending = ids.zip(self.source.vectors(count)).collect();
        self.items.rows.resize(self.items.rows.len() + count, None);
    }

    /// Vacuums, and asserts that nothing but rows that exist is left in the index.
    pub fn vacuum(&mut self) {
        self.run("VACUUM (INDEX_CLEANUP ON) items");
        let indexed = self.number(
            "SELECT entries - tombstones + delta_entries FROM s3vector_index_info('items_index')",
        );
        assert_eq!(indexed, count(self.items.len()), "entries that VACUUM left, and rows");
    }

    /// Turns the delta into a segment.
    pub fn flush(&mut self) {
        self.run("SELECT * FROM s3vector_flush('items_index')");
    }

    /// Ids of the rows that exist.
    pub fn live(&self) -> Vec<usize> {
        (0..self.items.rows.len()).filter(|id| self.items.rows[*id].is_some()).collect()
    }

    /// Asserts everything that must hold, whatever has died; leaves the table with some more rows.
    pub fn check(&mut self) {
        self.committed_rows_are_found();
        self.vacuumed_rows_stay_away();
        self.named_objects_exist();
    }

    /// Invariant 1: every committed row is found by its own vector and comes once when all are
    /// asked for; recall is what it was.
    pub fn committed_rows_are_found(&mut self) {
        // First, so that a row that is lost is told from one that a search does not find.
        self.every_row_comes_once();
        let live = self.live();
        assert_all_found(&mut self.client, &self.items, live.iter().copied());
        if live.len() >= ENOUGH_FOR_RECALL {
            assert_recall(&mut self.client, &self.items, &self.source.vectors(QUERIES), 0.95);
        }
    }

    /// Invariant 2: what VACUUM removed does not come back when new rows take its places.
    pub fn vacuumed_rows_stay_away(&mut self) {
        self.vacuum();
        self.grow(20);
        self.every_row_comes_once();
        self.flush();
        self.every_row_comes_once();
    }

    /// Invariant 3: after a sweep that spares nothing, the folders are those that the manifest
    /// names, and every object in them can be read.
    pub fn named_objects_exist(&mut self) {
        self.configure(&[("s3vector.gc_grace", "0")]);
        self.run("SELECT * FROM s3vector_sweep()");
        let named = self.named();
        assert_eq!(
            stored_segments(&self.cluster.store()),
            named,
            "folders stored, and folders named by the manifest"
        );
        for prefix in &named {
            let group = self.cluster.store().join(prefix).join("zarr.json");
            assert!(group.exists(), "{prefix} has no zarr.json");
        }
        // With empty memory a scan to the end reads every object.
        self.cluster.restart();
        self.connect();
        self.every_row_comes_once();
        let graphs = self.number("SELECT count(*) FROM s3vector_stat_graphs WHERE state = 'ready'");
        assert_eq!(graphs, count(named.len()), "graphs loaded after a restart");
    }

    /// Asserts that a scan to the end returns every row once, and nothing else.
    fn every_row_comes_once(&mut self) {
        assert_whole(&mut self.client, &self.items, &self.source.vector(), 1.0);
    }

    /// Prefixes of the segments that the manifest names.
    fn named(&mut self) -> BTreeSet<String> {
        let sql = "SELECT prefix FROM s3vector_segments('items_index')";
        let rows = self.client.query(sql, &[]).expect("segments");
        rows.iter().map(|row| row.get(0)).collect()
    }
}

/// A connection on which nothing waits for ever.
fn try_session(cluster: &Cluster) -> Option<Client> {
    let mut client = cluster.try_client("postgres").ok()?;
    client.batch_execute("SET statement_timeout = '30s'").ok()?;
    Some(client)
}

fn session(cluster: &Cluster) -> Client {
    try_session(cluster).expect("a connection")
}

/// A number of rows or folders as PostgreSQL counts.
fn count(number: usize) -> i64 {
    i64::try_from(number).expect("a small number")
}
