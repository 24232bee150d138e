//! Frames that no chunk has.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::memory::{Frames, Memory};

/// The free frames of a cache: those never used, by number, and a stack of those given back.
/// Zeroes are a pool of all frames.
#[repr(C, align(128))]
pub struct Pool {
    /// The link to the uppermost frame of the stack, and above it how many were ever taken,
    /// which tells the stack from one that only looks the same.
    top: AtomicU64,
    /// The first frame that was never used.
    fresh: AtomicU32,
    /// Goes round the partitions.
    turn: AtomicU32,
}

impl Memory {
    /// Takes a free frame.
    pub fn take_frame(&self) -> Option<u32> {
        let pool = self.pool();
        let taken = pool.top.fetch_update(Ordering::Acquire, Ordering::Acquire, |top| {
            let number = (top as u32).checked_sub(1)?;
            // Nonsense if another thread is quicker, but then `top` has changed.
            let next = self.link(number).load(Ordering::Relaxed);
            Some(((top >> 32).wrapping_add(1) << 32) | u64::from(next))
        });
        if let Ok(top) = taken {
            return Some(top as u32 - 1);
        }
        let next = |fresh| (fresh < self.frames()).then(|| fresh + 1);
        pool.fresh.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()
    }

    /// Gives frames back that nobody reads.
    pub fn give_frames(&self, frames: &Frames) {
        let pool = self.pool();
        for &number in frames.as_slice() {
            let put = |top: u64| {
                self.link(number).store(top as u32, Ordering::Relaxed);
                Some((top >> 32 << 32) | u64::from(number + 1))
            };
            let _always = pool.top.fetch_update(Ordering::Release, Ordering::Relaxed, put);
        }
    }

    /// Frames that were ever taken: all below this number.
    pub fn touched_frames(&self) -> u32 {
        self.pool().fresh.load(Ordering::Relaxed)
    }

    /// A number of a partition, another one each time.
    pub fn next_turn(&self) -> u32 {
        self.pool().turn.fetch_add(1, Ordering::Relaxed) % self.partitions()
    }
}
