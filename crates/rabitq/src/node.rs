//! A row against other rows, by their codes alone: what the graph is built on.

use distance::Metric;

use crate::{
    Bits, Codes, FACTORS, Quantizer, bounds::value_norm, estimator::Estimator, kernels::QueryBlock,
    layout, rotation::FEW, wide,
};

/// A row whose code has been spread out to play the query. Made once and aimed at row after row,
/// so that comparing allocates nothing.
///
/// Ranking values have the scale of [`Query::estimate`](crate::Query::estimate) and both codes'
/// errors.
#[derive(Clone, Debug)]
pub struct NodeQuery {
    estimator: Estimator,
    bits: Bits,
    metric: Metric,
    code_bytes: usize,
    centroid_norm_squared: f64,
    /// `P - 1`.
    freedom: f64,
    /// Whether dimensions are few.
    few: bool,
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
            freedom: (self.rotation.padded() - 1) as f64,
            few: self.dimensions() <= FEW,
        }
    }
}

/// Spreads a code out: `doubled · level - middle` for each dimension.
struct Spread<'a> {
    bits: Bits,
    code: &'a [u8],
    doubled: i16,
    middle: i16,
    blocks: &'a mut [QueryBlock],
}

impl wide::Work for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        // Known when compiled: shifts by a constant are what vectors are good at.
        match self.bits {
            Bits::One => self.spread(Bits::One),
            Bits::Two => self.spread(Bits::Two),
            Bits::Four => self.spread(Bits::Four),
            Bits::Eight => self.spread(Bits::Eight),
        }
    }
}

impl Spread<'_> {
    #[inline(always)]
    fn spread(self, bits: Bits) {
        let (doubled, middle) = (self.doubled as i8, self.middle as i8);
        let codes = self.code.chunks_exact(bits.block_bytes());
        for (QueryBlock(block), code) in self.blocks.iter_mut().zip(codes) {
            let levels = layout::unpack(bits, code);
            for (value, level) in block.iter_mut().zip(levels) {
                // In range, so that eight bits are enough whatever overflows on the way.
                *value = (level as i8).wrapping_mul(doubled).wrapping_sub(middle);
            }
        }
    }
}

impl NodeQuery {
    /// Measures from the row with this `code` and these `factors` from now on.
    ///
    /// # Panics
    /// When `code` is shorter than a code or `factors` than [`FACTORS`].
    pub fn aim(&mut self, code: &[u8], factors: &[f32]) {
        let code = &code[..self.code_bytes];
        let [first, second, third] = std::array::from_fn(|i| f64::from(factors[i]));
        // One step of the 8-bit vector: levels up to 15 are doubled to make their centred values
        // whole; 256 levels are centred half a step off, far below the code's own error.
        let (doubled, middle, step) = match self.bits {
            Bits::Eight => (1, 128, 1.0),
            bits => (2, i16::from(bits.largest()), 0.5),
        };
        let scale = second * self.fit(code, [first, second, third]) * step;
        let (base, scale) = match self.metric {
            Metric::L2 => (first, -scale),
            Metric::Cosine => (first / 2.0, -scale / 2.0),
            Metric::InnerProduct => (self.centroid_norm_squared - first, -scale / 2.0),
        };
        let bits = self.bits;
        self.estimator
            .aim(base, scale, |blocks| wide::run(Spread { bits, code, doubled, middle, blocks }));
    }

    /// `cos² φ`, `φ` the angle between the code's values and what they stand for.
    ///
    /// The factors make a code's inner products right against *other* vectors. Against rows as
    /// near as itself, whose codes err alike, the length of its own projection is right: with
    /// this factor a row is at distance zero from itself, and not beyond. It matters where the
    /// data has few dimensions.
    fn fit(&self, code: &[u8], [first, second, third]: [f64; FACTORS]) -> f64 {
        // |r|² tan² φ, unless dimensions are few; see Quantizer.
        let error = third * third * self.freedom;
        let (squared, whole) = match self.metric {
            Metric::L2 | Metric::Cosine if !self.few => (first, first + error),
            metric => {
                // |r|² / cos² φ.
                let whole = (second * value_norm(self.bits, code)).powi(2);
                let known = metric != Metric::InnerProduct;
                (if known { first } else { whole - error }, whole)
            }
        };
        if whole > 0.0 { (squared / whole).clamp(0.0, 1.0) } else { 1.0 }
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
    /// When a row is not in `codes`.
    #[inline]
    pub fn estimates(&self, codes: &Codes<'_>, rows: &[u32], out: &mut [f32]) {
        self.estimator.estimates(codes, rows, out);
    }
}
