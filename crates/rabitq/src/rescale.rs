//! The search for the code nearest in direction: extended RaBitQ's rescaling (Gao et al., SIGMOD
//! 2025, section 3).
//!
//! A code stands for the vector of *values* `x = c - (2^b - 1) / 2`, of which only the direction
//! counts. The best code of a unit vector `o` lies among the roundings of `t · o` for some
//! `t > 0`, the one with the largest cosine `⟨x, o⟩ / |x|`. The paper visits every `t` at which a
//! level changes, `O(2^b D log D)`; the cosine is so flat in `t` that a few values come within
//! 1 % of the best error (measured: 0.06 % at four bits), and each takes one pass that vectorises.

use crate::{Bits, wide};

/// Partial sums that a pass keeps, so that the compiler may use vectors.
const LANES: usize = 16;

/// Rounds a float of at most 2^22 to the nearest integer: added to `1.5 · 2^23` it has no room for
/// a fraction. Two additions that every instruction set has.
#[inline(always)]
pub(crate) fn round_small(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    (x + ROUND) - ROUND
}

/// Coordinates this small beside the largest count as positive. Turning a vector of one or two
/// dimensions leaves some coordinates at zero, give or take a rounding error, and near vectors
/// would differ in the signs of those.
const NEGLIGIBLE: f32 = 1e-6;

/// A code's values against the vector they stand for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fit {
    /// `⟨x, o⟩`.
    pub(crate) dot: f32,
    /// `|x|²`.
    pub(crate) norm_squared: f32,
}

impl Fit {
    /// What the search maximises: the squared cosine times `|o|²`.
    #[inline(always)]
    fn quality(self) -> f32 {
        self.dot * self.dot / self.norm_squared
    }
}

/// Writes the levels of the best code of `vector` to `levels`, and returns how well it fits.
///
/// `vector` is in whole blocks of 64 and not zero; its length does not matter.
pub(crate) fn search(bits: Bits, vector: &[f32], levels: &mut [u8]) -> Fit {
    wide::run(Search { bits, vector, levels })
}

struct Search<'a> {
    bits: Bits,
    vector: &'a [f32],
    levels: &'a mut [u8],
}

impl wide::Work for Search<'_> {
    type Output = Fit;

    #[inline(always)]
    fn run(self) -> Fit {
        let Self { bits, vector, levels } = self;
        let top = f32::from(bits.largest()) / 2.0;
        let largest = largest_magnitude(vector);
        if largest == 0.0 {
            levels.fill(bits.largest() / 2 + 1);
            return Fit::default();
        }
        let unit = (top + 0.5) / largest;
        let mut best = Attempt { fit: fit(vector, unit, top), scale: unit };
        let (step, steps) = stretches(bits);
        for i in 1..=steps {
            best = best.or(vector, unit * (1.0 + step * i as f32), top);
        }
        if steps > 0 {
            let around = best.scale / unit;
            for i in [-3.0, -2.0, -1.0, 1.0, 2.0, 3.0] {
                best = best.or(vector, unit * (around + step / 4.0 * i), top);
            }
        }
        write_levels(vector, best.scale, top, largest * NEGLIGIBLE, bits, levels);
        best.fit
    }
}

/// A scale and how well its code fits.
#[derive(Clone, Copy)]
struct Attempt {
    fit: Fit,
    scale: f32,
}

impl Attempt {
    /// The better of this and the attempt at another scale.
    // Not a closure: those are compiled for the plain instruction set.
    #[inline(always)]
    fn or(self, vector: &[f32], scale: f32, top: f32) -> Self {
        let fit = fit(vector, scale, top);
        if fit.quality() > self.fit.quality() { Self { fit, scale } } else { self }
    }
}

/// Which scales to try, as a step and a number of steps above the scale at which the largest
/// coordinate just reaches the outermost level. Coarser codes gain from clipping more.
#[inline(always)]
fn stretches(bits: Bits) -> (f32, usize) {
    match bits {
        // Signs do not depend on the scale.
        Bits::One => (0.0, 0),
        Bits::Two => (0.20, 8),
        Bits::Four => (0.10, 6),
        Bits::Eight => (0.02, 2),
    }
}

