//! What the cache costs: `cargo run --release --example timings -p s3vector-cache`.
//!
//! Beside it, the same reads from a plain table whose parts are each under a process-shared
//! `pthread_rwlock_t` that prefers writers.

use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cache::{Cache, ChunkKey};
use uuid::Uuid;

/// 16 vectors of 384 dimensions.
const ROW: usize = 4 * 384;
const CHUNK: usize = 16 * ROW;
/// Chunks that fit.
const ROOM: u32 = 8192;
/// How long a run takes, and how often it is made: the best one was disturbed the least.
const TIME: Duration = Duration::from_millis(300);
const RUNS: u32 = 5;

fn main() {
    let bytes = ROOM as usize * CHUNK;
    let mut memory = vec![0u8; Cache::size(bytes)];
    let started = Instant::now();
    // SAFETY: as large as asked for, zeroed, used by nobody else, and dropped last.
    let cache = unsafe { Cache::create(memory.as_mut_ptr(), bytes) };
    println!("create {} MiB: {:?}", bytes >> 20, started.elapsed());
    let chunk: Vec<u8> = 1.5f32.to_le_bytes().repeat(CHUNK / 4);
    for (what, numbers) in [
        ("fresh memory", 0..ROOM),
        ("eviction", ROOM..4 * ROOM),
        ("nothing: it is here", 4 * ROOM - 1000..4 * ROOM),
    ] {
        let (started, count) = (Instant::now(), numbers.len());
        numbers.for_each(|number| cache.insert(&key(number), black_box(&chunk)));
        println!("insert of 24 KiB, {what}: {:?}", started.elapsed() / count as u32);
    }
    let here: Vec<u32> = (0..4 * ROOM).filter(|&number| cache.contains(&key(number))).collect();
    let table = Table::new(&here, &chunk);

    // Read more than once, so that what the writer adds does not drive them out.
    let read = &here[..here.len() / 2];
    for number in read.iter().flat_map(|&number| [number; 2]) {
        cache.read(&key(number), 0, ROW, &mut Vec::new(), sum);
    }
    println!(
        "million reads of 1.5 KB a second by all readers (million inserts), best of {RUNS} runs"
    );
    for (what, hot) in [("4096 chunks", read), ("4 chunks", &read[..4])] {
        for (readers, writers) in [(1, 0), (2, 0), (1, 1), (2, 1)] {
            let (mut ours, mut locked) = ((0.0, 0.0), (0.0, 0.0));
            for run in 0..RUNS {
                let rate = rates(
                    readers,
                    writers,
                    |n, scratch| {
                        cache.read(&key(hot[n % hot.len()]), n % 5 * ROW, ROW, scratch, sum)
                    },
                    |n| cache.insert(&key(((1 + run) << 24) | n as u32), &chunk),
                );
                ours = if rate.0 > ours.0 { rate } else { ours };
                let rate = rates(
                    readers,
                    writers,
                    |n, _| table.read(&key(hot[n % hot.len()]), n % 5 * ROW, sum),
                    |n| table.write(&key(here[n * 7919 % here.len()]), &chunk),
                );
                locked = if rate.0 > locked.0 { rate } else { locked };
            }
            println!(
                "  {what:>11}, {readers} reading, {writers} writing: pins {:.2} ({:.3}), rwlock {:.2} ({:.3})",
                ours.0, ours.1, locked.0, locked.1
            );
        }
    }
}

fn key(chunk: u32) -> ChunkKey {
    ChunkKey { segment: Uuid::from_u128(7), chunk }
}

fn sum(row: &[u8]) -> f32 {
    let mut sums = [0.0; 16];
    for part in row.as_chunks::<64>().0 {
        for (sum, bytes) in sums.iter_mut().zip(part.as_chunks::<4>().0) {
            *sum += f32::from_le_bytes(*bytes);
        }
    }
    sums.iter().sum()
}

