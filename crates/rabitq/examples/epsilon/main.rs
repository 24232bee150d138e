//! Measures how many standard deviations exact distances lie below their estimates, on many kinds of data:
//! what `SURE` in `bounds.rs` was chosen by.
//!
//! `cargo run --release -p s3vector-rabitq --example epsilon -- [FOLDER]`; the folder has real data, as
//! `NAME_base.npy` and `NAME_query.npy`.

mod data;

use std::path::PathBuf;

use data::{Amount, Data, Kind, Random};
use distance::{ExactQuery, Metric};
use rabitq::{Bits, Codes, FACTORS, Quantizer, SURE, Scratch};

const METRICS: [Metric; 3] = [Metric::L2, Metric::InnerProduct, Metric::Cosine];
/// Standard deviations that are counted: tails from here on.
const STEPS: [f64; 6] = [1.9, 4.0, 4.5, 5.0, 5.5, 6.0];

/// What was found for one width of codes.
#[derive(Clone, Copy, Default)]
struct Tail {
    pairs: u64,
    worst: f64,
    beyond: [u64; STEPS.len()],
    misses: u64,
}

impl Tail {
    fn add(&mut self, z: f64, miss: bool) {
        self.pairs += 1;
        self.worst = self.worst.max(z);
        if z > STEPS[0] {
            for (count, step) in self.beyond.iter_mut().zip(STEPS) {
                *count += u64::from(z > step);
            }
        }
        self.misses += u64::from(miss);
    }

    fn merge(&mut self, other: Self) {
        self.pairs += other.pairs;
        self.worst = self.worst.max(other.worst);
        self.misses += other.misses;
        self.beyond.iter_mut().zip(other.beyond).for_each(|(sum, more)| *sum += more);
    }

    fn text(&self) -> String {
        let million = |count: u64| count as f64 * 1e6 / self.pairs as f64;
        let tail: Vec<String> =
            self.beyond.iter().map(|count| format!("{:9.3}", million(*count))).collect();
        format!("{:6.2} {} {:8.4}", self.worst, tail.join(" "), million(self.misses))
    }
}

/// The mean of the rows, of the normalised rows under cosine.
fn mean(rows: &[Vec<f32>], metric: Metric) -> Vec<f32> {
    let mut sum = vec![0.0f64; rows[0].len()];
    for row in rows {
        let squares: f64 = row.iter().map(|x| f64::from(*x).powi(2)).sum();
        let norm = if metric == Metric::Cosine && squares > 0.0 { squares.sqrt() } else { 1.0 };
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x) / norm);
    }
    sum.iter().map(|x| (x / rows.len() as f64) as f32).collect()
}

/// Exact ranking values, query by query.
fn exact(data: &Data, metric: Metric) -> Vec<Vec<f64>> {
    let ranking = |query: &Vec<f32>| {
        let query = ExactQuery::new(metric, query.clone());
        let value = |row: &Vec<f32>| {
            let distance = query.distance(&row[..]);
            if metric == Metric::L2 { distance * distance } else { distance }
        };
        data.rows.iter().map(value).collect()
    };
    data.queries.iter().map(ranking).collect()
}

fn measure(data: &Data, metric: Metric, bits: Bits, seed: u64, exact: &[Vec<f64>]) -> Tail {
    let centroid = data.centroid.clone().unwrap_or_else(|| mean(&data.rows, metric));
    let quantizer = Quantizer::new(centroid.len(), bits, metric, seed, centroid);
    let (bytes, count) = (quantizer.code_bytes(), data.rows.len());
    let (mut codes, mut factors) = (vec![0; count * bytes], vec![0.0; count * FACTORS]);
    let mut scratch = Scratch::default();
    let places = codes.chunks_exact_mut(bytes).zip(factors.chunks_exact_mut(FACTORS));
    for (row, (code, factors)) in data.rows.iter().zip(places) {
        quantizer.encode(row, code, factors, &mut scratch);
    }
    let codes = Codes::arrays(&codes, bytes, &factors);
    let rows: Vec<u32> = (0..count as u32).collect();
    let (mut estimates, mut bounds) = (vec![0.0; count], vec![0.0; count]);
    let epsilon = SURE[bits.count().ilog2() as usize];
    let mut tail = Tail::default();
    for (query, exact) in data.queries.iter().zip(exact) {
        let query = quantizer.query(query);
        query.estimates(&codes, &rows, &mut estimates);
        query.sure_lower_bounds(&codes, 0, &mut bounds);
        for ((exact, estimate), bound) in exact.iter().zip(&estimates).zip(&bounds) {
            let (estimate, bound) = (f64::from(*estimate), f64::from(*bound));
            // Rows and queries without direction have no cosine distance.
            if !exact.is_nan() {
                tail.add(epsilon * (estimate - exact) / (estimate - bound), *exact < bound);
            }
        }
    }
    tail
}

fn report(kind: &Kind) -> [Tail; 4] {
    let mut sums = [Tail::default(); 4];
    for metric in METRICS {
        let mut tails = [Tail::default(); 4];
        for seed in 0..kind.seeds {
            let data = (kind.draw)(&mut Random::new(seed));
            let exact = exact(&data, metric);
            for (tail, bits) in tails.iter_mut().zip(Bits::ALL) {
                tail.merge(measure(&data, metric, bits, seed, &exact));
            }
        }
        for ((tail, sum), bits) in tails.iter().zip(&mut sums).zip(Bits::ALL) {
            println!("{:28} {:6} {}: {}", kind.name, metric.name(), bits.count(), tail.text());
            sum.merge(*tail);
        }
    }
    sums
}

fn main() {
    let amount = Amount {
        rows: 4096,
        queries: 64,
        seeds: std::env::var("N").map_or(8, |n| n.parse().unwrap()),
    };
    let filter = std::env::var("ONLY").unwrap_or_default();
    let mut kinds = data::drawn(amount);
    for folder in std::env::args().skip(1) {
        kinds.extend(data::read(&PathBuf::from(folder), 100, 2));
    }
    let mut sums = [Tail::default(); 4];
    for kind in kinds.iter().filter(|kind| kind.name.contains(&filter)) {
        let found = report(kind);
        sums.iter_mut().zip(found).for_each(|(sum, tail)| sum.merge(tail));
    }
    for (sum, bits) in sums.iter().zip(Bits::ALL) {
        println!("{:28} {:6} {}: {} {}", "all", "", bits.count(), sum.text(), sum.pairs);
    }
}
