//! Lower bounds that hold for all rows: what a sweep over a segment puts rows in order by.

use distance::Metric;

use crate::{Codes, FACTORS, Query, estimator::BATCH};

/// Rows whose codes are asked for before they are read.
const AHEAD: u32 = 16;

impl Query {
    /// Writes lower bounds of the ranking values of rows `first .. first + out.len()` of `codes`. The
    /// exact value is below its bound less than once in a million rows.
    ///
    /// Never NaN. Negative infinity where numbers are too large for single precision.
    ///
    /// # Panics
    /// When a row is not in `codes`.
    pub fn sure_lower_bounds(&self, codes: &Codes<'_>, first: u32, out: &mut [f32]) {
        let mut rows = [0; BATCH];
        for (row, out) in (first..).step_by(BATCH).zip(out.chunks_mut(BATCH)) {
            let rows = &mut rows[..out.len()];
            for (number, place) in (row..).zip(rows.iter_mut()) {
                *place = number;
                codes.prefetch(number.saturating_add(AHEAD));
            }
            self.estimates(codes, rows, out);
            for (row, bound) in rows.iter().zip(out) {
                *bound = self.sure_lower_bound(*bound, codes.code(*row), codes.factors(*row));
            }
        }
    }

    /// A lower bound, as sure as those of [`sure_lower_bounds`](Self::sure_lower_bounds), of the ranking
    /// value of a row whose `estimate` is known.
    ///
    /// # Panics
    /// When `code` is shorter than a code or `factors` than [`FACTORS`].
    #[inline]
    pub fn sure_lower_bound(&self, estimate: f32, code: &[u8], factors: &[f32]) -> f32 {
        let factors: [f32; FACTORS] = std::array::from_fn(|i| factors[i]);
        self.errors.sure_lower_bound(estimate, code, factors)
    }

    /// A ranking value in the units of the metric's operator: a root under L2, within 0 and 2 under
    /// cosine. It never falls as `ranking` rises.
    pub fn distance_at(&self, ranking: f32) -> f64 {
        let ranking = f64::from(ranking);
        match self.errors.metric {
            Metric::L2 => ranking.max(0.0).sqrt(),
            Metric::InnerProduct => ranking,
            Metric::Cosine => ranking.clamp(0.0, 2.0),
        }
    }
}
