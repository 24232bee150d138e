//! Kernels for NEON: four lanes, four independent sums, a padded tail.

use std::arch::aarch64::*;

use half::{f16, slice::HalfFloatSliceExt};

use crate::Element;

/// Elements a vector holds.
const LANES: usize = 4;
/// Vectors summed independently, to hide the latency of the multiply-add.
const UNROLL: usize = 4;
/// Elements a round takes.
const BLOCK: usize = LANES * UNROLL;

/// A row element that can be read a block at a time.
pub(crate) trait Block: Element {
    /// The block in single precision.
    fn widen(block: &[Self; BLOCK]) -> [f32; BLOCK];
}

impl Block for f32 {
    #[inline(always)]
    fn widen(block: &[Self; BLOCK]) -> [f32; BLOCK] {
        *block
    }
}

impl Block for f16 {
    // `half` converts slices with the FCVTL instruction; the intrinsic for it is not stable.
    #[inline(always)]
    fn widen(block: &[Self; BLOCK]) -> [f32; BLOCK] {
        let mut wide = [0.0; BLOCK];
        block.convert_to_f32_slice(&mut wide);
        wide
    }
}

/// Folds the common length of `a` and `b` into `N` sums with `step`.
///
/// `step` must leave its sums alone when both of its inputs are zero: the tail is padded so.
#[inline]
#[target_feature(enable = "neon")]
fn fold<R: Block, const N: usize>(
    a: &[f32],
    b: &[R],
    step: impl Fn(&mut [float32x4_t; N], float32x4_t, float32x4_t),
) -> [f32; N] {
    let mut sums = [[vdupq_n_f32(0.0); N]; UNROLL];
    let mut round = |x: &[f32; BLOCK], y: &[R; BLOCK]| {
        let y = R::widen(y);
        for (lane, sum) in sums.iter_mut().enumerate() {
            let from = lane * LANES;
            // SAFETY: from + LANES <= BLOCK, the length of both arrays.
            let (x, y) =
                unsafe { (vld1q_f32(x.as_ptr().add(from)), vld1q_f32(y.as_ptr().add(from))) };
            step(sum, x, y);
        }
    };
    let (a_blocks, a_tail) = a.as_chunks::<BLOCK>();
    let (b_blocks, b_tail) = b.as_chunks::<BLOCK>();
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        round(x, y);
    }
    if !a_tail.is_empty() {
        let (mut x, mut y) = ([0.0; BLOCK], [R::default(); BLOCK]);
        x[..a_tail.len()].copy_from_slice(a_tail);
        y[..b_tail.len()].copy_from_slice(b_tail);
        round(&x, &y);
    }
    std::array::from_fn(|n| {
        vaddvq_f32(vaddq_f32(vaddq_f32(sums[0][n], sums[1][n]), vaddq_f32(sums[2][n], sums[3][n])))
    })
}

/// `sum(a * b)`.
#[target_feature(enable = "neon")]
pub(crate) fn dot<R: Block>(a: &[f32], b: &[R]) -> f32 {
    let [sum] = fold(a, b, |[sum], x, y| *sum = vfmaq_f32(*sum, x, y));
    sum
}

/// `sum((a - b)^2)`.
#[target_feature(enable = "neon")]
pub(crate) fn l2_squared<R: Block>(a: &[f32], b: &[R]) -> f32 {
    let [sum] = fold(a, b, |[sum], x, y| {
        let difference = vsubq_f32(x, y);
        *sum = vfmaq_f32(*sum, difference, difference);
    });
    sum
}

/// `(sum(a * b), sum(b * b))`.
#[target_feature(enable = "neon")]
pub(crate) fn dot_and_norm<R: Block>(a: &[f32], b: &[R]) -> (f32, f32) {
    let [dot, norm] = fold(a, b, |[dot, norm], x, y| {
        *dot = vfmaq_f32(*dot, x, y);
        *norm = vfmaq_f32(*norm, y, y);
    });
    (dot, norm)
}
