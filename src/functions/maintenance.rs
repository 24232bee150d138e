//! Maintenance by hand, and what the workers do by themselves.

use std::sync::atomic::Ordering;

use pgrx::prelude::*;
use pgrx::{PgRelation, pg_sys};

use super::opened::Opened;
use crate::errors::raise;
use crate::index::maintain::{Effort, MAINTENANCE_LOCK, maintain};
use crate::index::sweep;
use crate::objects::inventory::Finding;
use crate::pages::meta::Meta;
use crate::pages::{consistent, manifest};
use crate::shared::{self, maintenance};

/// Turns all rows inserted since the last flush into a segment, merges segments as the policy says
/// and packs the relation. Stays done when the transaction is rolled back.
#[pg_extern(volatile, parallel_unsafe)]
fn s3vector_flush(
    index: PgRelation,
) -> TableIterator<
    'static,
    (
        name!(rows_flushed, i64),
        name!(rows_merged, i64),
        name!(segments_written, i32),
        name!(segments_replaced, i32),
        name!(bytes_written, i64),
        name!(segments, i32),
    ),
> {
    shared::require();
    refuse_read_only(c"s3vector_flush()");
    let oid = index.oid();
    // Dropped before the lock is waited for: packing needs to know that nobody else has it open.
    drop(index);
    let opened = Opened::new(oid, MAINTENANCE_LOCK);
    opened.require_maintain("flush");
    let report = maintain(opened.relation(), Effort::Thorough, &mut |_| ());
    let segments = consistent(opened.relation(), |meta: &Meta| {
        manifest::read(opened.relation(), meta).map(|segments| segments.len())
    });
    TableIterator::once((
        report.rows_flushed as i64,
        report.rows_merged as i64,
        report.segments_written as i32,
        report.segments_replaced as i32,
        report.bytes_written as i64,
        segments as i32,
    ))
}

/// Raises an error on a standby and in a read-only transaction.
fn refuse_read_only(function: &std::ffi::CStr) {
    // SAFETY: these raise an error or do nothing.
    unsafe {
        pg_sys::PreventCommandDuringRecovery(function.as_ptr());
        pg_sys::PreventCommandIfReadOnly(function.as_ptr());
    }
}

/// Marks objects in the store that no index needs any more, and deletes those that were marked
/// longer than `s3vector.gc_grace` ago. Looks only at what this database, or one that is gone, wrote.
/// A dry run changes nothing, and shows folders that are left alone, too.
#[pg_extern(volatile, parallel_unsafe)]
fn s3vector_sweep(
    dry_run: default!(bool, false),
) -> TableIterator<
    'static,
    (
        name!(prefix, String),
        name!(reason, String),
        name!(objects, i64),
        name!(bytes, i64),
        name!(since, Option<TimestampWithTimeZone>),
        name!(deleted, bool),
    ),
> {
    require_superuser("s3vector_sweep");
    // The owner of what is swept is told by the timeline that is being written.
    refuse_recovery(c"s3vector_sweep()");
    if !dry_run {
        refuse_read_only(c"s3vector_sweep()");
        refuse_own_changes("s3vector_sweep()");
    }
    let findings = sweep::sweep(dry_run, &mut |_| ());
    TableIterator::new(findings.into_iter().map(|finding: Finding| {
        (
            finding.prefix,
            finding.reason.to_owned(),
            finding.objects as i64,
            finding.bytes as i64,
            finding.since.map(timestamp),
            finding.deleted,
        )
    }))
}

/// Declares that the clusters this one descends from are gone for good: what they wrote on older
/// timelines belongs to this database from now on. Returns the folders.
#[pg_extern(volatile, parallel_unsafe)]
fn s3vector_adopt() -> SetOfIterator<'static, String> {
    require_superuser("s3vector_adopt");
    refuse_recovery(c"s3vector_adopt()");
    refuse_read_only(c"s3vector_adopt()");
    SetOfIterator::new(sweep::adopt().into_iter().map(|folder| folder.to_string()))
}

fn refuse_recovery(function: &std::ffi::CStr) {
    // SAFETY: raises an error or does nothing.
    unsafe { pg_sys::PreventCommandDuringRecovery(function.as_ptr()) };
}

fn require_superuser(function: &str) {
    // SAFETY: looks at the current user only.
    if !unsafe { pg_sys::superuser() } {
        raise(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("permission denied for function {function}"),
            "It concerns the objects of all users, so only superusers may call it.",
            "",
        );
    }
}

/// Raises an error when the transaction has changed something: an index it has dropped or rebuilt
/// may still be rolled back, and looks to itself as if it were gone.
fn refuse_own_changes(function: &str) {
    // SAFETY: reads the transaction's state.
    if unsafe { pg_sys::GetTopTransactionIdIfAny() } != pg_sys::InvalidTransactionId {
        raise(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            format!("{function} cannot run in a transaction that has made changes"),
            "What it takes for unused could come back by a rollback.",
            "Commit first.",
        );
    }
}

fn timestamp(time: std::time::SystemTime) -> TimestampWithTimeZone {
    let seconds =
        time.duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    to_timestamp(seconds)
}

/// What maintenance is doing and has done, a row a database. Behind the view
/// `s3vector_stat_maintenance`.
#[pg_extern(volatile, parallel_restricted)]
#[expect(clippy::type_complexity, reason = "pgrx reads the columns from the type")]
fn s3vector_maintenance() -> TableIterator<
    'static,
    (
        name!(database, Option<String>),
        name!(pid, Option<i32>),
        name!(state, String),
        name!(index, Option<pg_sys::Oid>),
        name!(phase, Option<String>),
        name!(done, i64),
        name!(total, i64),
        name!(flushes, i64),
        name!(merges, i64),
        name!(sweeps, i64),
        name!(rounds, i64),
        name!(errors, i64),
        name!(last_error, Option<String>),
    ),
> {
    TableIterator::new(maintenance::slots().map(|slot| {
        let pid = slot.pid.load(Ordering::Acquire);
        let state = match pid {
            0 if slot.is_wanted() || slot.is_taken() => "requested",
            0 => "idle",
            _ => "running",
        };
        let index = slot.index.load(Ordering::Relaxed);
        let count = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed) as i64;
        (
            database_name(slot.database.load(Ordering::Acquire)),
            (pid != 0).then_some(pid),
            state.to_owned(),
            (index != 0).then(|| pg_sys::Oid::from(index)),
            crate::index::build::phase_name(slot.phase.load(Ordering::Relaxed)).map(str::to_owned),
            count(&slot.done),
            count(&slot.total),
            count(&slot.flushes),
            count(&slot.merges),
            count(&slot.sweeps),
            count(&slot.rounds),
            count(&slot.errors),
            Some(slot.last_error()).filter(|text| !text.is_empty()),
        )
    }))
}

/// A database's name; none when it is gone.
fn database_name(oid: u32) -> Option<String> {
    // SAFETY: in a transaction; the result is null or a string in the current memory context.
    unsafe {
        let name = pg_sys::get_database_name(pg_sys::Oid::from(oid));
        (!name.is_null()).then(|| std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned())
    }
}
