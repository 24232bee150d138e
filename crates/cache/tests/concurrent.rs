//! Threads and processes that read and add at once, in a cache that is far too small: every byte
//! is looked at.

#[allow(dead_code)]
mod common;

use std::thread;

use cache::{Cache, FRAME};
use common::{Mapped, content, is_content, key};

/// What is done with a cache.
#[derive(Clone, Copy)]
struct Load {
    /// Frames of the cache.
    room: usize,
    /// Chunks that exist.
    chunks: u32,
    /// Bytes that a chunk has fewer of.
    longest: usize,
    /// Steps of a thread.
    steps: u32,
}

const LOADS: [Load; 3] = [
    Load { room: 64, chunks: 400, longest: 4 * FRAME, steps: 15_000 },
    // Two partitions.
    Load { room: 512, chunks: 800, longest: 4 * FRAME, steps: 15_000 },
    // Next to no copying: frames and entries change hands all the time.
    Load { room: 4, chunks: 12, longest: 64, steps: 1_000_000 },
];

/// A cheap sequence of numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(end)) as u32
    }
}

/// Reads and adds chunks. Tells what went wrong, without a panic: forked processes run it.
fn work(cache: &Cache, load: Load, seed: u32) -> Result<(), &'static str> {
    let mut random = Random(u64::from(seed) + 1);
    let mut scratch = Vec::new();
    for step in 0..load.steps {
        // Half of the steps are for a few chunks, which everybody reads.
        let chunk = random.below(if step % 2 == 0 { load.chunks } else { 8 });
        let length = 4 + (chunk as usize * 7919) % (load.longest - 4);
        // The whole chunk, or what lies in its first frame, in place.
        let length_read = if step % 3 == 0 { length } else { length.min(FRAME) };
        let read = cache.read(&key(chunk), 0, length_read, &mut scratch, |bytes| {
            let before = is_content(chunk, bytes);
            if step % 16 == 0 {
                thread::yield_now();
            }
            // It is being read, so it is here.
            let here = cache.contains(&key(chunk));
            (before, here, is_content(chunk, bytes))
        });
        match read {
            None => cache.insert(&key(chunk), &content(chunk, seed + step, length)),
            Some((true, true, true)) => {}
            Some((false, ..)) => return Err("wrong content"),
            Some((_, false, _)) => return Err("a chunk that is being read was not found"),
            Some((.., false)) => return Err("content changed while it was read"),
        }
        if step % 8 == 0
            && let Some(bytes) = cache.get(&key(chunk))
            && !(bytes.len() == length && is_content(chunk, &bytes))
        {
            return Err("wrong copy");
        }
    }
    Ok(())
}

/// What must hold once nobody is at work any more.
fn check(cache: &Cache, load: Load) {
    let chunks: Vec<_> =
        (0..load.chunks).filter_map(|chunk| Some((chunk, cache.get(&key(chunk))?))).collect();
    assert!(chunks.iter().all(|(chunk, bytes)| is_content(*chunk, bytes)));
    let usage = cache.usage();
    assert_eq!(usage.chunks, chunks.len() as u64);
    assert_eq!(usage.used, chunks.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() as u64);
    assert!(usage.evictions > 1000, "{usage:?}");
    // No frame was lost: chunks of one frame fill what the others leave.
    let frames = (usage.capacity / FRAME as u64) as usize;
    for chunk in 0..frames as u32 {
        cache.insert(&key(load.chunks + chunk), &[1]);
    }
    let lengths =
        (0..load.chunks + frames as u32).filter_map(|chunk| Some(cache.get(&key(chunk))?.len()));
    assert_eq!(lengths.map(|length| length.div_ceil(FRAME)).sum::<usize>(), frames);
}

#[test]
fn threads_see_whole_chunks() {
    for load in LOADS {
        let mapped = Mapped::new(load.room * FRAME);
        let cache = mapped.cache;
        thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|number| scope.spawn(move || work(&cache, load, number << 20)))
                .collect();
            for thread in threads {
                assert_eq!(thread.join().expect("no panic"), Ok(()));
            }
        });
        check(&cache, load);
    }
}

#[test]
fn processes_see_whole_chunks() {
    for load in LOADS {
        let mapped = Mapped::new(load.room * FRAME);
        let children: Vec<_> = (1..4)
            .map(|number| {
                // SAFETY: the child uses nothing but the cache and the allocator, which glibc
                // keeps usable, and ends without unwinding or running what others left behind.
                match unsafe { libc::fork() } {
                    0 => unsafe {
                        let fine = work(&mapped.cache, load, number << 20).is_ok();
                        libc::_exit(if fine { 0 } else { 1 })
                    },
                    child => child,
                }
            })
            .collect();
        let mine = work(&mapped.cache, load, 0);
        for child in children {
            let mut status = 0;
            // SAFETY: a child of this process that nobody else waits for.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0, "a process saw wrong content");
        }
        assert_eq!(mine, Ok(()));
        check(&mapped.cache, load);
    }
}
