//! From vectors to codes.

use distance::{Kernels, Metric};

use crate::{
    Bits, Rotation,
    layout::{self, BLOCK},
    rescale::{self, Fit},
    rotation::{FEW, padded},
};

/// Float32 factors stored beside each code; see [`Quantizer`] for their meaning.
pub const FACTORS: usize = 3;

/// Factors stay below this, so that no estimate adds an infinity to its opposite.
pub(crate) const LARGEST: f64 = f32::MAX as f64 / 8.0;

/// Bytes of the code of a vector of `dimensions` at `bits` a dimension, padding included.
pub fn code_bytes(dimensions: usize, bits: Bits) -> usize {
    padded(dimensions) / BLOCK * bits.block_bytes()
}

/// Turns vectors into codes, and queries into what compares with codes.
///
/// RaBitQ (Gao and Long, SIGMOD 2024) with several bits a dimension (Gao et al., SIGMOD 2025):
/// a vector `o` becomes its residual `r = o - c` to the centroid, turned by a random
/// [`Rotation`], of which the code keeps the direction. `x` being the values the code stands for,
/// `⟨r, q⟩ ≈ |r| ⟨x, q⟩ / ⟨x, r/|r|⟩` without bias, and the distances follow from that.
///
/// # Stored format
///
/// The code's bytes are described at [`Bits`]; the factors of a row are
///
/// | | L2, cosine | inner product |
/// |---|---|---|
/// | 0 | `\|r\|²` | `⟨c, o⟩` |
/// | 1 | `\|r\| / ⟨x, r/\|r\|⟩` | the same |
/// | 2 | `\|r\| tan φ / √(P - 1)`, `φ` the angle between `x` and `r`: the error's scale | the same |
///
/// Up to 32 dimensions factor 2 has the projection of `x` on the space of rotated vectors instead
/// of `x`, and that space's dimensions (at least 2) instead of `P`.
///
/// Under cosine `o` is normalised first. All factors are finite, whatever the vector.
#[derive(Clone, Debug)]
pub struct Quantizer {
    pub(crate) bits: Bits,
    pub(crate) metric: Metric,
    pub(crate) rotation: Rotation,
    pub(crate) centroid: Vec<f32>,
    /// `|c|²`.
    pub(crate) centroid_norm_squared: f64,
}

/// Buffers that encoding reuses, so that it allocates only for its first vector.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    residual: Vec<f32>,
    rotated: Vec<f32>,
    levels: Vec<u8>,
}

impl Quantizer {
    /// The quantizer of vectors of `dimensions` that turns by the rotation of `seed` and measures
    /// from `centroid`: the mean of the vectors (of the normalised vectors under cosine), or
    /// zeros where none is known. A poor centroid widens the bounds and breaks nothing.
    ///
    /// # Panics
    /// When `centroid` has not `dimensions` elements.
    pub fn new(
        dimensions: usize,
        bits: Bits,
        metric: Metric,
        seed: u64,
        centroid: Vec<f32>,
    ) -> Self {
        assert_eq!(centroid.len(), dimensions, "centroid of other dimensions than the vectors");
        let centroid_norm_squared = centroid.iter().map(|x| f64::from(*x).powi(2)).sum();
        let rotation = Rotation::new(dimensions, seed);
        Self { bits, metric, rotation, centroid, centroid_norm_squared }
    }

    /// Dimensions of a vector.
    pub fn dimensions(&self) -> usize {
        self.rotation.dimensions()
    }

    /// Bits a code spends on a dimension.
    pub fn bits(&self) -> Bits {
        self.bits
    }

    /// The metric that estimates are of.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// What residuals are measured from.
    pub fn centroid(&self) -> &[f32] {
        &self.centroid
    }

    /// Bytes of a row's code.
    pub fn code_bytes(&self) -> usize {
        code_bytes(self.dimensions(), self.bits)
    }

