//! Rotation, encoding, query preparation and estimates, at the dimensions of common models.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use distance::Metric;
use rabitq::{Bits, Codes, FACTORS, Quantizer, Rotation, Scratch, SplitMix64};

/// Rows estimated against: few enough to stay in the cache, so that computing is measured.
const ROWS: usize = 512;

fn vectors(count: usize, dimensions: usize) -> Vec<f32> {
    let mut random = SplitMix64::new(1);
    (0..count * dimensions)
        .map(|_| (random.next_u64() >> 40) as f32 / (1u64 << 24) as f32 - 0.5)
        .collect()
}

fn codes(criterion: &mut Criterion) {
    for dimensions in [100, 384, 1536] {
        let vectors = vectors(ROWS, dimensions);
        let mut group = criterion.benchmark_group(format!("{dimensions} dimensions"));

        let rotation = Rotation::new(dimensions, 1);
        let mut rotated = vec![0.0; rotation.padded()];
        group.bench_function("rotate", |bencher| {
            bencher.iter(|| rotation.rotate(black_box(&vectors[..dimensions]), &mut rotated));
        });

        for bits in Bits::ALL {
            let quantizer = Quantizer::new(dimensions, bits, Metric::L2, 1, vec![0.0; dimensions]);
            let mut codes = vec![0; ROWS * quantizer.code_bytes()];
            let mut factors = vec![0.0; ROWS * FACTORS];
            let mut scratch = Scratch::default();
            let mut encode = || {
                let codes = codes.chunks_exact_mut(quantizer.code_bytes());
                let factors = factors.chunks_exact_mut(FACTORS);
                for ((vector, code), factors) in
                    vectors.chunks_exact(dimensions).zip(codes).zip(factors)
                {
                    quantizer.encode(vector, code, factors, &mut scratch);
                }
            };
            group.throughput(Throughput::Elements(ROWS as u64));
            group.bench_function(format!("{bits:?}/encode"), |bencher| bencher.iter(&mut encode));

            let query = quantizer.query(&vectors[..dimensions]);
            let rows: Vec<u32> = (0..ROWS as u32).map(|i| i * 37 % ROWS as u32).collect();
            let mut out = vec![0.0; ROWS];
            let all = Codes::arrays(&codes, quantizer.code_bytes(), &factors);
            group.bench_function(format!("{bits:?}/estimates"), |bencher| {
                bencher.iter(|| query.estimates(&all, black_box(&rows), &mut out));
            });
            group.throughput(Throughput::Elements(1));
            group.bench_function(format!("{bits:?}/query"), |bencher| {
                bencher.iter(|| quantizer.query(black_box(&vectors[..dimensions])));
            });
            group.bench_function(format!("{bits:?}/bounds"), |bencher| {
                let (code, factors) = (&codes[..quantizer.code_bytes()], &factors[..FACTORS]);
                bencher.iter(|| query.bounds(black_box(code), black_box(factors)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, codes);
criterion_main!(benches);
