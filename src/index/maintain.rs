//! Keeping an index in shape: who asks for it, and what is then done in which order.

use pgrx::pg_sys;

use super::collect::resident_row_bytes;
use super::control::Control;
use super::flush::flush;
use super::merge::merge;
use super::policy::{self, Size};
use crate::pages::manifest::{self, SegmentEntry};
use crate::pages::meta::Meta;
use crate::pages::tombstones::Bitmap;
use crate::pages::wal::MAIN;
use crate::pages::{consistent, pack, tombstones};
use crate::settings;
use crate::shared::graphs::Graph;
use crate::shared::maintenance::{self, WORK};

/// A delta smaller than this part of `s3vector.flush_size` is left alone even when somebody looks.
const LEAST_SHARE: u64 = 8;

/// The lock that only one maintainer of an index holds. It keeps nobody from reading, inserting or
/// vacuuming.
pub const MAINTENANCE_LOCK: pg_sys::LOCKMODE = pg_sys::ShareUpdateExclusiveLock as i32;

/// What was done to an index.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Delta rows that are in segments now.
    pub rows_flushed: u64,
    /// Heap tuples that merges have written again.
    pub rows_merged: u64,
    /// Segments written.
    pub segments_written: u32,
    /// Segments that merges have replaced.
    pub segments_replaced: u32,
    /// Bytes of the segments written.
    pub bytes_written: u64,
}

impl Report {
    /// Adds segments that have been published.
    pub fn count_written(&mut self, segments: &[SegmentEntry]) {
        self.segments_written += segments.len() as u32;
        self.bytes_written += segments.iter().map(|segment| segment.storage_bytes).sum::<u64>();
    }
}

/// How much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// What is worth it in the long run.
    Routine,
    /// All that makes the index smaller or faster: somebody has asked for it.
    Thorough,
}

impl Effort {
    /// A delta smaller than this stays, in bytes.
    fn least_delta(self) -> u64 {
        match self {
            Self::Routine => settings::flush_bytes() / LEAST_SHARE,
            Self::Thorough => 0,
        }
    }

    /// A segment is rewritten when more than one entry in so many is dead. A row that lives is
    /// written about so often again for every time that the table's content changes.
    fn dead_share(self) -> u64 {
        match self {
            Self::Routine => 10,
            Self::Thorough => 20,
        }
    }
}

/// Flushes, merges and packs an index as it needs it. The caller holds [`MAINTENANCE_LOCK`].
pub fn maintain(
    index: pg_sys::Relation,
    effort: Effort,
    watch: &mut dyn FnMut(&Control),
) -> Report {
    let mut report = Report::default();
    let mut least_delta = effort.least_delta();
    loop {
        // Merges take long: what has been inserted meanwhile comes before the next one.
        if delta_bytes(&Meta::read(index)) >= least_delta {
            let before = report.rows_flushed;
            flush(index, &mut report, watch);
            count(u32::from(report.rows_flushed > before), 0);
            least_delta = match effort {
                Effort::Routine => settings::flush_bytes(),
                // Whoever waits for this asked for what was there, not for what others insert.
                Effort::Thorough => u64::MAX,
            };
        } else if let Some(chosen) = next_merge(index, effort) {
            merge(index, &chosen, &mut report, watch);
            count(0, 1);
        } else {
            break;
        }
    }
    pack_if_possible(index);
    report
}

/// Counts flushes and merges for the views, as soon as they are published.
fn count(flushes: u32, merges: u32) {
    // SAFETY: set for every process with a database.
    if let Some(slot) = maintenance::slot(unsafe { pg_sys::MyDatabaseId }.to_u32()) {
        slot.count(flushes, merges);
    }
}

/// The segments to merge next.
fn next_merge(index: pg_sys::Relation, effort: Effort) -> Option<Vec<usize>> {
    let (meta, segments, sizes) = consistent(index, |meta| {
        let segments = manifest::read(index, meta)?;
        let dead = tombstones::read(index, meta, &segments)?;
        let size = |(segment, dead): (&SegmentEntry, &Bitmap)| Size {
            entries: segment.entries,
            dead: dead.count(),
            rows: segment.rows,
        };
        let sizes: Vec<Size> = segments.iter().zip(&dead).map(size).collect();
        Ok((*meta, segments, sizes))
    });
    // Neither may the merge itself take more than it is allowed, nor its result more than a part of
    // the memory that queries have for graphs: a graph that does not fit cannot be searched.
    let build = settings::merge_memory() / resident_row_bytes(&meta.parameters);
    let resident = segments.iter().map(|s| s.resident_bytes.div_ceil(s.rows.max(1))).max();
    let searchable = settings::graph_memory() / 2 / resident.unwrap_or(1).max(1);
    policy::choose(&sizes, searchable.min(build as u64), effort.dead_share())
}

/// Bytes of the delta's pages.
pub fn delta_bytes(meta: &Meta) -> u64 {
    u64::from(meta.delta_pages) * u64::from(pg_sys::BLCKSZ)
}

/// Gives unused pages back to the file system, if there are many and nobody else uses the index.
fn pack_if_possible(index: pg_sys::Relation) {
    let lock = pg_sys::AccessExclusiveLock as i32;
    // SAFETY: `index` is an open relation; the count says how often this process has it open.
    unsafe {
        let blocks = pg_sys::RelationGetNumberOfBlocksInFork(index, MAIN);
        if (*index).rd_refcnt == 1
            && pack::is_worthwhile(index, blocks)
            && pg_sys::ConditionalLockRelation(index, lock)
        {
            pack::pack(index);
            pg_sys::UnlockRelation(index, lock);
        }
    }
}

/// Has the graphs of new segments in shared memory before anybody asks for them.
pub fn warm(segments: &[SegmentEntry]) {
    for segment in segments {
        Graph::obtain(segment.index_uuid, segment.segment_uuid);
    }
}

/// After an insert that needed a new page: asks for a flush when the delta has become large.
pub fn delta_has_grown(index: pg_sys::Relation, pages: u32) {
    if u64::from(pages) * u64::from(pg_sys::BLCKSZ) >= settings::flush_bytes() {
        ask_for_maintenance(index);
    }
}

/// Asks for maintenance of this database's indexes. Only the session itself can reach the pages of
/// a temporary table, so nobody is asked for those.
pub fn ask_for_maintenance(index: pg_sys::Relation) {
    if !is_temporary(index) {
        // SAFETY: set for every process with a database.
        maintenance::request(unsafe { pg_sys::MyDatabaseId }.to_u32(), WORK);
    }
}

/// Whether the relation belongs to a temporary table.
pub fn is_temporary(index: pg_sys::Relation) -> bool {
    // SAFETY: `index` is an open relation.
    unsafe { (*(*index).rd_rel).relpersistence as u8 == pg_sys::RELPERSISTENCE_TEMP }
}
