//! What clients know of the rows they wrote: through commits, rollbacks and lost connections.
//!
//! Several clients write to one table and the server may die at any moment. Every client keeps to
//! ids of its own (its [`Share`]), so it knows what it has committed; what a transaction would
//! change is a [`Draft`] until then. Of a transaction whose COMMIT got no answer nobody knows the
//! end: [`Share::resolve`] compares the table with both. Of the rows of others a client knows only
//! what is certain to be gone ([`Graves`]).
//!
//! [`assert_whole`] compares an index with all that is known to be in its table, and
//! [`stored_segments`] tells what lies in the store.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use postgres::Client;

use crate::answers;
use crate::items::{Items, Metric, literal};

/// Rows by id.
pub type Rows = BTreeMap<i32, Vec<f32>>;

/// What a transaction has changed so far: the new vector of a row, or `None` for a deleted one.
pub type Draft = BTreeMap<i32, Option<Vec<f32>>>;

/// The ids of one client and the rows it has committed. No id is used twice.
#[derive(Debug)]
pub struct Share {
    client: i32,
    clients: i32,
    used: i32,
    rows: Rows,
}

impl Share {
    /// The share of client number `client` of `clients`: the ids that leave that remainder.
    pub fn new(client: i32, clients: i32) -> Self {
        Self { client, clients, used: 0, rows: Rows::new() }
    }

    /// An id that has never been used.
    pub fn fresh(&mut self) -> i32 {
        self.used += 1;
        (self.used - 1) * self.clients + self.client
    }

    /// Whether an id belongs to this client.
    pub fn owns(&self, id: i32) -> bool {
        id % self.clients == self.client
    }

    /// The committed rows.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The rows as the client sees them within a transaction.
    pub fn view<'a>(&'a self, draft: &'a Draft) -> impl Iterator<Item = (i32, &'a Vec<f32>)> {
        let kept = self.rows.iter().filter(|(id, _)| !draft.contains_key(id));
        let changed = draft.iter().filter_map(|(id, row)| Some((id, row.as_ref()?)));
        kept.chain(changed).map(|(id, vector)| (*id, vector))
    }

    /// Takes over a transaction that is known to be committed; returns the ids it deleted.
    pub fn commit(&mut self, draft: Draft) -> Vec<i32> {
        let mut deleted = Vec::new();
        for (id, row) in draft {
            match row {
                Some(vector) => _ = self.rows.insert(id, vector),
                None => {
                    self.rows.remove(&id);
                    deleted.push(id);
                }
            }
        }
        deleted
    }

    /// Finds out by the table's rows with the draft's ids whether the transaction was committed;
    /// if so, takes it over and returns the ids it deleted.
    ///
    /// # Panics
    ///
    /// When only a part of it is in the table.
    pub fn resolve(&mut self, draft: Draft, stored: &Rows) -> Option<Vec<i32>> {
        if draft.iter().all(|(id, row)| stored.get(id) == row.as_ref()) {
            return Some(self.commit(draft));
        }
        assert!(
            draft.keys().all(|id| stored.get(id) == self.rows.get(id)),
            "neither before nor after a transaction on {:?}: {:?}",
            draft.keys(),
            stored.keys()
        );
        None
    }
}

/// Rows that are certain to be gone: their deletion was committed, and the client told so.
#[derive(Debug, Default)]
pub struct Graves(Mutex<(u64, HashMap<i32, u64>)>);

impl Graves {
    /// Adds rows.
    pub fn bury(&self, ids: &[i32]) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0 += 1;
        let now = inner.0;
        inner.1.extend(ids.iter().map(|id| (*id, now)));
    }

    /// The present moment.
    pub fn now(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// Those of `ids` that were gone at that moment.
    pub fn gone(&self, ids: impl IntoIterator<Item = i32>, moment: u64) -> Vec<i32> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.into_iter().filter(|id| inner.1.get(id).is_some_and(|at| *at <= moment)).collect()
    }
}

/// The rows of all shares as the truth that answers are compared with.
pub fn items(table: &str, metric: Metric, shares: &[Share]) -> Items {
    let last = shares.iter().filter_map(|share| share.rows.keys().last()).max();
    let size = last.map_or(0, |id| position(*id) + 1);
    let mut rows = vec![None; size];
    for (id, vector) in shares.iter().flat_map(|share| &share.rows) {
        rows[position(*id)] = Some(vector.clone());
    }
    Items { table: table.to_owned(), metric, rows }
}

