//! Races that are too short to be met often through the cache, each in a tight loop of its own.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use uuid::Uuid;

use crate::memory::{END, FRAME, Frames};
use crate::{Cache, ChunkKey};

const ROUNDS: usize = 3_000_000;

/// A cache in memory that is never given back.
fn cache(frames: usize) -> Cache {
    let memory = vec![0; Cache::size(frames * FRAME)].leak();
    // SAFETY: zeroed, large enough, used by nobody else and there to the end.
    unsafe { Cache::create(memory.as_mut_ptr(), frames * FRAME) }
}

fn key(chunk: u32) -> ChunkKey {
    ChunkKey { segment: Uuid::from_u128(3), chunk }
}

/// Runs `other` again and again, as long as `one` runs.
fn side_by_side(one: impl FnOnce(), other: impl Fn(usize) + Send) {
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (start, end) = (Barrier::new(2), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            (0..).take_while(|_| !end.load(Ordering::Relaxed)).for_each(other);
        });
        // Also when `one` panics.
        let _end = End(&end);
        start.wait();
        one();
    });
}

#[test]
fn a_frame_is_taken_by_one_at_a_time() {
    let cache = cache(4);
    let memory = cache.memory();
    let taken = [const { AtomicBool::new(false) }; 4];
    let take = |frames: &mut Frames| {
        if let Some(number) = memory.take_frame() {
            assert!(!taken[number as usize].swap(true, Ordering::Relaxed), "taken twice");
            frames.push(number);
        }
    };
    let give = |frames: Frames| {
        frames.as_slice().iter().for_each(|&n| taken[n as usize].store(false, Ordering::Relaxed));
        memory.give_frames(&frames);
    };
    // Taking two and giving them back in the same order turns the stack round.
    let round = |_| {
        let mut frames = Frames::default();
        take(&mut frames);
        take(&mut frames);
        give(frames);
    };
    side_by_side(|| (0..ROUNDS).for_each(round), round);
    let mut left = Frames::default();
    (0..5).for_each(|_| take(&mut left));
    assert_eq!(left.count(), 4, "frames are lost");
}

#[test]
fn a_pin_holds_the_chunk_that_was_asked_for() {
    let cache = cache(1);
    let entry = cache.memory().entry(0);
    let mut frames = Frames::default();
    frames.push(0);
    let change = |number: usize| {
        let number = number as u32 % 2;
        entry.describe(&key(number), 1 + number as usize, &frames);
        entry.publish();
        while !entry.retire() {}
    };
    let look = || {
        for round in 0..ROUNDS {
            let number = round as u32 % 2;
            if let Some(pinned) = entry.pin_if(&key(number)) {
                assert_eq!(pinned.length(), 1 + number as usize);
                assert_eq!(entry.key(), key(number));
            }
        }
    };
    side_by_side(look, change);
}

#[test]
fn a_chunk_that_is_here_is_found_while_others_come_and_go() {
    let cache = cache(4);
    let memory = cache.memory();
    // Half of the others are in the same bucket, before the chunk in its chain.
    let bucket = memory.place(&key(0)).bucket;
    let others = |same| (1..).filter(move |&n| (memory.place(&key(n)).bucket == bucket) == same);
    let others: Vec<u32> =
        others(true).zip(others(false)).take(8).flat_map(|(a, b)| [a, b]).collect();
    cache.insert(&key(0), &[0]);
    let looking = || assert!((0..10 * ROUNDS).all(|_| cache.contains(&key(0))), "not found");
    let adding = |number: usize| cache.insert(&key(others[number % others.len()]), &[1]);
    // It is here because it is being read, from before the others come.
    let read = cache.read(&key(0), 0, 1, &mut Vec::new(), |_| side_by_side(looking, adding));
    assert_eq!(read, Some(()));
}

#[test]
fn of_two_that_add_the_same_chunk_one_gives_its_frames_back() {
    let cache = cache(2);
    let memory = cache.memory();
    let place = memory.place(&key(5));
    for number in [0, 1] {
        let mut frames = Frames::default();
        frames.push(memory.take_frame().expect("a free frame"));
        assert_eq!(frames.as_slice(), [number]);
        // As if both had looked for the chunk before.
        cache.make_known(&key(5), &place, 1, &frames);
    }
    assert_eq!(cache.usage().chunks, 1);
    assert_eq!(memory.take_frame(), Some(1));
}

#[test]
fn who_finds_nothing_during_a_change_looks_again() {
    let cache = cache(4);
    let memory = cache.memory();
    cache.insert(&key(0), &[0]);
    let place = memory.place(&key(0));
    let bucket = memory.bucket(place.bucket);
    let held = memory.hold(place.partition);
    let looking = thread::scope(|scope| {
        let looking = held.change(|| {
            let link = bucket.swap(END, Ordering::Relaxed);
            let looking = scope.spawn(|| cache.contains(&key(0)));
            // Time to be mistaken.
            thread::sleep(Duration::from_millis(50));
            bucket.store(link, Ordering::Relaxed);
            looking
        });
        drop(held);
        looking.join().expect("no panic")
    });
    assert!(looking);
}
