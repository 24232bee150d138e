//! A reader in front of which chunks are kept: equal misses at one time make one fetch, and what was
//! fetched is kept behind the answer.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, join_all};
use tokio::sync::oneshot;

use crate::error::{Result, SegmentError};
use crate::fetch::Fetched;
use crate::reader::Reader;

/// Keeps decoded inner chunks of one segment. Called from any thread; must be quick.
pub trait ChunkCache: Send + Sync + fmt::Debug {
    /// A chunk, if it is here.
    fn get(&self, chunk: u32) -> Option<Bytes>;

    /// Takes a chunk to keep. Whether it is kept, and how long, is the cache's business.
    fn put(&self, chunk: u32, bytes: &[u8]);
}

/// A fetch under way: whoever wants one of its chunks waits for it.
type Flight = Shared<BoxFuture<'static, Result<Arc<Fetched>>>>;

/// A [`Reader`] with a [`ChunkCache`].
///
/// Fetches run in tasks of their own: one that nobody waits for any more goes on, and fills the
/// cache.
#[derive(Debug)]
pub struct CachedReader {
    reader: Arc<Reader>,
    shared: Arc<Kept>,
}

struct Kept {
    cache: Box<dyn ChunkCache>,
    /// The fetch that brings a chunk, from its start until the chunk is in the cache.
    flights: Mutex<HashMap<u32, Flight>>,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("cache", &self.cache).finish_non_exhaustive()
    }
}

impl Kept {
    fn flights(&self) -> MutexGuard<'_, HashMap<u32, Flight>> {
        // Single insertions and removals: whole at every moment.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CachedReader {
    /// Keeps what `reader` fetches in `cache`.
    pub fn new(reader: Arc<Reader>, cache: Box<dyn ChunkCache>) -> Self {
        let shared = Kept { cache, flights: Mutex::default() };
        Self { reader, shared: Arc::new(shared) }
    }

    /// The reader.
    pub fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// Fetches inner chunks, in any order and each once: from the cache, from fetches under way, and
    /// the rest together by [`Reader::fetch_chunks`]. Ascending, each chunk once; the cost is that
    /// of the fetch this call has started.
    ///
    /// # Errors
    /// As [`Reader::fetch_chunks`], also when the fetch that fails was another call's.
    pub async fn fetch_chunks(&self, chunks: &[u32]) -> Result<Fetched> {
        let mut wanted = chunks.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let mut answer = Fetched::default();
        // What is here is copied before the lock is taken.
        wanted.retain(|&chunk| match self.shared.cache.get(chunk) {
            Some(bytes) => {
                answer.chunks.push((chunk, bytes));
                false
            }
            None => true,
        });
        let mut others: Vec<(u32, Flight)> = Vec::new();
        let own = {
            // Under the lock a chunk is in flight or, once it no longer is, in the cache: a call
            // that comes late finds it in one of them, unless it has been dropped already.
            let mut flights = self.shared.flights();
            let mut missing = Vec::new();
            for chunk in wanted {
                if let Some(flight) = flights.get(&chunk) {
                    others.push((chunk, flight.clone()));
                } else if let Some(bytes) = self.shared.cache.get(chunk) {
                    answer.chunks.push((chunk, bytes));
                } else {
                    missing.push(chunk);
                }
            }
            let own = (!missing.is_empty()).then(|| self.start(missing.clone()));
            if let Some(flight) = &own {
                flights.extend(missing.into_iter().map(|chunk| (chunk, flight.clone())));
            }
            own
        };
        if let Some(flight) = own {
            let fetched = flight.await?;
            answer.cost = fetched.cost;
            answer.chunks.extend(fetched.chunks.iter().cloned());
        }
        let landed = join_all(others.into_iter().map(async |(chunk, flight)| {
            let fetched = flight.await?;
            let found = fetched.chunks.binary_search_by_key(&chunk, |(number, _)| *number);
            match found {
                Ok(at) => Ok(fetched.chunks[at].clone()),
                Err(_) => Err(SegmentError::invalid(format!("chunk {chunk} was not fetched"))),
            }
        }));
        for chunk in landed.await {
            answer.chunks.push(chunk?);
        }
        answer.chunks.sort_unstable_by_key(|(chunk, _)| *chunk);
        Ok(answer)
    }

    /// Starts a fetch of chunks that are neither here nor under way.
    fn start(&self, chunks: Vec<u32>) -> Flight {
        let (reader, shared) = (Arc::clone(&self.reader), Arc::clone(&self.shared));
        let (sender, receiver) = oneshot::channel();
        tokio::spawn(async move {
            // Also when the fetch panics: nobody shall wait for ever.
            let landing = Landing { shared: &shared, chunks: &chunks };
            let outcome = reader.fetch_chunks(&chunks).await.map(Arc::new);
            let _ = sender.send(outcome.clone());
            if let Ok(fetched) = outcome {
                for (chunk, bytes) in &fetched.chunks {
                    shared.cache.put(*chunk, bytes);
                }
            }
            drop(landing);
        });
        let answer = receiver.map(|answer| {
            answer.unwrap_or_else(|_| Err(SegmentError::invalid("a fetch ended without an answer")))
        });
        answer.boxed().shared()
    }
}

/// Ends the flight of chunks.
struct Landing<'a> {
    shared: &'a Kept,
    chunks: &'a [u32],
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut flights = self.shared.flights();
        for chunk in self.chunks {
            flights.remove(chunk);
        }
    }
}
