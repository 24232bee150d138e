//! The live entries of an index at one moment.

use std::collections::{HashMap, HashSet};
use std::ops::{ControlFlow, Range};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

use pgrx::PgTryBuilder;
use pgrx::pg_sys;
use pgrx::prelude::*;
use uuid::Uuid;

use super::vectors::{self, Plan, UNKNOWN, Unread};
use crate::pages::manifest::{self, SegmentEntry};
use crate::pages::tombstones::{self, Bitmap};
use crate::pages::{consistent, delta};
use crate::shared::graphs::Graph;

/// How often to begin anew because a segment has been replaced while it was looked for.
const ATTEMPTS: usize = 10;

/// An entry: a row of the table, and what its stored vector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The row: block << 16 | offset.
    pub tid: u64,
    /// The [fingerprint](vectors::fingerprint) of its vector, or [`UNKNOWN`].
    pub print: u64,
}

/// A segment whose graph is mapped.
struct Held {
    segment: SegmentEntry,
    graph: Rc<Graph>,
    dead: Bitmap,
}

/// What an index held at one moment.
pub struct Moment {
    segments: Vec<Held>,
    delta: Vec<Entry>,
}

/// A segment whose graph cannot be had, and why.
pub type Unreadable = (SegmentEntry, String);

/// The graphs of an index's segments, kept from one moment to the next: with too little
/// `s3vector.graph_memory` for all of them each would otherwise be loaded anew every time.
#[derive(Default)]
pub struct Graphs(HashMap<Uuid, Rc<Graph>>);

impl Graphs {
    /// Those of `segments`, in their order; all others are given up.
    ///
    /// # Errors
    /// The first segment whose graph cannot be had, and why.
    fn of(&mut self, segments: &[SegmentEntry]) -> Result<Vec<Rc<Graph>>, Unreadable> {
        let mut before = std::mem::take(&mut self.0);
        for segment in segments {
            let known = before.remove(&segment.segment_uuid);
            let graph = known.map_or_else(|| graph(segment), Ok).map_err(|why| (*segment, why))?;
            self.0.insert(segment.segment_uuid, graph);
        }
        Ok(segments.iter().map(|segment| Rc::clone(&self.0[&segment.segment_uuid])).collect())
    }
}

impl Moment {
    /// The present one. With `prints` the delta's vectors are looked at.
    ///
    /// # Errors
    /// A segment of the index whose graph cannot be had, and why.
    pub fn read(
        index: pg_sys::Relation,
        graphs: &mut Graphs,
        prints: bool,
    ) -> Result<Self, Unreadable> {
        let mut attempts = 1..=ATTEMPTS;
        loop {
            // The delta before the tombstones: VACUUM marks a row's old entry before the row's
            // place is given to another one, whose entry goes into the delta. So both are never
            // seen to be alive.
            let (delta, segments, dead) = consistent(index, |meta| {
                let mut entries = Vec::new();
                let visit = |tid: u64, vector: &[u8]| {
                    let print = if prints { vectors::fingerprint(vector) } else { UNKNOWN };
                    entries.push(Entry { tid, print });
                    ControlFlow::Continue(())
                };
                delta::for_each(index, meta, visit)?;
                let segments = manifest::read(index, meta)?;
                let dead = tombstones::read(index, meta, &segments)?;
                Ok((entries, segments, dead))
            });
            match graphs.of(&segments) {
                Ok(graphs) => {
                    let held = segments.into_iter().zip(graphs).zip(dead);
                    let held = held.map(|((segment, graph), dead)| Held { segment, graph, dead });
                    return Ok(Self { segments: held.collect(), delta });
                }
                // One that has been replaced meanwhile may be gone.
                Err((segment, why)) => {
                    if is_listed(index, segment) || attempts.next().is_none() {
                        return Err((segment, why));
                    }
                }
            }
            pgrx::check_for_interrupts!();
        }
    }

    /// Live entries.
    pub fn len(&self) -> usize {
        let of =
            |held: &Held| held.graph.view().entries().saturating_sub(held.dead.count() as usize);
        self.segments.iter().map(of).sum::<usize>() + self.delta.len()
    }

    /// Calls `visit` for the row of every live entry.
    pub fn for_each(&self, mut visit: impl FnMut(u64)) {
        for held in &self.segments {
            pgrx::check_for_interrupts!();
            let tids = held.graph.view().all_tids().iter().enumerate();
            tids.filter(|(entry, _)| !held.dead.get(*entry)).for_each(|(_, tid)| visit(*tid));
        }
        self.delta.iter().for_each(|entry| visit(entry.tid));
    }

    /// The live entries of rows in `tids`, sorted; room for `most` is made at once.
    pub fn entries(&self, tids: &Range<u64>, most: usize) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(self.len().min(most));
        self.for_each(|tid| {
            if tids.contains(&tid) {
                entries.push(Entry { tid, print: UNKNOWN });
            }
        });
        entries.sort_unstable();
        entries
    }

    /// The same with the fingerprints of their vectors, which are read from the store; and what
    /// could not be read.
    pub fn entries_with_prints(&self, tids: &Range<u64>, most: usize) -> (Vec<Entry>, Vec<Unread>) {
        let mut entries = Vec::with_capacity(self.len().min(most));
        entries.extend(self.delta.iter().filter(|entry| tids.contains(&entry.tid)));
        let mut unread = Vec::new();
        for held in &self.segments {
            let (segment, view, dead) = (held.segment, held.graph.view(), &held.dead);
            let plan = Plan { segment, view, dead, tids: tids.clone() };
            vectors::read(&plan, &mut entries, &mut unread);
        }
        entries.sort_unstable();
        (entries, unread)
    }

    /// How many live entries each of `rows` has.
    pub fn count(&self, rows: &HashSet<u64>) -> HashMap<u64, usize> {
        let mut counts = HashMap::new();
        self.for_each(|tid| {
            if rows.contains(&tid) {
                *counts.entry(tid).or_default() += 1;
            }
        });
        counts
    }
}

/// Whether a segment still belongs to the index.
pub fn is_listed(index: pg_sys::Relation, segment: SegmentEntry) -> bool {
    let segments = consistent(index, |meta| manifest::read(index, meta));
    segments.iter().any(|listed| listed.segment_uuid == segment.segment_uuid)
}

/// The graph of a segment, mapped into this process.
///
/// # Errors
/// Why it cannot be made of what is stored, in words. What has nothing to do with the segment, as a
/// store that is away, raises an error.
pub fn graph(segment: &SegmentEntry) -> Result<Rc<Graph>, String> {
    let (index, segment) = (segment.index_uuid, segment.segment_uuid);
    // Caught without a subtransaction: where these are raised nothing is held.
    PgTryBuilder::new(AssertUnwindSafe(|| Ok(Graph::obtain(index, segment))))
        .catch_when(PgSqlErrorCode::ERRCODE_UNDEFINED_FILE, |error| Err(words(&error)))
        .catch_when(PgSqlErrorCode::ERRCODE_DATA_CORRUPTED, |error| Err(words(&error)))
        .catch_when(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, |error| Err(words(&error)))
        .execute()
}

/// Message and detail of an error.
fn words(error: &pg_sys::panic::CaughtError) -> String {
    use pg_sys::panic::CaughtError::{ErrorReport, PostgresError, RustPanic};
    let (PostgresError(report) | ErrorReport(report) | RustPanic { ereport: report, .. }) = error;
    let detail = report.detail().map(|text| format!(" ({text})")).unwrap_or_default();
    format!("{}{detail}", report.message())
}
