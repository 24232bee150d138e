//! The rows of a table that an index must have, as a snapshot sees them.

use std::ffi::c_void;
use std::ops::Range;
use std::ptr::null_mut;

use distance::{Metric, Payload};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::moment::Entry;
use super::table::Why;
use super::vectors::{UNKNOWN, fingerprint};
use crate::index::insert::tid_to_u64;
use crate::index::vector::{Vector, has_entry};
use crate::pages::delta::as_bytes;
use crate::pages::meta::Parameters;

/// Sorted entries, and which of them a row has been found for.
pub struct Seen<'a> {
    entries: &'a [Entry],
    words: Vec<u64>,
}

impl<'a> Seen<'a> {
    /// None so far.
    pub fn new(entries: &'a [Entry]) -> Self {
        Self { entries, words: vec![0; entries.len().div_ceil(64)] }
    }

    /// Whether there was a row for the entry in place `at`.
    pub fn contains(&self, at: usize) -> bool {
        self.words[at / 64] >> (at % 64) & 1 == 1
    }

    /// The entries of a row, which has been found.
    fn mark(&mut self, tid: u64) -> &'a [Entry] {
        let first = self.entries.partition_point(|entry| entry.tid < tid);
        let count = self.entries[first..].iter().take_while(|entry| entry.tid == tid).count();
        for at in first..first + count {
            self.words[at / 64] |= 1 << (at % 64);
        }
        &self.entries[first..first + count]
    }
}

/// What to look at.
pub struct Scan<'a> {
    /// The index.
    pub index: pg_sys::Relation,
    /// Its table.
    pub heap: pg_sys::Relation,
    /// Which rows there are.
    pub snapshot: pg_sys::Snapshot,
    /// The index's parameters.
    pub parameters: &'a Parameters,
    /// Whether vectors are compared.
    pub vectors: bool,
    /// The rows wanted.
    pub tids: Range<u64>,
    /// The table's size.
    pub blocks: pg_sys::BlockNumber,
}

/// Marks in `seen` the entries of all rows that the index must have, and tells `suspect` of those
/// that have none, or one with another vector. PostgreSQL's own scan for building an index knows
/// chains of row versions, predicates and expressions.
///
/// # Safety
/// Open relations that belong together, and a registered snapshot.
pub unsafe fn scan(scan: &Scan<'_>, seen: &mut Seen<'_>, suspect: &mut dyn FnMut(u64, Why)) {
    let first = (scan.tids.start >> 16).min(scan.blocks.into()) as pg_sys::BlockNumber;
    let end = (scan.tids.end.div_ceil(1 << 16)).min(scan.blocks.into()) as pg_sys::BlockNumber;
    if first == end {
        return;
    }
    let mut target = Target {
        parameters: scan.parameters,
        vectors: scan.vectors,
        tids: scan.tids.clone(),
        seen,
        suspect,
        stored: Vec::new(),
    };
    // SAFETY: by the contract. As in the first scan of CREATE INDEX CONCURRENTLY rows are those of
    // a snapshot. The scan ends itself; the callback gets `target`, which outlives it.
    unsafe {
        let info = pg_sys::BuildIndexInfo(scan.index);
        (*info).ii_Concurrent = true;
        (*info).ii_Unique = false;
        let rows =
            pg_sys::table_beginscan_strat(scan.heap, scan.snapshot, 0, null_mut(), true, false);
        // Other tables are scanned as a whole, and what is not wanted is passed over.
        if (*scan.heap).rd_tableam == pg_sys::GetHeapamTableAmRoutine() {
            pg_sys::heap_setscanlimits(rows, first, end - first);
        }
        let state = (&raw mut target).cast();
        pg_sys::table_index_build_scan(
            scan.heap,
            scan.index,
            info,
            true,
            false,
            Some(take),
            state,
            rows,
        );
        pg_sys::pfree(info.cast());
    }
}

struct Target<'a, 'b, 'c> {
    parameters: &'a Parameters,
    vectors: bool,
    tids: Range<u64>,
    seen: &'a mut Seen<'b>,
    suspect: &'a mut (dyn FnMut(u64, Why) + 'c),
    /// Room for a vector as it is stored.
    stored: Vec<u8>,
}

impl Target<'_, '_, '_> {
    /// Whether the index must have the row, as far as that depends on its vector.
    fn is_wanted(&mut self, tid: u64, vector: &[f32]) -> bool {
        let fits = vector.len() == self.parameters.dimensions;
        let wanted = if fits { has_entry(vector, self.parameters).ok() } else { None };
        if wanted.is_none() {
            (self.suspect)(tid, Why::Unfit);
        }
        wanted.unwrap_or(false)
    }

    /// Whether an entry's vector, as it is in the delta or in a segment, is that of the row.
    fn is_equal(&mut self, print: u64, vector: &[f32]) -> bool {
        if print == UNKNOWN || print == fingerprint(as_bytes(vector)) {
            return true;
        }
        if self.parameters.payload == Payload::Float32 {
            return false;
        }
        self.stored.clear();
        segment::encode(self.parameters.payload, vector, &mut self.stored).is_ok()
            && print == fingerprint(&self.stored)
    }
}

/// Called for every row that the snapshot sees and the index's predicate accepts, with the root of
/// its chain.
#[pg_guard]
unsafe extern "C-unwind" fn take(
    _index: pg_sys::Relation,
    tid: pg_sys::ItemPointer,
    values: *mut pg_sys::Datum,
    isnull: *mut bool,
    _is_alive: bool,
    state: *mut c_void,
) {
    // SAFETY: `state` is the `Target` of `scan`, which does not touch it during the scan; there is
    // one value and one flag a column.
    unsafe {
        let target = &mut *state.cast::<Target<'_, '_, '_>>();
        let tid = tid_to_u64(*tid);
        if *isnull || !target.tids.contains(&tid) {
            return;
        }
        // A vector may lie outside the table's pages: it is looked at only where that tells
        // something.
        let looks = target.vectors || target.parameters.metric == Metric::Cosine;
        let vector = looks.then(|| Vector::new(*values));
        if let Some(vector) = &vector
            && !target.is_wanted(tid, vector.as_slice())
        {
            return;
        }
        let entries = target.seen.mark(tid);
        if entries.is_empty() {
            (target.suspect)(tid, Why::Missing);
        }
        if let Some(vector) = vector.filter(|_| target.vectors) {
            for entry in entries {
                if !target.is_equal(entry.print, vector.as_slice()) {
                    (target.suspect)(tid, Why::Vector);
                }
            }
        }
    }
}
