//! `ambulkdelete` and `amvacuumcleanup`: removed heap tuples get tombstones.
//!
//! Every tombstone is in the pages, WAL-logged, before vacuum goes on to give the tuples' places
//! away (invariant 2). The callback is asked about every live entry, which CREATE INDEX
//! CONCURRENTLY relies on: it only collects tids.

use std::ffi::c_void;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::insert::u64_to_tid;
use crate::pages::manifest::{self, SegmentEntry};
use crate::pages::meta::Meta;
use crate::pages::{delta, tombstones};
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
        let meta = Meta::read(index);
        let mut found = delta::remove(index, &meta, &mut is_dead);
        let mut any = false;
        for entry in manifest::read(index, &meta) {
            let dead = remove_from_segment(index, &entry, &mut is_dead, &mut found);
            any |= dead;
        }
        if any {
            tombstones::publish(index);
        }
        let stats = result(stats);
        (*stats).num_pages = blocks(index);
        (*stats).num_index_tuples = found.live as f64;
        (*stats).tuples_removed += found.removed as f64;
        (*stats).estimated_count = false;
        stats
    }
}

/// Gives the statistics that nobody has gathered because nothing was to be removed.
#[pg_guard]
pub unsafe extern "C-unwind" fn amvacuumcleanup(
    info: *mut pg_sys::IndexVacuumInfo,
    stats: *mut pg_sys::IndexBulkDeleteResult,
) -> *mut pg_sys::IndexBulkDeleteResult {
    // SAFETY: PostgreSQL passes valid structures.
    unsafe {
        if (*info).analyze_only || !stats.is_null() {
            return stats;
        }
        let index = (*info).index;
        let stats = result(stats);
        (*stats).num_pages = blocks(index);
        (*stats).num_index_tuples = (*info).num_heap_tuples;
        (*stats).estimated_count = true;
        stats
    }
}

/// Sets the tombstones of one segment; whether there were any to set.
fn remove_from_segment(
    index: pg_sys::Relation,
    entry: &SegmentEntry,
    is_dead: &mut impl FnMut(u64) -> bool,
    found: &mut delta::Removal,
) -> bool {
    shared::require();
    let graph = Graph::obtain(entry.index_uuid, entry.segment_uuid);
    let gone = tombstones::read(index, entry.tombstones, entry.entries);
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
    tombstones::set(index, entry.tombstones, &dead);
    !dead.is_empty()
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
