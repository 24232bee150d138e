//! The cache as its users see it.

use distance::prefetch;

use crate::entry::Pinned;
use crate::key::ChunkKey;
use crate::memory::{FRAME, Frames, MAX_CHUNK, Memory, Place};

/// A handle of a cache: valid in the process that created it and in those forked from it, and in
/// all their threads.
#[derive(Clone, Copy)]
pub struct Cache {
    memory: Memory,
}

/// How full a cache is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of frames.
    pub capacity: u64,
    /// Bytes of the chunks held.
    pub used: u64,
    /// Bytes of the frames that they take.
    pub taken: u64,
    /// Chunks held.
    pub chunks: u64,
    /// Chunks dropped to make room since the cache was created.
    pub evictions: u64,
}

impl Cache {
    /// Bytes of memory that a cache for `bytes` of chunks needs: 2 % more, for its tables.
    #[must_use]
    pub fn size(bytes: usize) -> usize {
        Memory::size(bytes)
    }

    /// Creates an empty cache. Touches some kilobytes of the memory, however large it is.
    ///
    /// # Safety
    /// `base` points to [`Cache::size`] bytes, aligned or not, which are zero, as those of a fresh
    /// mapping are. They are used for nothing else, and stay where they are for as long as any copy of the
    /// handle is used. To be used by several processes, they are shared by them.
    #[must_use]
    pub unsafe fn create(base: *mut u8, bytes: usize) -> Self {
        // SAFETY: by the contract.
        let memory = unsafe { Memory::new(base, bytes) };
        for number in 0..memory.partitions() {
            // SAFETY: nobody else has a handle yet.
            unsafe { memory.partition(number).init() };
        }
        Self { memory }
    }

    /// Calls `use_it` with `length` bytes at `offset` of a chunk, if the chunk is here and that
    /// long. The bytes are used where they lie; those in two frames are put together in `scratch`
    /// first. The chunk stays here as long as `use_it` runs, and nobody waits for it.
    pub fn read<R>(
        &self,
        key: &ChunkKey,
        offset: usize,
        length: usize,
        scratch: &mut Vec<u8>,
        use_it: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        let chunk = self.memory.find(key, &self.memory.place(key))?;
        if offset.checked_add(length)? > chunk.length() {
            return None;
        }
        chunk.count_use();
        let at = offset % FRAME;
        if length == 0 || at + length <= FRAME {
            return Some(use_it(self.part(&chunk, offset, length)));
        }
        scratch.clear();
        self.append(&chunk, offset, length, scratch);
        Some(use_it(scratch))
    }

    /// Asks for the memory that finding these chunks takes: for all of them side by side, where
    /// each search would wait twice in a row. A hint: counts as no use.
    pub fn prefetch_entries(&self, keys: impl Iterator<Item = ChunkKey> + Clone) {
        let bucket = |key| self.memory.bucket(self.memory.place(&key).bucket);
        for key in keys.clone() {
            prefetch::read(std::slice::from_ref(bucket(key)));
        }
        for key in keys {
            if let Some(entry) = self.memory.first_entry(bucket(key)) {
                prefetch::read(std::slice::from_ref(entry));
            }
        }
    }

    /// Asks for `length` bytes at `offset` of a chunk, if it is the first of its bucket, as most are.
    /// A hint: counts as no use.
    pub fn prefetch_bytes(&self, key: &ChunkKey, offset: usize, length: usize) {
        let bucket = self.memory.bucket(self.memory.place(key).bucket);
        let Some(entry) = self.memory.first_entry(bucket).filter(|entry| entry.key() == *key)
        else {
            return;
        };
        let mut rest = offset..offset.saturating_add(length).min(MAX_CHUNK);
        while !rest.is_empty() {
            let at = rest.start % FRAME;
            let now = (FRAME - at).min(rest.len());
            // Without a pin this may be another chunk's frame by now: its address is all that is used.
            if let Some(bytes) = self.memory.address(entry.frame(rest.start / FRAME), at) {
                prefetch::range(bytes, now);
            }
            rest.start += now;
        }
    }

    /// A copy of a whole chunk.
    #[must_use]
    pub fn get(&self, key: &ChunkKey) -> Option<Vec<u8>> {
        let chunk = self.memory.find(key, &self.memory.place(key))?;
        chunk.count_use();
        let mut bytes = Vec::with_capacity(chunk.length());
        self.append(&chunk, 0, chunk.length(), &mut bytes);
        Some(bytes)
    }

