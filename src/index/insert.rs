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
    heap: pg_sys::Relation,
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
        let cache = Cache::of(index, &mut *index_info, || must_write_at_once(heap, *heap_tid));
        if is_indexable(vector.as_slice(), &cache.parameters) {
            let (tail, at_once) = (&mut cache.tail, cache.at_once);
            pending::insert(index, tail, tid_to_u64(*heap_tid), vector.as_slice(), at_once);
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
    /// Where the last row went.
    tail: pg_sys::BlockNumber,
    /// Whether rows must not wait for others.
    at_once: bool,
}

impl Cache {
    /// The statement's cache, filled when it is new.
    ///
    /// # Safety
    /// `index` is an open relation of this access method and `info` belongs to it.
    unsafe fn of(
        index: pg_sys::Relation,
        info: &mut pg_sys::IndexInfo,
        at_once: impl FnOnce() -> bool,
    ) -> &mut Self {
        // SAFETY: the field is this access method's own: null, or what is put there now, which
        // lives as long as the structure.
        unsafe {
            if info.ii_AmCache.is_null() {
                let meta = Meta::read(index);
                let (parameters, tail) = (meta.parameters, meta.delta_tail);
                let cache = Self { parameters, tail, at_once: at_once() };
                let mut context = PgMemoryContexts::For(info.ii_Context);
                info.ii_AmCache = context.leak_and_drop_on_delete(cache).cast();
            }
            &mut *info.ii_AmCache.cast()
        }
    }
}

/// What a tuple's own tid says while its insertion is speculative (`SpecTokenOffsetNumber`).
const SPECULATIVE: pg_sys::OffsetNumber = 0xfffe;

/// Whether the rows of a statement, of which this is the first, must be in the index when `aminsert`
/// returns.
///
/// - With ON CONFLICT a row is inserted to see whether it conflicts, and dead at once if it does, while
///   its transaction lives: VACUUM may give its place away before the statement ends. All rows of
///   such a statement are marked.
/// - A serializable transaction has been checked against readers of the index just now; one that
///   reads before the row is there would be missed.
///
/// # Safety
/// `heap` is the open table, `tid` a tuple that this process has just inserted into it.
unsafe fn must_write_at_once(heap: pg_sys::Relation, tid: pg_sys::ItemPointerData) -> bool {
    // SAFETY: by the contract; nobody removes the tuple before its transaction has ended.
    unsafe {
        if pg_sys::XactIsoLevel == pg_sys::XACT_SERIALIZABLE as i32
            || (*heap).rd_tableam != pg_sys::GetHeapamTableAmRoutine()
        {
            return true;
        }
        let buffer = pg_sys::ReadBuffer(heap, (tid_to_u64(tid) >> 16) as u32);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
        let page = pg_sys::BufferGetPage(buffer);
        let item = pg_sys::PageGetItem(page, pg_sys::PageGetItemId(page, tid.ip_posid));
        let header = item.cast::<pg_sys::HeapTupleHeaderData>();
        let speculative = (*header).t_ctid.ip_posid == SPECULATIVE;
        pg_sys::UnlockReleaseBuffer(buffer);
        speculative
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
