//! What the storage worker's threads do: open segments, load graphs, fetch rows. No PostgreSQL
//! call is made here; results go out as [`Message`]s to the main thread, or as answers into
//! fetch slots.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use ::storage::{StorageConfig, StorageError, Store};
use bytes::Bytes;
use distance::ExactQuery;
use futures::future::try_join_all;
use pgrx::pg_sys;
use segment::{Reader, Resident};
use uuid::Uuid;

use crate::errors::{Failure, FailureKind};
use crate::shared::fetch_slots::{self, Fetched, RowRef};
use crate::shared::{counters, registry};
use crate::threads::wake;

/// Readers kept open: each holds a segment's attributes and, for compressed payloads, the
/// indexes of its shards.
const MAX_READERS: usize = 4096;

/// What a thread has to tell the main thread.
pub enum Message {
    /// A segment's graph takes this much memory.
    Measured {
        /// Whose.
        request: registry::Request,
        /// For loading it.
        reader: Arc<Reader>,
        /// Bytes in memory.
        bytes: usize,
    },
    /// A graph is in memory.
    Loaded {
        /// Whose.
        request: registry::Request,
        /// Where.
        memory: Memory,
    },
    /// A graph could not be loaded.
    NotLoaded {
        /// Whose.
        request: registry::Request,
        /// What had been created for it.
        memory: Option<Memory>,
        /// Why.
        failure: Failure,
    },
    /// Inner chunks to remember.
    Chunks {
        /// The segment.
        segment: Uuid,
        /// Number and content of each.
        chunks: Vec<(u32, Bytes)>,
    },
    /// A line for the server log and the statistics.
    Log(String),
}

/// The main thread's letter box, for use from any thread.
#[derive(Clone)]
pub struct Outbox {
    sender: Sender<Message>,
    latch: usize,
}

impl Outbox {
    /// Letters go to the receiver of `sender`; its thread sleeps on `latch`.
    pub fn new(sender: Sender<Message>, latch: *mut pg_sys::Latch) -> Self {
        Self { sender, latch: latch as usize }
    }

    /// Sends a message and wakes the main thread.
    pub fn send(&self, message: Message) {
        // The receiver is gone only when the process is leaving.
        let _ = self.sender.send(message);
        wake(self.latch as *mut pg_sys::Latch);
    }
}

/// Shared memory being filled: owned by one task at a time.
pub struct Memory {
    segment: *mut pg_sys::dsm_segment,
    address: *mut u8,
    bytes: usize,
}

// SAFETY: the memory is plain bytes that only the holder of the value writes; the segment pointer
// is only passed back to the main thread.
unsafe impl Send for Memory {}

impl Memory {
    /// Takes over a mapped DSM segment.
    ///
    /// # Safety
    /// `address` is where `segment` is mapped, writable for `bytes`, and stays mapped while the
    /// value lives; nobody else uses the memory meanwhile.
    pub unsafe fn new(segment: *mut pg_sys::dsm_segment, address: *mut u8, bytes: usize) -> Self {
        Self { segment, address, bytes }
    }

    /// The DSM segment, for the main thread.
    pub fn segment(&self) -> *mut pg_sys::dsm_segment {
        self.segment
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: by the contract of `new`. Fresh DSM memory is zeroed, so it is initialised.
        unsafe { std::slice::from_raw_parts_mut(self.address, self.bytes) }
    }
}

/// A store and the segments opened in it.
pub struct Engine {
    store: Result<Arc<dyn Store>, StorageError>,
    concurrency: usize,
    readers: Mutex<HashMap<Uuid, Arc<Reader>>>,
}

impl Engine {
    /// Opens the store. A configuration that is wrong shows when it is used.
    pub fn new(config: &StorageConfig) -> Self {
        Self {
            store: ::storage::open(config),
            concurrency: config.concurrency,
            readers: Mutex::default(),
        }
    }

    async fn reader(&self, index: Uuid, segment: Uuid) -> Result<Arc<Reader>, Failure> {
        let known = |readers: &Mutex<HashMap<Uuid, Arc<Reader>>>| {
            readers.lock().unwrap_or_else(PoisonError::into_inner).get(&segment).cloned()
        };
        if let Some(reader) = known(&self.readers) {
            return Ok(reader);
        }
        let store = self.store.clone()?;
        let prefix = format!("{index}/{segment}");
        let reader =
            Arc::new(Reader::open(store, &prefix).await?.with_concurrency(self.concurrency));
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() >= MAX_READERS {
            readers.clear();
        }
        Ok(Arc::clone(readers.entry(segment).or_insert(reader)))
    }