    /// Whether a chunk is here. Does not count as a use.
    #[must_use]
    pub fn contains(&self, key: &ChunkKey) -> bool {
        self.memory.find(key, &self.memory.place(key)).is_some()
    }

    /// Adds a chunk, in place of others when there is no room. Does nothing when the chunk is here
    /// already, is empty, or is larger than [`MAX_CHUNK`] or the cache.
    pub fn insert(&self, key: &ChunkKey, bytes: &[u8]) {
        let needed = bytes.len().div_ceil(FRAME);
        let fits = bytes.len() <= MAX_CHUNK && needed <= self.memory.frames() as usize;
        if bytes.is_empty() || !fits || self.contains(key) {
            return;
        }
        let place = self.memory.place(key);
        let Some(frames) = self.reserve(place.partition, needed) else { return };
        for (&frame, part) in frames.as_slice().iter().zip(bytes.chunks(FRAME)) {
            // SAFETY: the frames have been taken and are no chunk's yet.
            unsafe { self.memory.write(frame, part) };
        }
        self.make_known(key, &place, bytes.len(), &frames);
    }

    /// Adds a chunk whose bytes have been written, unless somebody was quicker.
    pub(crate) fn make_known(&self, key: &ChunkKey, place: &Place, length: usize, frames: &Frames) {
        let held = self.memory.hold(place.partition);
        if held.has(key, place) {
            drop(held);
            self.memory.give_frames(frames);
        } else {
            held.add(key, place, length, frames);
        }
    }

    #[cfg(test)]
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Drops every chunk that nobody is reading right now.
    pub fn clear(&self) {
        for number in 0..self.memory.partitions() {
            while self.memory.partition(number).chunks() > 0
                && let Some(freed) = self.memory.hold(number).evict()
            {
                self.memory.give_frames(&freed);
            }
        }
    }

    /// How full the cache is now, give or take what is being added.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let capacity = u64::from(self.memory.frames()) * FRAME as u64;
        let mut usage = Usage { capacity, ..Usage::default() };
        for number in 0..self.memory.partitions() {
            let partition = self.memory.partition(number);
            usage.used += partition.used_bytes();
            usage.taken += u64::from(partition.used_frames()) * FRAME as u64;
            usage.chunks += u64::from(partition.chunks());
            usage.evictions += partition.evictions();
        }
        usage
    }

    /// Takes frames for a chunk of a partition: free ones, then those of chunks that have to go.
    /// Returns nothing when too many are being read or taken by others.
    fn reserve(&self, partition: u32, needed: usize) -> Option<Frames> {
        let mut reserved = Frames::default();
        let mut failures = 0;
        while reserved.count() < needed {
            if let Some(frame) = self.memory.take_frame() {
                reserved.push(frame);
                continue;
            }
            // Right after a failure, whichever is next: the fullest may be the one in use.
            let victim = match failures {
                0 => self.fuller(partition, self.memory.next_turn()),
                _ => self.memory.next_turn(),
            };
            match self.memory.hold(victim).evict() {
                Some(mut freed) => {
                    while reserved.count() < needed
                        && let Some(frame) = freed.pop()
                    {
                        reserved.push(frame);
                    }
                    self.memory.give_frames(&freed);
                }
                None => failures += 1,
            }
            if failures > 2 * self.memory.partitions() {
                self.memory.give_frames(&reserved);
                return None;
            }
        }
        Some(reserved)
    }

    /// Dropping from the fuller of two keeps all partitions equally large.
    fn fuller(&self, one: u32, other: u32) -> u32 {
        let frames = |number| self.memory.partition(number).used_frames();
        if frames(other) > frames(one) { other } else { one }
    }

    /// Bytes of a chunk that lie in one frame.
    fn part<'a>(&'a self, chunk: &'a Pinned<'_>, offset: usize, length: usize) -> &'a [u8] {
        if length == 0 {
            return &[];
        }
        // SAFETY: pinned for as long as the bytes are borrowed; a chunk's frames are written up to
        // its length, which the caller has looked at.
        unsafe { self.memory.bytes(chunk.frame(offset / FRAME), offset % FRAME, length) }
    }

    /// Appends bytes of a chunk, whose length the caller has looked at.
    fn append(&self, chunk: &Pinned<'_>, offset: usize, length: usize, to: &mut Vec<u8>) {
        let (mut offset, end) = (offset, offset + length);
        while offset < end {
            let length = (FRAME - offset % FRAME).min(end - offset);
            to.extend_from_slice(self.part(chunk, offset, length));
            offset += length;
        }
    }
}
