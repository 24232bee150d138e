//! `ambulkdelete` and `amvacuumcleanup`: removed heap tuples get tombstones.
//!
//! Every tombstone is in the pages, WAL-logged, before vacuum goes on to give the tuples' places
//! away (invariant 2). The callback is asked about every live entry, which CREATE INDEX
//! CONCURRENTLY relies on: it only collects tids.

use std::ffi::c_void;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::insert::u64_to_tid;
use super::maintain::ask_for_maintenance;
use crate::faults::fault_point;
use crate::pages::manifest::{self, SegmentEntry};
use crate::pages::meta::Meta;
use crate::pages::page::INVALID_BLOCK;
use crate::pages::tombstones::Bitmap;
use crate::pages::wal::Publication;
use crate::pages::{consistent, delta, tombstones};
use crate::shared;
use crate::shared::graphs::Graph;

/// Entries asked about between two looks for interrupts and cost-based delays.
const STRIDE: usize = 4096;

/// Asks `callback` about every entry and removes those it names.
#[pg_guard]
pub unsafe extern "C-unwind" fn ambulkdelete(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
    callback: pg_sys::IndexBulkDeleteCallback,
    callback_state: *mut c_void,
) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: PostgreSQL passes valid structures; the callback takes a tid and its own state.
    unsafe {
        let index = (*info).index;
        let mut is_dead = |tid: u64| {
            let mut tid = u64_to_tid(tid);
            callback.is_some_and(|callback| callback(&mut tid, callback_state))
        };
        // What is asked about must not move from the delta into a segment, or from segment to
        // segment, on the way.
        let _no_publication = Publication::hold_off(index);
        let meta = Meta::read(index);
        let mut found = delta::remove(index, &meta, &mut is_dead);
        fault_point("vacuum.delta_removed");
        let segments = manifest::read(index, &meta).unwrap_or_else(|damage| damage.raise());
        let gone = tombstones::read(index, &meta, &segments).unwrap_or_else(|d| d.raise());
        // A vacuum that died may have set bits and told nobody.
        let mut any = gone.iter().any(|gone| !gone.is_empty());
        for (number, (segment, gone)) in segments.iter().zip(&gone).enumerate() {
            let dead = find_dead(segment, gone, &mut is_dead, &mut found);
            any |= !dead.is_empty();
            tombstones::set(index, &meta, &segments, number, &dead);
        }
        fault_point("vacuum.tombstones_set");
        if any {
            tombstones::publish(index);
            fault_point("vacuum.published");
        }
        let stats = result(stats);
        (*stats).num_pages = blocks(index);
        (*stats).num_index_tuples = found.live as f64;
        (*stats).tuples_removed += found.removed as f64;
        (*stats).estimated_count = false;
        stats
    }
}

/// Asks for maintenance, and gives the statistics that nobody has gathered because nothing was to be removed.
#[pg_guard]
pub unsafe extern "C-unwind" fn amvacuumcleanup(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: PostgreSQL passes valid structures.
    unsafe {
        if (*info).analyze_only {
            return stats;
        }
        let index = (*info).index;
        ask_for_maintenance(index);
        if !stats.is_null() {
            return stats;
        }
        let stats = result(stats);
        (*stats).num_pages = blocks(index);
        (*stats).num_index_tuples = live_entries(index) as f64;
        (*stats).estimated_count = false;
        stats
    }
}

/// Entries that have not been removed.
fn live_entries(index: pg_sys::Relation) -> u64 {
    consistent(index, |meta| {
        let segments = manifest::read(index, meta)?;
        let dead = tombstones::read(index, meta, &segments)?;
        let written: u64 = segments.iter().map(|segment| segment.entries).sum();
        let removed: u64 = dead.iter().map(Bitmap::count).sum();
        let waiting = delta::live_tids(index, meta, INVALID_BLOCK)?.len() as u64;
        Ok(written - removed + waiting)
    })
}

/// The entries of a segment that are dead now and were not before.
fn find_dead(
    entry: &SegmentEntry,
    gone: &Bitmap,
    is_dead: &mut impl FnMut(u64) -> bool,
    found: &mut delta::Removal,
) -> Vec<u32> {
    shared::require();
    let graph = Graph::obtain(entry.index_uuid, entry.segment_uuid);
    let mut dead = Vec::new();
    for (number, &tid) in graph.view().all_tids().iter().enumerate() {
        if number.is_multiple_of(STRIDE) {
            // SAFETY: no lock is held here.
            unsafe { pg_sys::vacuum_delay_point(false) };
        }
        if gone.get(number) {
            continue;
        }
        if is_dead(tid) {
            dead.push(number as u32);
        } else {
            found.live += 1;
        }
    }
    found.removed += dead.len() as u64;
    dead
}

/// The statistics to fill in, zeroed when they are new.
///
/// # Safety
/// `stats` is null or valid.
unsafe fn result(stats: *mut pg_sys::IndexBulkDeleteResult) -> *mut pg_sys::IndexBulkDeleteResult {
    if stats.is_null() {
        // SAFETY: allocated zeroed in the current memory context, which outlives the vacuum.
        unsafe { PgBox::<pg_sys::IndexBulkDeleteResult>::alloc0() }.into_pg()
    } else {
        stats
    }
}

fn blocks(index: pg_sys::Relation) -> pg_sys::BlockNumber {
    // SAFETY: `index` is an open relation.
    unsafe { pg_sys::RelationGetNumberOfBlocksInFork(index, pg_sys::ForkNumber::MAIN_FORKNUM) }
}
