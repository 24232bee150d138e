//! How a caller follows and stops the writing of a segment.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::{Result, SegmentError};

/// Shared by a writer and the thread that watches over it.
#[derive(Debug, Default)]
pub struct WriteControl {
    /// Set it to make the writer give up within well under a second.
    pub stop: AtomicBool,
    /// Bytes of arrays that are durable, before compression.
    pub bytes_done: AtomicU64,
    /// Bytes of all arrays, before compression; 0 until the writer has begun.
    pub bytes_total: AtomicU64,
}

impl WriteControl {
    /// # Errors
    /// [`SegmentError::Cancelled`] once `stop` is set.
    pub(crate) fn check(&self) -> Result<()> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(SegmentError::Cancelled),
            false => Ok(()),
        }
    }
}
