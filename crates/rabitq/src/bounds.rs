//! How far an estimate can be from the exact distance.

use distance::Metric;

use crate::{Bits, FACTORS, estimator::LARGEST_SCALE, layout};

/// Standard deviations between an estimate and its bounds.
///
/// RaBitQ's own choice: each side is crossed by about 3 % of normally distributed errors.
pub const EPSILON: f64 = 1.9;

/// Magnitudes from which squares no longer fit single precision with room to spare: the
/// operator's own value may be infinite there.
pub(crate) const LARGEST: f64 = 1e37;

/// An estimate and an interval around it, in the units of the metric's operator.
///
/// Never NaN, and `lower <= estimate <= upper`. Distances under L2 are not negative, those under
/// cosine lie between 0 and 2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The estimated distance.
    pub estimate: f64,
    /// Below this the exact distance almost never is.
    pub lower: f64,
    /// Above this the exact distance almost never is.
    pub upper: f64,
}

/// What a query contributes to the error of its estimates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Errors {
    pub(crate) bits: Bits,
    pub(crate) metric: Metric,
    /// Padded dimensions `P`.
    pub(crate) dimensions: usize,
    /// Length of the rotated query: of its residual under L2 and cosine.
    pub(crate) length: f64,
    /// The typical error that rounding the query to eight bits causes, against a unit vector.
    pub(crate) rounding: f64,
    /// `|c|`.
    pub(crate) centroid: f64,
}

impl Errors {
    /// Bounds around a ranking value, `epsilon` standard deviations away.
    pub(crate) fn bounds(
        &self,
        ranking: f32,
        code: &[u8],
        factors: &[f32],
        epsilon: f64,
    ) -> Bounds {
        let factors: [f64; FACTORS] = std::array::from_fn(|i| f64::from(factors[i]));
        let ranking = f64::from(ranking);
        let (error, magnitude) = self.error(code, factors, epsilon);
        let overflow = magnitude >= LARGEST || magnitude.is_nan();
        match self.metric {
            Metric::L2 if overflow => {
                Bounds { estimate: ranking.max(0.0).sqrt(), lower: 0.0, upper: f64::INFINITY }
            }
            Metric::L2 => Bounds {
                estimate: ranking.max(0.0).sqrt(),
                lower: (ranking - error).max(0.0).sqrt(),
                upper: (ranking + error).max(0.0).sqrt(),
            },
            Metric::InnerProduct if overflow => {
                Bounds { estimate: ranking, lower: f64::NEG_INFINITY, upper: f64::INFINITY }
            }
            Metric::InnerProduct => {
                Bounds { estimate: ranking, lower: ranking - error, upper: ranking + error }
            }
            Metric::Cosine => Bounds {
                estimate: ranking.clamp(0.0, 2.0),
                lower: (ranking - error).clamp(0.0, 2.0),
                upper: (ranking + error).clamp(0.0, 2.0),
            },
        }
    }

    /// The error to allow for, in the ranking value's units, and the size of the numbers that
    /// the operator adds up.
    fn error(
        &self,
        code: &[u8],
        [first, second, third]: [f64; FACTORS],
        epsilon: f64,
    ) -> (f64, f64) {
        // The error of ⟨r, q⟩ has two independent parts: the code's, `third` for a unit query,
        // and that of the rounded query, which meets the code's values scaled to the residual,
        // a vector of length |r| / cos φ.
        let row = match self.metric {
            Metric::L2 | Metric::Cosine => {
                (first + third * third * (self.dimensions - 1) as f64).sqrt()
            }
            Metric::InnerProduct => {
                let bytes = self.dimensions / layout::BLOCK * self.bits.block_bytes();
                second * value_norm(self.bits, &code[..bytes])
            }
        };
        let deviation =
            epsilon * ((third * self.length).powi(2) + (row * self.rounding).powi(2)).sqrt();
        let sum = row + self.length;
        // Single precision: of the residual's elements, the rotation, the sums, the factors, and
        // of the operator itself.
        let precision = 4.0 * f64::from(f32::EPSILON);
        match self.metric {
            Metric::L2 => {
                let slack = precision * sum * (sum + self.centroid);
                (
                    2.0 * deviation + slack + f64::from(f32::MIN_POSITIVE),
                    sum * (sum + self.centroid),
                )
            }
            Metric::Cosine => (deviation + precision, 0.0),
            Metric::InnerProduct => {
                // A query so long that its scale may have been clipped counts as too large, too.
                let clipped = self.length >= LARGEST_SCALE;
                let size = self.length * (row + self.centroid);
                let size = if clipped { f64::INFINITY } else { size };
                (deviation + precision * size + f64::from(f32::MIN_POSITIVE), size)
            }
        }
    }
}

/// The length of the values that `code` stands for.
pub(crate) fn value_norm(bits: Bits, code: &[u8]) -> f64 {
    let largest = i16::from(bits.largest());
    let block = |code| -> i64 {
        let doubled = layout::unpack(bits, code).map(|level| 2 * i16::from(level) - largest);
        i64::from(doubled.iter().map(|value| i32::from(*value) * i32::from(*value)).sum::<i32>())
    };
    let sum: i64 = code.chunks_exact(bits.block_bytes()).map(block).sum();
    (sum as f64).sqrt() / 2.0
}
