//! Where the operator's value for a row lies.
//!
//! Sums in single precision depend on the order they are computed in, and PostgreSQL's operator has one
//! of its own, which depends on how pgvector was compiled. A payload of half precision is not even the
//! row itself. What is certain of the operator's value is an interval.

use crate::exact::BLOCK;
use crate::{ExactQuery, Metric, Payload};

/// Largest relative error of an operation in single precision.
const UNIT: f64 = 1.0 / 16_777_216.0;
/// Largest absolute error of one whose result is below single precision's normal range: `2^-149`.
const TINY: f64 = 1.401_298_464_324_817e-45;
/// Largest relative error of rounding to half precision: `2^-11`.
const HALF_UNIT: f64 = 1.0 / 2048.0;
/// How far rounding to half precision moves a vector, against its length; elements below
/// [`HALF_LEAST`] are moved as if they were that.
pub const HALF_ERROR: f64 = MORE * HALF_UNIT;
/// The smallest number of half precision's normal range.
pub const HALF_LEAST: f64 = 1.0 / 16_384.0;
/// Largest absolute error of rounding a number below half precision's normal range: `2^-25`.
const HALF_TINY: f64 = 1.0 / 33_554_432.0;
/// Partial sums that every kernel has at least.
const LANES: usize = 16;
/// Errors of errors.
const MORE: f64 = 1.02;
/// Above this a sum may have overflowed in another order.
const LARGEST: f64 = 1e38;
/// Below this a squared length may have lost all its digits.
const SMALLEST: f64 = 1e-30;

/// The values that an operator may have for a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct Interval {
    /// The value is not below this.
    pub lower: f64,
    /// The value is not above this.
    pub upper: f64,
}

impl Interval {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { lower: f64::NEG_INFINITY, upper: f64::INFINITY };

    /// A known value. One that is no number comes after all others, as in PostgreSQL.
    pub fn exact(value: f64) -> Self {
        // The sign of what is no number says nothing, but `total_cmp` looks at it.
        let value = if value.is_nan() { f64::NAN } else { value };
        Self { lower: value, upper: value }
    }

    /// Whether the value is known.
    pub fn is_exact(&self) -> bool {
        self.lower.to_bits() == self.upper.to_bits()
    }

    fn around(value: f64, slack: f64) -> Self {
        let (lower, upper) = (value - slack, value + slack);
        if lower.is_finite() && upper.is_finite() { Self { lower, upper } } else { Self::UNKNOWN }
    }
}

/// Largest relative error of a sum of as many products, whatever order it is computed in.
pub fn summing_error(dimensions: usize) -> f64 {
    MORE * (dimensions as f64 + 8.0) * UNIT
}

/// That of this crate's own sums: every kernel has [`LANES`] partial sums or more, and a row is summed up in
/// blocks at most.
fn own_summing_error(dimensions: usize) -> f64 {
    let terms = dimensions.div_ceil(LANES) + dimensions.div_ceil(BLOCK) + LANES;
    summing_error(terms)
}

impl ExactQuery {
    /// Whether distances to this query order rows at all: under cosine a zero vector has no
    /// direction.
    pub fn has_order(&self) -> bool {
        self.metric() != Metric::Cosine || self.vector().iter().any(|&element| element != 0.0)
    }

    /// Where the operator's value lies for a row in its stored form: for the row as it was before it was
    /// stored, and whatever order the operator computes its sums in.
    ///
    /// # Panics
    /// As [`distance_bytes`](Self::distance_bytes).
    pub fn interval_bytes(&self, payload: Payload, row: &[u8]) -> Interval {
        let metric = self.metric();
        // The row's length is not needed where the distance alone tells the error.
        let with_norm = metric != Metric::L2 || payload == Payload::Float16;
        let sums = self.sums_bytes(payload, row, with_norm);
        let (query_squared, row_squared) = (self.norm_squared(), f64::from(sums.norm_squared));
        let terms = self.dimensions() as f64;
        let tiny = 2.0 * terms * TINY;
        let (query_norm, row_norm) = ((query_squared + tiny).sqrt(), (row_squared + tiny).sqrt());
        // How far the stored row can be from the original one.
        let moved = match payload {
            Payload::Float32 => 0.0,
            Payload::Float16 => HALF_ERROR * row_norm + terms.sqrt() * HALF_TINY,
        };
        // Both sums may be off, the operator's and the one here.
        let error = summing_error(self.dimensions()) + own_summing_error(self.dimensions());
        let value = self.value(&sums);
        match metric {
            // The root halves the error of the sum.
            Metric::L2 if f64::from(sums.main) < LARGEST => {
                Interval::around(value, moved + 0.5 * error * (value + moved) + tiny.sqrt())
            }
            Metric::InnerProduct if query_norm * row_norm < LARGEST => {
                let slack = query_norm * (moved + error * (row_norm + moved)) + tiny;
                Interval::around(value, slack)
            }
            // The product's error, and that of the norms, which scale it.
            Metric::Cosine if [query_squared, row_squared].iter().all(is_normal) => {
                let moved = 2.0 * moved / row_norm;
                let similarity = (1.0 - value).abs() + moved;
                Interval::around(value, moved + error * (1.0 + similarity))
            }
            _ => Interval::UNKNOWN,
        }
    }
}

