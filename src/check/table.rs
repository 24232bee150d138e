//! The entries of an index against the rows of its table.
//!
//! A snapshot comes first. Each row that it sees is in the index from then on, in the delta or in a
//! segment, because it was written there before its transaction committed and VACUUM cannot remove
//! it while the snapshot is held. So at any moment since, each of these rows that the index must
//! have has exactly one live entry. The other way round a live entry leads to the root of a chain
//! of row versions, alive or dead, or to what is left of one that VACUUM has yet to remove: a place
//! is given to another row only when the index has no live entry for it any more. Here the moments
//! differ: what VACUUM, INSERT or UPDATE has done between a look at the index and one at the table
//! is no fault. So suspects are looked at again, the index first.
//!
//! Entries are looked at in ranges of the table's blocks, as many at a time as fit into
//! `maintenance_work_mem`.

use std::collections::HashSet;
use std::ops::Range;

use pgrx::pg_sys;

use super::findings::{Finding, Findings, Part};
use super::moment::{Entry, Graphs, Moment, Unreadable, is_listed};
use super::places::{Place, Places};
use super::rows::{self, Scan, Seen};
use super::tid_text;
use super::vectors::Unread;
use crate::pages::meta::{Meta, Parameters};

/// Parts of the table whose entries are counted to choose the ranges.
const PARTS: usize = 1 << 16;

/// Suspects of one range that are looked at again; where there are more, no doubt is left.
const MOST_SUSPECTS: usize = 1 << 20;

/// How often suspects are looked at again.
const LOOKS: usize = 3;

/// How often vectors are read again because their segment has been replaced meanwhile.
const ATTEMPTS: usize = 5;

/// What to compare.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Entries with the rows of the table.
    pub rows: bool,
    /// Stored vectors with those of the table.
    pub vectors: bool,
}

/// Why an entry or a row is suspect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The row has no live entry.
    Missing,
    /// The row has several.
    Twice,
    /// The entry does not lead to a row.
    Nowhere(&'static str),
    /// The entry leads to a row that the index must not have.
    Unwanted,
    /// The stored vector is not the row's.
    Vector,
    /// The row's vector is none that the index can have.
    Unfit,
}

/// A row of the table and what may be wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Suspect {
    /// The row.
    pub tid: u64,
    /// What it is suspected of.
    pub why: Why,
}

/// Compares the index and its table as far as `scope` says. The snapshot has been registered before
/// anything of the index was read.
///
/// # Safety
/// Open relations that belong together; the snapshot stays registered meanwhile.
pub unsafe fn check(
    index: pg_sys::Relation,
    heap: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    scope: Scope,
    found: &mut Findings,
) {
    let mut graphs = Graphs::default();
    let moment = match Moment::read(index, &mut graphs, false) {
        Ok(moment) => moment,
        Err(unreadable) => return not_compared(found, unreadable),
    };
    // SAFETY: by the contract. The size comes after the snapshot: what this sees lies within.
    let blocks =
        unsafe { pg_sys::RelationGetNumberOfBlocksInFork(heap, pg_sys::ForkNumber::MAIN_FORKNUM) };
    // SAFETY: a plain variable of this process.
    let memory = unsafe { pg_sys::maintenance_work_mem } as usize * 1024;
    let most = (memory / size_of::<Entry>()).max(1);
    let ranges = ranges(&moment, blocks, most);
    drop(moment);
    let parameters = Meta::read(index).parameters;
    let mut check = Check { index, heap, snapshot, scope, parameters, blocks, most, graphs, found };
    for range in ranges {
        pgrx::check_for_interrupts!();
        if let Err(unreadable) = check.range(range) {
            return not_compared(found, unreadable);
        }
    }
}

/// Tells that the table could not be looked at, or not all of it.
fn not_compared(found: &mut Findings, unreadable: Unreadable) {
    let (segment, why) = unreadable;
    let problem = format!("its entries are not compared with the table: {why}");
    found.add(Part::Heap, Some(segment.segment_uuid), segment.prefix(), problem);
}

/// Cuts the table into parts of at most `most` entries, as far as can be. The last part has no end.
fn ranges(moment: &Moment, blocks: pg_sys::BlockNumber, most: usize) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    if moment.len() > most {
        let width = u64::from(blocks).div_ceil(PARTS as u64).max(1) << 16;
        let mut counts = vec![0usize; PARTS];
        moment.for_each(|tid| counts[((tid / width) as usize).min(PARTS - 1)] += 1);
        let mut sum = 0;
        for (part, count) in counts.iter().enumerate() {
            let here = part as u64 * width;
            if sum + count > most && here > start {
                ranges.push(start..here);
                (start, sum) = (here, 0);
            }
            sum += count;
        }
    }
    ranges.push(start..u64::MAX);
    ranges
}

struct Check<'a> {
    index: pg_sys::Relation,
    heap: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    scope: Scope,
    parameters: Parameters,
    /// The table's size at the beginning.
    blocks: pg_sys::BlockNumber,
    /// Entries that memory has room for.
    most: usize,
    graphs: Graphs,
    found: &'a mut Findings,
}

