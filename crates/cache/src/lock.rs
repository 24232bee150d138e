//! A mutex for threads of several processes.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

/// A process-shared, robust `pthread_mutex_t`.
///
/// Robust, because a process may end on purpose while its threads still run, without the memory
/// being given up: the next one who comes must find out and not wait for ever.
///
/// It is held for well below a microsecond and waiting for it sleeps, so a holder that loses its
/// processor gets it back. Priority inheritance would not help more: Linux inherits real-time
/// priorities, not nice values.
#[repr(transparent)]
pub struct Lock(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: made for use by several threads, from which it guards nothing but itself.
unsafe impl Sync for Lock {}

/// A lock that is held, until it is dropped.
pub struct Guard<'a> {
    lock: &'a Lock,
    /// Whether the last holder ended without releasing it: what it guards may be half changed.
    pub inherited: bool,
}

impl Lock {
    /// Prepares the lock where it lies.
    ///
    /// # Safety
    /// Nobody else uses the lock yet.
    pub unsafe fn init(&self) {
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: the attributes are initialised before they are set; the mutex is nobody else's
        // and does not move, since it is reached by reference only.
        let results = unsafe {
            [
                libc::pthread_mutexattr_init(attributes),
                libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED),
                libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST),
                libc::pthread_mutex_init(self.0.get(), attributes),
                libc::pthread_mutexattr_destroy(attributes),
            ]
        };
        assert_eq!(results, [0; 5], "cannot make a lock");
    }

    /// Waits for the lock and takes it.
    pub fn take(&self) -> Guard<'_> {
        // SAFETY: initialised, by the contract of whoever made the reference.
        match unsafe { libc::pthread_mutex_lock(self.0.get()) } {
            0 => Guard { lock: self, inherited: false },
            libc::EOWNERDEAD => {
                // SAFETY: held by this thread, in the state that the call is for.
                unsafe { libc::pthread_mutex_consistent(self.0.get()) };
                Guard { lock: self, inherited: true }
            }
            error => panic!("cannot take a lock of the payload cache: error {error}"),
        }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // SAFETY: held by this thread.
        unsafe { libc::pthread_mutex_unlock(self.lock.0.get()) };
    }
}
