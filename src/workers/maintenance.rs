//! The maintenance worker: flushes, merges, packs and sweeps for one database, then ends.
//!
//! The storage worker starts it when somebody has asked ([`crate::shared::maintenance`]). It works in
//! short transactions without a snapshot, one an index, so that it never keeps vacuum from removing
//! rows; it gives way to whoever waits for a lock that it holds; and what fails is tried again by the
//! next one, after a pause.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgrx::bgworkers::{BackgroundWorkerBuilder, BgWorkerStartTime};
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::scheduler;
use crate::errors::{Failure, FailureKind};
use crate::index::catalog;
use crate::index::control::Control;
use crate::index::maintain::{Effort, MAINTENANCE_LOCK, maintain};
use crate::index::sweep::{self, Stage};
use crate::shared::maintenance::{self, SWEEP, Slot, WORK};
use crate::threads::wait_for_latch;

/// What `pg_stat_activity` shows.
const NAME: &str = "s3vector maintenance worker";
/// How long a worker waits for more to do. Short: who wants to drop the database must not find it
/// in use.
const LINGER: Duration = Duration::from_millis(500);
/// How far maintenance stands back behind sessions when processors are scarce: it then gets about a
/// thirtieth of what a session gets, enough not to starve. What waits to be flushed meanwhile makes
/// queries slower, never inserts.
const NICENESS: i32 = 15;
/// When to look again at what somebody else was working on, in microseconds.
const LATER: i64 = 250_000;

/// Whether this process has reached its database.
static CONNECTED: AtomicBool = AtomicBool::new(false);
/// Whether somebody has asked this process to end.
static TERMINATED: AtomicBool = AtomicBool::new(false);

/// Asks the postmaster to start a worker for `database`, or, for 0, one that asks for a round of
/// maintenance of all databases. Whether the postmaster has room for it.
pub fn start(database: u32) -> bool {
    BackgroundWorkerBuilder::new(NAME)
        .set_type(NAME)
        .set_library("s3vector")
        .set_function("s3vector_maintenance_worker")
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
        .set_argument(Some(pg_sys::Datum::from(database as usize)))
        .enable_spi_access()
        .load_dynamic()
        .is_ok()
}

mod ffi {
    unsafe extern "C" {
        /// `nice(2)`.
        pub(super) fn nice(increment: i32) -> i32;
        /// `getsid(2)`.
        pub(super) fn getsid(process: i32) -> i32;
    }

    unsafe extern "C-unwind" {
        /// PostgreSQL's own handlers, declared again: a bound function is a wrapper, which cannot
        /// be a signal handler.
        pub(super) fn die(signal: i32);
        /// See [`die`].
        pub(super) fn SignalHandlerForConfigReload(signal: i32);
    }
}

/// Entry point of the process.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn s3vector_maintenance_worker(argument: pg_sys::Datum) {
    let database = argument.value() as u32;
    // SAFETY: the start of a background worker's main function. The handlers are PostgreSQL's own,
    // as in a backend; `terminate` adds a mark to one.
    unsafe {
        pg_sys::pqsignal_be(pg_sys::SIGHUP as i32, Some(ffi::SignalHandlerForConfigReload));
        pg_sys::pqsignal_be(pg_sys::SIGTERM as i32, Some(terminate));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
    stand_back();
    if database == 0 {
        connect(pg_sys::InvalidOid);
        let _ = in_transaction(scheduler::ask_for_all);
    } else if let Some(slot) = maintenance::slot(database) {
        slot.enter();
        // SAFETY: the callback lives as long as the library.
        unsafe { pg_sys::before_shmem_exit(Some(leave), pg_sys::Datum::from(database)) };
        connect(pg_sys::Oid::from(database));
        CONNECTED.store(true, Ordering::Relaxed);
        run(slot);
    }
    // SAFETY: ends the process; 0: it is not to be started again.
    unsafe { pg_sys::proc_exit(0) };
}

/// Lowers this process's priority, and that of the threads that it will start.
fn stand_back() {
    // SAFETY: both only concern this process.
    let leads_session = unsafe {
        ffi::nice(NICENESS);
        ffi::getsid(0) == pg_sys::MyProcPid
    };
    // Linux can share processors out by session first, and every server process is one of its own:
    // then it is the session's niceness that counts. The kernel takes few such requests at a time.
    let text = NICENESS.to_string();
    for _ in 0..3 {
        if !leads_session || std::fs::write("/proc/self/autogroup", &text).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(110));
    }
}

/// Signal handler: remembers why the process will end.
unsafe extern "C-unwind" fn terminate(signal: i32) {
    TERMINATED.store(true, Ordering::Relaxed);
    // SAFETY: PostgreSQL's own handler, called as the handler of the same signal.
    unsafe { ffi::die(signal) };
}

#[pg_guard]
unsafe extern "C-unwind" fn leave(_code: i32, database: pg_sys::Datum) {
    if let Some(slot) = maintenance::slot(database.value() as u32) {
        if CONNECTED.load(Ordering::Relaxed) {
            slot.leave();
        } else if TERMINATED.load(Ordering::Relaxed) {
            slot.send_away();
        } else {
            slot.turn_away();
        }
    }
}