/// The largest absolute value, in a vector of whole blocks.
#[inline(always)]
pub(crate) fn largest_magnitude(vector: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for block in vector.as_chunks::<LANES>().0 {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane = if x.abs() > *lane { x.abs() } else { *lane };
        }
    }
    lanes.iter().fold(0.0, |a, b| a.max(*b))
}

/// The magnitude of the value that stands for coordinate `x` at a scale: `0.5, 1.5, … top`.
#[inline(always)]
fn value(x: f32, scale: f32, top: f32) -> f32 {
    let scaled = x.abs() * scale;
    let clipped = if scaled < top { scaled } else { top };
    round_small(clipped - 0.5) + 0.5
}

#[inline(always)]
fn fit(vector: &[f32], scale: f32, top: f32) -> Fit {
    let (mut dots, mut norms) = ([0.0f32; LANES], [0.0f32; LANES]);
    for block in vector.as_chunks::<LANES>().0 {
        for ((dot, norm), x) in dots.iter_mut().zip(&mut norms).zip(block) {
            let value = value(*x, scale, top);
            *dot += value * x.abs();
            *norm += value * value;
        }
    }
    Fit { dot: dots.iter().sum(), norm_squared: norms.iter().sum() }
}

#[inline(always)]
fn write_levels(
    vector: &[f32],
    scale: f32,
    top: f32,
    negligible: f32,
    bits: Bits,
    levels: &mut [u8],
) {
    let middle = f32::from(bits.largest()) / 2.0;
    for (level, x) in levels.iter_mut().zip(vector) {
        let value = value(*x, scale, top);
        let value = if *x < -negligible { middle - value } else { middle + value };
        // Zero to 255 by construction; through i32 because that conversion vectorises.
        *level = value as i32 as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SplitMix64;

    /// A vector of roughly normal coordinates.
    fn gaussian(length: usize, random: &mut SplitMix64) -> Vec<f32> {
        (0..length)
            .map(|_| {
                let sum: u64 = (0..12).map(|_| random.next_u64() >> 40).sum();
                sum as f32 / (1u64 << 24) as f32 - 6.0
            })
            .collect()
    }

    /// The squared cosine of the best code over a sweep so fine that it stands for the paper's.
    fn exhaustive(bits: Bits, vector: &[f32]) -> f32 {
        let top = f32::from(bits.largest()) / 2.0;
        let unit = (top + 0.5) / largest_magnitude(vector);
        (0..4000)
            .map(|i| fit(vector, unit * (0.5 + i as f32 * 0.001), top).quality())
            .fold(0.0, f32::max)
    }

    #[test]
    fn the_quick_search_comes_close_to_the_exhaustive_one() {
        let mut random = SplitMix64::new(7);
        for bits in Bits::ALL {
            let (mut quick, mut best) = (0.0f64, 0.0f64);
            for _ in 0..40 {
                let vector = gaussian(384, &mut random);
                let norm: f32 = vector.iter().map(|x| x * x).sum();
                let mut levels = vec![0; vector.len()];
                let error = |quality: f32| f64::from((1.0 - quality / norm).max(0.0)).sqrt();
                quick += error(search(bits, &vector, &mut levels).quality());
                best += error(exhaustive(bits, &vector));
            }
            assert!(quick <= best * 1.02, "{bits:?}: error {quick} against {best}");
        }
    }

    #[test]
    fn the_fit_is_that_of_the_levels() {
        let mut random = SplitMix64::new(8);
        for bits in Bits::ALL {
            let vector = gaussian(128, &mut random);
            let mut levels = vec![0; 128];
            let fit = search(bits, &vector, &mut levels);
            let values = levels.iter().map(|c| f32::from(*c) - f32::from(bits.largest()) / 2.0);
            let dot: f32 = values.clone().zip(&vector).map(|(x, o)| x * o).sum();
            let norm: f32 = values.map(|x| x * x).sum();
            assert!((dot - fit.dot).abs() <= 1e-4 * dot, "{bits:?}: {dot} {fit:?}");
            assert!((norm - fit.norm_squared).abs() <= 1e-4 * norm, "{bits:?}: {norm} {fit:?}");
        }
    }
}
