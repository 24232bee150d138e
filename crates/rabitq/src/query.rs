//! A query against codes: ranking values and bounds.

use distance::{Kernels, Level, Metric};

use crate::{
    Bits, Bounds, Codes, Quantizer,
    bounds::{EPSILON, Errors},
    estimator::Estimator,
    kernels::QueryBlock,
    layout::BLOCK,
    quantizer::{Residual, inner_product, make_unit},
    rescale::{largest_magnitude, round_small},
    rotation::FEW,
    sweep::{Origin, Sure},
};

/// The largest element of an 8-bit query; -128 is left out to keep the range symmetric.
const LARGEST: f32 = 127.0;

/// A query prepared for codes of one [`Quantizer`]: rotated and rounded to eight bits.
#[derive(Clone, Debug)]
pub struct Query {
    pub(crate) estimator: Estimator,
    pub(crate) errors: Errors,
    pub(crate) sure: Sure,
    pub(crate) level: Level,
}

impl Quantizer {
    /// Prepares `query`. Allocates; once a query, not once a row.
    ///
    /// # Panics
    /// When `query` has not [`dimensions`](Quantizer::dimensions) elements.
    pub fn query(&self, query: &[f32]) -> Query {
        let mut turned = Vec::with_capacity(self.dimensions());
        // Under inner product the query itself is turned, `⟨o, q⟩ = ⟨c, q⟩ + ⟨r, q⟩`; under the
        // others its residual, which is shorter and so is its error.
        let Residual { length, in_range } = match self.metric {
            Metric::L2 => self.residual(query, false, &mut turned),
            Metric::Cosine => self.residual(query, true, &mut turned),
            Metric::InnerProduct => {
                assert_eq!(query.len(), self.dimensions(), "query of other dimensions");
                turned.extend_from_slice(query);
                Residual { length: make_unit(&mut turned), in_range: true }
            }
        };
        let mut rotated = vec![0.0; self.rotation.padded()];
        self.rotation.rotate(&turned, &mut rotated);
        let mut estimator = Estimator::new(self.bits, self.metric, rotated.len());

        let unit = (self.dimensions() <= FEW).then(|| rotated.clone());
        let (step, error) = round(&mut rotated);
        let squared = length * length;
        let centroid_dot = match self.metric {
            Metric::InnerProduct => inner_product(&self.centroid, query),
            _ => 0.0,
        };
        let (base, scale) = match self.metric {
            Metric::L2 => (squared, -length * step),
            Metric::Cosine => (squared / 2.0, -length * step / 2.0),
            Metric::InnerProduct => (-centroid_dot, -length * step / 2.0),
        };
        estimator.aim(base, scale, |blocks| {
            let (values, _) = rotated.as_chunks::<BLOCK>();
            for (QueryBlock(block), values) in blocks.iter_mut().zip(values) {
                // Whole numbers of at most 127.
                *block = values.map(|value| value as i32 as i8);
            }
        });
        // In few dimensions the rounding error meets the codes' errors in the same way again and
        // again, so it must not be trusted to be as small as it is on average.
        let caution = if self.dimensions() <= FEW { 2.0 } else { 1.0 };
        let errors = Errors {
            bits: self.bits,
            metric: self.metric,
            dimensions: rotated.len(),
            length,
            rounding: length * error * caution / (rotated.len() as f64).sqrt(),
            centroid: self.centroid_norm_squared.sqrt(),
        };
        let sure = Sure::new(Origin {
            bits: self.bits,
            metric: self.metric,
            dimensions: self.dimensions(),
            padded: rotated.len(),
            length,
            in_range,
            error,
            seen: unit.map_or(0.0, |unit| self.seen_error(unit, &rotated, step)),
            centroid: errors.centroid,
        });
        Query { estimator, errors, sure, level: Level::best() }
    }

    /// The length of what rows can see of the difference between `step · rounded` and `unit`.
    fn seen_error(&self, mut unit: Vec<f32>, rounded: &[f32], step: f64) -> f64 {
        for (x, value) in unit.iter_mut().zip(rounded) {
            *x = (f64::from(*value) * step - f64::from(*x)) as f32;
        }
        self.rotation.turn_back(&mut unit);
        unit[..self.dimensions()].iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
    }
}

