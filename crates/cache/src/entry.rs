//! What is known about a chunk, and the pins that keep it in place while it is read.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::key::ChunkKey;
use crate::memory::{Frames, MAX_FRAMES};

/// Set in the state of an entry that has a chunk. The other bits count pins.
const LIVE: u32 = 1 << 31;
/// Where counting uses ends.
const MOST_USES: u32 = 3;

/// The entry of a frame: of use while the frame is the first of a chunk. Zeroes are an entry
/// without a chunk.
///
/// Any thread may look at any entry at any time, also while it gets another chunk; what it
/// sees counts only under a pin.
#[repr(C, align(128))]
pub struct Entry {
    state: AtomicU32,
    uses: AtomicU32,
    segment: [AtomicU64; 2],
    chunk: AtomicU32,
    length: AtomicU32,
    /// Link to the next entry of the bucket. The partition's lock is needed to change it.
    pub next_in_bucket: AtomicU32,
    /// Link to the next entry of the queue. The partition's lock is needed to look at it.
    pub next_in_queue: AtomicU32,
    frames: [AtomicU32; MAX_FRAMES],
}

impl Entry {
    /// The key; under a pin or the partition's lock, or it may be a mix of two.
    pub fn key(&self) -> ChunkKey {
        let [high, low] = &self.segment;
        let (high, low) = (high.load(Ordering::Relaxed), low.load(Ordering::Relaxed));
        ChunkKey {
            segment: uuid::Uuid::from_u64_pair(high, low),
            chunk: self.chunk.load(Ordering::Relaxed),
        }
    }

    /// Bytes of the chunk; under a pin or the partition's lock.
    pub fn length(&self) -> usize {
        self.length.load(Ordering::Relaxed) as usize
    }

    /// Number of the chunk's nth frame; under a pin or the partition's lock.
    pub fn frame(&self, nth: usize) -> u32 {
        self.frames[nth].load(Ordering::Relaxed)
    }

    /// Keeps the chunk in place, if there is one.
    pub fn pin(&self) -> Option<Pinned<'_>> {
        // Acquire: with `publish`, so that the chunk's key and bytes are seen.
        let before = self.state.fetch_add(1, Ordering::Acquire);
        let pinned = Pinned(self);
        (before & LIVE != 0).then_some(pinned)
    }

    /// Keeps the chunk in place, if there is one and it has this key.
    pub fn pin_if(&self, key: &ChunkKey) -> Option<Pinned<'_>> {
        // Most entries that are passed have another key, and are not worth writing to.
        if self.key() != *key {
            return None;
        }
        // It may have become another chunk's before it was pinned.
        self.pin().filter(|_| self.key() == *key)
    }

    /// Describes a chunk that is not there yet. For whoever the entry's frame belongs to.
    pub fn describe(&self, key: &ChunkKey, length: usize, frames: &Frames) {
        // Whoever sees some of this must also see that the chunk before it is gone.
        fence(Ordering::Release);
        let (high, low) = key.segment.as_u64_pair();
        self.segment[0].store(high, Ordering::Relaxed);
        self.segment[1].store(low, Ordering::Relaxed);
        self.chunk.store(key.chunk, Ordering::Relaxed);
        self.length.store(length as u32, Ordering::Relaxed);
        self.uses.store(0, Ordering::Relaxed);
        for (mine, &number) in self.frames.iter().zip(frames.as_slice()) {
            mine.store(number, Ordering::Relaxed);
        }
    }

    /// Lets the described chunk be read.
    pub fn publish(&self) {
        // Added, not stored: readers who are mistaken about the entry may have pins on it.
        self.state.fetch_or(LIVE, Ordering::Release);
    }

    /// Ends the chunk, unless somebody reads it. Its frames may then be given to others.
    pub fn retire(&self) -> bool {
        // Acquire: with the ends of pins, so that reads are over before frames are written.
        self.state.compare_exchange(LIVE, 0, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// How often the chunk was read, up to three times, since that was last taken back.
    pub fn uses(&self) -> u32 {
        self.uses.load(Ordering::Relaxed)
    }

    /// Sets how often the chunk was read. A read at the same time may be lost.
    pub fn set_uses(&self, uses: u32) {
        self.uses.store(uses, Ordering::Relaxed);
    }
}

/// A chunk that stays where it is until this is dropped.
pub struct Pinned<'a>(&'a Entry);

impl Pinned<'_> {
    /// Bytes of the chunk.
    pub fn length(&self) -> usize {
        self.0.length()
    }

    /// Number of the chunk's nth frame.
    pub fn frame(&self, nth: usize) -> u32 {
        self.0.frame(nth)
    }

    /// Counts a read. Two at the same time may count as one.
    pub fn count_use(&self) {
        let uses = self.0.uses();
        if uses < MOST_USES {
            self.0.set_uses(uses + 1);
        }
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_sub(1, Ordering::Release);
    }
}
