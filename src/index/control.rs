//! Following and stopping a job from the main thread.

use std::pin::pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{Either, select};
use segment::WriteControl;

use crate::errors::{Failure, FailureKind};

/// How often a wait for storage looks whether to stop.
const STOP_POLL: Duration = Duration::from_millis(20);

/// What a build is doing, as `pg_stat_progress_create_index` numbers it (1 is PostgreSQL's own).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Phase {
    /// Reading the table.
    Scanning = 2,
    /// Making codes.
    Encoding = 3,
    /// Linking the graph.
    Linking = 4,
    /// Choosing the row order.
    Ordering = 5,
    /// Writing the segment.
    Writing = 6,
}

/// Follows and stops a job from another thread.
pub struct Control {
    phase: AtomicI64,
    encoded: AtomicU64,
    rows: AtomicU64,
    /// The part that the graph's build looks at.
    pub graph: hnsw::Control,
    /// The part that the segment's writer looks at.
    pub write: WriteControl,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            phase: AtomicI64::new(Phase::Encoding as i64),
            encoded: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            graph: hnsw::Control::new(),
            write: WriteControl::default(),
        }
    }
}

/// How far a job is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Number of the phase.
    pub phase: i64,
    /// Rows, or bytes while writing, that are done.
    pub done: u64,
    /// Rows or bytes in all.
    pub total: u64,
}

impl Control {
    /// Asks the job to end; it does within a small part of a second.
    pub fn stop(&self) {
        self.graph.stop();
        self.write.stop.store(true, Ordering::Relaxed);
    }

    /// How far the job is.
    pub fn progress(&self) -> Progress {
        let phase = self.phase.load(Ordering::Relaxed);
        let rows = self.rows.load(Ordering::Relaxed);
        let (done, total) = match phase {
            _ if phase == Phase::Encoding as i64 => (self.encoded.load(Ordering::Relaxed), rows),
            _ if phase == Phase::Linking as i64 => (self.graph.done() as u64, rows),
            _ if phase == Phase::Writing as i64 => (
                self.write.bytes_done.load(Ordering::Relaxed),
                self.write.bytes_total.load(Ordering::Relaxed),
            ),
            _ => (0, rows),
        };
        Progress { phase, done, total }
    }

    /// Tells how many rows there are.
    pub fn expect_rows(&self, rows: u64) {
        self.rows.store(rows, Ordering::Relaxed);
    }

    /// Counts rows that have got their codes.
    pub fn add_encoded(&self, rows: u64) {
        self.encoded.fetch_add(rows, Ordering::Relaxed);
    }

    /// Begins a phase, unless the job is to end.
    ///
    /// # Errors
    /// [`FailureKind::Cancelled`] after [`Control::stop`].
    pub fn enter(&self, phase: Phase) -> Result<(), Failure> {
        self.phase.store(phase as i64, Ordering::Relaxed);
        self.check()
    }

    /// Whether the job may go on.
    ///
    /// # Errors
    /// [`FailureKind::Cancelled`] after [`Control::stop`].
    pub fn check(&self) -> Result<(), Failure> {
        if self.graph.is_stopped() {
            return Err(cancelled());
        }
        Ok(())
    }
}

/// The failure of a job that has been stopped.
pub fn cancelled() -> Failure {
    Failure::new(FailureKind::Cancelled, "building the index was cancelled")
}

/// The outcome of `work`, unless the job is stopped before.
pub async fn until_stopped<T, E: Into<Failure>>(
    control: &Control,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    let stopped = pin!(async {
        while !control.graph.is_stopped() {
            tokio::time::sleep(STOP_POLL).await;
        }
    });
    match select(pin!(work), stopped).await {
        Either::Left((outcome, _)) => outcome.map_err(Into::into),
        Either::Right(_) => Err(cancelled()),
    }
}
