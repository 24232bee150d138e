//! Reading the table of a build: what PostgreSQL's scan finds becomes rows with tids and vectors.

use std::ptr::null_mut;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::insert::tid_to_u64;
use super::team::Team;
use super::vector::{Vector, is_indexable};
use crate::pages::meta::Parameters;

/// Takes a row to be indexed: its heap tid and its vector.
pub type Sink<'a> = dyn FnMut(u64, &[f32]) + 'a;

/// Hands every row to be indexed to `sink`, in no particular order, helped by as many parallel workers
/// as PostgreSQL has planned for. Returns the heap tuples there are.
///
/// # Safety
/// What `ambuild` has been passed: open relations, and the structure that belongs to the index.
pub unsafe fn scan(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
    parameters: &Parameters,
    sink: &mut Sink<'_>,
) -> f64 {
    // SAFETY: by the contract; a team's part of the scan ends before the team does.
    unsafe {
        let team = match (*info).ii_ParallelWorkers {
            0 => None,
            workers => Team::call(heap, index, info, workers, parameters.dimensions),
        };
        let Some(mut team) = team else {
            return scan_part(heap, index, info, null_mut(), parameters, sink);
        };
        let part = team.part(heap);
        let stride = team.stride();
        let mut rows = 0usize;
        let mut take = |tid: u64, vector: &[f32]| {
            sink(tid, vector);
            rows += 1;
            if rows.is_multiple_of(stride) {
                team.receive(sink);
            }
        };
        let own = scan_part(heap, index, info, part, parameters, &mut take);
        team.receive_all(sink);
        own + team.dismiss(&mut *info)
    }
}

/// Hands the rows of `part`, of the whole table when that is null, to `sink`. Returns the heap tuples
/// of it.
///
/// # Safety
/// As for [`scan`]; `part` is null or a parallel scan of `heap`, which ends here.
pub unsafe fn scan_part(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    info: *mut pg_sys::IndexInfo,
    part: pg_sys::TableScanDesc,
    parameters: &Parameters,
    sink: &mut Sink<'_>,
) -> f64 {
    let mut target = Target { parameters, sink };
    // SAFETY: by the contract; the callback gets `target`, which outlives the scan. Progress is
    // that of all parts, and only the process that builds has an entry to report it in.
    unsafe {
        let leads = pg_sys::ParallelWorkerNumber < 0;
        let state = (&raw mut target).cast();
        pg_sys::table_index_build_scan(heap, index, info, true, leads, Some(take), state, part)
    }
}

struct Target<'a, 'b> {
    parameters: &'a Parameters,
    sink: &'a mut Sink<'b>,
}

/// Called for every live tuple of the heap.
#[pg_guard]
unsafe extern "C-unwind" fn take(
    _index: pg_sys::Relation,
    tid: pg_sys::ItemPointer,
    values: *mut pg_sys::Datum,
    isnull: *mut bool,
    _is_alive: bool,
    state: *mut std::ffi::c_void,
) {
    // SAFETY: `state` is the `Target` of `scan_part`, which does not touch it during the scan;
    // there is one value and one flag a column.
    unsafe {
        if *isnull {
            return;
        }
        let target = &mut *state.cast::<Target<'_, '_>>();
        let vector = Vector::new(*values);
        if is_indexable(vector.as_slice(), target.parameters) {
            (target.sink)(tid_to_u64(*tid), vector.as_slice());
        }
    }
}
