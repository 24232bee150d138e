//! Lower bounds that hold: what a sweep over all rows of a segment puts them in order by.
//!
//! The bounds of a walk are crossed by three rows of a hundred. An order that is to be exact needs bounds
//! that next to no row crosses, of all rows, at the speed at which memory is read.

use distance::{Metric, summing_error};

use crate::{
    Bits, Codes, FACTORS, Query,
    bounds::LARGEST,
    estimator::{BATCH, LARGEST_SCALE},
    rotation::FEW,
    wide,
};

/// Standard deviations between an estimate and its sure bound, for codes of 1, 2, 4 and 8 bits.
///
/// Errors are normally distributed as far as they could be measured, whatever the data: one in ten million
/// lies beyond 5.2. Each step further costs much where codes are short and nothing where they are long. See
/// *Bounds of the sweep* in `docs/benchmarks.md`.
pub const SURE: [f64; Bits::ALL.len()] = [5.2, 5.2, 5.5, 6.0];

/// The shortest query whose estimates under inner product are not lost to underflow.
const SMALLEST_SCALE: f64 = 1e-30;

/// Bytes that are asked for before they are read. Beyond a page of memory the processor does not look ahead
/// by itself.
const AHEAD: usize = 4096;

/// What a query contributes to its sure bounds.
///
/// With `r` what a code stands for, `|r|² = factor₀ + freedom · factor₂²`, the bound of a row is
/// `estimate - √(code · factor₂² + row · |r|²) - (s₀ + s₁ |r| + s₂ |r|²)`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sure {
    /// The error of the code.
    code: f64,
    /// The error of the rounded query, which meets all of the code's values.
    row: f64,
    freedom: f64,
    /// What single precision adds.
    slack: [f64; 3],
    /// What it adds to the operator's value, against the distance.
    operator: f64,
    /// How far a row may be from what its code was made of, against its length.
    rounded: f64,
    /// The longest that a row at no distance can be.
    reach: f64,
    /// From this length on nothing is known.
    limit: f64,
}

/// What [`Sure`] is made of.
pub(crate) struct Origin {
    pub(crate) bits: Bits,
    pub(crate) metric: Metric,
    pub(crate) dimensions: usize,
    /// Padded dimensions.
    pub(crate) padded: usize,
    /// Length of the rotated query.
    pub(crate) length: f64,
    /// Whether the operator can compute with the query.
    pub(crate) in_range: bool,
    /// Length of what rounding the query took away, against a unit vector.
    pub(crate) error: f64,
    /// Length of the part of it that lies in the space of vectors, for vectors of few dimensions.
    pub(crate) seen: f64,
    /// `|c|`.
    pub(crate) centroid: f64,
}

impl Sure {
    pub(crate) fn new(origin: Origin) -> Self {
        let Origin { bits, metric, dimensions, padded, length, in_range, error, seen, centroid } =
            origin;
        let sure = SURE[bits.count().ilog2() as usize];
        let epsilon = f64::from(f32::EPSILON);
        // The length of a code's error, and of the query's, is the root of a difference of sums in single
        // precision.
        let lost = 8.0 * epsilon;
        let spread = padded as f64;
        let (code, row, freedom) = if dimensions <= FEW {
            // Few dimensions leave errors little choice of direction, and the same for many rows. So they
            // count in full, as if both pointed the wrong way; outside the space of vectors there are
            // dimensions enough.
            let freedom = (dimensions.max(2) - 1) as f64;
            let outside = sure * error / spread.sqrt() * 4.0 / f64::from(1u32 << bits.count());
            let code = freedom.min(sure * sure);
            (2.0 * code, 2.0 * (seen + lost.sqrt() + outside).powi(2), freedom)
        } else {
            (sure * sure, sure * sure * (error * error + 2.0 * lost) / spread, spread - 1.0)
        };
        // A sum has so many terms in a lane at least.
        let summing = (4.0 + dimensions as f64 / 32.0) * epsilon;
        let subtracting = 4.0 * epsilon * centroid;
        let operator = summing_error(dimensions);
        let tiny = f64::from(f32::MIN_POSITIVE);
        let squared = length * length;
        let (scale, slack, limit) = match metric {
            Metric::L2 => (
                4.0 * squared,
                [
                    length * (summing * length + subtracting) + tiny,
                    2.0 * summing * length + subtracting,
                    summing,
                ],
                LARGEST.sqrt() - length,
            ),
            Metric::Cosine => (squared, [summing, 0.0, 0.0], LARGEST.sqrt() - length),
            Metric::InnerProduct => (
                squared,
                // The operator's sum counts as well: its error is one of the lengths.
                [
                    (summing + operator) * length * centroid + tiny * (1.0 + length),
                    (summing + operator) * length,
                    0.0,
                ],
                // The scale of estimates must be a normal number.
                if length == 0.0 || (SMALLEST_SCALE..LARGEST_SCALE).contains(&length) {
                    LARGEST.min(LARGEST / length - centroid)
                } else {
                    0.0
                },
            ),
        };
        let limit = if in_range { limit } else { 0.0 };
        Self {
            code: code * scale,
            row: row * scale,
            freedom,
            slack,
            operator,
            rounded: 0.0,
            reach: length + centroid,
            limit,
        }
    }

