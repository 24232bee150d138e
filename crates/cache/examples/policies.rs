//! Miss ratios of replacement policies on traces that look like queries for vectors:
//! `cargo run --release --example policies -p s3vector-cache`.
//!
//! The last column is the cache itself with chunks of 24 KiB, partitions and all. The others are
//! plain models over whole chunks, for comparison only. Misses of scans are not counted: nothing
//! can avoid them; what they do to the queries after them is.

#[path = "policies/models.rs"]
mod models;
#[path = "policies/traces.rs"]
mod traces;

use models::{Built, Clock, Lru, Policy, S3Fifo, Sieve};
use traces::{Access, CHUNKS};

/// A policy for so many chunks.
type Make = fn(usize) -> Box<dyn Policy>;

const POLICIES: [(&str, Make); 7] = [
    ("LRU", |room| Box::new(Lru::new(room))),
    ("CLOCK", |room| Box::new(Clock::new(room))),
    ("SIEVE", |room| Box::new(Sieve::new(room))),
    ("S3-FIFO", |room| Box::new(S3Fifo::new(room, 10, 2))),
    ("S3, 1 use", |room| Box::new(S3Fifo::new(room, 10, 1))),
    ("S3, 20 %", |room| Box::new(S3Fifo::new(room, 20, 2))),
    ("as built", |room| Box::new(Built::new(room))),
];

fn main() {
    print!("{:<26}{:>6}", "trace", "cache");
    for (name, _) in POLICIES {
        print!("{name:>11}");
    }
    println!();
    for (name, trace) in traces::all() {
        for percent in [5, 10, 25, 50] {
            print!("{name:<26}{percent:>4} %");
            for (_, make) in POLICIES {
                print!("{:>11.4}", miss_ratio(&mut *make(CHUNKS * percent / 100), &trace));
            }
            println!();
        }
    }
}

/// Misses of a query's access, once the first quarter of the trace has filled the cache.
fn miss_ratio(policy: &mut dyn Policy, trace: &[Access]) -> f64 {
    let (mut misses, mut counted) = (0u32, 0u32);
    for (number, access) in trace.iter().enumerate() {
        let hit = policy.access(access.chunk);
        if !access.scan && number >= trace.len() / 4 {
            counted += 1;
            misses += u32::from(!hit);
        }
    }
    f64::from(misses) / f64::from(counted)
}
