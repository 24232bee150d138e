//! The payload cache: inner chunks of vectors in shared memory, read in place by every backend.
//!
//! The cache is cut into partitions, each with a lock, a hash table and a share of the frames of
//! its own. A reader computes distances straight from the frames under its partition's share
//! lock; the storage worker, which alone adds chunks, takes the lock exclusively for the time of
//! one copy.

use std::ptr;

use pgrx::pg_sys;

pub use super::cache_partition::{ChunkKey, MAX_CHUNK};
use super::cache_partition::{FRAME, Partition};
use super::lock::Lock;
use crate::settings;

/// Most partitions a cache has.
const MAX_PARTITIONS: usize = 128;
/// Smallest partition, in bytes: a few of the largest chunks must fit.
const MIN_PARTITION: usize = 16 * MAX_CHUNK;

static mut AREA: *mut u8 = ptr::null_mut();
static mut LOCKS: *mut pg_sys::LWLockPadded = ptr::null_mut();

/// Partitions of a cache of the configured size.
pub fn partitions() -> usize {
    (settings::cache_bytes() / MIN_PARTITION).clamp(1, MAX_PARTITIONS)
}

fn frames_per_partition() -> usize {
    (settings::cache_bytes() / partitions() / FRAME).max(1)
}

fn partition_size() -> usize {
    Partition::size(frames_per_partition()).next_multiple_of(4096)
}

/// Bytes of shared memory needed: the configured size and one or two per cent for the tables.
pub fn size() -> usize {
    partitions() * partition_size() + 4096
}

/// Takes the memory into use.
///
/// # Safety
/// Only in the postmaster's startup hook; `area` is [`size`] bytes, `locks` one a partition.
pub unsafe fn attach(area: *mut u8, locks: *mut pg_sys::LWLockPadded) {
    // SAFETY: by the contract; the reserved 4 KiB leave room for aligning.
    unsafe {
        AREA = area.add(area.align_offset(4096));
        LOCKS = locks;
        for number in 0..partitions() {
            at(number).init();
        }
    }
}

/// The partition, to be used under its lock.
///
/// # Safety
/// `number` is below [`partitions`], and [`attach`] has set the pointers.
unsafe fn at(number: usize) -> Partition {
    // SAFETY: by the contract the partition lies within the area.
    unsafe { Partition::new(AREA.add(number * partition_size()), frames_per_partition()) }
}

fn lock(number: usize) -> Lock {
    super::require();
    // SAFETY: there is a lock for every partition.
    unsafe { Lock::nth(LOCKS, number) }
}

/// Calls `use_it` with `length` bytes at `offset` of a chunk when the chunk is cached. Runs under
/// a lock: `use_it` must be quick and must not call PostgreSQL. `scratch` is a buffer to reuse.
pub fn read<R>(
    key: &ChunkKey,
    offset: usize,
    length: usize,
    scratch: &mut Vec<u8>,
    use_it: impl FnOnce(&[u8]) -> R,
) -> Option<R> {
    let number = key.hash() as u32 as usize % partitions();
    let _held = lock(number).share();
    // SAFETY: in range, attached, and the share lock is held.
    unsafe { at(number) }.read(key, offset, length, scratch, use_it)
}

/// Adds a chunk, in place of ones that have not been read for long. Storage worker only.
pub fn insert(key: &ChunkKey, bytes: &[u8]) {
    let number = key.hash() as u32 as usize % partitions();
    let _held = lock(number).exclusive();
    // SAFETY: in range, attached, and the exclusive lock is held.
    unsafe { at(number) }.insert(key, bytes);
}

/// How full the cache is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Bytes of frames.
    pub capacity: u64,
    /// Bytes of the chunks held.
    pub used: u64,
    /// Chunks dropped to make room since server start.
    pub evictions: u64,
}

/// How full the cache is now.
pub fn usage() -> Usage {
    let mut usage = Usage {
        capacity: (partitions() * frames_per_partition() * FRAME) as u64,
        ..Usage::default()
    };
    for number in 0..partitions() {
        let _held = lock(number).share();
        // SAFETY: in range, attached, and the share lock is held.
        let partition = unsafe { at(number) };
        usage.used += partition.used_bytes();
        usage.evictions += partition.evictions();
    }
    usage
}
