//! One partition of the payload cache: a hash table of inner chunks over fixed frames, with
//! CLOCK replacement. Plain memory, no locks: the caller holds the partition's.
//!
//! A chunk takes as many frames as it needs, from anywhere, and its entry lists them, so nothing
//! ever has to be moved to make room.

use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

use uuid::Uuid;

/// Bytes of a frame.
pub const FRAME: usize = 8 * 1024;
/// Frames a chunk can take.
const MAX_FRAMES: usize = 16;
/// Largest chunk the cache takes, in bytes.
pub const MAX_CHUNK: usize = FRAME * MAX_FRAMES;

const NONE: u32 = u32::MAX;

/// Names an inner chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkKey {
    /// The segment.
    pub segment: Uuid,
    /// Number of the inner chunk in the segment.
    pub chunk: u32,
}

impl ChunkKey {
    /// A hash that spreads chunks over partitions and buckets. Uuids are random, so mixing the
    /// chunk's number in (the finaliser of splitmix64) is enough.
    pub fn hash(&self) -> u64 {
        let (high, low) = self.segment.as_u64_pair();
        let mut x = high ^ low ^ u64::from(self.chunk).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }
}

#[repr(C)]
struct Header {
    hand: u32,
    free_entry: u32,
    free_frame: u32,
    free_frames: u32,
    used_bytes: u64,
    evictions: u64,
}

#[repr(C)]
struct Entry {
    segment: [u8; 16],
    chunk: u32,
    /// Bytes of the chunk; 0 for an entry that is not in use.
    length: u32,
    /// Next entry of the bucket, or of the free list.
    next: u32,
    /// Whether it was read since the hand last passed: set under a share lock.
    referenced: AtomicU32,
    frames: [u32; MAX_FRAMES],
}

impl Entry {
    fn key(&self) -> ChunkKey {
        ChunkKey { segment: Uuid::from_bytes(self.segment), chunk: self.chunk }
    }

    fn frame_count(&self) -> usize {
        (self.length as usize).div_ceil(FRAME)
    }
}

/// A partition laid out in memory somebody else provides.
///
/// In order: header, buckets, entries, links of free frames, frames.
#[derive(Clone, Copy)]
pub struct Partition {
    base: *mut u8,
    frames: usize,
}

impl Partition {
    /// Bytes a partition of `frames` takes.
    pub fn size(frames: usize) -> usize {
        Self::data_offset(frames) + frames * FRAME
    }

    /// A view of partition memory.
    ///
    /// # Safety
    /// `base` points to [`Partition::size`] bytes, aligned to 4 KiB, that [`Partition::init`] has
    /// prepared with the same number of frames, and the caller holds the partition's lock: shared
    /// for [`Partition::read`] and the statistics, exclusive for the rest.
    pub unsafe fn new(base: *mut u8, frames: usize) -> Self {
        Self { base, frames }
    }

    fn entries_offset(frames: usize) -> usize {
        (size_of::<Header>() + frames * size_of::<u32>()).next_multiple_of(64)
    }

    fn links_offset(frames: usize) -> usize {
        Self::entries_offset(frames) + frames * size_of::<Entry>()
    }

    fn data_offset(frames: usize) -> usize {
        (Self::links_offset(frames) + frames * size_of::<u32>()).next_multiple_of(4096)
    }

    /// Makes the partition empty.
    pub fn init(&mut self) {
        let frames = self.frames as u32;
        *self.header() = Header {
            hand: 0,
            free_entry: 0,
            free_frame: 0,
            free_frames: frames,
            used_bytes: 0,
            evictions: 0,
        };
        self.buckets().fill(NONE);
        for number in 0..frames {
            let next = if number + 1 < frames { number + 1 } else { NONE };
            let entry = self.entry(number);
            entry.length = 0;
            entry.next = next;
            self.links()[number as usize] = next;
        }
    }

    /// Calls `use_it` with `length` bytes at `offset` of a chunk, if the chunk is here and that
    /// long. Bytes that lie in two frames are put together in `scratch` first.
    pub fn read<R>(
        &self,
        key: &ChunkKey,
        offset: usize,
        length: usize,
        scratch: &mut Vec<u8>,
        use_it: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        let entry = self.find(key)?;
        if offset + length > entry.length as usize {
            return None;
        }
        // A plain store to a line others may be writing too is dearer than a look.
        if entry.referenced.load(Ordering::Relaxed) == 0 {
            entry.referenced.store(1, Ordering::Relaxed);
        }
        let at = offset % FRAME;
        let frame = self.frame(entry.frames[offset / FRAME]);
        if at + length <= FRAME {
            return Some(use_it(&frame[at..at + length]));
        }
        scratch.clear();
        let mut position = offset;
        while position < offset + length {
            let at = position % FRAME;
            let take = (FRAME - at).min(offset + length - position);
            scratch.extend_from_slice(&self.frame(entry.frames[position / FRAME])[at..at + take]);
            position += take;
        }
        Some(use_it(scratch))
    }

