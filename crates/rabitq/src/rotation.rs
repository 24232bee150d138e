//! A random rotation that takes `O(D log D)` and is remembered by its seed.
//!
//! RaBitQ needs vectors turned by a random orthogonal matrix, so that no direction of the data is
//! worse for the code than another. A dense matrix would cost `D²`; products of random sign flips
//! and Hadamard transforms act like one.

use crate::{SplitMix64, hadamard, wide};

/// Code dimensions come in blocks of this many.
pub const BLOCK: usize = 64;

/// Vectors of at most so many dimensions are spread over two blocks. It costs 32 bytes a row at
/// four bits and narrows the bounds by about a quarter: in two dimensions, at one bit, 74 instead of
/// 56 % of the ten nearest of 10,000 rows are among 40 candidates.
pub(crate) const FEW: usize = 32;

/// How often the coordinates are mixed. One round leaves single coordinates visibly uneven when
/// `W < P`; two spread them well; the third, as customary for such products, is margin.
const ROUNDS: usize = 3;

/// The rotation of a seed: `dimensions` coordinates in, [`padded`](Self::padded) out.
///
/// # Stored format
///
/// With `P` padded dimensions (the next multiple of 64; 128 up to 32 dimensions) and `W` the
/// largest power of two not above `P`, three rounds of
///
/// 1. flip signs, transform the *leading* `W` coordinates;
/// 2. when `W < P`: flip signs, transform the *trailing* `W` coordinates, then turn every pair
///    `(i, i + P/2)` by 45°: `(x, y) → (x + y, x - y)`. The windows may overlap in few
///    coordinates (64 of 960), so they alone would mix slowly.
///
/// To keep lengths, a flip also multiplies what is transformed next by `1 / √W`, and the end
/// result is multiplied by `1 / √8` for the three turns of pairs. Signs are the bits of
/// [`SplitMix64`] started at the seed, drawn 64 at a time in the order they are used, lowest bit
/// first; a set bit negates.
/// Every coordinate is a fixed tree of single-precision additions, hence the same on all machines.
#[derive(Clone, Debug)]
pub struct Rotation {
    dimensions: usize,
    padded: usize,
    /// What each flip multiplies with, `flips × padded`.
    flips: Vec<f32>,
    /// What the end result is multiplied with.
    scale: f32,
}

impl Rotation {
    /// The rotation of `dimensions` coordinates that belongs to `seed`.
    pub fn new(dimensions: usize, seed: u64) -> Self {
        let padded = padded(dimensions);
        let window = window(padded);
        let leading = 0..window;
        let trailing = padded - window..padded;
        let windows = if window < padded { vec![leading, trailing] } else { vec![leading] };
        let scale = if window < padded { 1.0 / f64::from(1 << ROUNDS).sqrt() } else { 1.0 };
        let inside = (1.0 / (window as f64).sqrt()) as f32;

        let mut random = SplitMix64::new(seed);
        let mut flips = Vec::with_capacity(ROUNDS * windows.len() * padded);
        for window in windows.iter().cycle().take(ROUNDS * windows.len()) {
            for block in 0..padded / BLOCK {
                let bits = random.next_u64();
                flips.extend((0..BLOCK).map(|i| {
                    let size = if window.contains(&(block * BLOCK + i)) { inside } else { 1.0 };
                    if bits >> i & 1 == 1 { -size } else { size }
                }));
            }
        }
        Self { dimensions, padded, flips, scale: scale as f32 }
    }

    /// Coordinates of an input vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Coordinates of a rotated vector: `dimensions` rounded up to whole blocks of 64, and 128 for
    /// vectors of up to 32 dimensions.
    pub fn padded(&self) -> usize {
        self.padded
    }

    /// Writes the rotated `input` to `out`. Lengths and angles stay as they were.
    ///
    /// # Panics
    /// When `input` has not `dimensions` elements or `out` not `padded`.
    pub fn rotate(&self, input: &[f32], out: &mut [f32]) {
        assert_eq!(input.len(), self.dimensions, "vector of other dimensions than the rotation");
        assert_eq!(out.len(), self.padded, "output of other dimensions than the rotation");
        out[..input.len()].copy_from_slice(input);
        out[input.len()..].fill(0.0);
        wide::run(Rotate { rotation: self, values: out });
    }

    /// Turns `values`, `padded` coordinates, back in place. Of a rotated vector the first
    /// `dimensions` coordinates are the vector again and the rest zero; of any other they are
    /// its projection on the space of vectors.
    pub(crate) fn turn_back(&self, values: &mut [f32]) {
        let window = window(self.padded);
        let mut flips = self.flips.chunks_exact(self.padded).rev();
        // Every step is its own inverse, but for the order and the scale.
        for _ in 0..ROUNDS {
            if window < self.padded {
                turn_pairs(values);
                hadamard::transform(&mut values[self.padded - window..]);
                flip(values, flips.next());
            }
            hadamard::transform(&mut values[..window]);
            flip(values, flips.next());
        }
        values.iter_mut().for_each(|value| *value *= self.scale);
    }
}

/// Whole blocks for `dimensions` coordinates, two at least for vectors of few dimensions.
pub(crate) fn padded(dimensions: usize) -> usize {
    let least = if dimensions <= FEW { 2 * BLOCK } else { BLOCK };
    dimensions.next_multiple_of(BLOCK).max(least)
}

/// The Hadamard transform's size for `padded` coordinates.
fn window(padded: usize) -> usize {
    1 << padded.ilog2()
}

struct Rotate<'a> {
    rotation: &'a Rotation,
    values: &'a mut [f32],
}

impl wide::Work for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Self { rotation, values } = self;
        let padded = rotation.padded;
        let window = window(padded);
        let mut flips = rotation.flips.chunks_exact(padded);
        for _ in 0..ROUNDS {
            flip(values, flips.next());
            hadamard::transform(&mut values[..window]);
            if window < padded {
                flip(values, flips.next());
                hadamard::transform(&mut values[padded - window..]);
                turn_pairs(values);
            }
        }
        for value in values {
            *value *= rotation.scale;
        }
    }
}

/// Turns coordinates half the length apart by 45°, without scaling.
#[inline(always)]
fn turn_pairs(values: &mut [f32]) {
    let (left, right) = values.split_at_mut(values.len() / 2);
    for (x, y) in left.iter_mut().zip(right) {
        (*x, *y) = (*x + *y, *x - *y);
    }
}

#[inline(always)]
fn flip(values: &mut [f32], factors: Option<&[f32]>) {
    for (value, factor) in values.iter_mut().zip(factors.unwrap_or_default()) {
        *value *= factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_back_gives_the_vector_again() {
        for dimensions in [1, 2, 33, 64, 100, 384, 960] {
            let vector: Vec<f32> = (0..dimensions).map(|i| (i as f32).cos()).collect();
            let rotation = Rotation::new(dimensions, 9);
            let mut turned = vec![0.0; rotation.padded()];
            rotation.rotate(&vector, &mut turned);
            rotation.turn_back(&mut turned);
            for (i, value) in turned.iter().enumerate() {
                let expected = vector.get(i).copied().unwrap_or(0.0);
                assert!((value - expected).abs() < 1e-5, "{dimensions}: {i} {value} {expected}");
            }
        }
    }
}
