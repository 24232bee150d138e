//! `s3vector_check`: whether an index is whole.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::opened::Opened;
use crate::check::{self, findings::Finding};
use crate::errors::raise;
use crate::pages::meta::relation_name;
use crate::shared;

/// Checks an index and returns a row for each thing that is wrong; none when all is well.
///
/// Pages and lists, the manifest, tombstones, objects in the store and their checksums, whose the
/// folders there are, graphs in memory; with `heap` that each row of the table that the index must
/// have is in it once, and nothing else; with `deep` also that each stored vector is that of the row.
/// Keeps nobody from writing.
#[pg_extern(
    volatile,
    parallel_restricted,
    sql = r#"
CREATE FUNCTION s3vector_check(index regclass, heap boolean DEFAULT true, deep boolean DEFAULT false)
    RETURNS TABLE (part text, segment text, place text, problem text)
    VOLATILE PARALLEL RESTRICTED STRICT LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#
)]
fn s3vector_check(
    index: pg_sys::Oid,
    heap: bool,
    deep: bool,
) -> TableIterator<
    'static,
    (
        name!(part, String),
        name!(segment, Option<String>),
        name!(place, String),
        name!(problem, String),
    ),
> {
    shared::require();
    let findings = with_table(index, |index, table| {
        // SAFETY: open relations, the second the table of the first.
        unsafe { check::check(index, table, heap, deep) }
    });
    TableIterator::new(findings.into_iter().map(|finding: Finding| {
        let segment = finding.segment.map(|segment| segment.to_string());
        (finding.part.name().to_owned(), segment, finding.place, finding.problem)
    }))
}

/// Opens an index that can be checked and its table, in the order in which others lock them, and
/// closes them again. There is nothing to check of an unlogged index during recovery.
fn with_table<T: Default>(
    oid: pg_sys::Oid,
    work: impl FnOnce(pg_sys::Relation, pg_sys::Relation) -> T,
) -> T {
    let lock = pg_sys::AccessShareLock as i32;
    // SAFETY: opens with locks or raises an error.
    unsafe {
        let table = pg_sys::IndexGetRelation(oid, true);
        let heap = match table {
            // `Opened` says what it is instead.
            pg_sys::InvalidOid => std::ptr::null_mut(),
            table => pg_sys::table_open(table, lock),
        };
        let opened = Opened::new(oid, lock);
        let index = opened.relation();
        opened.require_maintain("check");
        if heap.is_null() || pg_sys::IndexGetRelation(oid, false) != table {
            raise(
                PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                format!("could not open the table of index \"{}\"", relation_name(index)),
                "",
                "",
            );
        }
        let result = if is_checkable(index) { work(index, heap) } else { T::default() };
        drop(opened);
        pg_sys::table_close(heap, lock);
        result
    }
}

/// Whether there is something to check. Raises an error for an index that cannot be.
fn is_checkable(index: pg_sys::Relation) -> bool {
    let name = relation_name(index);
    // SAFETY: `index` is an open index.
    let (valid, persistence, local) = unsafe {
        let class = &*(*index).rd_rel;
        let valid = (*(*index).rd_index).indisvalid;
        (valid, class.relpersistence as u8, (*index).rd_islocaltemp)
    };
    if !valid {
        raise(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("cannot check index \"{name}\""),
            "The index is not valid: it is being built, or its build has failed.",
            "REINDEX or drop it if nobody builds it.",
        );
    }
    if persistence == pg_sys::RELPERSISTENCE_TEMP && !local {
        raise(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            format!("cannot check index \"{name}\""),
            "It belongs to a temporary table of another session.",
            "",
        );
    }
    // SAFETY: reads the server's state.
    let recovering = unsafe { pg_sys::RecoveryInProgress() };
    if persistence == pg_sys::RELPERSISTENCE_UNLOGGED && recovering {
        pgrx::notice!("unlogged index \"{name}\" has no content during recovery, skipping");
        return false;
    }
    true
}
