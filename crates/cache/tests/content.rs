//! What is put in comes out, or nothing does.

#[allow(dead_code)]
mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};

use cache::{Cache, ChunkKey, FRAME, MAX_CHUNK};
use common::{Mapped, content, key};
use uuid::Uuid;

#[test]
fn what_is_put_in_comes_out() {
    let mapped = Mapped::new(64 * FRAME);
    let cache = mapped.cache;
    let lengths = [1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME, MAX_CHUNK];
    for (chunk, &length) in (0..).zip(&lengths) {
        cache.insert(&key(chunk), &content(chunk, 1, length));
    }
    for (chunk, &length) in (0..).zip(&lengths) {
        assert_eq!(cache.get(&key(chunk)), Some(content(chunk, 1, length)));
        let beyond = cache.read(&key(chunk), 0, length + 1, &mut Vec::new(), |_| ());
        assert_eq!(beyond, None, "nothing beyond the end");
    }
    assert_eq!(cache.usage().used, lengths.iter().sum::<usize>() as u64);
    assert_eq!(cache.usage().chunks, lengths.len() as u64);
    let other = ChunkKey { segment: Uuid::from_u128(8), chunk: 0 };
    assert!(!cache.contains(&other));
    assert_eq!(cache.get(&other), None);
}

#[test]
fn a_row_across_frames_is_put_together_and_others_are_not_copied() {
    let mapped = Mapped::new(16 * FRAME);
    let bytes = content(3, 1, 4 * FRAME);
    mapped.cache.insert(&key(3), &bytes);
    let mut scratch = Vec::new();
    for (offset, length) in [(FRAME - 4, 8), (FRAME - 100, 2 * FRAME + 200)] {
        let read = mapped.cache.read(&key(3), offset, length, &mut scratch, <[u8]>::to_vec);
        assert_eq!(read.as_deref(), Some(&bytes[offset..offset + length]));
    }
    let mut scratch = Vec::new();
    for (offset, length) in [(5, 10), (FRAME, FRAME), (4 * FRAME - 1, 1), (4 * FRAME, 0), (9, 0)] {
        let read = mapped.cache.read(&key(3), offset, length, &mut scratch, <[u8]>::to_vec);
        assert_eq!(read.as_deref(), Some(&bytes[offset..offset + length]));
    }
    assert_eq!(scratch.capacity(), 0, "used in place");
    assert_eq!(mapped.cache.read(&key(3), usize::MAX, 2, &mut scratch, |_| ()), None);
}

#[test]
fn too_large_or_empty_chunks_are_left_out() {
    for (frames, too_large) in [(8, 8 * FRAME + 1), (64, MAX_CHUNK + 1)] {
        let mapped = Mapped::new(frames * FRAME);
        mapped.cache.insert(&key(0), &content(0, 1, too_large));
        mapped.cache.insert(&key(1), &[]);
        assert_eq!(mapped.cache.usage().chunks, 0);
        mapped.cache.insert(&key(2), &content(2, 1, too_large - 1));
        assert_eq!(mapped.cache.usage().chunks, 1);
    }
}

#[test]
fn the_first_of_two_editions_stays() {
    let mapped = Mapped::new(64 * FRAME);
    mapped.cache.insert(&key(0), &content(0, 1, 100));
    mapped.cache.insert(&key(0), &content(0, 2, 200));
    assert_eq!(mapped.cache.get(&key(0)), Some(content(0, 1, 100)));
}

#[test]
fn a_chunk_stays_while_it_is_read_and_may_go_afterwards() {
    let mapped = Mapped::new(16 * FRAME);
    let cache = mapped.cache;
    cache.insert(&key(0), &content(0, 1, FRAME));
    let read = cache.read(&key(0), 0, FRAME, &mut Vec::new(), |bytes| {
        for chunk in 1..200 {
            cache.insert(&key(chunk), &content(chunk, 1, 3 * FRAME));
            assert!(cache.contains(&key(chunk)));
        }
        bytes.to_vec()
    });
    assert_eq!(read, Some(content(0, 1, FRAME)));
    assert!(cache.contains(&key(0)));
    for chunk in 200..300 {
        cache.insert(&key(chunk), &content(chunk, 1, 3 * FRAME));
        // Worth keeping, other than what only passes through.
        let reads = [(); 2].map(|()| cache.read(&key(chunk), 0, 1, &mut Vec::new(), |_| ()));
        assert_eq!(reads, [Some(()); 2]);
    }
    assert!(!cache.contains(&key(0)));
}

#[test]
fn nothing_is_added_when_everything_is_being_read() {
    let mapped = Mapped::new(16 * FRAME);
    let cache = mapped.cache;
    cache.insert(&key(0), &content(0, 1, MAX_CHUNK));
    let all = |cache: &Cache| cache.read(&key(0), 0, 1, &mut Vec::new(), |_| try_to_add(cache));
    assert_eq!(all(&cache), Some(false));
    assert!(try_to_add(&cache), "read no more");
    assert!(!cache.contains(&key(0)));
}

fn try_to_add(cache: &Cache) -> bool {
    cache.insert(&key(1), &content(1, 1, FRAME));
    cache.contains(&key(1))
}

#[test]
fn a_reader_that_panics_lets_go() {
    let mapped = Mapped::new(16 * FRAME);
    let cache = mapped.cache;
    cache.insert(&key(0), &content(0, 1, MAX_CHUNK));
    let reading = || cache.read(&key(0), 0, 1, &mut Vec::new(), |_| panic!("as the test wants"));
    assert!(catch_unwind(AssertUnwindSafe(reading)).is_err());
    assert!(try_to_add(&cache));
}

#[test]
fn asking_ahead_changes_nothing() {
    let mapped = Mapped::new(40 * MAX_CHUNK);
    let cache = mapped.cache;
    for chunk in 0..200 {
        cache.insert(&key(chunk), &content(chunk, 1, 3 * FRAME - 5));
    }
    let before = cache.usage();
    // Chunks that are there and that are not, bytes within a chunk and beyond all.
    cache.prefetch_entries((0..400).map(key));
    for chunk in 0..400 {
        for (offset, length) in
            [(0, 1), (FRAME - 1, 2), (0, MAX_CHUNK), (MAX_CHUNK, 9), (7, usize::MAX)]
        {
            cache.prefetch_bytes(&key(chunk), offset, length);
        }
    }
    assert_eq!(cache.usage(), before);
    for chunk in 0..200 {
        if let Some(bytes) = cache.get(&key(chunk)) {
            assert_eq!(bytes, content(chunk, 1, 3 * FRAME - 5));
        }
    }
}