    /// Adds a chunk, making room for it. Does nothing when it is here already or too large.
    pub fn insert(&mut self, key: &ChunkKey, bytes: &[u8]) {
        let needed = bytes.len().div_ceil(FRAME);
        if bytes.is_empty() || needed > MAX_FRAMES.min(self.frames) || self.find(key).is_some() {
            return;
        }
        while (self.header().free_frames as usize) < needed || self.header().free_entry == NONE {
            self.evict_one();
        }
        let number = self.header().free_entry;
        let mut frames = [NONE; MAX_FRAMES];
        for (frame, part) in frames.iter_mut().zip(bytes.chunks(FRAME)) {
            *frame = self.take_frame();
            self.frame_mut(*frame)[..part.len()].copy_from_slice(part);
        }
        let bucket = self.bucket_of(key);
        let first = std::mem::replace(&mut self.buckets()[bucket], number);
        let entry = self.entry(number);
        let next_free = entry.next;
        entry.segment = *key.segment.as_bytes();
        entry.chunk = key.chunk;
        entry.length = bytes.len() as u32;
        entry.next = first;
        // Not referenced yet: a chunk that is read once and never again goes first.
        entry.referenced.store(0, Ordering::Relaxed);
        entry.frames = frames;
        let header = self.header();
        header.free_entry = next_free;
        header.used_bytes += bytes.len() as u64;
    }

    /// Bytes of the chunks held.
    pub fn used_bytes(&self) -> u64 {
        self.header().used_bytes
    }

    /// Chunks that had to go to make room.
    pub fn evictions(&self) -> u64 {
        self.header().evictions
    }

    /// Moves the hand to the first chunk not read since it last came by, and drops that chunk.
    fn evict_one(&mut self) {
        loop {
            let number = self.header().hand;
            self.header().hand = (number + 1) % self.frames as u32;
            let entry = self.entry(number);
            if entry.length == 0 {
                continue;
            }
            if entry.referenced.swap(0, Ordering::Relaxed) != 0 {
                continue;
            }
            self.remove(number);
            self.header().evictions += 1;
            return;
        }
    }

    fn remove(&mut self, number: u32) {
        let (key, length, next, frames, count) = {
            let entry = self.entry(number);
            (entry.key(), entry.length, entry.next, entry.frames, entry.frame_count())
        };
        let bucket = self.bucket_of(&key);
        let mut at = self.buckets()[bucket];
        if at == number {
            self.buckets()[bucket] = next;
        } else {
            while self.entry(at).next != number {
                at = self.entry(at).next;
            }
            self.entry(at).next = next;
        }
        for &frame in &frames[..count] {
            self.links()[frame as usize] = self.header().free_frame;
            self.header().free_frame = frame;
        }
        let free_entry = self.header().free_entry;
        let entry = self.entry(number);
        entry.length = 0;
        entry.next = free_entry;
        let header = self.header();
        header.free_entry = number;
        header.free_frames += count as u32;
        header.used_bytes -= u64::from(length);
    }

    fn take_frame(&mut self) -> u32 {
        let frame = self.header().free_frame;
        let next = self.links()[frame as usize];
        let header = self.header();
        header.free_frame = next;
        header.free_frames -= 1;
        frame
    }

    fn find(&self, key: &ChunkKey) -> Option<&Entry> {
        let mut number = self.buckets()[self.bucket_of(key)];
        while number != NONE {
            let entry = self.entry(number);
            if entry.chunk == key.chunk && entry.segment == *key.segment.as_bytes() {
                return Some(entry);
            }
            number = entry.next;
        }
        None
    }

    fn bucket_of(&self, key: &ChunkKey) -> usize {
        // The low bits choose the partition.
        ((key.hash() >> 32) as usize) % self.frames
    }

    #[expect(clippy::mut_from_ref, reason = "the partition's lock decides who may write")]
    fn header(&self) -> &mut Header {
        // SAFETY: by the contract of `new` the memory starts with a header.
        unsafe { &mut *self.base.cast() }
    }

    #[expect(clippy::mut_from_ref, reason = "the partition's lock decides who may write")]
    fn buckets(&self) -> &mut [u32] {
        // SAFETY: by the contract of `new` and the layout.
        unsafe { slice::from_raw_parts_mut(self.base.add(size_of::<Header>()).cast(), self.frames) }
    }

    #[expect(clippy::mut_from_ref, reason = "the partition's lock decides who may write")]
    fn entry(&self, number: u32) -> &mut Entry {
        assert!((number as usize) < self.frames, "cache entry out of range");
        let offset = Self::entries_offset(self.frames) + number as usize * size_of::<Entry>();
        // SAFETY: by the contract of `new`; the number is in range.
        unsafe { &mut *self.base.add(offset).cast() }
    }

