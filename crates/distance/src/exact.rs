//! The exact distance of one query to many rows.

use half::f16;

use crate::{Element, Metric, Payload, dot, dot_and_norm, l2_squared};

/// Elements decoded at a time when stored bytes are unaligned: one kilobyte or two on the stack.
pub(crate) const BLOCK: usize = 512;

/// Sums over a query and a row, in single precision.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    /// `sum((q - x)^2)` under L2, otherwise `sum(q * x)`.
    pub(crate) main: f32,
    /// `sum(x * x)`, or zero where nobody needs it.
    pub(crate) norm_squared: f32,
}

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

    /// `sum(q * q)`, as the operator computes it.
    pub(crate) fn norm_squared(&self) -> f64 {
        f64::from(self.norm_squared)
    }

    /// The operator's value for `row`, up to the rounding of its sums: Euclidean distance, negative inner
    /// product, or cosine distance. NaN under cosine when either vector is zero, as in pgvector.
    ///
    /// # Panics
    /// When `row` has not [`dimensions`](Self::dimensions) elements.
    pub fn distance<R: Element>(&self, row: &[R]) -> f64 {
        self.value(&self.sums(&self.vector, row, false))
    }

    /// [`distance`](Self::distance) to a row in its stored form: little-endian elements, at any
    /// alignment.
    ///
    /// # Panics
    /// When `row` has not `dimensions × payload.element_bytes()` bytes: rows are cut out of
    /// chunks whose size has been checked, so another length is a mistake of the caller.
    pub fn distance_bytes(&self, payload: Payload, row: &[u8]) -> f64 {
        self.value(&self.sums_bytes(payload, row, false))
    }

    /// The distance that sums make.
    pub(crate) fn value(&self, sums: &Sums) -> f64 {
        let main = f64::from(sums.main);
        match self.metric {
            Metric::L2 => main.sqrt(),
            Metric::InnerProduct => -main,
            Metric::Cosine => {
                let norms = f64::from(self.norm_squared) * f64::from(sums.norm_squared);
                // `clamp` keeps NaN, which is what 0 / 0 must stay.
                1.0 - (main / norms.sqrt()).clamp(-1.0, 1.0)
            }
        }
    }

    /// The sums over a row in its stored form, that of the row's squares only where it is needed or
    /// `with_norm` asks for it.
    pub(crate) fn sums_bytes(&self, payload: Payload, row: &[u8], with_norm: bool) -> Sums {
        assert_eq!(
            row.len(),
            self.dimensions() * payload.element_bytes(),
            "a stored row of {} dimensions has another length",
            self.dimensions()
        );
        match payload {
            Payload::Float32 => match in_place::<f32>(row) {
                Some(row) => self.sums(&self.vector, row, with_norm),
                None => self.decoded(row, with_norm, f32::from_le_bytes),
            },
            Payload::Float16 => match in_place::<f16>(row) {
                Some(row) => self.sums(&self.vector, row, with_norm),
                None => self.decoded(row, with_norm, f16::from_le_bytes),
            },
        }
    }

    /// The sums over `row`, decoded block by block without allocating.
    fn decoded<R: Element, const BYTES: usize>(
        &self,
        row: &[u8],
        with_norm: bool,
        decode: impl Fn([u8; BYTES]) -> R,
    ) -> Sums {
        let (elements, _) = row.as_chunks::<BYTES>();
        let mut block = [R::default(); BLOCK];
        let mut all = Sums::default();
        for (query, elements) in self.vector.chunks(BLOCK).zip(elements.chunks(BLOCK)) {
            let block = &mut block[..elements.len()];
            for (out, bytes) in block.iter_mut().zip(elements) {
                *out = decode(*bytes);
            }
            let sums = self.sums(query, block, with_norm);
            all.main += sums.main;
            all.norm_squared += sums.norm_squared;
        }
        all
    }

    /// The sums over a part of the query and of a row.
    fn sums<R: Element>(&self, query: &[f32], row: &[R], with_norm: bool) -> Sums {
        if self.metric == Metric::L2 {
            let norm_squared = if with_norm { dot_and_norm(query, row).1 } else { 0.0 };
            return Sums { main: l2_squared(query, row), norm_squared };
        }
        if self.metric == Metric::InnerProduct && !with_norm {
            return Sums { main: dot(query, row), norm_squared: 0.0 };
        }
        let (main, norm_squared) = dot_and_norm(query, row);
        Sums { main, norm_squared }
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