    /// The bound for a row whose code's values have a length of `norm`, under inner product.
    #[inline(always)]
    fn bound(&self, metric: Metric, estimate: f32, factors: [f32; FACTORS], norm: f64) -> f32 {
        let [first, second, third] = factors.map(f64::from);
        let third_squared = third * third;
        let row_squared = match metric {
            Metric::L2 | Metric::Cosine => first + self.freedom * third_squared,
            Metric::InnerProduct => second * second * norm,
        };
        let row = row_squared.sqrt();
        let error = (self.code * third_squared + self.row * row_squared).sqrt();
        let slack = self.slack[0] + self.slack[1] * row + self.slack[2] * row_squared;
        let bound = f64::from(estimate) - error - slack;
        // Lower by what rounding to single precision may add.
        let bound = (bound - bound.abs() * f64::from(f32::EPSILON)) as f32;
        if row < self.limit { bound } else { f32::NEG_INFINITY }
    }
}

/// Turns the estimates of a batch into bounds.
struct Bound<'a> {
    sure: &'a Sure,
    metric: Metric,
    factors: &'a [[f32; BATCH]; FACTORS],
    norms: &'a [f64; BATCH],
    bounds: &'a mut [f32; BATCH],
}

impl wide::Work for Bound<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        // Known when compiled.
        match self.metric {
            Metric::L2 | Metric::Cosine => self.all(Metric::L2),
            Metric::InnerProduct => self.all(Metric::InnerProduct),
        }
    }
}

impl Bound<'_> {
    #[inline(always)]
    fn all(self, metric: Metric) {
        let [firsts, seconds, thirds] = self.factors;
        for i in 0..BATCH {
            let factors = [firsts[i], seconds[i], thirds[i]];
            self.bounds[i] = self.sure.bound(metric, self.bounds[i], factors, self.norms[i]);
        }
    }
}

impl Query {
    /// Writes lower bounds of the ranking values of rows `first .. first + out.len()` of `codes`. The
    /// exact value is below its bound less than once in a million rows.
    ///
    /// Never NaN for factors that [`encode`](crate::Quantizer::encode) wrote. Negative infinity where numbers
    /// are too large for single precision.
    ///
    /// # Panics
    /// When a row is not in `codes`.
    pub fn sure_lower_bounds(&self, codes: &Codes<'_>, first: u32, out: &mut [f32]) {
        let ahead = codes.rows_in(AHEAD);
        let (mut factors, mut norms) = ([[0.0f32; BATCH]; FACTORS], [0.0; BATCH]);
        for (batch, out) in out.chunks_mut(BATCH).enumerate() {
            let first = first + (batch * BATCH) as u32;
            let rows: [u32; BATCH] = std::array::from_fn(|i| first.wrapping_add(i as u32));
            let rows = &rows[..out.len()];
            let mut bounds = [0.0; BATCH];
            for (i, row) in rows.iter().enumerate() {
                codes.prefetch(row.wrapping_add(ahead));
                let [a, b, c] = *codes.factors(*row);
                (factors[0][i], factors[1][i], factors[2][i]) = (a, b, c);
            }
            self.estimates(codes, rows, &mut bounds[..rows.len()]);
            if self.errors.metric == Metric::InnerProduct {
                self.estimator.norms(codes, rows, &mut norms);
            }
            wide::run_at(
                self.level,
                Bound {
                    sure: &self.sure,
                    metric: self.errors.metric,
                    factors: &factors,
                    norms: &norms,
                    bounds: &mut bounds,
                },
            );
            out.copy_from_slice(&bounds[..out.len()]);
        }
    }

