//! Queues of chunks, linked through their entries. Under the partition's lock, except the sums.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::memory::{END, FRAME, Memory};

/// A queue. Zeroes are an empty one.
#[derive(Default)]
#[repr(C)]
pub struct Queue {
    oldest: AtomicU32,
    newest: AtomicU32,
    chunks: AtomicU32,
    frames: AtomicU32,
}

impl Queue {
    /// Chunks in the queue.
    pub fn chunks(&self) -> u32 {
        self.chunks.load(Ordering::Relaxed)
    }

    /// Frames of those chunks.
    pub fn frames(&self) -> u32 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Forgets all chunks.
    pub fn clear(&self) {
        for part in [&self.oldest, &self.newest, &self.chunks, &self.frames] {
            part.store(0, Ordering::Relaxed);
        }
    }

    /// Puts a chunk at the new end.
    pub fn push(&self, memory: &Memory, number: u32) {
        let entry = memory.entry(number);
        entry.next_in_queue.store(END, Ordering::Relaxed);
        match self.newest.swap(number + 1, Ordering::Relaxed) {
            END => self.oldest.store(number + 1, Ordering::Relaxed),
            link => memory.entry(link - 1).next_in_queue.store(number + 1, Ordering::Relaxed),
        }
        let frames = entry.length().div_ceil(FRAME) as u32;
        self.chunks.store(self.chunks() + 1, Ordering::Relaxed);
        self.frames.store(self.frames() + frames, Ordering::Relaxed);
    }

    /// Takes the oldest chunk out.
    pub fn pop(&self, memory: &Memory) -> Option<u32> {
        let number = self.oldest.load(Ordering::Relaxed).checked_sub(1)?;
        let entry = memory.entry(number);
        let next = entry.next_in_queue.load(Ordering::Relaxed);
        self.oldest.store(next, Ordering::Relaxed);
        if next == END {
            self.newest.store(END, Ordering::Relaxed);
        }
        let frames = entry.length().div_ceil(FRAME) as u32;
        self.chunks.store(self.chunks() - 1, Ordering::Relaxed);
        self.frames.store(self.frames() - frames, Ordering::Relaxed);
        Some(number)
    }
}
