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
        let validating = (*index_info).ii_Concurrent;
        let cache = Cache::of(index, &mut *index_info);
        if is_indexable(vector.as_slice(), &cache.parameters) {
            let at_once = cache.must_write_at_once(heap, *heap_tid, validating);
            let tid = tid_to_u64(*heap_tid);
            pending::insert(index, &mut cache.tail, tid, vector.as_slice(), at_once);
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
    /// Whether rows must not wait for others; `None` as long as no row has told.
    at_once: Option<bool>,
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
                let cache =
                    Self { parameters: meta.parameters, tail: meta.delta_tail, at_once: None };
                let mut context = PgMemoryContexts::For(info.ii_Context);
                info.ii_AmCache = context.leak_and_drop_on_delete(cache).cast();
            }
            &mut *info.ii_AmCache.cast()
        }
    }

    /// Whether a row must be in the index when `aminsert` returns, instead of waiting for others of its
    /// statement.
    ///
    /// While a row waits its place in the table must not become another row's. VACUUM gives away
    /// places of dead rows only, and to VACUUM a row is alive as long as the subtransaction that inserted it
    /// is in progress (`HeapTupleSatisfiesVacuumHorizon` says INSERT_IN_PROGRESS or, to the inserter itself,
    /// DELETE_IN_PROGRESS): also one that the same transaction has updated or deleted since. When the
    /// subtransaction is rolled back [`pending`] forgets the row. There is one more way for a row to
    /// die: with ON CONFLICT it is inserted to see whether it conflicts, and when it does
    /// `heap_abort_speculative` takes its inserter from it, of which nobody is told. The tuple of such
    /// an insertion is marked.
    ///
    /// A statement with ON CONFLICT marks every row that it inserts into a table, and no other statement marks
    /// any. New versions of updated rows are in both kinds of statements, are never marked and cannot die in that
    /// way. So the first row that is no such version tells of what kind the statement is, and rows need not be
    /// looked at from then on. A plan does not tell as well: rows also come from COPY, from logical
    /// replication and from extensions.
    ///
    /// A serializable transaction has been checked against readers of the index just now; one that reads
    /// before the row is there would be missed. Of tables by other access methods nothing is known.
    ///
    /// # Safety
    /// `heap` is the open table, `tid` a tuple that this process has just inserted into it; or any tuple, of
    /// a table with a concurrently built index that is being validated.
    unsafe fn must_write_at_once(
        &mut self,
        heap: pg_sys::Relation,
        tid: pg_sys::ItemPointerData,
        validating: bool,
    ) -> bool {
        if self.at_once.is_none() {
            // SAFETY: by the contract.
            unsafe {
                self.at_once = if pg_sys::XactIsoLevel == pg_sys::XACT_SERIALIZABLE as i32
                    || (*heap).rd_tableam != pg_sys::GetHeapamTableAmRoutine()
                {
                    Some(true)
                } else if validating {
                    // Its lock on the table keeps VACUUM away.
                    Some(false)
                } else {
                    is_speculative(heap, tid)
                };
            }
        }
        self.at_once.unwrap_or(false)
    }
}

/// What a tuple's own tid says while its insertion is speculative (`SpecTokenOffsetNumber`).
const SPECULATIVE: pg_sys::OffsetNumber = 0xfffe;

/// Whether a tuple has been inserted to see whether it conflicts; `None` for the new version of an updated one.
///
/// # Safety
/// `heap` is an open table of PostgreSQL's own access method, `tid` a tuple that this process has just
/// inserted into it.
unsafe fn is_speculative(heap: pg_sys::Relation, tid: pg_sys::ItemPointerData) -> Option<bool> {
    // SAFETY: by the contract; nobody removes the tuple before its transaction has ended.
    unsafe {
        let buffer = pg_sys::ReadBuffer(heap, (tid_to_u64(tid) >> 16) as u32);
        pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as i32);
        let page = pg_sys::BufferGetPage(buffer);
        let item = pg_sys::PageGetItem(page, pg_sys::PageGetItemId(page, tid.ip_posid));
        let header = &*item.cast::<pg_sys::HeapTupleHeaderData>();
        let speculative = header.t_ctid.ip_posid == SPECULATIVE;
        let updated = u32::from(header.t_infomask) & pg_sys::HEAP_UPDATED != 0;
        pg_sys::UnlockReleaseBuffer(buffer);
        (!updated).then_some(speculative)
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
