//! An index that a function was given.

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::errors::raise;
use crate::index::catalog;
use crate::index::scan::is_ours;
use crate::pages::meta::relation_name;

/// An open, locked index of this access method; closed and unlocked when dropped.
pub struct Opened {
    relation: pg_sys::Relation,
    lock: pg_sys::LOCKMODE,
}

impl Opened {
    /// Opens the relation; raises an error when it is not an s3vector index with storage.
    pub fn new(oid: pg_sys::Oid, lock: pg_sys::LOCKMODE) -> Self {
        // SAFETY: opens with a lock or raises an error; anything but an index is refused there.
        unsafe {
            let opened = Self { relation: pg_sys::index_open(oid, lock), lock };
            let kind = (*(*opened.relation).rd_rel).relkind as u8;
            if !is_ours(opened.relation) || kind != pg_sys::RELKIND_INDEX {
                let name = relation_name(opened.relation);
                raise(
                    PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                    format!("\"{name}\" is not an s3vector index"),
                    "",
                    "For a partitioned index ask about the indexes of its partitions.",
                );
            }
            opened
        }
    }

    /// Opens an index that the catalog lists for reading, unless it is locked, gone, or has not
    /// been built.
    pub fn at_once(oid: pg_sys::Oid) -> Option<Self> {
        let lock = pg_sys::AccessShareLock as i32;
        // SAFETY: functions run in a transaction.
        let relation = unsafe { catalog::open_at_once(oid, lock) }?;
        Some(Self { relation, lock })
    }

    /// Raises an error unless the user owns the index or may maintain its table; `verb` is what was
    /// asked for.
    pub fn require_maintain(&self, verb: &str) {
        let index = self.relation;
        // SAFETY: `index` is an open relation.
        let allowed = unsafe {
            let (oid, user) = ((*index).rd_id, pg_sys::GetUserId());
            let table = (*(*index).rd_index).indrelid;
            let maintain = pg_sys::AclMode::from(pg_sys::ACL_MAINTAIN);
            pg_sys::object_ownercheck(pg_sys::RelationRelationId, oid, user)
                || pg_sys::pg_class_aclcheck(table, user, maintain)
                    == pg_sys::AclResult::ACLCHECK_OK
        };
        if !allowed {
            raise(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied for index {}", relation_name(index)),
                "",
                format!(
                    "Only its owner, and roles with the MAINTAIN privilege on its table, may {verb} it."
                ),
            );
        }
    }

    /// The relation.
    pub fn relation(&self) -> pg_sys::Relation {
        self.relation
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: opened by a constructor; after an error the transaction's end closes it.
            unsafe { pg_sys::index_close(self.relation, self.lock) };
        }
    }
}
