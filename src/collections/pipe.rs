//! A thread that reads or writes arrays in a store, and the main thread that reads or writes rows:
//! batches go between them through a short channel, so that both work at the same time and memory
//! is bounded.

use std::sync::Arc;

use ::storage::{StorageConfig, Store};
use exchange::{Batch, Batches, Export, ExportInfo, Exported};
use pgrx::pg_sys;
use tokio::sync::mpsc;

use crate::errors::Failure;
use crate::index::control::{Control, until_stopped};
use crate::settings;
use crate::shared::storage_metrics;
use crate::threads::{self, run_interruptible, wake};

/// Batches that wait in a channel.
const WAITING: usize = 2;
/// Threads that decode or encode, and talk to the store.
const THREADS: usize = 2;

/// What is known when an array has been opened.
pub struct Opened {
    /// Elements of a vector.
    pub dimensions: usize,
    /// The metric that goes with it, if that is known.
    pub metric: Option<String>,
    /// Its rows.
    pub batches: Batches,
}

/// What the main thread gets to see of an import.
pub enum Incoming {
    /// What the rows will be like.
    Head {
        /// Elements of a vector.
        dimensions: usize,
        /// The metric that goes with them, if that is known.
        metric: Option<String>,
    },
    /// Some rows.
    Rows(Batch),
    /// There are no more.
    End {
        /// Chunks that were never written.
        missing_chunks: u64,
        /// Rows left out because a later one has the same id.
        repeated_ids: u64,
    },
}

/// Opens an array below `url` and calls `take` on the main thread with all that comes of it. Raises
/// what goes wrong.
pub fn import(
    url: &str,
    open: impl AsyncFnOnce(&Arc<dyn Store>) -> exchange::Result<Opened> + Send,
    mut take: impl FnMut(Incoming),
) {
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let control = Control::default();
    let place = place(url);
    let latch = latch();
    let job = || {
        on_runtime(&place, async |store| {
            until_stopped(&control, async {
                let send = async |message| {
                    // The other end goes only when this is stopped.
                    let _ = sender.send(message).await;
                    wake(latch as *mut pg_sys::Latch);
                };
                let Opened { dimensions, metric, mut batches } = open(store).await?;
                send(Incoming::Head { dimensions, metric }).await;
                while let Some(batch) = batches.next().await {
                    send(Incoming::Rows(batch?)).await;
                }
                let missing_chunks = batches.missing_chunks();
                send(Incoming::End { missing_chunks, repeated_ids: batches.repeated_ids() }).await;
                Ok::<_, Failure>(())
            })
            .await
        })
    };
    let drain = || {
        while let Ok(message) = receiver.try_recv() {
            take(message);
        }
    };
    run_interruptible(&|| control.stop(), job, drain).unwrap_or_else(|failure| failure.raise());
}

/// Rows of an export.
pub struct Outgoing {
    /// Rows × dimensions.
    pub vectors: Vec<f32>,
    /// An id for each.
    pub ids: Vec<String>,
    /// A JSON object for each.
    pub metadata: Vec<String>,
}

/// Writes a group at `url` of the rows that `give` returns on the main thread until it returns `None`.
/// Raises what goes wrong, and then leaves nothing there.
pub fn export(url: &str, info: ExportInfo, mut give: impl FnMut() -> Option<Outgoing>) -> Exported {
    let (sender, mut receiver) = mpsc::channel::<Outgoing>(WAITING);
    let control = Control::default();
    let place = place(url);
    let latch = latch();
    let job = || {
        on_runtime(&place, async |store| {
            let mut export = until_stopped(&control, Export::create(store, info)).await?;
            let writing = until_stopped(&control, async {
                while let Some(rows) = receiver.recv().await {
                    wake(latch as *mut pg_sys::Latch);
                    export.write(&rows.vectors, rows.ids, rows.metadata).await?;
                }
                Ok::<_, Failure>(())
            });
            match writing.await {
                Ok(()) => until_stopped(&control, export.finish()).await,
                Err(failure) => {
                    export.abandon().await;
                    Err(failure)
                }
            }
        })
    };
    let mut sender = Some(sender);
    let feed = || {
        while let Some(open) = &sender {
            // No room now, or nobody there to read any more: the job says why when it is joined.
            let Ok(place) = open.try_reserve() else { return };
            match give() {
                Some(rows) => place.send(rows),
                None => {
                    drop(place);
                    sender = None;
                }
            }
        }
    };
    run_interruptible(&|| control.stop(), job, feed).unwrap_or_else(|failure| failure.raise())
}

/// The server's way to a store at `url`.
fn place(url: &str) -> StorageConfig {
    StorageConfig { url: url.to_owned(), ..settings::storage() }
}

/// This process's latch, as a number that can be given to a thread.
fn latch() -> usize {
    // SAFETY: set up before any extension code runs.
    unsafe { pg_sys::MyLatch as usize }
}

fn on_runtime<T>(
    place: &StorageConfig,
    work: impl AsyncFnOnce(&Arc<dyn Store>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let store = ::storage::open(place, storage_metrics::get())?;
    let runtime = threads::runtime("s3vector exchange", THREADS)?;
    let outcome = runtime.block_on(work(&store));
    runtime.shutdown_background();
    outcome
}
