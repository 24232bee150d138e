//! What the storage worker is and has done.

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};

use pgrx::pg_sys;

use super::lock::Lock;
use super::text::Text;

/// The storage worker's state and totals since server start.
#[repr(C)]
pub struct Counters {
    /// Process id of the running worker; 0 while there is none.
    pub worker_pid: AtomicI32,
    /// The worker's latch, valid while `worker_pid` is not 0.
    pub worker_latch: AtomicPtr<pg_sys::Latch>,
    /// How often a worker has started: who waits for an answer notices a restart by it.
    pub worker_starts: AtomicU64,
    /// Jobs that failed.
    pub errors: AtomicU64,
    /// Payload cache: rows found.
    pub cache_hits: AtomicU64,
    /// Payload cache: rows not found.
    pub cache_misses: AtomicU64,
    /// Rows read from the table because storage did not answer.
    pub heap_rows: AtomicU64,
    last_error: UnsafeCell<Text<512>>,
}

static mut COUNTERS: *mut Counters = ptr::null_mut();
static mut TEXT_LOCK: Option<Lock> = None;

/// Bytes of shared memory needed.
pub fn size() -> usize {
    size_of::<Counters>()
}

/// Takes the memory into use.
///
/// # Safety
/// Only in the postmaster's startup hook; `area` is [`size`] bytes, zero when new.
pub unsafe fn attach(area: *mut u8, lock: Lock) {
    // SAFETY: by the contract; nothing reads the pointers before.
    unsafe {
        COUNTERS = area.cast();
        TEXT_LOCK = Some(lock);
    }
}

/// The counters, or `None` when the library was not preloaded.
pub fn get() -> Option<&'static Counters> {
    // SAFETY: set once before processes are forked; the memory lives as long as the server.
    unsafe { COUNTERS.as_ref() }
}

impl Counters {
    /// Remembers the text of the latest failure.
    pub fn set_last_error(&self, message: &str) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the lock is set together with the counters and makes this the only access.
        unsafe {
            if let Some(lock) = TEXT_LOCK {
                let _held = lock.exclusive();
                (*self.last_error.get()).set(message);
            }
        }
    }

    /// The text of the latest failure; empty when there was none.
    pub fn last_error(&self) -> String {
        // SAFETY: as in `set_last_error`; the shared lock keeps writers out.
        unsafe {
            let Some(lock) = TEXT_LOCK else { return String::new() };
            let _held = lock.share();
            (*self.last_error.get()).get()
        }
    }

    /// Wakes the storage worker.
    pub fn wake_worker(&self) {
        let latch = self.worker_latch.load(Ordering::Acquire);
        if self.worker_pid.load(Ordering::Acquire) != 0 && !latch.is_null() {
            // SAFETY: latches are part of PostgreSQL's shared process array and stay valid; at
            // worst another process is woken for nothing.
            unsafe { pg_sys::SetLatch(latch) };
        }
    }
}
