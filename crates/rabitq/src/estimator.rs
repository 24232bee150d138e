//! The arithmetic that queries and rows share: from integer inner products to ranking values.

use distance::{Level, Metric};

use crate::{
    Bits, Codes,
    kernels::{Kernel, QueryBlock},
    layout::BLOCK,
    quantizer::LARGEST,
    wide,
};

/// Rows whose integer inner products are computed before they are turned into estimates.
pub(crate) const BATCH: usize = 32;

/// The scale's limit: times the largest `y`, about 10^9, it is still finite. So no infinity is ever
/// multiplied by zero, nor added to its opposite, and no estimate is NaN.
pub(crate) const LARGEST_SCALE: f64 = 1e29;

/// Something measured against codes: `base + weight · factor₀ + scale · factor₁ · y` with
/// `y = 2 ⟨code, u⟩ - (2^b - 1) Σu`, twice the inner product of the code's values with the 8-bit
/// vector `u`. `y` is an exact integer.
#[derive(Clone, Debug)]
pub(crate) struct Estimator {
    kernel: Kernel,
    /// The kernel for one bit a dimension.
    coarse: Kernel,
    bits: Bits,
    /// The 8-bit vector `u`.
    blocks: Vec<QueryBlock>,
    /// `Σu`.
    sum: i32,
    base: f32,
    weight: f32,
    scale: f32,
}

/// The sum of all elements.
struct Sum<'a>(&'a [QueryBlock]);

impl wide::Work for Sum<'_> {
    type Output = i32;

    #[inline(always)]
    fn run(self) -> i32 {
        let mut sum = 0;
        for QueryBlock(block) in self.0 {
            for element in block {
                sum += i32::from(*element);
            }
        }
        sum
    }
}

impl Estimator {
    /// An estimator of `padded` dimensions, aimed at nothing yet.
    pub(crate) fn new(bits: Bits, metric: Metric, padded: usize) -> Self {
        Self {
            kernel: Kernel::best(bits),
            coarse: Kernel::best(Bits::One),
            bits,
            blocks: vec![QueryBlock([0; BLOCK]); padded / BLOCK],
            sum: 0,
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
        self.sum = wide::run(Sum(&self.blocks));
        self.base = base.clamp(-LARGEST, LARGEST) as f32;
        self.scale = scale.clamp(-LARGEST_SCALE, LARGEST_SCALE) as f32;
    }

    /// The same with the kernels of `level`, or `None` if this machine lacks them.
    pub(crate) fn at_level(&self, level: Level) -> Option<Self> {
        let kernel = Kernel::of(level, self.bits)?;
        let coarse = Kernel::of(level, Bits::One)?;
        Some(Self { kernel, coarse, ..self.clone() })
    }

    /// Sets how factor 0 counts.
    pub(crate) fn set_weight(&mut self, weight: f32) {
        self.weight = weight;
    }

    /// The estimate for one row.
    #[inline]
    pub(crate) fn estimate(&self, code: &[u8], factors: &[f32]) -> f32 {
        let [row] = &mut [0.0];
        let codes = Codes::arrays(code, self.blocks.len() * self.bits.block_bytes(), factors);
        self.estimates(&codes, &[0], std::slice::from_mut(row));
        *row
    }

    /// The estimates for `rows` of `codes`.
    #[inline]
    pub(crate) fn estimates(&self, codes: &Codes<'_>, rows: &[u32], out: &mut [f32]) {
        self.compare(self.kernel, self.bits, codes, rows, out);
    }

    /// The estimates for `rows` of `sketches`, which have one bit a dimension whatever codes have.
    #[inline]
    pub(crate) fn coarse_estimates(&self, sketches: &Codes<'_>, rows: &[u32], out: &mut [f32]) {
        self.compare(self.coarse, Bits::One, sketches, rows, out);
    }

    /// The squared lengths of the values that the codes of `rows` stand for, as many as `rows` has and at
    /// most [`BATCH`].
    pub(crate) fn norms(&self, codes: &Codes<'_>, rows: &[u32], out: &mut [f64]) {
        let mut squares = [0; BATCH];
        // One bit stands for ½ or its opposite, whatever it is.
        if self.bits != Bits::One {
            self.kernel.squares(self.blocks.len(), codes, rows, &mut squares[..rows.len()]);
        }
        let quarters = (self.blocks.len() * BLOCK) as f64 / 4.0;
        for (out, squares) in out.iter_mut().zip(squares) {
            *out = f64::from(squares) + quarters;
        }
    }

    #[inline(always)]
    fn compare(
        &self,
        kernel: Kernel,
        bits: Bits,
        codes: &Codes<'_>,
        rows: &[u32],
        out: &mut [f32],
    ) {
        let shift = i32::from(bits.largest()) * self.sum;
        let mut dots = [0; BATCH];
        let (mut firsts, mut seconds) = ([0.0; BATCH], [0.0; BATCH]);
        for (rows, out) in rows.chunks(BATCH).zip(out.chunks_mut(BATCH)) {
            // On their way while the inner products are computed.
            for ((row, first), second) in rows.iter().zip(&mut firsts).zip(&mut seconds) {
                [*first, *second, _] = *codes.factors(*row);
            }
            kernel.dots(&self.blocks, codes, rows, &mut dots[..rows.len()]);
            let factors = firsts.iter().zip(&seconds);
            for ((dot, (first, second)), out) in dots.iter().zip(factors).zip(out) {
                let y = (2 * *dot - shift) as f32;
                *out = self.base + self.weight * first + self.scale * y * second;
            }
        }
    }
}
