//! `aminsert`: a new row goes to the delta, with others of its statement. Nothing here talks to
//! storage.

use pgrx::PgMemoryContexts;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::pending;
use super::vector::{Vector, is_indexable};
use crate::pages::meta::{Meta, Parameters};

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
    index_info: *mut pg_sys::IndexInfo,
) -> bool {
    // SAFETY: PostgreSQL passes one value and one flag a column, a valid tid, and a structure that
    // lives as long as the statement inserts.
    unsafe {
        if *isnull {
            return false;
        }
        let vector = Vector::new(*values);
        let cache = Cache::of(index, &mut *index_info);
        if is_indexable(vector.as_slice(), &cache.parameters) {
            pending::insert(index, cache.tail, tid_to_u64(*heap_tid), vector.as_slice());
        }
    }
    // No unique index: there is nothing to report.
    false
}

/// Called when a statement has inserted its last row.
#[pg_guard]
pub unsafe extern "C-unwind" fn aminsertcleanup(
    index: pg_sys::Relation,
    _index_info: *mut pg_sys::IndexInfo,
) {
    pending::finish(index);
}

/// What a statement that inserts need not look up for every row.
struct Cache {
    parameters: Parameters,
    /// Where the last row went when the statement inserted its first.
    tail: pg_sys::BlockNumber,
}

impl Cache {
    /// The statement's cache, filled when it is new.
    ///
    /// # Safety
    /// `index` is an open relation of this access method and `info` belongs to it.
    unsafe fn of(index: pg_sys::Relation, info: &mut pg_sys::IndexInfo) -> &mut Self {
        // SAFETY: the field is this access method's own: null, or what is put there now, which
        // lives as long as the structure.
        unsafe {
            if info.ii_AmCache.is_null() {
                let meta = Meta::read(index);
                let cache = Self { parameters: meta.parameters, tail: meta.delta_tail };
                let mut context = PgMemoryContexts::For(info.ii_Context);
                info.ii_AmCache = context.leak_and_drop_on_delete(cache).cast();
            }
            &mut *info.ii_AmCache.cast()
        }
    }
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
