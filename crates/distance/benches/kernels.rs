//! Exact kernels by level, at the dimensions of common embedding models.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use distance::{Kernels, Level, f16};

fn kernels(criterion: &mut Criterion) {
    for dimensions in [100usize, 384, 1536] {
        let query: Vec<f32> = (0..dimensions).map(|i| (i as f32).sin()).collect();
        let single: Vec<f32> = (0..dimensions).map(|i| (i as f32).cos()).collect();
        let half: Vec<f16> = single.iter().map(|x| f16::from_f32(*x)).collect();
        let mut group = criterion.benchmark_group(format!("{dimensions} dimensions"));
        group.throughput(Throughput::Elements(1));
        for level in Level::available() {
            let Some(kernels) = Kernels::of(level) else { continue };
            group.bench_function(format!("{level:?}/float32/l2_squared"), |bencher| {
                bencher.iter(|| kernels.l2_squared(black_box(&query), black_box(&single)));
            });
            group.bench_function(format!("{level:?}/float16/dot_and_norm"), |bencher| {
                bencher.iter(|| kernels.dot_and_norm(black_box(&query), black_box(&half)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