    /// The number that [`sure_lower_bounds`](Self::sure_lower_bounds) writes for a row, whose `estimate` is
    /// known.
    ///
    /// # Panics
    /// When `code` is shorter than a code or `factors` than [`FACTORS`].
    #[inline]
    pub fn sure_lower_bound(&self, estimate: f32, code: &[u8], factors: &[f32]) -> f32 {
        let factors: [f32; FACTORS] = std::array::from_fn(|i| factors[i]);
        let metric = self.errors.metric;
        let mut norm = [0.0];
        if metric == Metric::InnerProduct {
            let codes = Codes::arrays(code, code.len(), &factors);
            self.estimator.norms(&codes, &[0], &mut norm);
        }
        self.sure.bound(metric, estimate, factors, norm[0])
    }

    /// Allows for codes that were made of rows which had been rounded, by up to `error` of their length, and
    /// by `error · least` those that are shorter than `least`: sure bounds are then those of the rows before.
    /// Under cosine no row may be as short.
    pub fn allow_rounding(&mut self, error: f64, least: f64) {
        self.sure.rounded = error;
        self.sure.reach += least;
        if self.errors.metric == Metric::InnerProduct {
            self.sure.slack[0] += error * self.errors.length * (self.errors.centroid + least);
            self.sure.slack[1] += error * self.errors.length;
        }
    }

    /// What the operator's value is not below where the ranking value is at least `ranking`, in the units
    /// of the metric's operator: a root under L2, within 0 and 2 under cosine. It never falls as `ranking`
    /// rises.
    pub fn distance_at(&self, ranking: f32) -> f64 {
        let ranking = f64::from(ranking);
        match self.errors.metric {
            Metric::L2 => {
                let distance = ranking.max(0.0).sqrt() * (1.0 - self.sure.operator);
                // A row is no longer than the query and its distance together.
                let moved = self.sure.rounded * (self.sure.reach + distance);
                if distance < f64::INFINITY { (distance - moved).max(0.0) } else { distance }
            }
            Metric::InnerProduct => ranking,
            Metric::Cosine => {
                let moved = 2.0 * (self.sure.operator + self.sure.rounded);
                (ranking - moved).clamp(0.0, 2.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Quantizer, Scratch, SplitMix64, bounds::value_norm};

    fn vector(dimensions: usize, random: &mut SplitMix64) -> Vec<f32> {
        (0..dimensions).map(|_| (random.next_u64() >> 40) as f32 / 1e7 - 0.6).collect()
    }

    #[test]
    fn bounds_are_just_below_the_formula_in_double_precision() {
        let mut random = SplitMix64::new(1);
        for dimensions in [33, 64, 100, 384, 1000] {
            for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
                for bits in Bits::ALL {
                    let centroid = vector(dimensions, &mut random);
                    let quantizer = Quantizer::new(dimensions, bits, metric, 5, centroid);
                    let query = quantizer.query(&vector(dimensions, &mut random));
                    let (mut code, mut factors) = (vec![0; quantizer.code_bytes()], [0.0; FACTORS]);
                    for _ in 0..50 {
                        let row = vector(dimensions, &mut random);
                        quantizer.encode(&row, &mut code, &mut factors, &mut Scratch::default());
                        let estimate = query.estimate(&code, &factors);
                        let bound = query.sure_lower_bound(estimate, &code, &factors);
                        let [first, second, third] = factors.map(f64::from);
                        let errors = &query.errors;
                        let (row, times) = match metric {
                            Metric::InnerProduct => (second * value_norm(bits, &code), 1.0),
                            _ => {
                                let error = third * third * (errors.dimensions as f64 - 1.0);
                                ((first + error).sqrt(), 1.0 + f64::from(metric == Metric::L2))
                            }
                        };
                        let deviation = (third * errors.length).hypot(row * errors.rounding);
                        let error = SURE[bits.count().ilog2() as usize] * times * deviation;
                        let formula = f64::from(estimate) - error;
                        let slack = (1e-5 + summing_error(dimensions))
                            * (row + errors.length)
                            * (row + errors.length + errors.centroid);
                        let least = formula - 0.03 * error - slack;
                        let bound = f64::from(bound);
                        assert!(
                            (least..=formula).contains(&bound),
                            "{dimensions} {metric:?} {bits:?}: {bound} is not in {least}..{formula}"
                        );
                    }
                }
            }
        }
    }
}
