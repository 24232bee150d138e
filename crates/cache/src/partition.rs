//! A partition: finding chunks without its lock; adding and replacing them under it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::entry::Pinned;
use crate::ghost;
use crate::key::ChunkKey;
use crate::lock::{Guard, Lock};
use crate::memory::{END, FRAME, Frames, Memory, Place};
use crate::queue::Queue;

/// The small queue has a tenth of a partition's frames.
const SMALL_SHARE: u32 = 10;
/// Reads in the small queue that bring a chunk into the main queue.
const USES_TO_STAY: u32 = 2;
/// Looks without the lock for a chunk that is not there, while others are being replaced.
const LOOKS: usize = 8;

/// Zeroes and a lock that was prepared are an empty partition.
#[repr(C, align(128))]
pub struct Partition {
    /// Odd while a chunk is being taken out of its bucket: a chain may lead elsewhere.
    version: AtomicU32,
    /// Chunks dropped from the small queue.
    drops: AtomicU32,
    lock: Lock,
    /// Chunks that are new.
    small: Queue,
    /// Chunks that were read more than once, or came back.
    main: Queue,
    used_bytes: AtomicU64,
    evictions: AtomicU64,
}

impl Partition {
    /// Prepares the lock.
    ///
    /// # Safety
    /// Nobody else uses the partition yet.
    pub unsafe fn init(&self) {
        // SAFETY: by the contract.
        unsafe { self.lock.init() };
    }

    /// Bytes of the chunks held.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Frames of the chunks held.
    pub fn used_frames(&self) -> u32 {
        self.small.frames() + self.main.frames()
    }

    /// Chunks held.
    pub fn chunks(&self) -> u32 {
        self.small.chunks() + self.main.chunks()
    }

    /// Chunks dropped to make room.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }
}

impl Memory {
    /// Finds a chunk and keeps it in place. A chunk that is there all the time is always found.
    pub fn find(&self, key: &ChunkKey, place: &Place) -> Option<Pinned<'_>> {
        if let Some(found) = self.walk(key, place) {
            return Some(found);
        }
        let version = &self.partition(place.partition).version;
        for _ in 0..LOOKS {
            let before = version.load(Ordering::Acquire);
            if let Some(found) = self.walk(key, place) {
                return Some(found);
            }
            // What the walk saw must not be younger than the version seen now.
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && version.load(Ordering::Relaxed) == before {
                return None;
            }
            std::hint::spin_loop();
        }
        self.hold(place.partition).memory.walk(key, place)
    }

    /// Follows the chain of a bucket. Without the lock it may end up in another bucket's.
    fn walk(&self, key: &ChunkKey, place: &Place) -> Option<Pinned<'_>> {
        let mut link = self.bucket(place.bucket).load(Ordering::Acquire);
        // No chain is longer, but one that changes might lead round and round.
        for _ in 0..self.frames() {
            let entry = self.entry(link.checked_sub(1)?);
            if let Some(pinned) = entry.pin_if(key) {
                return Some(pinned);
            }
            link = entry.next_in_bucket.load(Ordering::Acquire);
        }
        None
    }

    /// Takes the lock of a partition.
    pub fn hold(&self, number: u32) -> Held<'_> {
        let partition = self.partition(number);
        let guard = partition.lock.take();
        let inherited = guard.inherited;
        let held = Held { memory: self, number, partition, _guard: guard };
        if inherited {
            held.rebuild();
        }
        held
    }
}

/// A partition whose lock is held.
pub struct Held<'a> {
    memory: &'a Memory,
    number: u32,
    partition: &'a Partition,
    _guard: Guard<'a>,
}

