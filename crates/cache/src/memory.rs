//! Where everything lies in the memory of a cache.

use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::entry::Entry;
use crate::ghost::{Ghost, WAYS};
use crate::key::ChunkKey;
use crate::partition::Partition;
use crate::pool::Pool;

/// Bytes of a frame. A chunk takes as many as it needs, from anywhere. Over chunks of the default
/// size, at dimensions from 96 to 3,072, this wastes 5 % of the memory, tables included; frames of
/// 4 KiB waste as much and cut twice as many rows in two, larger ones waste 17 to 21 %.
pub const FRAME: usize = 8 * 1024;
/// Frames a chunk can take.
pub const MAX_FRAMES: usize = 16;
/// Largest chunk the cache takes, in bytes.
pub const MAX_CHUNK: usize = FRAME * MAX_FRAMES;

/// Most partitions a cache has.
const MAX_PARTITIONS: usize = 128;
/// Smallest partition, in bytes.
const MIN_PARTITION: usize = 16 * MAX_CHUNK;

/// Frames start on a page of their own.
const PAGE: usize = 4096;

/// The end of a list. Lists hold links: the number of a frame or its entry plus one, so that
/// zeroed memory is full of empty lists.
pub const END: u32 = 0;

/// The memory of a cache: a view that is valid in every process that has it mapped there.
#[derive(Clone, Copy)]
pub struct Memory {
    pool: NonNull<Pool>,
    partitions: NonNull<Partition>,
    buckets: NonNull<AtomicU32>,
    ghosts: NonNull<Ghost>,
    entries: NonNull<Entry>,
    links: NonNull<AtomicU32>,
    data: NonNull<u8>,
    sizes: Sizes,
}

// SAFETY: everything but the frames is atomic or a lock; frames are written by whoever has taken
// them from the pool or a retired entry, and read under a pin.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

/// How many of everything there are.
#[derive(Clone, Copy)]
struct Sizes {
    frames: u32,
    partitions: u32,
    /// Buckets of a partition.
    buckets: u32,
    /// Sets of ghosts of a partition.
    ghost_sets: u32,
}

/// Where a key belongs.
pub struct Place {
    /// Number of the partition.
    pub partition: u32,
    /// Number of the bucket, among those of all partitions.
    pub bucket: u32,
    /// Number of the set of ghosts, among those of all partitions.
    pub ghosts: u32,
    /// Tells the key from others in the set.
    pub fingerprint: u32,
}

impl Sizes {
    fn new(bytes: usize) -> Self {
        let frames = (bytes / FRAME).clamp(1, u32::MAX as usize - 1) as u32;
        let partitions = (bytes / MIN_PARTITION).clamp(1, MAX_PARTITIONS) as u32;
        let buckets = frames.div_ceil(partitions);
        Self { frames, partitions, buckets, ghost_sets: buckets.div_ceil(WAYS as u32) }
    }

    /// Offsets of the parts, in the order of [`Memory`]'s fields, and the end.
    fn offsets(&self) -> [usize; 8] {
        let (frames, partitions) = (self.frames as usize, self.partitions as usize);
        let parts = [
            size_of::<Pool>(),
            partitions * size_of::<Partition>(),
            partitions * self.buckets as usize * size_of::<AtomicU32>(),
            partitions * self.ghost_sets as usize * WAYS * size_of::<Ghost>(),
            frames * size_of::<Entry>(),
            frames * size_of::<AtomicU32>(),
            frames * FRAME,
        ];
        let mut offsets = [0; 8];
        for (number, bytes) in parts.into_iter().enumerate() {
            let align = if number == parts.len() - 2 { PAGE } else { align_of::<Entry>() };
            offsets[number + 1] = (offsets[number] + bytes).next_multiple_of(align);
        }
        offsets
    }
}

impl Memory {
    /// Bytes needed for chunks of `bytes` in all, wherever they start.
    pub fn size(bytes: usize) -> usize {
        Sizes::new(bytes).offsets()[7] + PAGE
    }

    /// A view of memory for chunks of `bytes` in all.
    ///
    /// # Safety
    /// `base` points to [`Memory::size`] bytes, zeroed before their first use, used only
    /// through views of the same size, and there for as long as any of them is used.
    pub unsafe fn new(base: *mut u8, bytes: usize) -> Self {
        let sizes = Sizes::new(bytes);
        let offsets = sizes.offsets();
        // SAFETY: the parts and the rounding are within the size; none is at null.
        let at = |part: usize| unsafe {
            NonNull::new_unchecked(base.add(base.align_offset(PAGE) + offsets[part]))
        };
        Self {
            pool: at(0).cast(),
            partitions: at(1).cast(),
            buckets: at(2).cast(),
            ghosts: at(3).cast(),
            entries: at(4).cast(),
            links: at(5).cast(),
            data: at(6),
            sizes,
        }
    }

    /// Frames of the cache.
    pub fn frames(&self) -> u32 {
        self.sizes.frames
    }

    /// Partitions of the cache.
    pub fn partitions(&self) -> u32 {
        self.sizes.partitions
    }