fn connect(database: pg_sys::Oid) {
    // SAFETY: once, before anything else is done; without a role it is the bootstrap superuser.
    // Limits that are meant for sessions must not end maintenance half-way, as in autovacuum.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
        for limit in [c"statement_timeout", c"transaction_timeout", c"lock_timeout"] {
            pg_sys::SetConfigOption(
                limit.as_ptr(),
                c"0".as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
}

fn run(slot: &Slot) {
    loop {
        let wants = slot.take();
        if wants == 0 {
            return;
        }
        // SAFETY: the main thread, outside any transaction.
        unsafe {
            if pg_sys::ConfigReloadPending != 0 {
                pg_sys::ConfigReloadPending = 0;
                pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
            }
        }
        pass(slot, wants);
        slot.rest();
        report_activity(None);
        if !slot.is_wanted() {
            wait_for_latch(LINGER.as_millis() as i64);
        }
        pgrx::check_for_interrupts!();
        // What failed, or was left for later, waits for a worker of its own.
        if !slot.is_ready() {
            return;
        }
    }
}

/// One look at everything there is to do.
fn pass(slot: &Slot, wants: u32) {
    slot.rounds.fetch_add(1, Ordering::Relaxed);
    // Bits that are to be asked for again: because others were given way to, or of a failure.
    let (mut later, mut failed, mut message) = (0, 0, String::new());
    let mut put_down = |what: u32, problem: Problem| {
        if problem.cancelled {
            later |= what;
        } else {
            failed |= what;
            message = problem.message;
        }
    };
    let listed = in_transaction(catalog::indexes).unwrap_or_else(|problem| {
        put_down(WORK, problem);
        Vec::new()
    });
    for index in listed.iter().filter(|index| !index.temporary) {
        match in_transaction(|| work_on(slot, index.oid)) {
            // Whoever holds an index that is locked flushes or builds it anew.
            Ok(()) => {}
            Err(problem) => put_down(WORK, problem),
        }
        slot.rest();
    }
    if wants & SWEEP != 0 {
        report_activity(Some("sweeping"));
        match in_transaction(|| sweep_once(slot)) {
            Ok(()) => {
                slot.sweeps.fetch_add(1, Ordering::Relaxed);
            }
            Err(problem) => put_down(SWEEP, problem),
        }
    }
    match (failed, later) {
        (0, 0) => slot.succeed(),
        (0, later) => slot.postpone(later, LATER),
        (failed, later) => slot.fail(failed | later, &message),
    }
}

/// Maintains one index, unless somebody else holds it.
fn work_on(slot: &Slot, oid: pg_sys::Oid) {
    // SAFETY: in a transaction; what cannot be locked at once is left to others.
    unsafe {
        let Some(index) = catalog::open_at_once(oid, MAINTENANCE_LOCK) else { return };
        // Also one that is not valid: rows are inserted all the same.
        if (*(*index).rd_index).indisready {
            slot.work_on(oid.to_u32());
            report_activity(Some("maintaining an index"));
            // No snapshot is needed from here on, and one would keep vacuum from its work.
            pg_sys::InvalidateCatalogSnapshot();
            let mut watch = |control: &Control| {
                let progress = control.progress();
                slot.report(progress.phase, progress.done, progress.total);
                if pg_sys::LockHasWaitersRelation(index, MAINTENANCE_LOCK) {
                    give_way();
                }
            };
            maintain(index, Effort::Routine, &mut watch);
        }
        pg_sys::index_close(index, MAINTENANCE_LOCK);
    }
}

fn sweep_once(slot: &Slot) {
    let findings = sweep::sweep(false, &mut |stage| match stage {
        Stage::Looking(held) if held.is_wanted() => give_way(),
        // There may be much to delete, and who inserts does not wait for that.
        Stage::Acting if slot.is_wanted() => give_way(),
        Stage::Looking(_) | Stage::Acting => {}
    });
    let deleted = || findings.iter().filter(|finding| finding.deleted);
    if deleted().next().is_some() {
        let objects: u64 = deleted().map(|finding| finding.objects).sum();
        let bytes: u64 = deleted().map(|finding| finding.bytes).sum();
        pgrx::log!("s3vector: deleted {objects} unused objects, {bytes} bytes");
    }
}

/// Ends what is being done because another session waits for it.
fn give_way() -> ! {
    Failure::new(FailureKind::Cancelled, "s3vector maintenance gives way to another session")
        .raise()
}

/// Why a transaction failed.
struct Problem {
    message: String,
    /// Somebody asked for it to end: nothing is wrong.
    cancelled: bool,
}

/// Runs `work` in a transaction of its own; an error is logged and aborts it.
fn in_transaction<T>(work: impl FnOnce() -> T) -> Result<T, Problem> {
    PgTryBuilder::new(AssertUnwindSafe(|| {
        // SAFETY: outside any transaction.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
        }
        let value = work();
        // SAFETY: in the transaction just started.
        unsafe { pg_sys::CommitTransactionCommand() };
        Ok(value)
    }))
    .catch_others(|error| {
        use pg_sys::panic::CaughtError::{ErrorReport, PostgresError, RustPanic};
        let (PostgresError(report) | ErrorReport(report) | RustPanic { ereport: report, .. }) =
            &error;
        let cancelled = report.sql_error_code() == PgSqlErrorCode::ERRCODE_QUERY_CANCELED;
        let message = report.message().to_owned();
        if cancelled {
            pgrx::debug1!("s3vector maintenance: {message}");
        } else {
            let detail = report.detail().map(|text| format!(" ({text})")).unwrap_or_default();
            pgrx::warning!("s3vector maintenance failed: {message}{detail}");
        }
        // SAFETY: the transaction that failed; it releases whatever it holds.
        unsafe { pg_sys::AbortCurrentTransaction() };
        Err(Problem { message, cancelled })
    })
    .execute()
}

fn report_activity(what: Option<&str>) {
    let state = match what {
        Some(_) => pg_sys::BackendState::STATE_RUNNING,
        None => pg_sys::BackendState::STATE_IDLE,
    };
    let text = std::ffi::CString::new(what.unwrap_or_default()).unwrap_or_default();
    // SAFETY: updates this process's own entry, which copies the text.
    unsafe { pg_sys::pgstat_report_activity(state, text.as_ptr()) };
}
