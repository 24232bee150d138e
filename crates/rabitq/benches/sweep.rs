//! What the bounds of all rows of a segment take, and finding the least of them.
//!
//! Records lie in memory as a server's do: shared between processes, in pages of 4 kB, each with a code, factors
//! and 32 packed neighbours. Prints a line for each case, its fields separated by tabs: dimensions, bits, metric,
//! instructions, what is done, rows, bytes of a record, and nanoseconds a row, the least and the median of
//! several times. `benches/sweep.py` reads them.

use std::{collections::BinaryHeap, slice, time::Instant};

use distance::{Level, Metric};
use rabitq::{Bits, Codes, FACTORS, Quantizer, Query, SplitMix64, code_bytes};

const ROWS: usize = 1_000_000;
/// Larger records are fewer.
const MOST_BYTES: usize = 1 << 30;
/// Rows asked for at a time: between two looks at interrupts.
const PIECE: usize = 4096;
/// Rows kept of all.
const KEPT: usize = 1000;
/// 2m neighbours of three bytes.
const LIST_BYTES: usize = 32 * 3;
const REPEATS: usize = 15;

/// Shared memory, as bytes and as floats, given back at the end.
struct Shared(&'static mut [f32]);

impl Shared {
    fn new(bytes: usize) -> Self {
        // SAFETY: memory of its own, zeroed, aligned to a page.
        let floats = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
            let at = libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0);
            assert_ne!(at, libc::MAP_FAILED, "no shared memory");
            slice::from_raw_parts_mut(at.cast(), bytes / size_of::<f32>())
        };
        Self(floats)
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: any float is four bytes.
        unsafe { slice::from_raw_parts(self.0.as_ptr().cast(), size_of_val(self.0)) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and nothing refers to it any more.
        unsafe { libc::munmap(self.0.as_mut_ptr().cast(), size_of_val(self.0)) };
    }
}

/// Bounds of all rows; into `heap` go the least, if there is one.
fn sweep(query: &Query, codes: &Codes<'_>, out: &mut [f32], heap: Option<&mut BinaryHeap<u64>>) {
    for (piece, out) in out.chunks_mut(PIECE).enumerate() {
        query.sure_lower_bounds(codes, (piece * PIECE) as u32, out);
    }
    let Some(heap) = heap else { return };
    heap.clear();
    let mut limit = f32::INFINITY;
    for (row, bound) in out.iter().enumerate() {
        if *bound < limit {
            // Squared distances: positive, so they rise with their bits.
            heap.push(u64::from(bound.max(0.0).to_bits()) << 32 | row as u64);
            if heap.len() > KEPT {
                heap.pop();
                limit = heap.peek().map_or(limit, |top| f32::from_bits((top >> 32) as u32));
            }
        }
    }
}

/// The least and the median time in nanoseconds a row.
fn time(rows: usize, repeats: usize, mut work: impl FnMut()) -> [f64; 2] {
    let mut times: Vec<f64> = (0..repeats)
        .map(|_| {
            let begin = Instant::now();
            work();
            begin.elapsed().as_secs_f64() * 1e9 / rows as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    [times[0], times[repeats / 2]]
}

fn measure(dimensions: usize, bits: Bits) {
    let code_bytes = code_bytes(dimensions, bits);
    let stride = (code_bytes + FACTORS * size_of::<f32>() + LIST_BYTES).next_multiple_of(16);
    let rows = ROWS.min(MOST_BYTES / stride);
    let shared = Shared::new(rows * stride);
    let mut random = SplitMix64::new(1);
    for record in shared.0.chunks_exact_mut(stride / size_of::<f32>()) {
        let (code, rest) = record.split_at_mut(code_bytes / size_of::<f32>());
        code.iter_mut().for_each(|four| *four = f32::from_bits(random.next_u64() as u32));
        rest[..FACTORS].copy_from_slice(&[1.0, 0.02, 0.005]);
    }
    let codes = Codes::records(shared.bytes(), shared.0, code_bytes, stride);
    let (mut out, mut heap) = (vec![0.0; rows], BinaryHeap::with_capacity(KEPT + 1));
    for metric in [Metric::L2, Metric::InnerProduct] {
        let quantizer = Quantizer::new(dimensions, bits, metric, 1, vec![0.01; dimensions]);
        let vector: Vec<f32> = (0..dimensions).map(|i| (i as f32).sin()).collect();
        for level in Level::available() {
            let query = quantizer.query(&vector).at_level(level).expect("available");
            let repeats = if level == Level::Plain { 3 } else { REPEATS };
            let print = |what, [least, median]: [f64; 2]| {
                let (bits, metric) = (bits.count(), metric.name());
                println!(
                    "{dimensions}\t{bits}\t{metric}\t{level:?}\t{what}\t{rows}\t{stride}\t{least:.2}\t{median:.2}"
                );
            };
            print("bounds", time(rows, repeats, || sweep(&query, &codes, &mut out, None)));
            if metric == Metric::L2 {
                let keep = || sweep(&query, &codes, &mut out, Some(&mut heap));
                print("least", time(rows, repeats, keep));
            }
        }
    }
}

fn main() {
    for dimensions in [384, 100, 768, 1536] {
        for bits in Bits::ALL {
            measure(dimensions, bits);
        }
    }
}