    /// Finds out how much memory a segment's graph takes.
    pub async fn measure(&self, request: registry::Request) -> Message {
        match self.reader(request.index_uuid, request.segment_uuid).await {
            Ok(reader) => {
                let bytes = Resident::size(reader.attributes());
                Message::Measured { request, reader, bytes }
            }
            Err(failure) => Message::NotLoaded { request, memory: None, failure },
        }
    }

    /// Loads a segment's graph into `memory`.
    pub async fn load(
        &self,
        request: registry::Request,
        reader: Arc<Reader>,
        mut memory: Memory,
    ) -> Message {
        match reader.load(memory.as_mut_slice()).await {
            Ok(()) => Message::Loaded { request, memory },
            Err(error) => {
                Message::NotLoaded { request, memory: Some(memory), failure: error.into() }
            }
        }
    }

    /// Serves one request of a backend: answers it, then hands the chunks over for the cache.
    pub async fn serve(self: Arc<Self>, request: fetch_slots::Request, outbox: Outbox) {
        let request = Arc::new(request);
        // A task of its own, so that even a panic becomes an answer.
        let work = tokio::spawn({
            let (engine, request) = (Arc::clone(&self), Arc::clone(&request));
            async move {
                match tokio::time::timeout(request.timeout, engine.fetch(&request)).await {
                    Ok(result) => result,
                    Err(_) => Err(timed_out(&request)),
                }
            }
        });
        let result = work.await.unwrap_or_else(|_| {
            Err(Failure::new(FailureKind::Io, "the s3vector storage worker failed internally"))
        });
        let (answer, chunks) = match result {
            Ok((distances, fetched, chunks)) => (Ok((distances, fetched)), chunks),
            Err(failure) => (Err(failure), Vec::new()),
        };
        fetch_slots::answer(&request, &answer);
        match answer {
            Ok((_, fetched)) => count(fetched.requests.into(), fetched.bytes),
            Err(failure) => outbox.send(Message::Log(failure.message)),
        }
        for (segment, chunks) in chunks {
            outbox.send(Message::Chunks { segment, chunks });
        }
    }

    async fn fetch(
        &self,
        request: &fetch_slots::Request,
    ) -> Result<(Vec<f64>, Fetched, Vec<(Uuid, Vec<(u32, Bytes)>)>), Failure> {
        // All segments at once: one wave.
        let parts = try_join_all(request.segments.iter().enumerate().map(
            |(number, &(index, segment))| async move {
                let reader = self.reader(index, segment).await?;
                let chunk_rows = reader.attributes().chunk_rows;
                let mut wanted: Vec<u32> = request
                    .rows
                    .iter()
                    .filter(|row| row.segment as usize == number)
                    .map(|row| row.row / chunk_rows)
                    .collect();
                wanted.sort_unstable();
                wanted.dedup();
                let fetched = reader.fetch_chunks(&wanted).await?;
                Ok::<_, Failure>((reader, fetched))
            },
        ))
        .await?;

        let query = ExactQuery::new(request.metric, request.query.clone());
        let mut distances = Vec::with_capacity(request.rows.len());
        for &RowRef { segment, row } in &request.rows {
            let (reader, fetched) = &parts[segment as usize];
            let attributes = reader.attributes();
            let chunk_rows = attributes.chunk_rows;
            let row_bytes = attributes.row_bytes();
            let at = (row % chunk_rows) as usize * row_bytes;
            let bytes = fetched
                .chunks
                .binary_search_by_key(&(row / chunk_rows), |(chunk, _)| *chunk)
                .ok()
                .and_then(|found| fetched.chunks[found].1.get(at..at + row_bytes))
                .ok_or_else(|| {
                    Failure::new(FailureKind::Corrupt, "a fetched chunk is too short")
                })?;
            distances.push(query.order_value(attributes.payload, bytes));
        }

        let mut total = Fetched::default();
        let mut chunks = Vec::with_capacity(parts.len());
        for ((_, fetched), &(_, segment)) in parts.into_iter().zip(&request.segments) {
            total.requests += fetched.cost.requests;
            total.chunks += fetched.chunks.len() as u32;
            total.bytes += fetched.cost.bytes;
            chunks.push((segment, fetched.chunks));
        }
        Ok((distances, total, chunks))
    }
}

fn timed_out(request: &fetch_slots::Request) -> Failure {
    Failure::new(FailureKind::Timeout, "timed out fetching vectors from storage")
        .detail(format!("No answer within {} ms.", request.timeout.as_millis()))
        .hint("Raise s3vector.fetch_timeout if storage is that slow.")
}

fn count(requests: u64, bytes: u64) {
    if let Some(counters) = counters::get() {
        counters.requests.fetch_add(requests, Ordering::Relaxed);
        counters.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
