//! `aminsert`: a new row goes to the delta. Nothing here talks to storage.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::vector::{Vector, is_indexable};
use crate::pages::delta;
use crate::pages::meta::Meta;

/// Adds one heap tuple to the index.
#[pg_guard]
#[expect(clippy::too_many_arguments, reason = "the signature is PostgreSQL's")]
pub unsafe extern "C-unwind" fn aminsert(
    index: pg_sys::Relation,
    values: *mut pg_sys::Datum,
    isnull: *mut bool,
    heap_tid: pg_sys::ItemPointer,
    _heap: pg_sys::Relation,
    _check_unique: pg_sys::IndexUniqueCheck::Type,
    _index_unchanged: bool,
    _index_info: *mut pg_sys::IndexInfo,
) -> bool {
    // SAFETY: PostgreSQL passes one value and one flag a column, and a valid tid.
    unsafe {
        if *isnull {
            return false;
        }
        let vector = Vector::new(*values);
        if is_indexable(vector.as_slice(), &Meta::read(index).parameters) {
            delta::append(index, tid_to_u64(*heap_tid), vector.as_slice());
        }
    }
    // No unique index: there is nothing to report.
    false
}

/// A heap tid as the index stores it: block << 16 | offset.
pub fn tid_to_u64(tid: pg_sys::ItemPointerData) -> u64 {
    let block = u64::from(tid.ip_blkid.bi_hi) << 16 | u64::from(tid.ip_blkid.bi_lo);
    block << 16 | u64::from(tid.ip_posid)
}

/// The heap tid that [`tid_to_u64`] made a number of.
pub fn u64_to_tid(tid: u64) -> pg_sys::ItemPointerData {
    pg_sys::ItemPointerData {
        ip_blkid: pg_sys::BlockIdData { bi_hi: (tid >> 32) as u16, bi_lo: (tid >> 16) as u16 },
        ip_posid: tid as u16,
    }
}
