//! Threads that never take a signal.
//!
//! A PostgreSQL process handles its signals on its main thread; a handler that runs on any other
//! thread touches state it must not. A thread inherits the signal mask of the one that starts
//! it, so threads are started while every signal is blocked.

use std::io;
use std::mem::MaybeUninit;

/// Runs `work` with every signal blocked on this thread, then restores the mask, also when `work`
/// panics. Threads that `work` starts keep all signals blocked for good.
pub fn with_signals_blocked<R>(work: impl FnOnce() -> R) -> R {
    let _restore = Restore(block_all_signals());
    work()
}

/// A multi-threaded tokio runtime whose threads have every signal blocked.
///
/// Its workers start here. Threads for blocking work start later, from the thread that asks for
/// them: call the runtime through `spawn` (whose tasks run on workers), or wrap a `block_on` from
/// a thread that does take signals into [`with_signals_blocked`].
///
/// # Errors
/// The operating system's, if a thread or the poller cannot be had.
pub fn runtime(name: &str, worker_threads: usize) -> io::Result<tokio::runtime::Runtime> {
    with_signals_blocked(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(worker_threads.max(1))
            .thread_name(name)
            .on_thread_start(|| {
                block_all_signals();
            })
            .enable_all()
            .build()
    })
}

/// Puts a signal mask back when dropped.
struct Restore(libc::sigset_t);

impl Drop for Restore {
    fn drop(&mut self) {
        // SAFETY: `self.0` is a mask that `pthread_sigmask` filled in; a null third argument asks
        // for nothing back.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// Blocks every signal on this thread and returns the mask before.
fn block_all_signals() -> libc::sigset_t {
    let mut all = MaybeUninit::<libc::sigset_t>::zeroed();
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: both pointers are to writable `sigset_t`s. `sigfillset` and, with a valid first
    // argument, `pthread_sigmask` cannot fail and fill them in; zeroed ones are valid besides.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        before.assume_init()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether this thread has the ordinary signals blocked.
    fn blocked() -> bool {
        let mut mask = MaybeUninit::<libc::sigset_t>::zeroed();
        // SAFETY: a null set asks for the mask only; `mask` is writable and valid when zeroed.
        let mask = unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), mask.as_mut_ptr());
            mask.assume_init()
        };
        [libc::SIGINT, libc::SIGTERM, libc::SIGUSR1, libc::SIGHUP, libc::SIGALRM]
            .into_iter()
            // SAFETY: `mask` is a valid set and the numbers are valid signals.
            .all(|signal| unsafe { libc::sigismember(&mask, signal) } == 1)
    }

    #[test]
    fn the_mask_is_restored() {
        assert!(!blocked());
        assert!(with_signals_blocked(blocked));
        assert!(!blocked());
        let panicked = std::panic::catch_unwind(|| with_signals_blocked(|| panic!("on purpose")));
        assert!(panicked.is_err() && !blocked());
    }

    #[test]
    fn no_thread_of_a_runtime_takes_signals() {
        let runtime = runtime("test", 2).expect("a runtime");
        assert!(!blocked());
        let worker = runtime.spawn(async { blocked() });
        let helper = runtime.spawn_blocking(blocked);
        assert!(runtime.block_on(worker).expect("joined"));
        assert!(runtime.block_on(helper).expect("joined"));
    }
}