/// Runs readers and writers side by side. Millions a second of reads that hit, and of inserts.
fn rates(
    readers: usize,
    writers: usize,
    read: impl Fn(usize, &mut Vec<u8>) -> Option<f32> + Sync,
    write: impl Fn(usize) + Sync,
) -> (f64, f64) {
    let end = AtomicBool::new(false);
    let (read, write, end) = (&read, &write, &end);
    let (reads, writes) = thread::scope(|scope| {
        let reading = move |thread: usize| {
            let (mut count, mut number, mut scratch) = (0u64, thread * 7919, Vec::new());
            while !end.load(Ordering::Relaxed) {
                for _ in 0..64 {
                    number = number.wrapping_mul(0x2545_F491_4F6C_DD1D).wrapping_add(12345);
                    count += u64::from(black_box(read(number >> 20, &mut scratch)).is_some());
                }
            }
            count
        };
        let writing = move || {
            let mut count = 0;
            while !end.load(Ordering::Relaxed) {
                write(count);
                count += 1;
            }
            count as u64
        };
        let readers: Vec<_> =
            (0..readers).map(|thread| scope.spawn(move || reading(thread))).collect();
        let writers: Vec<_> = (0..writers).map(|_| scope.spawn(writing)).collect();
        thread::sleep(TIME);
        end.store(true, Ordering::Relaxed);
        let total = |threads: Vec<thread::ScopedJoinHandle<'_, u64>>| {
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum::<u64>()
        };
        (total(readers), total(writers))
    });
    let rate = |count: u64| count as f64 / TIME.as_secs_f64() / 1e6;
    (rate(reads), rate(writes))
}

/// Chunks that never go, in 128 parts, each under a lock.
struct Table {
    parts: Vec<Part>,
}

struct Part {
    lock: UnsafeCell<libc::pthread_rwlock_t>,
    places: HashMap<ChunkKey, usize>,
    data: UnsafeCell<Vec<u8>>,
}

// SAFETY: the data are read and written under the lock.
unsafe impl Sync for Table {}

/// `PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP`, the one of glibc's kinds in which writers do
/// come first.
const PREFER_WRITER: libc::c_int = 2;

impl Table {
    fn new(chunks: &[u32], content: &[u8]) -> Self {
        let mut parts: Vec<Part> = (0..128)
            .map(|_| Part {
                lock: UnsafeCell::new(libc::PTHREAD_RWLOCK_INITIALIZER),
                places: HashMap::new(),
                data: UnsafeCell::default(),
            })
            .collect();
        for part in &mut parts {
            let mut attributes = MaybeUninit::uninit();
            // SAFETY: initialised in order; the parts do not move from here on.
            unsafe {
                libc::pthread_rwlockattr_init(attributes.as_mut_ptr());
                let shared = libc::PTHREAD_PROCESS_SHARED;
                libc::pthread_rwlockattr_setpshared(attributes.as_mut_ptr(), shared);
                libc::pthread_rwlockattr_setkind_np(attributes.as_mut_ptr(), PREFER_WRITER);
                libc::pthread_rwlock_init(part.lock.get(), attributes.as_ptr());
            }
        }
        for &chunk in chunks {
            let part = &mut parts[key(chunk).hash() as usize % 128];
            part.places.insert(key(chunk), part.data.get_mut().len());
            part.data.get_mut().extend_from_slice(content);
        }
        Self { parts }
    }

    fn read<R>(&self, key: &ChunkKey, offset: usize, use_it: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let part = &self.parts[key.hash() as usize % 128];
        let at = part.places.get(key)? + offset;
        // SAFETY: under the lock nobody writes.
        unsafe {
            libc::pthread_rwlock_rdlock(part.lock.get());
            let result = use_it(&(&*part.data.get())[at..at + ROW]);
            libc::pthread_rwlock_unlock(part.lock.get());
            Some(result)
        }
    }

    fn write(&self, key: &ChunkKey, bytes: &[u8]) {
        let part = &self.parts[key.hash() as usize % 128];
        let at = part.places[key];
        // SAFETY: under the lock nobody reads or writes.
        unsafe {
            libc::pthread_rwlock_wrlock(part.lock.get());
            (&mut *part.data.get())[at..at + CHUNK].copy_from_slice(bytes);
            libc::pthread_rwlock_unlock(part.lock.get());
        }
    }
}