/// Whether a squared length in single precision is as exact as its terms.
fn is_normal(squared: &f64) -> bool {
    (SMALLEST..LARGEST).contains(squared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const METRICS: [Metric; 3] = [Metric::L2, Metric::InnerProduct, Metric::Cosine];

    fn stored(payload: Payload, row: &[f32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        payload.encode(row, &mut bytes);
        bytes
    }

    /// A sum in so many lanes, with products rounded or not.
    fn sum(factors: impl Iterator<Item = (f32, f32)>, lanes: usize, fused: bool) -> f32 {
        let mut sums = vec![0.0f32; lanes];
        for (i, (a, b)) in factors.enumerate() {
            let sum = &mut sums[i % lanes];
            *sum = if fused { a.mul_add(b, *sum) } else { *sum + a * b };
        }
        sums.into_iter().fold(0.0, |all, sum| all + sum)
    }

    /// The operator's value as an operator computes it whose sums have so many lanes.
    fn operator(metric: Metric, q: &[f32], x: &[f32], lanes: usize, fused: bool) -> f64 {
        let sum = |factors: &dyn Fn(f32, f32) -> (f32, f32)| {
            f64::from(sum(q.iter().zip(x).map(|(&q, &x)| factors(q, x)), lanes, fused))
        };
        match metric {
            Metric::L2 => sum(&|q, x| (q - x, q - x)).sqrt(),
            Metric::InnerProduct => -sum(&|q, x| (q, x)),
            Metric::Cosine => {
                let norms = sum(&|q, _| (q, q)) * sum(&|_, x| (x, x));
                1.0 - (sum(&|q, x| (q, x)) / norms.sqrt()).clamp(-1.0, 1.0)
            }
        }
    }

    #[test]
    fn only_a_zero_query_under_cosine_has_no_order() {
        let query = |metric, element| ExactQuery::new(metric, vec![0.0, element]);
        assert!(!query(Metric::Cosine, 0.0).has_order());
        assert!(query(Metric::Cosine, 1e-30).has_order());
        assert!(query(Metric::L2, 0.0).has_order() && query(Metric::InnerProduct, 0.0).has_order());
    }

    #[test]
    fn a_known_value_is_one_and_no_number_comes_last() {
        assert!(Interval::exact(1.5).is_exact() && Interval::exact(-f64::NAN).is_exact());
        assert!(!Interval::UNKNOWN.is_exact());
        let nan = Interval::exact(-f64::NAN).lower;
        assert_eq!(nan.total_cmp(&f64::INFINITY), std::cmp::Ordering::Greater);
    }

    proptest! {
        #[test]
        fn every_way_to_sum_is_within(
            pairs in prop::collection::vec((-100f32..100.0, -100f32..100.0), 1..700),
            near in prop::sample::select(vec![0.0f32, 1.0, 1e-3, 1e-7]),
            scale in prop::sample::select(
                vec![1e-22f32, 1e-20, 1e-17, 1e-12, 1e-6, 1e-3, 1.0, 100.0, 1e15, 1e18, 1e25]
            ),
            metric in prop::sample::select(METRICS.to_vec()),
            payload in prop::sample::select(vec![Payload::Float32, Payload::Float16]),
        ) {
            // A row that is near the query, or a multiple of it, cancels out.
            let query: Vec<f32> = pairs.iter().map(|(_, q)| q * scale).collect();
            let largest = if payload == Payload::Float16 { 65_504.0 } else { f32::MAX };
            let row: Vec<f32> = pairs.iter().zip(&query)
                .map(|((x, _), q)| if near == 0.0 { x * scale } else { q * 1.1 + x * scale * near })
                .map(|x| x.clamp(-largest, largest))
                .collect();
            let prepared = ExactQuery::new(metric, query.clone());
            let interval = prepared.interval_bytes(payload, &stored(payload, &row));
            for lanes in [1, 4, 8, 16, 64] {
                for fused in [false, true] {
                    let value = operator(metric, &query, &row, lanes, fused);
                    let within = interval.lower <= value && value <= interval.upper;
                    prop_assert!(
                        within || value.is_nan() && interval == Interval::UNKNOWN,
                        "{lanes} lanes: {value} is not in {interval:?}"
                    );
                }
            }
            // And it is of use where numbers are in the normal range.
            let norm = |v: &[f32]| f64::from(v.iter().map(|x| x * x).sum::<f32>().sqrt());
            let (query_norm, row_norm) = (norm(&query), norm(&row));
            let normal = |norm: f64| (1e-8..1e8).contains(&norm);
            if payload == Payload::Float32 && normal(query_norm) && normal(row_norm) {
                let scale = match metric {
                    Metric::L2 => interval.lower,
                    Metric::InnerProduct => query_norm * row_norm,
                    Metric::Cosine => 1.0,
                };
                let most = scale * 10.0 * summing_error(row.len() + LANES) + 1e-19;
                prop_assert!(interval.upper - interval.lower <= most, "{interval:?}");
            }
        }
    }
}
