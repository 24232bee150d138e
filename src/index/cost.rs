//! `amcostestimate`: what a scan costs, in the planner's currency.
//!
//! Before the first row a scan walks the graphs (`ef_search` candidates with a list of neighbours
//! each, a cheap distance on codes for every one) and reads the delta. Every row then costs a
//! share of a fetch. So a scan has a start-up cost that hardly depends on the table's size and a
//! cost by row that is dear: right for LIMIT, wrong for reading everything.
//!
//! The index orders by one distance. Where a query orders by more, a path is left with the first
//! only, and the planner sorts the rest incrementally above it. A path without any is never chosen.

use std::ptr::addr_of_mut;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::pages::meta::Meta;
use crate::settings;

/// Cost of one distance on codes, in `cpu_operator_cost`: tens of nanoseconds against the hundred
/// and more of an operator call.
const CODE_DISTANCE: f64 = 0.2;
/// Neighbours looked at for every candidate, beyond those already seen.
const NEIGHBOURS: f64 = 16.0;
/// Rows that share one fetched chunk, thanks to the row order.
const ROWS_PER_FETCH: f64 = 2.0;

/// Cost of what must not be chosen. Finite, because PostgreSQL subtracts one cost from another.
const NEVER: f64 = 1e10;
/// Disabled nodes of what must not be chosen: more than those of a disabled sequential scan, which
/// count for more than any cost.
const NEVER_DISABLED: i32 = 2;

/// Estimates the cost of an index path, which is left with one ordering at most.
#[pg_guard]
#[expect(clippy::too_many_arguments, reason = "the signature is PostgreSQL's")]
pub unsafe extern "C-unwind" fn amcostestimate(
    root: *mut pg_sys::PlannerInfo,
    path: *mut pg_sys::IndexPath,
    loop_count: f64,
    startup_cost: *mut pg_sys::Cost,
    total_cost: *mut pg_sys::Cost,
    selectivity: *mut pg_sys::Selectivity,
    correlation: *mut f64,
    pages: *mut f64,
) {
    // SAFETY: PostgreSQL passes valid structures and places for the results.
    unsafe {
        if (*path).indexorderbys.is_null() {
            // The index can only order. The table's sequential scan, which the planner has offered
            // before, gives as much as this path, which is dropped at once because it is worse.
            (*path).path.disabled_nodes = NEVER_DISABLED;
            *startup_cost = NEVER;
            *total_cost = NEVER;
            *selectivity = 0.0;
            *correlation = 0.0;
            *pages = 0.0;
            return;
        }
        keep_first_ordering(path);
        let info = &*(*path).indexinfo;
        let mut generic = pg_sys::GenericCosts::default();
        pg_sys::genericcostestimate(root, path, loop_count, &mut generic);

        let (segments, delta_pages) = shape(info);
        let ef = settings::ef_search() as f64;
        let candidates = segments * ef.min(info.tuples.max(1.0));
        let walk = candidates * NEIGHBOURS * CODE_DISTANCE * pg_sys::cpu_operator_cost;
        let delta =
            delta_pages * pg_sys::seq_page_cost * 0.1 + delta_pages * pg_sys::cpu_operator_cost;
        let row = pg_sys::cpu_operator_cost + generic.spc_random_page_cost / ROWS_PER_FETCH;

        *startup_cost = walk + delta;
        *total_cost = *startup_cost + info.tuples.max(0.0) * row;
        *selectivity = generic.indexSelectivity;
        *correlation = 0.0;
        *pages = delta_pages;
    }
}

/// Takes all orderings but the first from a path: what it promises and what its scan is asked for.
///
/// The planner offers every ordering of the query that matches the column, up to the first that does
/// not. There is one pathkey for each of them. The lists may be the query's own, so they are not changed.
///
/// # Safety
/// `path` is a path over an index of this access method, with at least one ordering.
unsafe fn keep_first_ordering(path: *mut pg_sys::IndexPath) {
    // SAFETY: by the contract; the lists are null or valid, and copied in the planner's context.
    unsafe {
        for list in [
            addr_of_mut!((*path).indexorderbys),
            addr_of_mut!((*path).indexorderbycols),
            addr_of_mut!((*path).path.pathkeys),
        ] {
            if pg_sys::list_length(*list) > 1 {
                *list = pg_sys::list_copy_head(*list, 1);
            }
        }
    }
}

/// Segments and delta pages of an index, from its meta page.
///
/// # Safety
/// `info` is the planner's entry of an index of this access method.
unsafe fn shape(info: &pg_sys::IndexOptInfo) -> (f64, f64) {
    // SAFETY: the planner holds a lock on the index; a hypothetical one has no pages.
    unsafe {
        if info.hypothetical {
            return (1.0, 0.0);
        }
        let index = pg_sys::index_open(info.indexoid, pg_sys::NoLock as i32);
        let meta = Meta::read(index);
        pg_sys::index_close(index, pg_sys::NoLock as i32);
        let segments = f64::from(u8::from(meta.segment_rows > 0));
        let other_pages = 2.0 + meta.segment_entries as f64 / 65_000.0;
        (segments.max(1.0), (f64::from(info.pages) - other_pages).max(0.0))
    }
}
