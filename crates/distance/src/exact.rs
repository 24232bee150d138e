//! The exact distance of one query to many rows.

use half::f16;

use crate::{Element, Metric, Payload, dot, dot_and_norm, l2_squared};

/// Elements decoded at a time when stored bytes are unaligned: one kilobyte or two on the stack.
const BLOCK: usize = 512;

/// A query whose distances have the operator's value.
///
/// As in pgvector, sums are in single precision and may overflow to infinity; the root and the
/// division are in double precision.
#[derive(Clone, Debug)]
pub struct ExactQuery {
    metric: Metric,
    vector: Vec<f32>,
    /// `sum(q * q)`, in single precision as the operator computes it.
    norm_squared: f32,
}

impl ExactQuery {
    /// Prepares `vector` for distances under `metric`.
    pub fn new(metric: Metric, vector: Vec<f32>) -> Self {
        let norm_squared = dot(&vector, &vector);
        Self { metric, vector, norm_squared }
    }

    /// Dimensions a row must have.
    pub fn dimensions(&self) -> usize {
        self.vector.len()
    }

    /// The metric the distances are of.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The query itself.
    pub fn vector(&self) -> &[f32] {
        &self.vector
    }

    /// The operator's value for `row`: Euclidean distance, negative inner product, or cosine
    /// distance. NaN under cosine when either vector is zero, as in pgvector.
    ///
    /// # Panics
    /// When `row` has not [`dimensions`](Self::dimensions) elements.
    pub fn distance<R: Element>(&self, row: &[R]) -> f64 {
        match self.metric {
            Metric::L2 => f64::from(l2_squared(&self.vector, row)).sqrt(),
            Metric::InnerProduct => -f64::from(dot(&self.vector, row)),
            Metric::Cosine => {
                let (dot, norm_squared) = dot_and_norm(&self.vector, row);
                self.cosine(dot, norm_squared)
            }
        }
    }

    /// [`distance`](Self::distance) to a row in its stored form: little-endian elements, at any
    /// alignment.
    ///
    /// # Panics
    /// When `row` has not `dimensions × payload.element_bytes()` bytes: rows are cut out of
    /// chunks whose size has been checked, so another length is a mistake of the caller.
    pub fn distance_bytes(&self, payload: Payload, row: &[u8]) -> f64 {
        assert_eq!(
            row.len(),
            self.dimensions() * payload.element_bytes(),
            "a stored row of {} dimensions has another length",
            self.dimensions()
        );
        match payload {
            Payload::Float32 => match in_place::<f32>(row) {
                Some(row) => self.distance(row),
                None => self.decoded(row, f32::from_le_bytes),
            },
            Payload::Float16 => match in_place::<f16>(row) {
                Some(row) => self.distance(row),
                None => self.decoded(row, f16::from_le_bytes),
            },
        }
    }

    /// The distance to `row`, decoded block by block without allocating.
    fn decoded<R: Element, const BYTES: usize>(
        &self,
        row: &[u8],
        decode: impl Fn([u8; BYTES]) -> R,
    ) -> f64 {
        let (elements, _) = row.as_chunks::<BYTES>();
        let mut block = [R::default(); BLOCK];
        let (mut first, mut second) = (0.0f32, 0.0f32);
        for (query, elements) in self.vector.chunks(BLOCK).zip(elements.chunks(BLOCK)) {
            let block = &mut block[..elements.len()];
            for (out, bytes) in block.iter_mut().zip(elements) {
                *out = decode(*bytes);
            }
            match self.metric {
                Metric::L2 => first += l2_squared(query, block),
                Metric::InnerProduct => first += dot(query, block),
                Metric::Cosine => {
                    let (dot, norm_squared) = dot_and_norm(query, block);
                    first += dot;
                    second += norm_squared;
                }
            }
        }
        match self.metric {
            Metric::L2 => f64::from(first).sqrt(),
            Metric::InnerProduct => -f64::from(first),
            Metric::Cosine => self.cosine(first, second),
        }
    }

    /// Cosine distance from the inner product and the row's squared norm.
    fn cosine(&self, dot: f32, norm_squared: f32) -> f64 {
        let norms = f64::from(self.norm_squared) * f64::from(norm_squared);
        // `clamp` keeps NaN, which is what 0 / 0 must stay.
        1.0 - (f64::from(dot) / norms.sqrt()).clamp(-1.0, 1.0)
    }
}

/// The stored bytes as elements, when they are aligned and this machine is little-endian.
fn in_place<R: Element>(row: &[u8]) -> Option<&[R]> {
    if cfg!(target_endian = "big") {
        return None;
    }
    // SAFETY: `Element` is sealed to f32 and f16, for which every bit pattern is a value.
    let (head, elements, tail) = unsafe { row.align_to::<R>() };
    (head.is_empty() && tail.is_empty()).then_some(elements)
}
