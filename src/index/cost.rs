//! `amcostestimate`: what a scan costs, in the planner's currency.
//!
//! Before the first row a scan walks the graphs (`ef_search` candidates with a list of neighbours
//! each, a cheap distance on codes for every one) and reads the delta. Every row then costs a
//! share of a fetch. So a scan has a start-up cost that hardly depends on the table's size and a
//! cost by row that is dear: right for LIMIT, wrong for reading everything.

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

/// Estimates the cost of an index path.
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
            // The index can only order. Infinity keeps the planner from using it otherwise, and
            // so does being disabled, which counts for more: more than a disabled sequential scan.
            (*path).path.disabled_nodes = 2;
            *startup_cost = f64::INFINITY;
            *total_cost = f64::INFINITY;
            *selectivity = 0.0;
            *correlation = 0.0;
            *pages = 0.0;
            return;
        }
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