    /// Where a key belongs.
    pub fn place(&self, key: &ChunkKey) -> Place {
        // A number below `end` that the upper bits of the word choose.
        let choose = |word: u32, end: u32| ((u64::from(word) * u64::from(end)) >> 32) as u32;
        let Sizes { partitions, buckets, ghost_sets, .. } = self.sizes;
        let hash = key.hash();
        let (upper, lower) = ((hash >> 32) as u32, hash as u32);
        let partition = choose(lower, partitions);
        Place {
            partition,
            bucket: partition * buckets + choose(upper, buckets),
            ghosts: partition * ghost_sets + choose(upper, ghost_sets),
            fingerprint: lower,
        }
    }

    pub fn pool(&self) -> &Pool {
        // SAFETY: by the contract of `new`; zeroes are a pool.
        unsafe { self.pool.as_ref() }
    }

    pub fn partition(&self, number: u32) -> &Partition {
        assert!(number < self.sizes.partitions, "cache partition out of range");
        // SAFETY: by the contract of `new`; in range.
        unsafe { self.partitions.add(number as usize).as_ref() }
    }

    pub fn bucket(&self, number: u32) -> &AtomicU32 {
        assert!(number < self.sizes.partitions * self.sizes.buckets, "bucket out of range");
        // SAFETY: by the contract of `new`; in range.
        unsafe { self.buckets.add(number as usize).as_ref() }
    }

    /// The buckets of a partition.
    pub fn buckets(&self, partition: u32) -> impl Iterator<Item = &AtomicU32> {
        let first = partition * self.sizes.buckets;
        (first..first + self.sizes.buckets).map(|number| self.bucket(number))
    }

    pub fn ghosts(&self, place: &Place) -> &[Ghost] {
        let end = self.sizes.partitions * self.sizes.ghost_sets;
        assert!(place.ghosts < end, "cache ghosts out of range");
        // SAFETY: by the contract of `new`; in range.
        unsafe {
            let first = self.ghosts.add(place.ghosts as usize * WAYS);
            slice::from_raw_parts(first.as_ptr(), WAYS)
        }
    }

    pub fn entry(&self, number: u32) -> &Entry {
        assert!(number < self.sizes.frames, "cache entry out of range");
        // SAFETY: by the contract of `new`; in range; zeroes are an entry.
        unsafe { self.entries.add(number as usize).as_ref() }
    }

    /// The entry that a bucket's chain begins with.
    pub fn first_entry(&self, bucket: &AtomicU32) -> Option<&Entry> {
        let number = bucket.load(Ordering::Acquire).checked_sub(1)?;
        (number < self.sizes.frames).then(|| self.entry(number))
    }

    /// Where byte `at` of a frame is, if there is such a frame.
    pub fn address(&self, number: u32, at: usize) -> Option<*const u8> {
        let inside = number < self.sizes.frames && at < FRAME;
        inside.then(|| self.data.as_ptr().wrapping_add(number as usize * FRAME + at).cast_const())
    }

    /// The link of a free frame.
    pub fn link(&self, number: u32) -> &AtomicU32 {
        assert!(number < self.sizes.frames, "cache frame out of range");
        // SAFETY: by the contract of `new`; in range.
        unsafe { self.links.add(number as usize).as_ref() }
    }

    /// `length` bytes at `at` of a frame.
    ///
    /// # Safety
    /// The frame is pinned for as long as the bytes are used, and that much of it was written.
    pub unsafe fn bytes(&self, number: u32, at: usize, length: usize) -> &[u8] {
        assert!(number < self.sizes.frames && at + length <= FRAME, "cache frame out of range");
        // SAFETY: by the contract of `new`; in range; under a pin nobody writes.
        unsafe {
            let first = self.data.add(number as usize * FRAME + at);
            slice::from_raw_parts(first.as_ptr(), length)
        }
    }

    /// Copies bytes to the beginning of a frame.
    ///
    /// # Safety
    /// The caller has taken the frame and not given it to a chunk yet.
    pub unsafe fn write(&self, number: u32, bytes: &[u8]) {
        assert!(number < self.sizes.frames && bytes.len() <= FRAME, "cache frame out of range");
        // SAFETY: by the contract of `new`; in range; nobody else uses the frame.
        unsafe {
            let first = self.data.add(number as usize * FRAME);
            first.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len());
        }
    }
}

/// Frames of a chunk, in order.
#[derive(Clone, Copy, Default)]
pub struct Frames {
    numbers: [u32; MAX_FRAMES],
    count: usize,
}

impl Frames {
    /// Their numbers.
    pub fn as_slice(&self) -> &[u32] {
        &self.numbers[..self.count]
    }

    /// Adds one to less than [`MAX_FRAMES`].
    pub fn push(&mut self, number: u32) {
        self.numbers[self.count] = number;
        self.count += 1;
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Takes the last one out.
    pub fn pop(&mut self) -> Option<u32> {
        self.count = self.count.checked_sub(1)?;
        Some(self.numbers[self.count])
    }
}
