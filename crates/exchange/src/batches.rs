//! Rows as they are handed out.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::stream::{BoxStream, Stream, StreamExt};

use crate::error::Result;

/// Largest number of dimensions of a vector.
pub const MAX_DIMENSIONS: usize = 16_000;

/// Consecutive rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Number of the first row, from 0.
    pub first_row: u64,
    /// How many rows; at least one.
    pub rows: usize,
    /// Elements of a vector.
    pub dimensions: usize,
    /// rows × dimensions, row-major. They are as stored: NaN and infinities are not filtered out.
    pub vectors: Vec<f32>,
    /// An id a row, none of them empty.
    pub ids: Option<Vec<String>>,
    /// A JSON object a row, as text.
    pub metadata: Option<Vec<String>>,
}

impl Batch {
    /// The first row, counted as [`first_row`](Self::first_row) is, whose vector has an element
    /// that is not finite; and which element, from 0.
    pub fn not_finite(&self) -> Option<(u64, usize)> {
        let at = self.vectors.iter().position(|element| !element.is_finite())?;
        Some((self.first_row + (at / self.dimensions) as u64, at % self.dimensions))
    }
}

/// How much is read at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes of vectors that are fetched and decoded together; two such bands are in memory, with
    /// their encoded form, besides the batches. One row of chunks is read together even if it
    /// takes more, and then alone; it is in memory up to three times while it is decoded.
    pub band_bytes: u64,
    /// Most bytes of vectors in a batch (at least one row).
    pub batch_bytes: usize,
    /// Most rows of a batch.
    pub batch_rows: usize,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { band_bytes: 8 << 20, batch_bytes: 4 << 20, batch_rows: 8192 }
    }
}

impl ReadLimits {
    /// Rows of a batch of vectors of so many dimensions.
    pub(crate) fn rows(&self, dimensions: usize) -> usize {
        let fitting = self.batch_bytes / (size_of::<f32>() * dimensions.max(1));
        fitting.min(self.batch_rows).max(1)
    }
}

/// What a reader notices on its way.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) missing_chunks: Arc<AtomicU64>,
    pub(crate) repeated_ids: AtomicU64,
}

/// A stream of batches in order. Dropping it ends everything that is under way for it.
///
/// It must be polled in a tokio runtime.
pub struct Batches {
    stream: BoxStream<'static, Result<Batch>>,
    tally: Arc<Tally>,
}

impl Batches {
    pub(crate) fn new(stream: BoxStream<'static, Result<Batch>>, tally: Arc<Tally>) -> Self {
        Self { stream, tally }
    }

    /// The next batch; `None` at the end. After an error there is nothing more to come.
    ///
    /// # Errors
    /// Those of the store, and whatever is wrong with what is read.
    pub async fn next(&mut self) -> Option<Result<Batch>> {
        self.stream.next().await
    }

    /// Chunks read so far that were never written, whose elements are the array's fill value. In a
    /// store that has lost objects these are the lost ones.
    pub fn missing_chunks(&self) -> u64 {
        self.tally.missing_chunks.load(Ordering::Relaxed)
    }

    /// Rows left out so far because a later one has the same id; see
    /// [`OldCollection`](crate::OldCollection).
    pub fn repeated_ids(&self) -> u64 {
        self.tally.repeated_ids.load(Ordering::Relaxed)
    }
}

impl Stream for Batches {
    type Item = Result<Batch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.poll_next_unpin(context)
    }
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches").field("tally", &self.tally).finish_non_exhaustive()
    }
}
