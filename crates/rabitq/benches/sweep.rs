//! A sweep over all rows of a segment: what its bounds take a row.
//!
//! Records lie in memory as a server's do: shared, in pages of 4 kB, each with a code, factors and 32 packed
//! neighbours.

use std::{slice, time::Instant};

use distance::{Level, Metric};
use rabitq::{Bits, Codes, FACTORS, Quantizer, SplitMix64};

fn shared(bytes: usize) -> &'static mut [u8] {
    // SAFETY: new memory, which nobody else has and which is never given back.
    unsafe {
        let at = libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(at, libc::MAP_FAILED, "no shared memory");
        slice::from_raw_parts_mut(at.cast(), bytes)
    }
}

fn main() {
    let rows: usize = 1_000_000;
    for dimensions in [384, 100, 768, 1536] {
        for bits in [Bits::Four, Bits::One, Bits::Two, Bits::Eight] {
            let code_bytes = rabitq::code_bytes(dimensions, bits);
            let stride = (code_bytes + 4 * FACTORS + 96).next_multiple_of(16);
            let rows = rows.min((1 << 30) / stride);
            let memory = shared(rows * stride);
            let mut random = SplitMix64::new(1);
            for record in memory.chunks_exact_mut(stride) {
                for byte in record[..code_bytes].as_chunks_mut::<8>().0 {
                    *byte = random.next_u64().to_ne_bytes();
                }
                for (i, factor) in
                    record[code_bytes..].as_chunks_mut::<4>().0[..3].iter_mut().enumerate()
                {
                    *factor = [1.0f32, 0.02, 0.005][i].to_ne_bytes();
                }
            }
            let memory = &*memory;
            let floats =
                unsafe { slice::from_raw_parts(memory.as_ptr().cast::<f32>(), memory.len() / 4) };
            let codes = Codes::records(memory, floats, code_bytes, stride);
            let mut out = vec![0.0; rows];
            for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct] {
                let quantizer = Quantizer::new(dimensions, bits, metric, 1, vec![0.01; dimensions]);
                let vector: Vec<f32> = (0..dimensions).map(|i| (i as f32).sin()).collect();
                let query = quantizer.query(&vector);
                for level in Level::available() {
                    let query = query.at_level(level).unwrap();
                    let repeats = if level == Level::Plain { 2 } else { 9 };
                    let mut times: Vec<f64> = (0..repeats)
                        .map(|_| {
                            let begin = Instant::now();
                            for (i, out) in out.chunks_mut(4096).enumerate() {
                                query.sure_lower_bounds(&codes, (i * 4096) as u32, out);
                            }
                            begin.elapsed().as_secs_f64()
                        })
                        .collect();
                    times.sort_by(f64::total_cmp);
                    println!(
                        "{dimensions} {bits:?} {metric:?} {level:?}: {rows} rows, {stride} bytes, ms min {:.1} median {:.1}, ns a row {:.2}",
                        times[0] * 1e3,
                        times[repeats / 2] * 1e3,
                        times[0] * 1e9 / rows as f64
                    );
                }
            }
            unsafe { libc::munmap(memory.as_ptr() as *mut _, memory.len()) };
        }
    }
}
