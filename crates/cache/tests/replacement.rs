//! What is dropped, and what is not.

#[allow(dead_code)]
mod common;

use cache::{Cache, FRAME};
use common::{Mapped, content, is_content, key};

/// Bytes of a chunk of 16 vectors of 384 dimensions.
const CHUNK: usize = 3 * FRAME;

fn add(cache: &Cache, chunk: u32) {
    cache.insert(&key(chunk), &content(chunk, 1, CHUNK));
}

fn read(cache: &Cache, chunk: u32) -> bool {
    let read = cache.read(&key(chunk), 0, 1536, &mut Vec::new(), |row| is_content(chunk, row));
    assert_ne!(read, Some(false), "another chunk's content");
    read.is_some()
}

#[test]
fn a_cache_that_is_not_full_drops_nothing() {
    // 32 partitions, of which none holds as many chunks as another.
    let frames = 64 * 1024 * 1024 / FRAME;
    let mapped = Mapped::new(frames * FRAME);
    let cache = mapped.cache;
    let chunks = (frames / 3) as u32;
    (0..chunks).for_each(|chunk| add(&cache, chunk));
    assert_eq!(cache.usage().evictions, 0);
    assert!((0..chunks).all(|chunk| cache.contains(&key(chunk))));
    assert_eq!(cache.usage().used, u64::from(chunks) * CHUNK as u64);
    add(&cache, chunks);
    assert_eq!(cache.usage().evictions, 1);
    assert!(cache.contains(&key(chunks)));
}

#[test]
fn the_hot_set_survives_a_scan() {
    let mapped = Mapped::new(8 * 1024 * 1024);
    let cache = mapped.cache;
    let room = (8 * 1024 * 1024 / CHUNK) as u32;
    let hot = room * 3 / 4;
    for chunk in 0..hot {
        add(&cache, chunk);
        assert!(read(&cache, chunk) && read(&cache, chunk));
    }
    for chunk in hot..20 * room {
        add(&cache, chunk);
        assert!(read(&cache, chunk), "just added");
    }
    let kept = (0..hot).filter(|&chunk| cache.contains(&key(chunk))).count();
    assert_eq!(kept, hot as usize);
}

#[test]
fn what_is_no_longer_read_makes_room() {
    let mapped = Mapped::new(8 * 1024 * 1024);
    let cache = mapped.cache;
    let room = (8 * 1024 * 1024 / CHUNK) as u32;
    let queries = |chunks: std::ops::Range<u32>| {
        let mut hits = 0;
        for chunk in (0..20).flat_map(|_| chunks.clone()) {
            hits += u32::from(read(&cache, chunk));
            add(&cache, chunk);
        }
        f64::from(hits) / f64::from(20 * chunks.len() as u32)
    };
    for set in 0..3 {
        let share = queries(set * room..set * room + room / 2);
        assert!(share > 0.8, "set {set}: {share} of the reads were hits");
    }
}

#[test]
fn looking_whether_a_chunk_is_here_does_not_count() {
    let mapped = Mapped::new(30 * FRAME);
    let cache = mapped.cache;
    add(&cache, 0);
    add(&cache, 1);
    for _ in 0..10 {
        assert!(cache.contains(&key(0)));
        assert!(read(&cache, 1));
    }
    (2..40).for_each(|chunk| add(&cache, chunk));
    assert!(!cache.contains(&key(0)));
    assert!(cache.contains(&key(1)));
}

#[test]
fn all_memory_stays_in_use_whatever_the_sizes() {
    let mapped = Mapped::new(16 * 1024 * 1024);
    let cache = mapped.cache;
    for chunk in 0..20_000u32 {
        let length = 1 + (chunk as usize * 7919) % (4 * FRAME);
        cache.insert(&key(chunk), &content(chunk, 1, length));
        assert!(cache.contains(&key(chunk)));
    }
    // Chunks are 16 KiB on average, of which each wastes half a frame.
    let usage = cache.usage();
    assert!(usage.used > usage.capacity * 3 / 4, "{usage:?}");
    assert!(usage.used <= usage.capacity);
    assert_eq!(usage.chunks + usage.evictions, 20_000);
}