    #[expect(clippy::mut_from_ref, reason = "the partition's lock decides who may write")]
    fn links(&self) -> &mut [u32] {
        // SAFETY: by the contract of `new` and the layout.
        unsafe {
            let links = self.base.add(Self::links_offset(self.frames));
            slice::from_raw_parts_mut(links.cast(), self.frames)
        }
    }

    fn frame(&self, number: u32) -> &[u8] {
        self.frame_mut(number)
    }

    #[expect(clippy::mut_from_ref, reason = "the partition's lock decides who may write")]
    fn frame_mut(&self, number: u32) -> &mut [u8] {
        assert!((number as usize) < self.frames, "cache frame out of range");
        let offset = Self::data_offset(self.frames) + number as usize * FRAME;
        // SAFETY: by the contract of `new`; the number is in range.
        unsafe { slice::from_raw_parts_mut(self.base.add(offset), FRAME) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Page-aligned memory for a partition.
    struct Memory(Vec<u8>);

    impl Memory {
        fn new(frames: usize) -> Self {
            Self(vec![0; Partition::size(frames) + 4096])
        }

        fn partition(&mut self, frames: usize) -> Partition {
            let base = self.0.as_mut_ptr();
            let base = base.wrapping_add(base.align_offset(4096));
            // SAFETY: large enough and aligned; the test is the only user.
            let mut partition = unsafe { Partition::new(base, frames) };
            partition.init();
            partition
        }
    }

    fn key(chunk: u32) -> ChunkKey {
        ChunkKey { segment: Uuid::from_u128(7), chunk }
    }

    fn content(chunk: u32, length: usize) -> Vec<u8> {
        (0..length).map(|i| (i as u32).wrapping_mul(chunk + 1).to_le_bytes()[1]).collect()
    }

    fn all(partition: &Partition, chunk: u32, length: usize) -> Option<Vec<u8>> {
        partition.read(&key(chunk), 0, length, &mut Vec::new(), <[u8]>::to_vec)
    }

    #[test]
    fn what_is_put_in_comes_out() {
        let mut memory = Memory::new(64);
        let mut partition = memory.partition(64);
        let lengths = [1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME, MAX_CHUNK];
        for (chunk, &length) in lengths.iter().enumerate() {
            partition.insert(&key(chunk as u32), &content(chunk as u32, length));
        }
        for (chunk, &length) in lengths.iter().enumerate() {
            let chunk = chunk as u32;
            assert_eq!(all(&partition, chunk, length), Some(content(chunk, length)));
            assert_eq!(all(&partition, chunk, length + 1), None, "nothing beyond the end");
        }
        assert_eq!(partition.used_bytes(), lengths.iter().sum::<usize>() as u64);
        let other = ChunkKey { segment: Uuid::from_u128(8), chunk: 0 };
        assert!(partition.read(&other, 0, 1, &mut Vec::new(), |_| ()).is_none());
    }

    #[test]
    fn a_row_across_frames_is_put_together() {
        let mut memory = Memory::new(16);
        let mut partition = memory.partition(16);
        let bytes = content(3, 4 * FRAME);
        partition.insert(&key(3), &bytes);
        for (offset, length) in [(FRAME - 4, 8), (FRAME - 100, 2 * FRAME + 200), (5, 10)] {
            let read = partition.read(&key(3), offset, length, &mut Vec::new(), <[u8]>::to_vec);
            assert_eq!(read.as_deref(), Some(&bytes[offset..offset + length]));
        }
    }

    #[test]
    fn too_large_or_empty_chunks_are_left_out() {
        let mut memory = Memory::new(8);
        let mut partition = memory.partition(8);
        partition.insert(&key(0), &content(0, 9 * FRAME));
        partition.insert(&key(1), &[]);
        assert_eq!(partition.used_bytes(), 0);
    }

    #[test]
    fn replacement_keeps_what_is_read_and_never_mixes_content() {
        let frames = 40;
        let mut memory = Memory::new(frames);
        let mut partition = memory.partition(frames);
        let length = |chunk: u32| 1 + (chunk as usize * 7919) % (3 * FRAME);
        partition.insert(&key(0), &content(0, length(0)));
        for chunk in 1..2000 {
            assert_eq!(all(&partition, 0, length(0)), Some(content(0, length(0))), "kept hot");
            partition.insert(&key(chunk), &content(chunk, length(chunk)));
        }
        assert!(all(&partition, 1999, length(1999)).is_some(), "just inserted");
        let mut kept = 0;
        for chunk in 0..2000 {
            if let Some(found) = all(&partition, chunk, length(chunk)) {
                assert_eq!(found, content(chunk, length(chunk)));
                kept += 1;
            }
        }
        assert!(kept >= frames / 4, "{kept} chunks kept");
        assert!(partition.evictions() > 1900);
        assert!(partition.used_bytes() <= (frames * FRAME) as u64);
    }
}
