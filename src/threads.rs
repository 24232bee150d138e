//! Running Rust threads beside PostgreSQL's main thread.
//!
//! PostgreSQL delivers its signals to whichever thread has them unblocked, and its handlers must
//! run on the main thread only. So threads start with every signal blocked
//! ([`storage::with_signals_blocked`]), never call PostgreSQL, and the main thread stays
//! responsive by polling.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pgrx::pg_sys;

use crate::errors::{Failure, FailureKind};

/// How long the main thread sleeps between looks at a running job, in milliseconds. The latch
/// ends the sleep early when a cancel request arrives.
const POLL_MS: i64 = 50;

/// Runs `job` on its own thread while the main thread handles interrupts and calls `watch`
/// every [`POLL_MS`]. When an interrupt raises an error, `stop` is called and the job is waited for
/// before the error goes on: a job that notices promptly ends a cancelled statement promptly, and
/// it may borrow from the caller.
pub fn run_interruptible<T: Send>(
    stop: &dyn Fn(),
    job: impl FnOnce() -> T + Send,
    mut watch: impl FnMut(),
) -> T {
    let finished = AtomicBool::new(false);
    // SAFETY: this process's own latch; the address is sent to the thread as a number.
    let latch = unsafe { pg_sys::MyLatch } as usize;
    thread::scope(|scope| {
        // Dropped before the scope joins its threads, on success and on unwinding alike.
        let mut on_error = StopOnDrop { stop, armed: true };
        let work = || {
            // Dropped when the job has returned or panicked.
            let _announce = Announce { finished: &finished, latch };
            job()
        };
        let spawned = storage::with_signals_blocked(|| {
            thread::Builder::new().name("s3vector job".into()).spawn_scoped(scope, work)
        });
        let handle = match spawned {
            Ok(handle) => handle,
            Err(error) => pgrx::error!("could not start a thread: {error}"),
        };
        while !finished.load(Ordering::Acquire) {
            watch();
            wait_for_latch(POLL_MS);
            pg_sys::check_for_interrupts!();
        }
        watch();
        on_error.armed = false;
        match handle.join() {
            Ok(value) => value,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    })
}

/// Tells the main thread that a job has ended, and wakes it.
struct Announce<'a> {
    finished: &'a AtomicBool,
    latch: usize,
}

impl Drop for Announce<'_> {
    fn drop(&mut self) {
        self.finished.store(true, Ordering::Release);
        wake(self.latch as *mut pg_sys::Latch);
    }
}

/// Asks a job to stop unless disarmed.
struct StopOnDrop<'a> {
    stop: &'a dyn Fn(),
    armed: bool,
}

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            (self.stop)();
        }
    }
}

/// Sleeps until this process's latch is set or `milliseconds` have passed; leaves the process
/// when the postmaster has died.
pub fn wait_for_latch(milliseconds: i64) {
    // SAFETY: MyLatch is this process's own latch, set up before any extension code runs.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            (pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH) as i32,
            milliseconds as _,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
}

/// A rayon pool whose threads have every signal blocked.
///
/// # Errors
/// When the threads cannot be started.
pub fn pool(threads: usize) -> Result<rayon::ThreadPool, Failure> {
    let pool = storage::with_signals_blocked(|| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("s3vector {i}"))
            .build()
    });
    pool.map_err(not_started)
}

/// A tokio runtime whose threads have every signal blocked.
///
/// # Errors
/// When the threads cannot be started.
pub fn runtime(name: &str, threads: usize) -> Result<tokio::runtime::Runtime, Failure> {
    storage::runtime(name, threads).map_err(not_started)
}

fn not_started(error: impl std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Io, format!("could not start threads: {error}"))
}

mod ffi {
    unsafe extern "C" {
        /// PostgreSQL's own function, declared again: the bound one refuses to run off the main
        /// thread, while this one only sets a flag and signals a process.
        pub(super) fn SetLatch(latch: *mut pgrx::pg_sys::Latch);
    }
}

/// Wakes the process that owns `latch`, from any thread. Null is ignored.
pub fn wake(latch: *mut pg_sys::Latch) {
    if !latch.is_null() {
        // SAFETY: latches lie in shared memory for the life of the server. `SetLatch` raises no
        // error, allocates nothing and is async-signal-safe.
        unsafe { ffi::SetLatch(latch) };
    }
}
