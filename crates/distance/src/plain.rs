//! Kernels without intrinsics: what every machine can run, and what the others are tested against.

use crate::Element;

/// Independent partial sums: enough for the compiler to use whatever vectors it may assume.
const LANES: usize = 16;

/// Adds `term(a[i], b[i])` over all `i`, in [`LANES`] interleaved partial sums.
#[inline(always)]
fn sum<R: Element>(a: &[f32], b: &[R], term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_blocks, a_tail) = a.as_chunks::<LANES>();
    let (b_blocks, b_tail) = b.as_chunks::<LANES>();
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += term(*x, y.to_f32());
        }
    }
    for ((lane, x), y) in lanes.iter_mut().zip(a_tail).zip(b_tail) {
        *lane += term(*x, y.to_f32());
    }
    lanes.iter().sum()
}

/// `sum(a * b)`.
pub(crate) fn dot<R: Element>(a: &[f32], b: &[R]) -> f32 {
    sum(a, b, |x, y| x * y)
}

/// `sum((a - b)^2)`.
pub(crate) fn l2_squared<R: Element>(a: &[f32], b: &[R]) -> f32 {
    sum(a, b, |x, y| (x - y) * (x - y))
}

/// `(sum(a * b), sum(b * b))`.
pub(crate) fn dot_and_norm<R: Element>(a: &[f32], b: &[R]) -> (f32, f32) {
    (dot(a, b), sum(a, b, |_, y| y * y))
}
