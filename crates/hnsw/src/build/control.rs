//! Watching and stopping a build from another thread.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What a build shares with the thread that waits for it.
///
/// Nothing is handed over through these, so relaxed ordering is enough.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    done: AtomicUsize,
}

impl Control {
    /// A control of a build that has done nothing and shall go on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the build to end. Every thread of it looks after each candidate it expands, well
    /// under a millisecond.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the build has been asked to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Rows that have their links so far, inserted or taken over from another graph.
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    pub(super) fn add_done(&self, rows: usize) {
        self.done.fetch_add(rows, Ordering::Relaxed);
    }
}