    /// Writes the code and the factors of `vector`.
    ///
    /// Any finite vector will do: equal to the centroid, zero, or so large that distances
    /// overflow (its bounds are then as wide as they can be).
    ///
    /// # Panics
    /// When `vector` has not [`dimensions`](Self::dimensions) elements, `code` not
    /// [`code_bytes`](Self::code_bytes) or `factors` not [`FACTORS`].
    pub fn encode(
        &self,
        vector: &[f32],
        code: &mut [u8],
        factors: &mut [f32],
        scratch: &mut Scratch,
    ) {
        assert_eq!(code.len(), self.code_bytes(), "code of another length than the quantizer's");
        assert_eq!(factors.len(), FACTORS, "a row has {FACTORS} factors");
        let padded = self.rotation.padded();
        scratch.rotated.resize(padded, 0.0);
        scratch.levels.resize(padded, 0);
        let offset = match self.metric {
            Metric::L2 | Metric::Cosine => None,
            Metric::InnerProduct => Some(inner_product(&self.centroid, vector)),
        };
        let residual = self.residual(vector, self.metric == Metric::Cosine, &mut scratch.residual);
        self.rotation.rotate(&scratch.residual, &mut scratch.rotated);
        let fit = rescale::search(self.bits, &scratch.rotated, &mut scratch.levels);
        layout::pack(self.bits, &scratch.levels, code);

        let first = offset.unwrap_or(residual.length * residual.length);
        let (second, third) = if fit.dot > 0.0 {
            // One but for rounding, which matters where the code is nearly exact.
            let unit = f64::from(Kernels::best().dot(&scratch.rotated, &scratch.rotated));
            let dot = f64::from(fit.dot);
            let (norm_squared, dimensions) = self.seen(fit, &scratch.levels, &mut scratch.rotated);
            let tangent = (norm_squared * unit / (dot * dot) - 1.0).max(0.0).sqrt();
            (
                residual.length * unit.sqrt() / dot,
                residual.length * tangent / (dimensions.max(2) as f64 - 1.0).sqrt(),
            )
        } else {
            (0.0, 0.0)
        };
        // Where the operator itself overflows nothing can be promised about its value.
        let third = if residual.in_range { third } else { LARGEST };
        for (out, value) in factors.iter_mut().zip([first, second, third]) {
            *out = value.clamp(-LARGEST, LARGEST) as f32;
        }
    }

    /// The squared length of the part of the code's values that queries can meet, and how many
    /// dimensions it has. `buffer` is overwritten.
    ///
    /// Queries lie in the space of rotated vectors. When that has many dimensions, the error of a
    /// code meets it as it would any other space, and all of it may stand for that part. When it
    /// has few, what happens to lie in them is a matter of luck, the same for many vectors: there
    /// it is computed.
    fn seen(&self, fit: Fit, levels: &[u8], buffer: &mut [f32]) -> (f64, usize) {
        let dimensions = self.dimensions();
        if dimensions > FEW {
            return (f64::from(fit.norm_squared), self.rotation.padded());
        }
        let middle = f32::from(self.bits.largest()) / 2.0;
        for (value, level) in buffer.iter_mut().zip(levels) {
            *value = f32::from(*level) - middle;
        }
        self.rotation.turn_back(buffer);
        let seen = &buffer[..dimensions];
        (f64::from(Kernels::best().dot(seen, seen)), dimensions)
    }

    /// Writes the direction of `vector - centroid` to `out` and returns its length.
    pub(crate) fn residual(&self, vector: &[f32], normalise: bool, out: &mut Vec<f32>) -> Residual {
        assert_eq!(vector.len(), self.dimensions(), "vector of other dimensions than the index");
        let (norm, in_range) = if normalise { norm(vector) } else { (1.0, true) };
        let inverse = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        out.clear();
        if normalise {
            let narrow = inverse as f32;
            if narrow.is_normal() {
                out.extend(vector.iter().zip(&self.centroid).map(|(x, c)| x * narrow - c));
            } else {
                let scaled = |x: &f32| (f64::from(*x) * inverse) as f32;
                out.extend(vector.iter().zip(&self.centroid).map(|(x, c)| scaled(x) - c));
            }
        } else {
            out.extend(vector.iter().zip(&self.centroid).map(|(x, c)| {
                // A difference of huge elements may leave the range; its neighbourhood is as good.
                (x - c).clamp(f32::MIN, f32::MAX)
            }));
        }
        let length = make_unit(out);
        Residual { length, in_range }
    }
}

/// What [`Quantizer::residual`] found.
pub(crate) struct Residual {
    /// `|r|`.
    pub(crate) length: f64,
    /// Whether the operator can compute the vector's norm without overflow, where it needs to.
    pub(crate) in_range: bool,
}

/// Divides `vector` by its length, which is returned. A zero vector stays.
pub(crate) fn make_unit(vector: &mut [f32]) -> f64 {
    let (length, _) = norm(vector);
    if length > 0.0 {
        let inverse = 1.0 / length;
        let narrow = inverse as f32;
        if narrow.is_normal() {
            vector.iter_mut().for_each(|x| *x *= narrow);
        } else {
            vector.iter_mut().for_each(|x| *x = (f64::from(*x) * inverse) as f32);
        }
    }
    length
}

/// The length of `vector`, and whether its square is a normal number in single precision.
pub(crate) fn norm(vector: &[f32]) -> (f64, bool) {
    let squared = Kernels::best().dot(vector, vector);
    // Below this, squares of the elements may have lost bits as denormal numbers.
    if (1e-24..=f32::MAX).contains(&squared) {
        return (f64::from(squared).sqrt(), true);
    }
    let squared: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum();
    (squared.sqrt(), squared == 0.0)
}

/// The inner product, in double precision when single would overflow.
pub(crate) fn inner_product(a: &[f32], b: &[f32]) -> f64 {
    let dot = Kernels::best().dot(a, b);
    if dot.is_finite() {
        return f64::from(dot);
    }
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}
