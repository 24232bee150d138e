//! A client that changes rows of its own, asks for them, and knows what is certain.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use fastrand::Rng;
use harness::answers::TOLERANCE;
use harness::items::{Source, literal};
use harness::model::{self, Draft, Rows, Share};
use harness::{Metric, wait};
use postgres::{Client, Error};

use crate::{Arena, CLIENTS, DIMENSIONS, THOROUGH, Tally, assert_lost, count};

/// Rows a client begins with, and below which it deletes none.
const FEWEST: usize = 300;
/// Rows above which a client deletes many at a time.
const MANY: usize = 1500;

/// A client: its session, its rows, its choices.
pub struct Writer<'a> {
    arena: &'a Arena,
    session: Client,
    share: Share,
    source: Source,
    rng: Rng,
    tally: Tally,
}

impl<'a> Writer<'a> {
    /// Client `number` of all.
    pub fn new(arena: &'a Arena, number: i32, seed: u64) -> Self {
        let own_seed = seed + u64::from(number.unsigned_abs());
        Self {
            arena,
            session: arena.connect(),
            share: Share::new(number, CLIENTS),
            // The same vectors for all: rows of different clients are equal, and share a node.
            source: Source::new(seed, DIMENSIONS),
            rng: Rng::with_seed(own_seed),
            tally: Tally::new(),
        }
    }

    /// Inserts the first rows.
    pub fn fill(&mut self) {
        let mut draft = Draft::new();
        self.insert(&mut draft, FEWEST).expect("the first rows are inserted");
        self.share.commit(draft);
    }

    /// Works until the end; returns what is known, and what happened.
    pub fn run(mut self) -> (Share, Tally) {
        while self.arena.runs() {
            if self.rng.u32(..100) < 40 {
                self.write();
            } else if let Err(error) = self.ask(&Draft::new()) {
                self.reconnect(&error);
            }
        }
        (self.share, self.tally)
    }

    #[track_caller]
    fn reconnect(&mut self, error: &Error) {
        assert_lost(error);
        count(&mut self.tally, "connections lost", 1);
        self.session = self.arena.connect();
    }

    /// Makes a transaction and finds out what became of it.
    fn write(&mut self) {
        let mut draft = Draft::new();
        let mut decided = false;
        match self.transaction(&mut draft, &mut decided) {
            Ok(true) => {
                count(&mut self.tally, "commits", 1);
                let deleted = self.share.commit(draft);
                self.arena.graves.bury(&deleted);
            }
            Ok(false) => count(&mut self.tally, "rollbacks", 1),
            Err(error) => {
                self.reconnect(&error);
                if decided {
                    self.resolve(draft);
                }
            }
        }
    }

    /// Changes rows, then commits (true) or rolls back; sets `decided` when it sends COMMIT.
    fn transaction(&mut self, draft: &mut Draft, decided: &mut bool) -> Result<bool, Error> {
        self.session.batch_execute("BEGIN")?;
        for _ in 0..self.rng.usize(1..6) {
            match self.rng.u32(..12) {
                0..5 => {
                    let rows = self.rng.usize(1..12);
                    self.insert(draft, rows)?;
                }
                5 => self.insert(draft, 60)?,
                6..8 => self.update(draft)?,
                8 => self.touch(draft)?,
                _ => self.delete(draft)?,
            }
            if self.rng.u32(..4) == 0 {
                self.ask(draft)?;
            }
        }
        if self.rng.u32(..5) == 0 {
            self.session.batch_execute("ROLLBACK")?;
            return Ok(false);
        }
        *decided = true;
        self.session.batch_execute("COMMIT")?;
        Ok(true)
    }

    /// Looks in the table what became of a transaction whose COMMIT got no answer.
    fn resolve(&mut self, draft: Draft) {
        let ids: Vec<i32> = draft.keys().copied().collect();
        let sql = "SELECT id, embedding::text FROM items WHERE id = ANY($1)";
        let stored: Rows = wait::wait_for("an answer", || match self.session.query(sql, &[&ids]) {
            Ok(rows) => {
                Some(rows.iter().map(|row| (row.get(0), model::vector(row.get(1)))).collect())
            }
            Err(error) => {
                self.reconnect(&error);
                None
            }
        });
        let deleted = self.share.resolve(draft, &stored);
        let what =
            if deleted.is_some() { "doubtful commits done" } else { "doubtful commits undone" };
        count(&mut self.tally, what, 1);
        self.arena.graves.bury(&deleted.unwrap_or_default());
    }

    fn insert(&mut self, draft: &mut Draft, rows: usize) -> Result<(), Error> {
        let mut values = Vec::new();
        for vector in self.source.vectors(rows) {
            let id = self.share.fresh();
            self.arena.highest.fetch_max(id, Ordering::Relaxed);
            values.push(format!("({id}, {})", literal(&vector)));
            draft.insert(id, Some(vector));
        }
        self.change(&format!("INSERT INTO items VALUES {}", values.join(", ")), rows)
    }

