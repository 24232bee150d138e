//! Whether an index is whole: its pages, its segments in the store, their graphs in memory, and its
//! entries against the rows of the table.
//!
//! ```text
//!   lists (delta) ─▶ segments (store, links) ─▶ owner ─▶ table ─▶ rows, places, moment (vectors) ─▶ findings
//! ```
//!
//! Nothing is locked that writers need. Everybody goes on meanwhile, so each part says which
//! moments it compares, and what looks wrong is looked at again before it is told.

use pgrx::pg_sys;
use pgrx::prelude::*;

mod delta;
pub mod findings;
mod links;
mod lists;
mod moment;
mod owner;
mod places;
mod rows;
mod segments;
mod store;
mod table;
mod vectors;

use findings::{Finding, Findings};
use table::Scope;

use crate::errors::raise;
use crate::index::pending;
use crate::pages::meta::relation_name;

/// Checks an index against the table `heap` as far as `scope` says: the table's rows if `rows`, and
/// the stored vectors if `vectors`.
///
/// # Safety
/// Open relations that belong together.
pub unsafe fn check(
    index: pg_sys::Relation,
    heap: pg_sys::Relation,
    rows: bool,
    vectors: bool,
) -> Vec<Finding> {
    let mut found = Findings::default();
    // Rows that this process has inserted and keeps back.
    pending::write(index);
    // SAFETY: by the contract; first of all, so that what it sees is in all that is read from now on.
    let snapshot = unsafe { Snapshot::take(index) };
    if !lists::check(index, &mut found) {
        return found.finish();
    }
    // Vectors that are to be compared are read for that.
    segments::check(index, !vectors, &mut found);
    owner::check(index, &mut found);
    // SAFETY: by the contract.
    unsafe {
        let owner = AsOwner::of(heap);
        table::check(index, heap, snapshot.0, Scope { rows: rows || vectors, vectors }, &mut found);
        drop(owner);
    }
    drop(snapshot);
    found.finish()
}

/// A row of a table in words.
fn tid_text(tid: u64) -> String {
    format!("({},{})", tid >> 16, tid & 0xFFFF)
}

/// A registered snapshot.
struct Snapshot(pg_sys::Snapshot);

impl Snapshot {
    /// The transaction's present one. Raises an error when it may see rows that the index was not
    /// made for.
    ///
    /// # Safety
    /// `index` is an open index.
    unsafe fn take(index: pg_sys::Relation) -> Self {
        // SAFETY: by the contract, in a transaction.
        unsafe {
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetTransactionSnapshot());
            let is_old = pg_sys::XactIsoLevel >= pg_sys::XACT_REPEATABLE_READ as i32;
            if is_old && (*(*index).rd_index).indcheckxmin {
                let made = pg_sys::htup::HeapTupleHeaderGetXmin((*(*index).rd_indextuple).t_data);
                if !pg_sys::TransactionIdPrecedes(made, (*snapshot).xmin) {
                    raise(
                        PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
                        format!(
                            "index \"{}\" is younger than the transaction",
                            relation_name(index)
                        ),
                        "The transaction's snapshot may see rows that the index was not made for.",
                        "Check it in a new transaction.",
                    );
                }
            }
            Self(snapshot)
        }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: registered by `take`; after an error the abort does it.
            unsafe { pg_sys::UnregisterSnapshot(self.0) };
        }
    }
}

/// Runs the expressions and the predicate of an index as the owner of its table, who can do no more
/// than in CREATE INDEX.
struct AsOwner {
    user: pg_sys::Oid,
    context: i32,
    level: i32,
}

impl AsOwner {
    /// # Safety
    /// `heap` is an open relation.
    unsafe fn of(heap: pg_sys::Relation) -> Self {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: by the contract.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            let restricted = context | pg_sys::SECURITY_RESTRICTED_OPERATION as i32;
            pg_sys::SetUserIdAndSecContext((*(*heap).rd_rel).relowner, restricted);
            let level = pg_sys::NewGUCNestLevel();
            pg_sys::RestrictSearchPath();
            Self { user, context, level }
        }
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: set by `of`; after an error the abort does both.
            unsafe {
                pg_sys::AtEOXact_GUC(false, self.level);
                pg_sys::SetUserIdAndSecContext(self.user, self.context);
            }
        }
    }
}
