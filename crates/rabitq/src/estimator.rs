//! The arithmetic that queries and rows share: from integer inner products to ranking values.

use distance::{Metric, prefetch};

use crate::{
    Bits, FACTORS,
    kernels::{Kernel, QueryBlock},
    layout::BLOCK,
    quantizer::LARGEST,
};

/// Rows whose integer inner products are computed before they are turned into estimates.
const BATCH: usize = 32;

/// The scale's limit: times the largest `y`, about 10^9, it is still finite. So no infinity is ever
/// multiplied by zero, nor added to its opposite, and no estimate is NaN.
pub(crate) const LARGEST_SCALE: f64 = 1e29;

/// Something measured against codes: `base + weight · factor₀ + scale · factor₁ · y` with
/// `y = 2 ⟨code, u⟩ - (2^b - 1) Σu`, twice the inner product of the code's values with the 8-bit
/// vector `u`. `y` is an exact integer.
#[derive(Clone, Debug)]
pub(crate) struct Estimator {
    kernel: Kernel,
    bits: Bits,
    /// The 8-bit vector `u`.
    blocks: Vec<QueryBlock>,
    /// `(2^b - 1) Σu`.
    shift: i32,
    base: f32,
    weight: f32,
    scale: f32,
}

impl Estimator {
    /// An estimator of `padded` dimensions, aimed at nothing yet.
    pub(crate) fn new(bits: Bits, metric: Metric, padded: usize) -> Self {
        Self {
            kernel: Kernel::best(bits),
            bits,
            blocks: vec![QueryBlock([0; BLOCK]); padded / BLOCK],
            shift: 0,
            base: 0.0,
            weight: match metric {
                Metric::L2 => 1.0,
                Metric::Cosine => 0.5,
                Metric::InnerProduct => 0.0,
            },
            scale: 0.0,
        }
    }

    /// Sets the 8-bit vector and the constants, which are clipped to a range that is safe.
    pub(crate) fn aim(&mut self, base: f64, scale: f64, fill: impl FnOnce(&mut [QueryBlock])) {
        fill(&mut self.blocks);
        let sum = |block: &QueryBlock| block.0.iter().map(|u| i32::from(*u)).sum::<i32>();
        let sum: i32 = self.blocks.iter().map(sum).sum();
        self.shift = i32::from(self.bits.largest()) * sum;
        self.base = base.clamp(-LARGEST, LARGEST) as f32;
        self.scale = scale.clamp(-LARGEST_SCALE, LARGEST_SCALE) as f32;
    }

    /// Sets how factor 0 counts.
    pub(crate) fn set_weight(&mut self, weight: f32) {
        self.weight = weight;
    }

    /// The estimate for one row.
    #[inline]
    pub(crate) fn estimate(&self, code: &[u8], factors: &[f32]) -> f32 {
        let mut dot = [0];
        self.kernel.dots(&self.blocks, code, &[0], &mut dot);
        let [dot] = dot;
        self.combine(dot, factors)
    }

    /// The estimates for `rows`, out of all `codes` and `factors`.
    #[inline]
    pub(crate) fn estimates(&self, codes: &[u8], factors: &[f32], rows: &[u32], out: &mut [f32]) {
        let (factors, _) = factors.as_chunks::<FACTORS>();
        let mut dots = [0; BATCH];
        for (rows, out) in rows.chunks(BATCH).zip(out.chunks_mut(BATCH)) {
            for row in rows {
                prefetch::read(factors.get(*row as usize).map_or(&[][..], |factors| factors));
            }
            let dots = &mut dots[..rows.len()];
            self.kernel.dots(&self.blocks, codes, rows, dots);
            for ((row, dot), out) in rows.iter().zip(dots).zip(out) {
                *out = self.combine(*dot, &factors[*row as usize]);
            }
        }
    }

    #[inline(always)]
    fn combine(&self, dot: i32, factors: &[f32]) -> f32 {
        let y = (2 * dot - self.shift) as f32;
        self.base + self.weight * factors[0] + self.scale * y * factors[1]
    }
}