impl Held<'_> {
    /// Whether a chunk is there.
    pub fn has(&self, key: &ChunkKey, place: &Place) -> bool {
        self.memory.walk(key, place).is_some()
    }

    /// Adds a chunk that is not there, whose bytes have been written to `frames`.
    pub fn add(&self, key: &ChunkKey, place: &Place, length: usize, frames: &Frames) {
        let number = frames.as_slice()[0];
        let entry = self.memory.entry(number);
        entry.describe(key, length, frames);
        // Before it is in any list: `rebuild` looks for live entries.
        entry.publish();
        self.put_in_bucket(place, number);
        let partition = self.partition;
        let drops = partition.drops.load(Ordering::Relaxed);
        let ghosts = self.memory.ghosts(place);
        // As many ghosts as chunks: the paper's size, since the main queue has nearly all.
        let came_back = ghost::recall(ghosts, place, drops, partition.chunks());
        let queue = if came_back { &partition.main } else { &partition.small };
        queue.push(self.memory, number);
        partition.used_bytes.fetch_add(length as u64, Ordering::Relaxed);
    }

    /// Drops a chunk and returns its frames. Returns nothing when all chunks are being read.
    pub fn evict(&self) -> Option<Frames> {
        let Partition { small, main, .. } = self.partition;
        // A chunk comes up four times at most, unless it is read meanwhile.
        for _ in 0..=5 * self.partition.chunks() {
            let from_small =
                main.chunks() == 0 || small.frames() > self.partition.used_frames() / SMALL_SHARE;
            let queue = if from_small { small } else { main };
            let number = queue.pop(self.memory)?;
            let entry = self.memory.entry(number);
            let uses = entry.uses();
            let keep = if from_small { uses >= USES_TO_STAY } else { uses > 0 };
            if keep {
                entry.set_uses(if from_small { 0 } else { uses - 1 });
            } else if entry.retire() {
                self.forget(number, from_small);
                return Some(self.frames_of(number));
            }
            // Read often enough, or being read right now.
            main.push(self.memory, number);
        }
        None
    }

    fn frames_of(&self, number: u32) -> Frames {
        let entry = self.memory.entry(number);
        let mut frames = Frames::default();
        (0..entry.length().div_ceil(FRAME)).for_each(|nth| frames.push(entry.frame(nth)));
        frames
    }

    /// Takes a retired chunk, which is in no queue any more, out of everything else.
    fn forget(&self, number: u32, from_small: bool) {
        let entry = self.memory.entry(number);
        let place = self.memory.place(&entry.key());
        self.change(|| {
            let mut link = self.memory.bucket(place.bucket);
            while link.load(Ordering::Relaxed) != number + 1 {
                let before = link.load(Ordering::Relaxed);
                link = &self.memory.entry(before - 1).next_in_bucket;
            }
            link.store(entry.next_in_bucket.load(Ordering::Relaxed), Ordering::Release);
        });
        let partition = self.partition;
        if from_small {
            let drop = partition.drops.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
            ghost::remember(self.memory.ghosts(&place), &place, drop);
        }
        partition.used_bytes.fetch_sub(entry.length() as u64, Ordering::Relaxed);
        partition.evictions.fetch_add(1, Ordering::Relaxed);
    }

    /// Puts a chunk at the front of its bucket. Readers find it now or later.
    fn put_in_bucket(&self, place: &Place, number: u32) {
        let bucket = self.memory.bucket(place.bucket);
        let first = bucket.load(Ordering::Relaxed);
        self.memory.entry(number).next_in_bucket.store(first, Ordering::Release);
        bucket.store(number + 1, Ordering::Release);
    }

    /// Runs a change after which readers who found nothing must look again.
    pub fn change<R>(&self, make: impl FnOnce() -> R) -> R {
        let version = &self.partition.version;
        // Odd already when the last holder of the lock ended in such a change.
        let during = version.load(Ordering::Relaxed) | 1;
        version.store(during, Ordering::Relaxed);
        fence(Ordering::Release);
        let result = make();
        version.store(during.wrapping_add(1), Ordering::Release);
        result
    }

    /// Makes lists and sums anew from the live entries, after a holder of the lock ended in the
    /// middle. What it had taken out of the pool or a retired entry is lost, as is a chunk that
    /// it was reading: 128 KiB a thread at most.
    fn rebuild(&self) {
        let Partition { small, main, used_bytes, .. } = self.partition;
        self.change(|| {
            self.memory
                .buckets(self.number)
                .for_each(|bucket| bucket.store(END, Ordering::Relaxed));
            small.clear();
            main.clear();
            used_bytes.store(0, Ordering::Relaxed);
            for number in 0..self.memory.touched_frames() {
                let entry = self.memory.entry(number);
                // Those of other partitions may be replaced meanwhile.
                let Some(_pinned) = entry.pin() else { continue };
                let place = self.memory.place(&entry.key());
                if place.partition == self.number {
                    self.put_in_bucket(&place, number);
                    main.push(self.memory, number);
                    used_bytes.fetch_add(entry.length() as u64, Ordering::Relaxed);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::memory::{MAX_CHUNK, MAX_FRAMES};
    use crate::{Cache, ChunkKey};

    /// A cache of `chunks` of the largest size, in memory that is never given back.
    fn cache(chunks: usize) -> Cache {
        let bytes = chunks * MAX_CHUNK;
        let memory = vec![0; Cache::size(bytes)].leak();
        // SAFETY: zeroed, large enough, used by nobody else and there to the end.
        unsafe { Cache::create(memory.as_mut_ptr(), bytes) }
    }

    fn key(chunk: u32) -> ChunkKey {
        ChunkKey { segment: uuid::Uuid::from_u128(9), chunk }
    }

    fn content(chunk: u32) -> Vec<u8> {
        chunk.to_le_bytes().repeat(3 * FRAME / 4)
    }

    fn check(cache: &Cache, chunks: u32) {
        let held: Vec<u32> = (0..chunks).filter(|&n| cache.contains(&key(n))).collect();
        assert!(held.iter().all(|&n| cache.get(&key(n)) == Some(content(n))));
        let usage = cache.usage();
        assert_eq!(usage.chunks, held.len() as u64);
        assert_eq!(usage.used, (held.len() * 3 * FRAME) as u64);
    }

    #[test]
    fn a_partition_whose_lock_was_left_behind_is_put_in_order() {
        let cache = cache(32);
        let memory = *cache.memory();
        assert_eq!(memory.partitions(), 2);
        (0..160).for_each(|chunk| cache.insert(&key(chunk), &content(chunk)));
        let before = cache.usage();
        for number in 0..2 {
            let partition = memory.partition(number);
            let chunks = partition.chunks();
            assert!(chunks > 60);
            let end = move || {
                let held = memory.hold(number);
                // Ends between dropping a chunk and giving its frames back, while another is
                // being taken out of its bucket, and with a chunk out of all queues.
                assert!(held.evict().is_some());
                held.partition.version.fetch_add(1, Ordering::Relaxed);
                let lost = held.partition.small.pop(&memory).expect("a chunk");
                let place = memory.place(&memory.entry(lost).key());
                memory.bucket(place.bucket).store(END, Ordering::Relaxed);
                std::mem::forget(held);
            };
            thread::spawn(end).join().expect("no panic");
            memory.hold(number);
            assert_eq!(partition.chunks(), chunks - 1);
            assert!(partition.version.load(Ordering::Relaxed).is_multiple_of(2));
        }
        assert_eq!(cache.usage().chunks, before.chunks - 2);
        check(&cache, 160);
        // Everything goes on, less the frames of the two chunks.
        for chunk in 160..2000 {
            cache.insert(&key(chunk), &content(chunk));
            assert!(cache.contains(&key(chunk)));
        }
        check(&cache, 2000);
        assert_eq!(cache.usage().chunks, ((32 * MAX_FRAMES - 6) / 3) as u64);
    }

    #[test]
    fn readers_are_told_of_every_chunk_that_leaves() {
        let cache = cache(1);
        cache.insert(&key(0), &content(0));
        cache.insert(&key(1), &content(1));
        let version = &cache.memory().partition(0).version;
        for left in [2, 4] {
            assert!(cache.memory().hold(0).evict().is_some());
            assert_eq!(version.load(Ordering::Relaxed), left);
        }
        assert_eq!(cache.usage().chunks, 0);
    }

    #[test]
    fn partitions_stay_equally_large() {
        let cache = cache(16 * 16);
        for chunk in 0..20_000 {
            cache.insert(&key(chunk), &content(chunk));
        }
        let memory = cache.memory();
        let frames = (0..memory.partitions()).map(|n| memory.partition(n).used_frames());
        let (least, most) = (frames.clone().min().unwrap(), frames.max().unwrap());
        assert!(least >= 230 && most <= 280, "{least} to {most} frames instead of 256");
    }
}
