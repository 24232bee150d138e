//! PostgreSQL's lightweight locks as guards.

use pgrx::pg_sys;

/// A lock in shared memory.
#[derive(Clone, Copy)]
pub struct Lock(*mut pg_sys::LWLock);

/// A held lock. Dropping it releases the lock.
///
/// While an error unwinds nothing is released: raising it has already reset PostgreSQL's count of
/// held-off interrupts, and the abort of the transaction releases all locks.
pub struct Held(*mut pg_sys::LWLock);

impl Lock {
    /// The `n`th lock of a tranche.
    ///
    /// # Safety
    /// `tranche` must point to more than `n` locks.
    pub unsafe fn nth(tranche: *mut pg_sys::LWLockPadded, n: usize) -> Self {
        // SAFETY: by the contract; the padded form starts with the lock.
        Self(unsafe { tranche.add(n).cast() })
    }

    /// Waits for the lock, shared with other readers.
    pub fn share(self) -> Held {
        self.acquire(pg_sys::LWLockMode::LW_SHARED)
    }

    /// Waits for the lock, alone.
    pub fn exclusive(self) -> Held {
        self.acquire(pg_sys::LWLockMode::LW_EXCLUSIVE)
    }

    fn acquire(self, mode: pg_sys::LWLockMode::Type) -> Held {
        // SAFETY: the pointer is valid for the life of the server.
        unsafe { pg_sys::LWLockAcquire(self.0, mode) };
        Held(self.0)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: acquired by `acquire`, released once.
            unsafe { pg_sys::LWLockRelease(self.0) };
        }
    }
}
