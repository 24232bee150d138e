//! Rows that statements under way have inserted and that are not in the delta yet.
//!
//! A statement that inserts many rows writes them a few pages at a time: one record and one lock for
//! dozens of rows. Until then only this process knows of them, which nobody can tell: others do not
//! see rows before the transaction has committed, and a scan of this process has them written first.
//!
//! Rows are written when there are enough of them, when the statement ends, before a scan of the
//! index begins, before parallel workers are sent to look for them, and, for callers that never say
//! that they are done, before the transaction commits. When the subtransaction that inserted them is
//! rolled back they are forgotten: their places in the table may be given to other rows from then on.
//!
//! Where a row can die without that, or be missed by more than a reader, [`insert`] is told to write
//! at once.

use std::cell::RefCell;
use std::ffi::c_void;
use std::ptr::null_mut;

use pgrx::pg_sys::{self, SubXactEvent, XactEvent};
use pgrx::prelude::*;

use super::maintain::delta_has_grown;
use crate::faults::fault_point;
use crate::pages::delta::{self, Batch};

/// Indexes that rows are kept for at a time; with more, as where a statement inserts into very many
/// partitions, all are written.
const INDEXES: usize = 64;

thread_local! {
    static PENDING: RefCell<Vec<Pending>> = const { RefCell::new(Vec::new()) };
}

/// The rows for one index.
struct Pending {
    index: pg_sys::Oid,
    /// The index's file: rows for one that is gone are void.
    file: pg_sys::RelFileNumber,
    /// Who inserted the rows.
    subtransaction: pg_sys::SubTransactionId,
    /// Where the last row went.
    tail: pg_sys::BlockNumber,
    batch: Batch,
}

/// Hooks the ends of transactions. Called once, from `_PG_init`.
pub fn register() {
    // SAFETY: called on the main thread while the library is loaded.
    unsafe {
        pg_sys::RegisterXactCallback(Some(transaction_ends), null_mut());
        pg_sys::RegisterSubXactCallback(Some(subtransaction_ends), null_mut());
    }
}

/// Takes a row for the delta of `index`, whose rows have `vector.len()` dimensions, and writes it now
/// if `at_once` says so. `tail` is where the last row went, as far as the caller knows, and is
/// kept up to date.
pub fn insert(
    index: pg_sys::Relation,
    tail: &mut pg_sys::BlockNumber,
    tid: u64,
    vector: &[f32],
    at_once: bool,
) {
    let Some(batch) = Batch::new(vector.len()) else {
        fault_point("insert.before_append");
        delta_has_grown(index, delta::append_spanning(index, tail, tid, vector));
        fault_point("insert.appended");
        return;
    };
    // SAFETY: `index` is an open relation; the number is this process's own.
    let (file, subtransaction) =
        unsafe { ((*index).rd_locator.relNumber, pg_sys::GetCurrentSubTransactionId()) };
    PENDING.with_borrow_mut(|all| {
        let known = place(all, index);
        if known.is_none() && all.len() >= INDEXES {
            write_all(all);
        }
        let at = known.unwrap_or_else(|| {
            // SAFETY: as above.
            let index = unsafe { (*index).rd_id };
            all.push(Pending { index, file, subtransaction, tail: *tail, batch });
            all.len() - 1
        });
        let pending = &mut all[at];
        if (pending.subtransaction, pending.file) != (subtransaction, file) {
            pending.write(index);
            (pending.subtransaction, pending.file, pending.tail) = (subtransaction, file, *tail);
        }
        pending.batch.push(tid, vector);
        if at_once || pending.batch.is_full() {
            pending.write(index);
            *tail = pending.tail;
        }
    });
}

/// Writes what there is of `index`: a scan is about to begin.
pub fn write(index: pg_sys::Relation) {
    PENDING.with_borrow_mut(|all| {
        if let Some(at) = place(all, index) {
            all[at].write(index);
        }
    });
}

/// Writes the rows of `index`: a statement has inserted its last one.
pub fn finish(index: pg_sys::Relation) {
    PENDING.with_borrow_mut(|all| {
        if let Some(at) = place(all, index) {
            all[at].write(index);
            all.swap_remove(at);
        }
    });
}

/// Where the rows of `index` are among `all`.
fn place(all: &[Pending], index: pg_sys::Relation) -> Option<usize> {
    // SAFETY: `index` is an open relation.
    let oid = unsafe { (*index).rd_id };
    all.iter().position(|pending| pending.index == oid)
}

impl Pending {
    /// Appends the rows to the delta, unless the file that they were for is gone.
    fn write(&mut self, index: pg_sys::Relation) {
        // SAFETY: `index` is an open relation.
        if self.batch.is_empty() || unsafe { (*index).rd_locator.relNumber } != self.file {
            self.batch.clear();
            return;
        }
        fault_point("insert.before_append");
        if let Some(pages) = delta::append(index, &mut self.tail, &mut self.batch) {
            delta_has_grown(index, pages);
        }
        fault_point("insert.appended");
    }
}

/// Writes all rows; what an error leaves stays.
fn write_all(all: &mut Vec<Pending>) {
    while let Some(pending) = all.last_mut() {
        if !pending.batch.is_empty() {
            let lock = pg_sys::RowExclusiveLock as i32;
            // SAFETY: in a transaction, whose lock on the table keeps the index as it is.
            unsafe {
                let index = pg_sys::try_index_open(pending.index, lock);
                if !index.is_null() {
                    pending.write(index);
                    pg_sys::index_close(index, lock);
                }
            }
        }
        all.pop();
    }
}

/// Before a query is started: its parallel workers may look for rows that a statement further out has
/// inserted, and cannot ask this process for them.
///
/// # Safety
/// `query` is a valid query.
pub unsafe fn before(query: *mut pg_sys::QueryDesc) {
    // SAFETY: by the contract.
    if unsafe { (*(*query).plannedstmt).parallelModeNeeded } {
        PENDING.with_borrow_mut(write_all);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_ends(event: XactEvent::Type, _argument: *mut c_void) {
    match event {
        XactEvent::XACT_EVENT_PRE_COMMIT | XactEvent::XACT_EVENT_PRE_PREPARE => {
            PENDING.with_borrow_mut(write_all);
        }
        XactEvent::XACT_EVENT_ABORT => forget(|_| true),
        _ => {}
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn subtransaction_ends(
    event: SubXactEvent::Type,
    own: pg_sys::SubTransactionId,
    parent: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    match event {
        SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => PENDING.with_borrow_mut(|all| {
            for pending in all.iter_mut().filter(|pending| pending.subtransaction == own) {
                pending.subtransaction = parent;
            }
        }),
        SubXactEvent::SUBXACT_EVENT_ABORT_SUB => forget(|pending| pending.subtransaction == own),
        _ => {}
    }
}

/// Forgets rows that have been rolled back.
fn forget(gone: impl Fn(&Pending) -> bool) {
    PENDING.with(|all| {
        // A process that ends while it writes has them borrowed, and no use for them.
        if let Ok(mut all) = all.try_borrow_mut() {
            all.retain(|pending| !gone(pending));
        }
    });
}
