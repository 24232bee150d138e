//! The payload cache: inner chunks of vectors in shared memory, read in place by every backend and
//! filled by the storage worker's threads. [`cache`] has what it is made of; here is where it lies.

use bytes::Bytes;
use cache::{Cache, Usage};
pub use cache::{ChunkKey, MAX_CHUNK};
use segment::ChunkCache;
use uuid::Uuid;

use crate::settings;

static mut CACHE: Option<Cache> = None;

/// Bytes of shared memory needed: the configured size and some for the tables.
pub fn size() -> usize {
    Cache::size(settings::cache_bytes())
}

/// Takes the memory into use.
///
/// # Safety
/// Only in the postmaster's startup hook; `area` is [`size`] bytes of zeroes.
pub unsafe fn attach(area: *mut u8) {
    // SAFETY: by the contract; shared memory stays for as long as the server runs, and is another
    // one after a crash of one of its processes.
    unsafe { CACHE = Some(Cache::create(area, settings::cache_bytes())) };
}

/// The cache, from any thread; `None` when the library was not preloaded.
fn get() -> Option<Cache> {
    // SAFETY: set once before processes are forked.
    unsafe { CACHE }
}

/// Calls `use_it` with `length` bytes at `offset` of a chunk when the chunk is cached; `use_it` must
/// not raise an error. `scratch` is a buffer to reuse.
pub fn read<R>(
    key: &ChunkKey,
    offset: usize,
    length: usize,
    scratch: &mut Vec<u8>,
    use_it: impl FnOnce(&[u8]) -> R,
) -> Option<R> {
    get()?.read(key, offset, length, scratch, use_it)
}

/// Asks for the memory that looking for chunks takes.
pub fn prefetch_entries(keys: impl Iterator<Item = ChunkKey> + Clone) {
    if let Some(cache) = get() {
        cache.prefetch_entries(keys);
    }
}

/// Asks for `length` bytes at `offset` of a chunk.
pub fn prefetch_bytes(key: &ChunkKey, offset: usize, length: usize) {
    if let Some(cache) = get() {
        cache.prefetch_bytes(key, offset, length);
    }
}

/// Whether a chunk is cached. Does not count as a use of it.
pub fn contains(key: &ChunkKey) -> bool {
    get().is_some_and(|cache| cache.contains(key))
}

/// How full the cache is now.
pub fn usage() -> Usage {
    get().map(|cache| cache.usage()).unwrap_or_default()
}

/// Drops every chunk.
pub fn clear() {
    if let Some(cache) = get() {
        cache.clear();
    }
}

/// The chunks of one segment in the cache.
#[derive(Debug)]
pub struct SegmentChunks(pub Uuid);

impl ChunkCache for SegmentChunks {
    fn get(&self, chunk: u32) -> Option<Bytes> {
        get()?.get(&ChunkKey { segment: self.0, chunk }).map(Bytes::from)
    }

    fn put(&self, chunk: u32, bytes: &[u8]) {
        if let Some(cache) = get() {
            cache.insert(&ChunkKey { segment: self.0, chunk }, bytes);
        }
    }
}
