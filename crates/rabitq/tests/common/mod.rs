//! Vectors drawn from a seed, and their codes.

#![allow(dead_code, reason = "each test binary uses its own part")]

use distance::Metric;
use rabitq::{Bits, Codes, FACTORS, Quantizer, Scratch, SplitMix64};

pub const METRICS: [Metric; 3] = [Metric::L2, Metric::InnerProduct, Metric::Cosine];

/// The rotation's seed where a test does not choose one.
const SEED: u64 = 17;

/// A roughly normal number.
pub fn normal(random: &mut SplitMix64) -> f32 {
    let sum: u64 = (0..12).map(|_| random.next_u64() >> 40).sum();
    sum as f32 / (1u64 << 24) as f32 - 6.0
}

/// `count` vectors around `clusters` random centres, `spread` wide where centres are 1 apart.
pub fn clustered(
    count: usize,
    dimensions: usize,
    clusters: usize,
    spread: f32,
    random: &mut SplitMix64,
) -> Vec<Vec<f32>> {
    let mut vector =
        |scale| -> Vec<f32> { (0..dimensions).map(|_| normal(random) * scale).collect() };
    let centres: Vec<_> = (0..clusters).map(|_| vector(1.0)).collect();
    (0..count)
        .map(|i| vector(spread).iter().zip(&centres[i % clusters]).map(|(x, c)| x + c).collect())
        .collect()
}

/// Rows encoded with their own mean as the centroid.
pub struct Encoded {
    pub quantizer: Quantizer,
    pub codes: Vec<u8>,
    pub factors: Vec<f32>,
}

impl Encoded {
    pub fn all(&self) -> Codes<'_> {
        Codes::arrays(&self.codes, self.quantizer.code_bytes(), &self.factors)
    }

    pub fn new(rows: &[Vec<f32>], bits: Bits, metric: Metric) -> Self {
        Self::turned(rows, bits, metric, SEED)
    }

    /// Turned by the rotation of `seed`.
    pub fn turned(rows: &[Vec<f32>], bits: Bits, metric: Metric, seed: u64) -> Self {
        let dimensions = rows[0].len();
        let mut centroid = vec![0.0; dimensions];
        for row in rows {
            let norm = match metric {
                Metric::Cosine => row.iter().map(|x| x * x).sum::<f32>().sqrt(),
                _ => 1.0,
            };
            for (sum, x) in centroid.iter_mut().zip(row) {
                *sum += x / norm / rows.len() as f32;
            }
        }
        Self::turned_around(rows, bits, metric, seed, centroid)
    }

    pub fn with_centroid(
        rows: &[Vec<f32>],
        bits: Bits,
        metric: Metric,
        centroid: Vec<f32>,
    ) -> Self {
        Self::turned_around(rows, bits, metric, SEED, centroid)
    }

    /// With this centroid, turned by the rotation of `seed`.
    pub fn turned_around(
        rows: &[Vec<f32>],
        bits: Bits,
        metric: Metric,
        seed: u64,
        centroid: Vec<f32>,
    ) -> Self {
        let quantizer = Quantizer::new(centroid.len(), bits, metric, seed, centroid);
        let mut codes = vec![0; rows.len() * quantizer.code_bytes()];
        let mut factors = vec![0.0; rows.len() * FACTORS];
        let mut scratch = Scratch::default();
        for ((row, code), factors) in rows
            .iter()
            .zip(codes.chunks_exact_mut(quantizer.code_bytes()))
            .zip(factors.chunks_exact_mut(FACTORS))
        {
            quantizer.encode(row, code, factors, &mut scratch);
        }
        Self { quantizer, codes, factors }
    }

    pub fn code(&self, row: usize) -> &[u8] {
        &self.codes[row * self.quantizer.code_bytes()..][..self.quantizer.code_bytes()]
    }

    pub fn factors(&self, row: usize) -> &[f32] {
        &self.factors[row * FACTORS..][..FACTORS]
    }
}
