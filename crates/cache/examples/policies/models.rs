//! The policies: models of whole chunks, and the cache as it is built.

use std::collections::VecDeque;

use cache::{Cache, ChunkKey};
use uuid::Uuid;

use crate::traces::CHUNKS;

/// A cache of numbered chunks.
pub trait Policy {
    /// Reads a chunk, adding it when it is missing. Whether it was there.
    fn access(&mut self, chunk: u32) -> bool;
}

/// Drops what has not been read for longest.
pub struct Lru {
    room: usize,
    held: usize,
    now: usize,
    /// When each chunk was last read; 0 when it is not here.
    last: Vec<usize>,
    /// Reads in their order, of which the last of each chunk counts.
    reads: VecDeque<(u32, usize)>,
}

impl Lru {
    pub fn new(room: usize) -> Self {
        Self { room, held: 0, now: 0, last: vec![0; CHUNKS], reads: VecDeque::new() }
    }
}

impl Policy for Lru {
    fn access(&mut self, chunk: u32) -> bool {
        let hit = self.last[chunk as usize] != 0;
        while !hit && self.held == self.room {
            let (oldest, when) = self.reads.pop_front().expect("something is held");
            if self.last[oldest as usize] == when {
                self.last[oldest as usize] = 0;
                self.held -= 1;
            }
        }
        self.held += usize::from(!hit);
        self.now += 1;
        self.last[chunk as usize] = self.now;
        self.reads.push_back((chunk, self.now));
        hit
    }
}

/// A hand goes round and drops what was not read since it last came by.
pub struct Clock {
    room: usize,
    hand: usize,
    ring: Vec<u32>,
    here: Vec<bool>,
    read: Vec<bool>,
}

impl Clock {
    pub fn new(room: usize) -> Self {
        let (here, read) = (vec![false; CHUNKS], vec![false; CHUNKS]);
        Self { room, hand: 0, ring: Vec::new(), here, read }
    }
}

impl Policy for Clock {
    fn access(&mut self, chunk: u32) -> bool {
        if self.here[chunk as usize] {
            self.read[chunk as usize] = true;
            return true;
        }
        (self.here[chunk as usize], self.read[chunk as usize]) = (true, false);
        if self.ring.len() < self.room {
            self.ring.push(chunk);
            return false;
        }
        while std::mem::take(&mut self.read[self.ring[self.hand] as usize]) {
            self.hand = (self.hand + 1) % self.room;
        }
        let dropped = std::mem::replace(&mut self.ring[self.hand], chunk);
        self.here[dropped as usize] = false;
        self.hand = (self.hand + 1) % self.room;
        false
    }
}

/// SIEVE: a queue by age; a hand goes from old to new and drops what was not read since it last
/// came by, where it stands.
pub struct Sieve {
    room: usize,
    /// Chunks by age, oldest first; dropped ones leave holes until the queue is tidied.
    queue: Vec<Option<u32>>,
    held: usize,
    hand: usize,
    here: Vec<bool>,
    read: Vec<bool>,
}

impl Sieve {
    pub fn new(room: usize) -> Self {
        let (here, read) = (vec![false; CHUNKS], vec![false; CHUNKS]);
        Self { room, queue: Vec::new(), held: 0, hand: 0, here, read }
    }

    fn evict(&mut self) {
        loop {
            if self.hand == self.queue.len() {
                self.hand = 0;
            }
            let at = self.hand;
            self.hand += 1;
            let Some(chunk) = self.queue[at] else { continue };
            if !std::mem::take(&mut self.read[chunk as usize]) {
                self.queue[at] = None;
                self.here[chunk as usize] = false;
                self.held -= 1;
                return;
            }
        }
    }

    fn tidy(&mut self) {
        self.hand = self.queue[..self.hand].iter().flatten().count();
        self.queue.retain(Option::is_some);
    }
}

impl Policy for Sieve {
    fn access(&mut self, chunk: u32) -> bool {
        if self.here[chunk as usize] {
            self.read[chunk as usize] = true;
            return true;
        }
        if self.held == self.room {
            self.evict();
        }
        if self.queue.len() >= 2 * self.room {
            self.tidy();
        }
        self.queue.push(Some(chunk));
        self.held += 1;
        (self.here[chunk as usize], self.read[chunk as usize]) = (true, false);
        false
    }
}

/// S3-FIFO: a small queue for what is new, a main queue for what was read there, and the names
/// of what lately left the small queue unread.
pub struct S3Fifo {
    room: usize,
    small_room: usize,
    /// Reads in the small queue that bring a chunk into the main queue.
    uses_to_stay: u8,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    here: Vec<bool>,
    uses: Vec<u8>,
    /// Number of the drop from the small queue that was this chunk's last.
    ghost: Vec<Option<usize>>,
    drops: usize,
}

impl S3Fifo {
    pub fn new(room: usize, small_percent: usize, uses_to_stay: u8) -> Self {
        Self {
            room,
            small_room: room * small_percent / 100,
            uses_to_stay,
            small: VecDeque::new(),
            main: VecDeque::new(),
            here: vec![false; CHUNKS],
            uses: vec![0; CHUNKS],
            ghost: vec![None; CHUNKS],
            drops: 0,
        }
    }

    fn evict(&mut self) {
        loop {
            if self.small.len() > self.small_room || self.main.is_empty() {
                let chunk = self.small.pop_front().expect("the cache is full");
                if self.uses[chunk as usize] >= self.uses_to_stay {
                    self.uses[chunk as usize] = 0;
                    self.main.push_back(chunk);
                    continue;
                }
                self.drops += 1;
                self.ghost[chunk as usize] = Some(self.drops);
                self.here[chunk as usize] = false;
                return;
            }
            let chunk = self.main.pop_front().expect("looked at above");
            if self.uses[chunk as usize] == 0 {
                self.here[chunk as usize] = false;
                return;
            }
            self.uses[chunk as usize] -= 1;
            self.main.push_back(chunk);
        }
    }
}

impl Policy for S3Fifo {
    fn access(&mut self, chunk: u32) -> bool {
        let uses = &mut self.uses[chunk as usize];
        if self.here[chunk as usize] {
            *uses = (*uses + 1).min(3);
            return true;
        }
        *uses = 0;
        if self.small.len() + self.main.len() == self.room {
            self.evict();
        }
        self.here[chunk as usize] = true;
        match self.ghost[chunk as usize].take() {
            Some(drop) if self.drops - drop < self.room => self.main.push_back(chunk),
            _ => self.small.push_back(chunk),
        }
        false
    }
}

/// The cache itself.
pub struct Built {
    cache: Cache,
    scratch: Vec<u8>,
    bytes: Vec<u8>,
    _memory: Vec<u8>,
}

impl Built {
    pub fn new(room: usize) -> Self {
        let bytes = vec![1; 24 * 1024];
        let mut memory = vec![0; Cache::size(room * bytes.len())];
        // SAFETY: as many bytes as asked for, used by nobody else and dropped with the cache.
        let cache = unsafe { Cache::create(memory.as_mut_ptr(), room * bytes.len()) };
        Self { cache, scratch: Vec::new(), bytes, _memory: memory }
    }
}

impl Policy for Built {
    fn access(&mut self, chunk: u32) -> bool {
        let key = ChunkKey { segment: Uuid::from_u128(0x5eed), chunk };
        let hit = self.cache.read(&key, 0, 8, &mut self.scratch, |_| ()).is_some();
        if !hit {
            self.cache.insert(&key, &self.bytes);
        }
        hit
    }
}
