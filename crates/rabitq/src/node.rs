//! A row against other rows, by their codes alone: what the graph is built on.

use distance::{Metric, prefetch};

use crate::{Bits, FACTORS, Quantizer, estimator::Estimator, kernels::QueryBlock, layout};

/// A row whose code has been spread out to play the query. Made once and aimed at row after row,
/// so that comparing allocates nothing.
///
/// Ranking values have the scale of [`Query::estimate`](crate::Query::estimate) and both codes'
/// errors. A row's value against itself is the smallest there is, and may be negative.
#[derive(Clone, Debug)]
pub struct NodeQuery {
    estimator: Estimator,
    bits: Bits,
    metric: Metric,
    code_bytes: usize,
    centroid_norm_squared: f64,
}

impl Quantizer {
    /// A [`NodeQuery`] aimed at no row yet.
    pub fn node_query(&self) -> NodeQuery {
        let mut estimator = Estimator::new(self.bits, self.metric, self.rotation.padded());
        if self.metric == Metric::InnerProduct {
            // ⟨a, b⟩ = ⟨c, a⟩ + ⟨c, b⟩ - |c|² + ⟨a - c, b - c⟩.
            estimator.set_weight(-1.0);
        }
        NodeQuery {
            estimator,
            bits: self.bits,
            metric: self.metric,
            code_bytes: self.code_bytes(),
            centroid_norm_squared: self.centroid_norm_squared,
        }
    }
}

impl NodeQuery {
    /// Measures from the row with this `code` and these `factors` from now on.
    ///
    /// # Panics
    /// When `code` is shorter than a code or `factors` than [`FACTORS`].
    pub fn aim(&mut self, code: &[u8], factors: &[f32]) {
        let [first, second] = [f64::from(factors[0]), f64::from(factors[1])];
        // One step of the 8-bit vector: levels up to 15 are doubled to make their centred values
        // whole; 256 levels are centred half a step off, far below the code's own error.
        let (doubled, middle, step) = match self.bits {
            Bits::Eight => (1, 128, 1.0),
            bits => (2, i16::from(bits.largest()), 0.5),
        };
        let scale = second * step;
        let (base, scale) = match self.metric {
            Metric::L2 => (first, -scale),
            Metric::Cosine => (first / 2.0, -scale / 2.0),
            Metric::InnerProduct => (self.centroid_norm_squared - first, -scale / 2.0),
        };
        let bits = self.bits;
        let code = &code[..self.code_bytes];
        self.estimator.aim(base, scale, |blocks| {
            for (block, code) in blocks.iter_mut().zip(code.chunks_exact(bits.block_bytes())) {
                let levels = layout::unpack(bits, code);
                *block = QueryBlock(levels.map(|c| (doubled * i16::from(c) - middle) as i8));
            }
        });
    }

    /// The ranking value of a row.
    ///
    /// # Panics
    /// When `code` is shorter than a code or `factors` than [`FACTORS`].
    #[inline]
    pub fn estimate(&self, code: &[u8], factors: &[f32]) -> f32 {
        self.estimator.estimate(code, factors)
    }

    /// The ranking values of `rows`; see [`Query::estimates`](crate::Query::estimates).
    ///
    /// # Panics
    /// When a row is not in `codes` or `factors`.
    #[inline]
    pub fn estimates(&self, codes: &[u8], factors: &[f32], rows: &[u32], out: &mut [f32]) {
        self.estimator.estimates(codes, factors, rows, out);
    }

    /// Asks for the code and the factors of `row`, which will be estimated soon.
    #[inline]
    pub fn prefetch(&self, codes: &[u8], factors: &[f32], row: u32) {
        let row = row as usize;
        let (code, factor) = (row * self.code_bytes, row * FACTORS);
        prefetch::read(codes.get(code..code + self.code_bytes).unwrap_or_default());
        prefetch::read(factors.get(factor..factor + FACTORS).unwrap_or_default());
    }
}