/// Rounds `unit`, a unit vector, to whole numbers of at most 127. Returns what one step is worth
/// and the length of the error that remains.
///
/// A step's worth is chosen so that the rounded vector's inner product with the vector is one:
/// as with codes, the error is then at a right angle to the vector and biases nothing.
fn round(unit: &mut [f32]) -> (f64, f64) {
    let largest = largest_magnitude(unit);
    if largest == 0.0 {
        return (0.0, 0.0);
    }
    let original = unit.to_vec();
    let inverse = LARGEST / largest;
    for value in unit.iter_mut() {
        *value = round_small(*value * inverse);
    }
    let (dot, norm_squared) = Kernels::best().dot_and_norm(&original, unit);
    let (dot, norm_squared) = (f64::from(dot), f64::from(norm_squared));
    (1.0 / dot, (norm_squared / (dot * dot) - 1.0).max(0.0).sqrt())
}

impl Query {
    /// The ranking value of a row: squared distance under L2, negative inner product, cosine
    /// distance. It rises with the operator's value, may be slightly negative where that is
    /// zero, and is never NaN for factors that [`Quantizer::encode`] wrote.
    ///
    /// # Panics
    /// When `code` is shorter than a code or `factors` than [`FACTORS`].
    #[inline]
    pub fn estimate(&self, code: &[u8], factors: &[f32]) -> f32 {
        self.estimator.estimate(code, factors)
    }

    /// The ranking values of `rows` of `codes`, written to `out`, as many as both `rows` and `out`
    /// have.
    ///
    /// # Panics
    /// When a row is not in `codes`.
    #[inline]
    pub fn estimates(&self, codes: &Codes<'_>, rows: &[u32], out: &mut [f32]) {
        self.estimator.estimates(codes, rows, out);
    }

    /// The ranking values of `rows` by their [`sketch`](fn@crate::sketch)es.
    ///
    /// # Panics
    /// When a row is not in `sketches`.
    #[inline]
    pub fn coarse_estimates(&self, sketches: &Codes<'_>, rows: &[u32], out: &mut [f32]) {
        self.estimator.coarse_estimates(sketches, rows, out);
    }

    /// The estimate for a row and an interval that holds the exact distance almost always, in
    /// the operator's own units.
    ///
    /// # Panics
    /// When `code` is shorter than a code or `factors` than [`FACTORS`].
    pub fn bounds(&self, code: &[u8], factors: &[f32]) -> Bounds {
        self.bounds_around(self.estimate(code, factors), code, factors)
    }

    /// [`bounds`](Self::bounds) for an `estimate` already made: what a search's candidates carry
    /// as their score. Spares computing it again, and under L2 and cosine reading the code.
    ///
    /// # Panics
    /// When `code` is shorter than a code or `factors` than [`FACTORS`].
    pub fn bounds_around(&self, estimate: f32, code: &[u8], factors: &[f32]) -> Bounds {
        self.bounds_within(EPSILON, estimate, code, factors)
    }

    /// [`bounds_around`](Self::bounds_around) with bounds `epsilon` standard deviations away, not
    /// [`EPSILON`](crate::EPSILON).
    ///
    /// # Panics
    /// When `code` is shorter than a code or `factors` than [`FACTORS`].
    pub fn bounds_within(
        &self,
        epsilon: f64,
        estimate: f32,
        code: &[u8],
        factors: &[f32],
    ) -> Bounds {
        self.errors.bounds(estimate, code, factors, epsilon)
    }

    /// The same query computing with the instructions of `level`: for tests and measurements. `None` where
    /// this machine lacks them.
    pub fn at_level(&self, level: Level) -> Option<Self> {
        let estimator = self.estimator.at_level(level)?;
        Some(Self { estimator, level, ..self.clone() })
    }

    /// Bits of the codes this query compares with.
    pub fn bits(&self) -> Bits {
        self.errors.bits
    }
}
