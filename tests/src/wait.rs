//! Waiting for something that happens in another process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a test waits for what should take a moment. Generous: it only bounds a hang.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls until `probe` returns something, and returns that.
///
/// # Panics
///
/// When nothing came within [`PATIENCE`]; `what` names it.
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        sleep(Duration::from_millis(10));
    }
}

/// Polls until `probe` is true. See [`wait_for`].
pub fn wait_until(what: &str, mut probe: impl FnMut() -> bool) {
    wait_for(what, || probe().then_some(()));
}

/// Counts threads at work, for others that go on until these are done. A thread that panics is
/// done too: otherwise a failed test would hang.
#[derive(Debug)]
pub struct AtWork(AtomicUsize);

/// One thread's part of the work; dropped when the thread is done.
#[derive(Debug)]
pub struct Shift<'a>(&'a AtWork);

impl AtWork {
    /// Work of `count` threads.
    pub fn new(count: usize) -> Self {
        Self(AtomicUsize::new(count))
    }

    /// To be held by each of the threads.
    pub fn shift(&self) -> Shift<'_> {
        Shift(self)
    }

    /// Whether any of the threads is not done yet.
    pub fn goes_on(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }
}

impl Drop for Shift<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}
