//! The s3vector indexes of this database, as the catalog lists them.

use std::ptr;

use pgrx::pg_sys;

use super::scan::is_ours;
use crate::pages::wal::MAIN;

/// A row of `pg_class` for an index of this access method.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// The index.
    pub oid: pg_sys::Oid,
    /// Its relation file.
    pub relation: u32,
    /// Whether it belongs to a temporary table.
    pub temporary: bool,
}

/// Every index of this access method: committed ones, and those that transactions under way are
/// creating or dropping.
pub fn indexes() -> Vec<Listed> {
    // SAFETY: in a transaction; a name that is not there is no error.
    let method = unsafe { pg_sys::get_am_oid(c"s3vector".as_ptr(), true) };
    let mut found = Vec::new();
    if method == pg_sys::InvalidOid {
        return found;
    }
    scan(pg_sys::RelationRelationId, |class: &pg_sys::FormData_pg_class| {
        if class.relam == method && class.relkind as u8 == pg_sys::RELKIND_INDEX {
            found.push(Listed {
                oid: class.oid,
                relation: class.relfilenode.to_u32(),
                temporary: class.relpersistence as u8 == pg_sys::RELPERSISTENCE_TEMP,
            });
        }
    });
    found
}

/// Locks and opens an index, unless it is locked by somebody else, gone, not of this access method, or
/// has not been built. The caller closes it with the same lock.
///
/// # Safety
/// In a transaction.
pub unsafe fn open_at_once(oid: pg_sys::Oid, lock: pg_sys::LOCKMODE) -> Option<pg_sys::Relation> {
    // SAFETY: by the contract; the lock is taken here.
    unsafe {
        pg_sys::ConditionalLockRelationOid(oid, lock).then(|| open_locked(oid, lock)).flatten()
    }
}

/// Opens an index that the caller has just locked, on the same conditions; gives the lock back when
/// there is nothing to open.
///
/// # Safety
/// In a transaction that holds `lock` on `oid`.
pub unsafe fn open_locked(oid: pg_sys::Oid, lock: pg_sys::LOCKMODE) -> Option<pg_sys::Relation> {
    // SAFETY: by the contract.
    unsafe {
        let index = pg_sys::try_index_open(oid, pg_sys::NoLock as i32);
        if index.is_null() {
            pg_sys::UnlockRelationOid(oid, lock);
            return None;
        }
        if !is_ours(index) || pg_sys::RelationGetNumberOfBlocksInFork(index, MAIN) == 0 {
            pg_sys::index_close(index, lock);
            return None;
        }
        Some(index)
    }
}

/// Every database, also those being created or dropped; and whether one can connect to it.
pub fn databases() -> Vec<(u32, bool)> {
    let mut found = Vec::new();
    scan(pg_sys::DatabaseRelationId, |database: &pg_sys::FormData_pg_database| {
        found.push((database.oid.to_u32(), database.datallowconn && !database.datistemplate));
    });
    found
}

/// Visits every row of a catalog that is committed or about to be.
fn scan<T>(catalog: pg_sys::Oid, mut visit: impl FnMut(&T)) {
    // SAFETY: in a transaction; `T` is the fixed part of the catalog's rows. A dirty snapshot needs
    // nothing but its kind, and is the only one that sees what others have not committed yet.
    unsafe {
        let lock = pg_sys::AccessShareLock as i32;
        let relation = pg_sys::table_open(catalog, lock);
        let mut dirty = pg_sys::SnapshotData {
            snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY,
            ..Default::default()
        };
        let scan = pg_sys::table_beginscan(relation, &mut dirty, 0, ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            visit(&*pg_sys::GETSTRUCT(tuple).cast::<T>());
        }
        pg_sys::table_endscan(scan);
        pg_sys::table_close(relation, lock);
    }
}