/// Rows asked for beyond those that exist, so that no LIMIT cuts off what comes twice. A table of
/// some hundred rows is searched whole for so many, also when most of its entries are dead.
const SURPLUS: usize = 1000;

/// Asserts that the table's index `<table>_index` holds every row once and nothing else: as it
/// lists its entries (what a query without direction gets), and in order of distance from `query`.
///
/// A scan in order must return at least the share `floor` of the rows: a graph may have nodes that
/// no edge leads to.
#[track_caller]
pub fn assert_whole(client: &mut Client, items: &Items, query: &[f32], floor: f64) {
    answers::prefer_index(client);
    let limit = items.len() + SURPLUS;
    let ordered = answers::sql(&items.table, items.metric, query, limit);
    let listed = ordered.replace(&literal(query), "(SELECT NULL::vector)");
    for sql in [&ordered, &listed] {
        let plan = client.query(&format!("EXPLAIN {sql}"), &[]).expect("a plan");
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        let scan = format!("Index Scan using {}_index", items.table);
        assert!(plan.iter().any(|line| line.contains(&scan)), "{plan:#?}");
    }
    let rows = client.query(&listed, &[]).expect("all rows");
    let mut found: Vec<usize> = rows.iter().map(|row| position(row.get(0))).collect();
    found.sort_unstable();
    let live: Vec<usize> = (0..items.rows.len()).filter(|id| items.rows[*id].is_some()).collect();
    assert!(found == live, "{}", difference(&live, &found));

    let mut answer = answers::try_ask(client, items, query, limit)
        .unwrap_or_else(|error| panic!("a scan of all rows: {error:?}"));
    for pair in answer.windows(2) {
        assert!(pair[0].1 <= pair[1].1, "not in order: {pair:?}");
    }
    answer.sort_by(|a, b| a.1.total_cmp(&b.1));
    answers::check(items, query, &answer);
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let share = answer.len() as f64 / live.len() as f64;
    assert!(share >= floor, "a scan in order returns {} of {} rows", answer.len(), live.len());
}

/// What makes a sorted list of found ids differ from the rows that exist.
fn difference(live: &[usize], found: &[usize]) -> String {
    let (wanted, got): (HashSet<_>, HashSet<_>) = (live.iter().collect(), found.iter().collect());
    let missing: Vec<_> = live.iter().filter(|id| !got.contains(id)).collect();
    let strange: Vec<_> = got.iter().filter(|id| !wanted.contains(*id)).collect();
    let twice: Vec<_> = found.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    format!(
        "{} rows came, {} exist; missing {missing:?}, not existing {strange:?}, twice {twice:?}",
        found.len(),
        live.len()
    )
}

/// The segments of which a store that is a folder holds at least one object:
/// `<index uuid>/<segment uuid>`. As in a bucket, a folder without a file is none.
pub fn stored_segments(store: &Path) -> BTreeSet<String> {
    let below = |index: String| {
        let folder = store.join(&index);
        let segments = folders(&folder).into_iter();
        segments
            // What clones read is not a segment.
            .filter(move |name| name != "readers" && holds_a_file(&folder.join(name)))
            .map(move |name| format!("{index}/{name}"))
    };
    folders(store).into_iter().flat_map(below).collect()
}

fn folders(parent: &Path) -> Vec<String> {
    let all = entries(parent).into_iter().filter(|entry| entry.is_dir());
    all.filter_map(|entry| Some(entry.file_name()?.to_string_lossy().into_owned())).collect()
}

fn holds_a_file(folder: &Path) -> bool {
    entries(folder).iter().any(|entry| entry.is_file() || entry.is_dir() && holds_a_file(entry))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is readable");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// A vector from pgvector's text form.
///
/// # Panics
///
/// When it is none.
pub fn vector(text: &str) -> Vec<f32> {
    let numbers = text.trim_matches(['[', ']']).split(',');
    numbers.map(|number| number.parse().expect("a number")).collect()
}

fn position(id: i32) -> usize {
    usize::try_from(id).expect("ids are not negative")
}
