//! Kernels for AVX2 with FMA and F16C: eight lanes, four independent sums, a padded tail.

use std::arch::x86_64::*;

use half::f16;

use crate::Element;

/// Elements a vector holds.
const LANES: usize = 8;
/// Vectors summed independently, to hide the latency of the multiply-add.
const UNROLL: usize = 4;

/// A row element that AVX2 can load as eight single-precision numbers.
pub(crate) trait Lanes: Element {
    /// Loads `LANES` elements.
    ///
    /// # Safety
    /// `at..at + LANES` must be readable, and the machine must have AVX2, FMA and F16C.
    unsafe fn load(at: *const Self) -> __m256;
}

impl Lanes for f32 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(at: *const Self) -> __m256 {
        // SAFETY: the caller vouches for eight readable elements; no alignment is needed.
        unsafe { _mm256_loadu_ps(at) }
    }
}

impl Lanes for f16 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn load(at: *const Self) -> __m256 {
        // SAFETY: the caller vouches for eight readable elements of two bytes; no alignment is
        // needed.
        _mm256_cvtph_ps(unsafe { _mm_loadu_si128(at.cast()) })
    }
}

/// The sum of the eight lanes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn reduce(sum: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// Folds the common length of `a` and `b` into `N` sums with `step`.
///
/// `step` must leave its sums alone when both of its inputs are zero: the tail is padded so.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn fold<R: Lanes, const N: usize>(
    a: &[f32],
    b: &[R],
    step: impl Fn(&mut [__m256; N], __m256, __m256),
) -> [f32; N] {
    let length = a.len().min(b.len());
    let mut sums = [[_mm256_setzero_ps(); N]; UNROLL];
    let mut at = 0;
    while at + UNROLL * LANES <= length {
        for (lane, sum) in sums.iter_mut().enumerate() {
            let from = at + lane * LANES;
            // SAFETY: from + LANES <= length, which both slices have.
            let (x, y) =
                unsafe { (f32::load(a.as_ptr().add(from)), R::load(b.as_ptr().add(from))) };
            step(sum, x, y);
        }
        at += UNROLL * LANES;
    }
    for sum in &mut sums {
        if at >= length {
            break;
        }
        let rest = (length - at).min(LANES);
        let (mut x, mut y) = ([0.0; LANES], [R::default(); LANES]);
        x[..rest].copy_from_slice(&a[at..at + rest]);
        y[..rest].copy_from_slice(&b[at..at + rest]);
        // SAFETY: both arrays hold LANES elements.
        let (x, y) = unsafe { (f32::load(x.as_ptr()), R::load(y.as_ptr())) };
        step(sum, x, y);
        at += rest;
    }
    std::array::from_fn(|n| {
        reduce(_mm256_add_ps(
            _mm256_add_ps(sums[0][n], sums[1][n]),
            _mm256_add_ps(sums[2][n], sums[3][n]),
        ))
    })
}

/// `sum(a * b)`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot<R: Lanes>(a: &[f32], b: &[R]) -> f32 {
    let [sum] = fold(a, b, |[sum], x, y| *sum = _mm256_fmadd_ps(x, y, *sum));
    sum
}

/// `sum((a - b)^2)`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn l2_squared<R: Lanes>(a: &[f32], b: &[R]) -> f32 {
    let [sum] = fold(a, b, |[sum], x, y| {
        let difference = _mm256_sub_ps(x, y);
        *sum = _mm256_fmadd_ps(difference, difference, *sum);
    });
    sum
}

/// `(sum(a * b), sum(b * b))`.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn dot_and_norm<R: Lanes>(a: &[f32], b: &[R]) -> (f32, f32) {
    let [dot, norm] = fold(a, b, |[dot, norm], x, y| {
        *dot = _mm256_fmadd_ps(x, y, *dot);
        *norm = _mm256_fmadd_ps(y, y, *norm);
    });
    (dot, norm)
}
