//! Measures how far exact distances lie below their estimates, on many kinds of data: what `SURE` in
//! `src/sweep.rs` was chosen by, and the table *Bounds of the sweep* of `docs/benchmarks.md`.
//!
//! `cargo run --release -p s3vector-rabitq --example epsilon -- [FOLDER [NAME…]]`: the folder has real data as
//! `NAME_base.npy` and `NAME_query.npy`; of names, only kinds of data that contain one are measured.

mod data;

use std::path::PathBuf;

use data::{Amount, Data, Kind, Random};
use distance::{ExactQuery, Metric};
use rabitq::{Bits, Codes, FACTORS, Quantizer, SURE, Scratch};

const METRICS: [Metric; 3] = [Metric::L2, Metric::InnerProduct, Metric::Cosine];
/// What is drawn of each kind.
const AMOUNT: Amount = Amount { rows: 4096, queries: 64, seeds: 8 };
/// Queries and rotations of real data.
const QUERIES: usize = 100;
const ROTATIONS: u64 = 2;
/// For so many nearest rows it is counted how many have to be read.
const NEAREST: [usize; 3] = [10, 100, 1000];
/// One row of so many is also held against the bounds of a walk, which take longer.
const EVERY: usize = 16;

/// What was found for one width of codes.
#[derive(Clone, Copy, Default)]
struct Tail {
    pairs: u64,
    /// How far a row lay below its estimate at most, where its bound lies `SURE` below.
    worst: f64,
    misses: u64,
    /// Pairs held against the bounds of a walk, and those below.
    walked: u64,
    below: u64,
    queries: u64,
    /// Rows whose bounds are below the last of the [`NEAREST`], of all queries.
    read: [u64; NEAREST.len()],
}

impl Tail {
    fn merge(&mut self, other: Self) {
        self.pairs += other.pairs;
        self.worst = self.worst.max(other.worst);
        self.misses += other.misses;
        self.walked += other.walked;
        self.below += other.below;
        self.queries += other.queries;
        self.read.iter_mut().zip(other.read).for_each(|(sum, more)| *sum += more);
    }

    /// Misses in a million, and crossed bounds of a walk in a hundred.
    fn rates(&self) -> [f64; 2] {
        let part = |part: u64, all: u64| part as f64 / all.max(1) as f64;
        [1e6 * part(self.misses, self.pairs), 1e2 * part(self.below, self.walked)]
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

/// The exact distances of a query, and those of the last of the [`NEAREST`] rows.
struct Exact {
    distances: Vec<f64>,
    nearest: [f64; NEAREST.len()],
}

impl Exact {
    fn new(rows: &[Vec<f32>], metric: Metric, query: &[f32]) -> Self {
        let query = ExactQuery::new(metric, query.to_vec());
        let distances: Vec<f64> = rows.iter().map(|row| query.distance(&row[..])).collect();
        let mut sorted = distances.clone();
        sorted.sort_by(f64::total_cmp);
        let nearest = NEAREST.map(|count| sorted[count.min(sorted.len()) - 1]);
        Self { distances, nearest }
    }
}

fn measure(data: &Data, metric: Metric, bits: Bits, seed: u64, exact: &[Exact]) -> Tail {
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
    let sure = SURE[bits.count().ilog2() as usize];
    let mut tail = Tail::default();
    for (query, exact) in data.queries.iter().zip(exact) {
        let query = quantizer.query(query);
        query.estimates(&codes, &rows, &mut estimates);
        query.sure_lower_bounds(&codes, 0, &mut bounds);
        tail.queries += 1;
        for (read, last) in tail.read.iter_mut().zip(exact.nearest) {
            let below = |bound: &&f32| query.distance_at(**bound) < last;
            *read += bounds.iter().filter(below).count() as u64;
        }
        for (row, distance) in exact.distances.iter().enumerate() {
            // Rows and queries without direction have no cosine distance.
            if distance.is_nan() {
                continue;
            }
            let ranking = if metric == Metric::L2 { distance * distance } else { *distance };
            let (estimate, bound) = (f64::from(estimates[row]), f64::from(bounds[row]));
            tail.pairs += 1;
            tail.worst = tail.worst.max(sure * (estimate - ranking) / (estimate - bound));
            tail.misses += u64::from(*distance < query.distance_at(bounds[row]));
            if row % EVERY == 0 {
                let (code, factors) = (codes.code(row as u32), codes.factors(row as u32));
                let walk = query.bounds_around(estimates[row], code, factors);
                tail.walked += 1;
                tail.below += u64::from(*distance < walk.lower);
            }
        }
    }
    tail
}

/// Measures a kind of data and says what was found, by metric; returns what was found by width.
fn report(kind: &Kind) -> [Tail; 4] {
    let mut sums = [Tail::default(); 4];
    for metric in METRICS {
        let mut tails = [Tail::default(); 4];
        for seed in 0..kind.seeds {
            let data = (kind.draw)(&mut Random::new(seed));
            let exact: Vec<Exact> =
                data.queries.iter().map(|query| Exact::new(&data.rows, metric, query)).collect();
            for (tail, bits) in tails.iter_mut().zip(Bits::ALL) {
                tail.merge(measure(&data, metric, bits, seed, &exact));
            }
        }
        for ((tail, sum), bits) in tails.iter().zip(&mut sums).zip(Bits::ALL) {
            let (Kind { name, .. }, metric, [misses, below]) = (kind, metric.name(), tail.rates());
            let bits = bits.count();
            let read = tail.read.map(|rows| rows / tail.queries);
            let worst = tail.worst;
            eprintln!("{name:30} {metric:6} {bits}: {worst:.3} {misses:.4} {below:.2} {read:?}");
            sum.merge(*tail);
        }
    }
    sums
}

/// A line of the table.
fn line(name: &str, tails: &[Tail; 4]) -> String {
    let columns = |column: &dyn Fn(&Tail) -> String| tails.each_ref().map(column).join(" | ");
    let worst = columns(&|tail| format!("{:.1}", tail.worst));
    let misses = columns(&|tail| format!("{:.2}", tail.rates()[0]));
    let below = columns(&|tail| format!("{:.1}", tail.rates()[1]));
    let millions = tails[0].pairs as f64 / 1e6;
    format!("| {name} | {millions:.0} | {worst} | {misses} | {below} |")
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut kinds = data::drawn(AMOUNT);
    if let Some(folder) = arguments.next() {
        kinds.extend(data::read(&PathBuf::from(folder), QUERIES, ROTATIONS));
    }
    let names: Vec<String> = arguments.collect();
    kinds.retain(|kind| names.is_empty() || names.iter().any(|name| kind.name.contains(name)));
    let mut families: Vec<(&str, [Tail; 4])> = Vec::new();
    let mut all = [Tail::default(); 4];
    for kind in &kinds {
        let found = report(kind);
        let place = families.iter().position(|(family, _)| *family == kind.family);
        let place = place.unwrap_or_else(|| {
            families.push((kind.family, [Tail::default(); 4]));
            families.len() - 1
        });
        for ((sum, all), tail) in families[place].1.iter_mut().zip(&mut all).zip(found) {
            sum.merge(tail);
            all.merge(tail);
        }
    }
    let bits = "1 bit | 2 | 4 | 8";
    println!("| | pairs, 10⁶ | worst: {bits} | missed of 10⁶: {bits} | beyond 1.9, %: {bits} |");
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (family, tails) in &families {
        println!("{}", line(family, tails));
    }
    println!("{}", line("all", &all));
}
