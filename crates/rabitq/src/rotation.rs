//! A random rotation that takes `O(D log D)` and is remembered by its seed.
//!
//! RaBitQ needs vectors turned by a random orthogonal matrix, so that no direction of the data is
//! worse for the code than another. A dense matrix would cost `D²`; products of random sign flips
//! and Hadamard transforms act like one.
//!
//! # Stored format
//!
//! With `P` padded dimensions and `W` the largest power of two not above `P`, three rounds of
//!
//! 1. flip signs, transform the *leading* `W` coordinates;
//! 2. when `W < P`: flip signs, transform the *trailing* `W` coordinates, then turn every pair
//!    `(i, i + P/2)` by 45°: `(x, y) → (x + y, x - y)`. The windows may overlap in few
//!    coordinates (64 of 960), so they alone would mix slowly.
//!
//! To keep lengths, a flip also multiplies what is transformed next by `1 / √W`, and the end
//! result is multiplied by `1 / √8` for the three turns. Signs are the bits of [`SplitMix64`] started at the
//! seed, drawn 64 at a time in the order they are used, lowest bit first; a set bit negates.
//! Every coordinate is a fixed tree of single-precision additions, hence the same on all machines.

use crate::{SplitMix64, hadamard, wide};

/// Code dimensions come in blocks of this many.
pub const BLOCK: usize = 64;

/// How often the coordinates are mixed. Two rounds leave vectors with few non-zero coordinates
/// visibly uneven.
const ROUNDS: usize = 3;

/// The rotation of a seed: `dimensions` coordinates in, [`padded`](Self::padded) out.
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
        let padded = dimensions.next_multiple_of(BLOCK).max(BLOCK);
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

    /// Coordinates of a rotated vector: `dimensions` rounded up to whole blocks of 64.
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
                let (left, right) = values.split_at_mut(padded / 2);
                for (x, y) in left.iter_mut().zip(right) {
                    (*x, *y) = (*x + *y, *x - *y);
                }
            }
        }
        for value in values {
            *value *= rotation.scale;
        }
    }
}

#[inline(always)]
fn flip(values: &mut [f32], factors: Option<&[f32]>) {
    for (value, factor) in values.iter_mut().zip(factors.unwrap_or_default()) {
        *value *= factor;
    }
}
