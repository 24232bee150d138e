//! What the storage worker's threads do: open segments, load graphs, fetch rows. No PostgreSQL
//! call is made here; results go out as [`Message`]s to the main thread, or as answers into
//! fetch slots.

use std::collections::HashMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::storage::{Redis, RedisConfig, RedisState, StorageConfig, StorageError, Store};
use distance::{ExactQuery, Interval};
use futures::future::try_join_all;
use pgrx::pg_sys;
use segment::{CachedReader, Reader, Resident};
use uuid::Uuid;

use crate::errors::{Failure, FailureKind};
use crate::shared::fetch_slots::{self, Fetched, RowRef};
use crate::shared::payload_cache::SegmentChunks;
use crate::shared::{registry, storage_metrics};
use crate::threads::wake;

/// Readers kept open: each holds a segment's attributes and, for compressed payloads, the
/// indexes of its shards.
const MAX_READERS: usize = 4096;

/// How much longer than a backend's limit a fetch may take, so that a store whose own limit is the
/// same gets to say what it was waiting for. Backends wait longer still.
const GRACE: Duration = Duration::from_millis(250);

/// What a thread has to tell the main thread.
pub enum Message {
    /// A segment's graph takes this much memory.
    Measured {
        /// Whose.
        request: registry::Request,
        /// For loading it.
        reader: Arc<CachedReader>,
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
    /// A failure for the server log and the statistics.
    Failed(String),
    /// A line for the server log.
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
    readers: Mutex<HashMap<Uuid, Arc<CachedReader>>>,
}

impl Engine {
    /// Opens the store, with Redis in front where one is configured. A configuration that is wrong
    /// shows when it is used; that of Redis is only told.
    ///
    /// Must be called inside the runtime: Redis is connected to in the background.
    pub fn new(config: &StorageConfig, redis: Option<RedisConfig>, outbox: &Outbox) -> Self {
        let metrics = storage_metrics::get();
        let store = ::storage::open(config, metrics);
        let store = match (store, redis) {
            (Ok(store), Some(redis)) => Ok(with_redis(store, redis, outbox)),
            (store, _) => store,
        };
        Self { store, readers: Mutex::default() }
    }

    async fn reader(&self, index: Uuid, segment: Uuid) -> Result<Arc<CachedReader>, Failure> {
        let known = |readers: &Mutex<HashMap<Uuid, Arc<CachedReader>>>| {
            readers.lock().unwrap_or_else(PoisonError::into_inner).get(&segment).cloned()
        };
        if let Some(reader) = known(&self.readers) {
            return Ok(reader);
        }
        let store = self.store.clone()?;
        let prefix = format!("{index}/{segment}");
        let reader = Reader::open(store, &prefix).await?;
        let chunks = Box::new(SegmentChunks(segment));
        let reader = Arc::new(CachedReader::new(Arc::new(reader), chunks));
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
                let bytes = Resident::size(reader.reader().attributes());
                Message::Measured { request, reader, bytes }
            }
            Err(failure) => {
                Message::NotLoaded { request, memory: None, failure: not_in_memory(failure) }
            }
        }
    }

    /// Loads a segment's graph into `memory`.
    pub async fn load(
        &self,
        request: registry::Request,
        reader: Arc<CachedReader>,
        mut memory: Memory,
    ) -> Message {
        match reader.reader().load(memory.as_mut_slice()).await {
            Ok(()) => Message::Loaded { request, memory },
            Err(error) => {
                let failure = not_in_memory(error.into());
                Message::NotLoaded { request, memory: Some(memory), failure }
            }
        }
    }

    /// Serves one request of a backend.
    pub async fn serve(self: Arc<Self>, request: fetch_slots::Request, outbox: Outbox) {
        let request = Arc::new(request);
        // A task of its own, so that even a panic becomes an answer.
        let work = tokio::spawn({
            let (engine, request) = (Arc::clone(&self), Arc::clone(&request));
            async move {
                // The store has the same limit by default, and more to say about it.
                let limit = request.timeout + GRACE;
                match tokio::time::timeout(limit, engine.fetch(&request)).await {
                    Ok(result) => result,
                    Err(_) => Err(engine.timed_out(&request)),
                }
            }
        });
        let answer = work.await.unwrap_or_else(|_| {
            Err(Failure::new(FailureKind::Io, "the s3vector storage worker failed internally"))
        });
        fetch_slots::answer(&request, &answer);
        if let Err(failure) = answer {
            outbox.send(Message::Failed(failure.message));
        }
    }

    async fn fetch(
        &self,
        request: &fetch_slots::Request,
    ) -> Result<(Vec<Interval>, Fetched), Failure> {
        // All segments at once: one wave.
        let parts = try_join_all(request.segments.iter().enumerate().map(
            |(number, &(index, segment))| async move {
                let reader = self.reader(index, segment).await?;
                let chunk_rows = reader.reader().attributes().chunk_rows;
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
            let attributes = reader.reader().attributes();
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
            distances.push(query.interval_bytes(attributes.payload, bytes));
        }

        let mut total = Fetched::default();
        for (_, fetched) in parts {
            total.requests += fetched.cost.requests;
            total.hedges += fetched.cost.hedges;
            total.chunks += fetched.chunks.len() as u32;
            total.redis_chunks += fetched.cost.redis_hits;
            total.bytes += fetched.cost.bytes;
        }
        Ok((distances, total))
    }

    fn timed_out(&self, request: &fetch_slots::Request) -> Failure {
        let url = self.store.as_ref().map(|store| store.url()).unwrap_or_default();
        let mut prefixes = request.segments.iter();
        let prefix = prefixes.next().map(|(index, segment)| format!("{index}/{segment}"));
        Failure::new(FailureKind::Timeout, "timed out fetching vectors from storage")
            .detail(format!(
                "No answer from \"{url}\" within {} ms. Wanted were {} rows below \"{}\"{}.",
                request.timeout.as_millis(),
                request.rows.len(),
                prefix.unwrap_or_default(),
                match prefixes.len() {
                    0 => String::new(),
                    others => format!(" and {others} more segments"),
                },
            ))
            .hint("Raise s3vector.fetch_timeout if storage is that slow.")
    }
}

/// `store` behind Redis, or as it is when Redis is configured wrongly.
fn with_redis(store: Arc<dyn Store>, config: RedisConfig, outbox: &Outbox) -> Arc<dyn Store> {
    let told = outbox.clone();
    let on_state = move |state, reason: &str| {
        told.send(Message::Log(match state {
            RedisState::Up => "Redis is in use".to_owned(),
            RedisState::Down => format!("Redis is not in use: {reason}"),
        }));
    };
    let metrics = storage_metrics::get();
    match Redis::new(Arc::clone(&store), &config, metrics, Some(Arc::new(on_state))) {
        // What was damaged on its way here must not go on to Redis.
        Ok(redis) => Arc::new(redis.with_check(segment::is_sound)),
        Err(error) => {
            outbox.send(Message::Log(format!("Redis is not in use: {error}")));
            store
        }
    }
}

/// A failure to load a graph, with what that means.
fn not_in_memory(failure: Failure) -> Failure {
    let detail = format!("A graph of the index is not in memory. {}", failure.detail);
    let hint = format!(
        "{} Meanwhile SET enable_indexscan = off has queries sort the table's rows instead.",
        failure.hint
    );
    failure.detail(detail.trim()).hint(hint.trim())
}