impl Check<'_> {
    /// Looks at a part of the table.
    ///
    /// # Errors
    /// A segment that cannot be read, and why.
    fn range(&mut self, tids: Range<u64>) -> Result<(), Unreadable> {
        let entries = self.entries(&tids)?;
        let mut suspects = Vec::new();
        let equal = entries.windows(2).filter(|pair| pair[0].tid == pair[1].tid);
        suspects.extend(equal.map(|pair| Suspect { tid: pair[0].tid, why: Why::Twice }));
        suspects.dedup();
        if self.scope.rows {
            self.compare(&tids, &entries, &mut suspects);
        }
        drop(entries);
        self.resolve(suspects)
    }

    /// The live entries of rows in `tids`.
    fn entries(&mut self, tids: &Range<u64>) -> Result<Vec<Entry>, Unreadable> {
        let mut attempts = 1..ATTEMPTS;
        loop {
            let moment = Moment::read(self.index, &mut self.graphs, self.scope.vectors)?;
            if !self.scope.vectors {
                return Ok(moment.entries(tids, self.most));
            }
            let (entries, unread) = moment.entries_with_prints(tids, self.most);
            let replaced = |unread: &Unread| !is_listed(self.index, unread.segment);
            if unread.iter().any(replaced) && attempts.next().is_some() {
                continue;
            }
            for Unread { segment, fault } in unread {
                let segment = Some(segment.segment_uuid);
                self.found.add(Part::Objects, segment, fault.key, fault.what);
            }
            return Ok(entries);
        }
    }

    /// Compares entries with the rows of the table in both directions.
    fn compare(&self, tids: &Range<u64>, entries: &[Entry], suspects: &mut Vec<Suspect>) {
        let mut seen = Seen::new(entries);
        let mut suspect = |tid: u64, why: Why| {
            if suspects.len() < MOST_SUSPECTS {
                suspects.push(Suspect { tid, why });
            }
        };
        let scan = Scan {
            index: self.index,
            heap: self.heap,
            snapshot: self.snapshot,
            parameters: &self.parameters,
            vectors: self.scope.vectors,
            tids: tids.clone(),
            blocks: self.blocks,
        };
        // SAFETY: the contract of `check`.
        unsafe { rows::scan(&scan, &mut seen, &mut suspect) };
        // SAFETY: as above.
        let mut places = unsafe { Places::open(self.heap, self.snapshot) };
        for at in 0..entries.len() {
            let tid = entries[at].tid;
            if seen.contains(at) || at > 0 && entries[at - 1].tid == tid {
                continue;
            }
            match places.look(tid) {
                Place::Nowhere(what) => suspect(tid, Why::Nowhere(what)),
                // The snapshot sees a row that is none of those that the index must have.
                Place::Seen => suspect(tid, Why::Unwanted),
                Place::Unseen => {}
            }
        }
    }

    /// Looks at suspects again, the index first and then the table, and tells what is left of them.
    ///
    /// # Errors
    /// A segment that cannot be read, and why.
    fn resolve(&mut self, mut suspects: Vec<Suspect>) -> Result<(), Unreadable> {
        for _ in 0..LOOKS {
            if suspects.is_empty() {
                return Ok(());
            }
            let rows: HashSet<u64> = suspects.iter().map(|suspect| suspect.tid).collect();
            let moment = Moment::read(self.index, &mut self.graphs, false)?;
            let counts = moment.count(&rows);
            drop(moment);
            // SAFETY: the contract of `check`.
            let mut places = unsafe { Places::open(self.heap, self.snapshot) };
            suspects.retain_mut(|suspect| {
                let live = counts.get(&suspect.tid).copied().unwrap_or(0);
                match &mut suspect.why {
                    Why::Missing => live == 0,
                    Why::Twice => live > 1,
                    Why::Unwanted => live > 0,
                    Why::Nowhere(_) if live == 0 => false,
                    Why::Nowhere(what) => match places.look(suspect.tid) {
                        Place::Nowhere(now) => {
                            *what = now;
                            true
                        }
                        Place::Seen | Place::Unseen => false,
                    },
                    Why::Vector | Why::Unfit => true,
                }
            });
        }
        for Suspect { tid, why } in suspects {
            let (part, problem) = match why {
                Why::Missing => (Part::Heap, "the row is not in the index".to_owned()),
                Why::Twice => (Part::Heap, "the row is in the index more than once".to_owned()),
                Why::Nowhere(what) => {
                    (Part::Heap, format!("an entry of the index leads to {what}"))
                }
                Why::Unwanted => (
                    Part::Heap,
                    "an entry of the index leads to a row that it must not have".to_owned(),
                ),
                Why::Vector => {
                    (Part::Vectors, "the stored vector is not that of the row".to_owned())
                }
                Why::Unfit => {
                    (Part::Heap, "the row has a vector that the index cannot hold".to_owned())
                }
            };
            let place = tid_text(tid);
            self.found.push(Finding { part, segment: None, place, problem });
        }
        Ok(())
    }
}
