//! Rows of an array in order, a band of units at a time.
//!
//! ```text
//!   units of a band ── fetched together ──► decoded side by side ──► placed ──► rows ──► Cutter::take
//!   next band         (one wave)            (blocking threads)
//! ```
//!
//! While a band is handed out the next one is under way, unless it is large.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::task::JoinHandle;

use crate::array::{Fetched, StoredArray};
use crate::cell::Cell;
use crate::decoder::MAX_CHUNK_BYTES;
use crate::error::{ExchangeError, Result};

/// A band larger than this many times what was asked for is read alone.
const LARGE: u64 = 4;

/// A task that ends when nobody waits for it any more.
struct Task<R>(JoinHandle<R>);

impl<R> Drop for Task<R> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<R> Task<Result<R>> {
    async fn join(mut self) -> Result<R> {
        match (&mut self.0).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ExchangeError::Lost),
        }
    }
}

/// Runs `work` where it may block.
async fn on_a_thread<R: Send + 'static>(
    work: impl FnOnce() -> Result<R> + Send + 'static,
) -> Result<R> {
    Task(tokio::task::spawn_blocking(work)).join().await
}

/// All rows of `array` in bands of about `band_bytes`, each a vector of whole rows; counts in
/// `missing` the units that were never written.
pub(crate) fn bands<T: Cell>(
    array: Arc<StoredArray<T>>,
    band_bytes: u64,
    missing: Arc<AtomicU64>,
) -> BoxStream<'static, Result<Vec<T>>> {
    let geometry = array.geometry();
    let row_bytes = geometry.columns.saturating_mul(T::WEIGHT);
    let unit_bytes = geometry.unit_rows.min(geometry.rows).saturating_mul(row_bytes).max(1);
    if unit_bytes > MAX_CHUNK_BYTES {
        let what = format!("one row of its chunks takes {unit_bytes} bytes");
        let error = ExchangeError::unsupported(array.path(), what);
        return stream::once(async { Err(error) }).boxed();
    }
    let step = (band_bytes / unit_bytes).max(1);
    let at_once = if unit_bytes > band_bytes.saturating_mul(LARGE) { 1 } else { 2 };
    let count = geometry.unit_count();
    let starts = stream::unfold(0, move |start| async move {
        (start < count).then(|| (start..count.min(start + step), start + step))
    });
    starts
        .map(move |band| {
            let (array, missing) = (Arc::clone(&array), Arc::clone(&missing));
            // Only the band before may still be under way.
            array.forget_before(band.start.saturating_sub(step));
            // A task of its own, so that it goes on while nobody polls.
            Task(tokio::spawn(read_band(array, band, missing))).join()
        })
        .buffered(at_once)
        .boxed()
}

/// The rows of a band.
async fn read_band<T: Cell>(
    array: Arc<StoredArray<T>>,
    band: Range<u64>,
    missing: Arc<AtomicU64>,
) -> Result<Vec<T>> {
    let fetched = array.fetch(&band).await?;
    let absent = fetched.iter().filter(|unit| unit.is_none()).count();
    missing.fetch_add(absent as u64, Ordering::Relaxed);
    let geometry = array.geometry();
    let units: Vec<_> = geometry.units(&band).into_iter().zip(fetched).collect();
    let whole = units.len() == 1 && geometry.unit_columns == geometry.columns;
    let rows = geometry.rows_of(&band);
    let elements = ((rows.end - rows.start) * geometry.columns) as usize;
    let fill =
        array.decoder().fill().map_err(|what| ExchangeError::unsupported(array.path(), what))?;
    let threads = available_parallelism().map_or(1, usize::from);
    let mut decoded = stream::iter(units)
        .filter_map(async |(unit, fetched)| Some((unit, fetched?)))
        .map(|(unit, Fetched { key, bytes })| {
            let array = Arc::clone(&array);
            let work = move || {
                let decoded = array.decoder().decode(&bytes);
                decoded.map_err(|what| ExchangeError::corrupt(&*key, what))
            };
            async move { Ok::<_, ExchangeError>((unit, on_a_thread(work).await?)) }
        })
        .buffer_unordered(threads)
        .boxed();
    if whole && absent == 0 {
        // Large chunks are not copied.
        let (_, mut rows) = decoded.try_next().await?.ok_or(ExchangeError::Lost)?;
        rows.truncate(elements);
        return Ok(rows);
    }
    let mut target = vec![fill; elements];
    while let Some((unit, mut elements)) = decoded.try_next().await? {
        geometry.place(unit, &mut elements, &band, &mut target);
    }
    Ok(target)
}

/// Cuts bands into parts of other lengths.
pub(crate) struct Cutter<T> {
    bands: BoxStream<'static, Result<Vec<T>>>,
    current: std::vec::IntoIter<T>,
}

impl<T: Cell> Cutter<T> {
    pub(crate) fn new(bands: BoxStream<'static, Result<Vec<T>>>) -> Self {
        Self { bands, current: Vec::new().into_iter() }
    }

    /// The next `count` elements, or as many as are left.
    ///
    /// # Errors
    /// Those of the bands.
    pub(crate) async fn take(&mut self, count: usize) -> Result<Vec<T>> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            taken.extend(self.current.by_ref().take(count - taken.len()));
            if taken.len() < count {
                match self.bands.next().await.transpose()? {
                    Some(band) => self.current = band.into_iter(),
                    None => break,
                }
            }
        }
        Ok(taken)
    }
}