    fn update(&mut self, draft: &mut Draft) -> Result<(), Error> {
        for id in self.pick(draft, 3) {
            let vector = self.source.vector();
            let value = literal(&vector);
            self.change(&format!("UPDATE items SET embedding = {value} WHERE id = {id}"), 1)?;
            draft.insert(id, Some(vector));
        }
        Ok(())
    }

    /// Updates rows in a way that makes no index entry.
    fn touch(&mut self, draft: &Draft) -> Result<(), Error> {
        for id in self.pick(draft, 3) {
            self.change(&format!("UPDATE items SET note = note + 1 WHERE id = {id}"), 1)?;
        }
        Ok(())
    }

    fn delete(&mut self, draft: &mut Draft) -> Result<(), Error> {
        let rows = self.share.view(draft).count();
        let most = if rows > MANY { 200 } else { 10 };
        for id in self.pick(draft, most.min(rows.saturating_sub(FEWEST))) {
            self.change(&format!("DELETE FROM items WHERE id = {id}"), 1)?;
            draft.insert(id, None);
        }
        Ok(())
    }

    /// Runs a statement and asserts how many rows it changed.
    fn change(&mut self, sql: &str, rows: usize) -> Result<(), Error> {
        let changed = self.session.execute(sql, &[])?;
        assert_eq!(usize::try_from(changed).ok(), Some(rows), "rows changed by {sql}");
        Ok(())
    }

    /// Up to `count` ids of rows that exist for this transaction.
    fn pick(&mut self, draft: &Draft, count: usize) -> Vec<i32> {
        self.rng.choose_multiple(self.share.view(draft).map(|row| row.0), count)
    }

    /// Asks for the ten nearest rows of a row's own vector or of a new one, and checks the answer
    /// as far as it is certain.
    fn ask(&mut self, draft: &Draft) -> Result<(), Error> {
        let own = if self.rng.bool() { self.pick(draft, 1).pop() } else { None };
        let seen: Vec<(i32, &Vec<f32>)> = self.share.view(draft).collect();
        let query = seen
            .iter()
            .find(|row| Some(row.0) == own)
            .map_or_else(|| self.source.vector(), |row| row.1.clone());
        let moment = self.arena.graves.now();
        let value = literal(&query);
        let sql = format!(
            "SELECT id, embedding <-> {value}, embedding::text FROM items ORDER BY embedding <-> {value} LIMIT 10"
        );
        let rows = self.session.query(&sql, &[])?;
        count(&mut self.tally, "answers", 1);

        let answer: Vec<(i32, f64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let ids: HashSet<i32> = answer.iter().map(|row| row.0).collect();
        assert_eq!(answer.len(), 10, "there are more rows than that");
        assert_eq!(ids.len(), 10, "a row came twice: {answer:?}");
        let ordered = answer.is_sorted_by(|a, b| a.1 <= b.1);
        assert!(ordered, "not in order: {answer:?}");
        let dead = self.arena.graves.gone(ids.iter().copied(), moment);
        assert!(dead.is_empty(), "deleted rows {dead:?} came: {answer:?}");
        let highest = self.arena.highest.load(Ordering::Relaxed);
        for row in &rows {
            let (id, distance): (i32, f64) = (row.get(0), row.get(1));
            let vector = model::vector(row.get(2));
            assert!((0..=highest).contains(&id), "row {id} was never inserted");
            let truth = Metric::L2.distance(&vector, &query);
            assert!(
                (truth - distance).abs() < TOLERANCE * truth.max(1.0),
                "row {id}: {truth}, {distance}"
            );
            if self.share.owns(id) {
                let known = seen.iter().find(|row| row.0 == id).map(|row| row.1);
                assert_eq!(Some(&vector), known, "row {id} as it came, and as it was written");
            }
        }
        if own.is_some() {
            count(&mut self.tally, "rows asked for by themselves", 1);
        }
        // Of the rows of others nobody knows which were there; of the client's own all were.
        let last = answer[9].1 - TOLERANCE;
        let near: Vec<i32> = seen
            .iter()
            .filter(|row| Metric::L2.distance(row.1, &query) < last)
            .map(|row| row.0)
            .collect();
        let missed = near.iter().filter(|id| !ids.contains(id)).count();
        count(&mut self.tally, "own rows among the nearest", near.len());
        count(&mut self.tally, "of these missed", missed);
        match own {
            Some(own) if !ids.contains(&own) => self.find(own, &value),
            _ => Ok(()),
        }
    }

    /// Asserts that a row which a search has missed is not lost.
    fn find(&mut self, id: i32, value: &str) -> Result<(), Error> {
        count(&mut self.tally, "of these missed at first", 1);
        self.session.batch_execute(&format!("SET s3vector.ef_search = {THOROUGH}"))?;
        let sql = format!("SELECT id FROM items ORDER BY embedding <-> {value} LIMIT 10");
        let found = self.session.query(&sql, &[])?.iter().any(|row| row.get::<_, i32>(0) == id);
        assert!(found, "row {id} is not among its own nearest, however long the search");
        self.session.batch_execute("RESET s3vector.ef_search")
    }
}
