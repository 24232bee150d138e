//! What a distance to a stored row says about the distance to the row as it was.

use crate::{ExactQuery, Metric, Payload, dot};
use half::f16;

/// Largest relative error of rounding to half precision, doubled below for safety: `2^-11`.
const HALF_UNIT: f64 = 1.0 / 2048.0;
/// Largest absolute error of rounding a number too small for half precision's normal range.
const HALF_TINY: f64 = 1.0 / 33_554_432.0;
/// Relative error of one operation in single precision.
const SINGLE_UNIT: f64 = 1.0 / 16_777_216.0;

impl ExactQuery {
    /// Whether distances to this query order rows at all: under cosine a zero vector has no
    /// direction.
    pub fn has_order(&self) -> bool {
        self.metric() != Metric::Cosine || self.vector().iter().any(|&element| element != 0.0)
    }

    /// What rows read from storage are put in order by: the exact distance where the payload is
    /// the row itself, a lower bound of it where the payload was rounded.
    ///
    /// # Panics
    /// As [`distance_bytes`](Self::distance_bytes).
    pub fn order_value(&self, payload: Payload, row: &[u8]) -> f64 {
        match payload {
            Payload::Float32 => self.distance_bytes(payload, row),
            Payload::Float16 => self.lower_bound_bytes(payload, row),
        }
    }

    /// A value that the operator's value for the row *before it was stored* is certainly not
    /// below, whatever order its sums are computed in. For `Float32` payloads it is only a few
    /// units of rounding under [`distance_bytes`](Self::distance_bytes).
    ///
    /// # Panics
    /// As [`distance_bytes`](Self::distance_bytes).
    pub fn lower_bound_bytes(&self, payload: Payload, row: &[u8]) -> f64 {
        let distance = self.distance_bytes(payload, row);
        let dimensions = self.dimensions() as f64;
        let row_norm = norm(payload, row);
        let query_norm = f64::from(dot(self.vector(), self.vector())).sqrt();
        // How far the stored row can be from the original one.
        let moved = match payload {
            Payload::Float32 => 0.0,
            Payload::Float16 => 1.01 * HALF_UNIT * row_norm + dimensions.sqrt() * HALF_TINY,
        };
        // How far a sum of products in single precision can be off, both here and there.
        let summing = 4.0 * dimensions.max(16.0) * SINGLE_UNIT;
        let slack = match self.metric() {
            Metric::L2 => moved + summing * distance,
            Metric::InnerProduct => query_norm * (moved + summing * (row_norm + moved)),
            Metric::Cosine if row_norm > 0.0 => 2.0 * moved / row_norm + summing,
            Metric::Cosine => f64::INFINITY,
        };
        let bound = distance - slack;
        if bound.is_finite() { bound } else { f64::NEG_INFINITY }
    }
}

/// The length of a stored row.
fn norm(payload: Payload, row: &[u8]) -> f64 {
    let squares: f64 = match payload {
        Payload::Float32 => row
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| f64::from(f32::from_le_bytes(bytes)).powi(2))
            .sum(),
        Payload::Float16 => row
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| f64::from(f16::from_le_bytes(bytes)).powi(2))
            .sum(),
    };
    squares.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(payload: Payload, row: &[f32]) -> Vec<u8> {
        match payload {
            Payload::Float32 => row.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Payload::Float16 => row.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        }
    }

    #[test]
    fn only_a_zero_query_under_cosine_has_no_order() {
        let query = |metric, element| ExactQuery::new(metric, vec![0.0, element]);
        assert!(!query(Metric::Cosine, 0.0).has_order());
        assert!(query(Metric::Cosine, 1e-30).has_order());
        assert!(query(Metric::L2, 0.0).has_order() && query(Metric::InnerProduct, 0.0).has_order());
    }

    proptest! {
        #[test]
        fn the_bound_holds(
            pairs in prop::collection::vec((-100f32..100.0, -100f32..100.0), 1..80),
            scale in prop::sample::select(vec![1e-6f32, 1e-3, 1.0, 100.0]),
            metric in prop::sample::select(vec![Metric::L2, Metric::InnerProduct, Metric::Cosine]),
            payload in prop::sample::select(vec![Payload::Float32, Payload::Float16]),
        ) {
            let row: Vec<f32> = pairs.iter().map(|(x, _)| x * scale).collect();
            let query = ExactQuery::new(metric, pairs.iter().map(|(_, q)| *q).collect());
            let exact = query.distance(&row[..]);
            let bound = query.lower_bound_bytes(payload, &stored(payload, &row));
            prop_assert!(bound <= exact || exact.is_nan(), "{bound} > {exact}");
            // And it is of use: not far below, where the numbers are in the normal range.
            if scale >= 1.0 && metric == Metric::L2 {
                prop_assert!(bound >= exact - 0.01 * (exact + 20_000.0 * f64::from(scale)).abs());
            }
        }
    }
}
