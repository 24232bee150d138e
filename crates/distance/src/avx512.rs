//! Kernels for AVX-512 (F, BW and VL): sixteen lanes, four independent sums, a masked tail.

use std::arch::x86_64::*;

use half::f16;

use crate::Element;

/// Elements a vector holds.
const LANES: usize = 16;
/// Vectors summed independently, to hide the latency of the multiply-add.
const UNROLL: usize = 4;

/// A row element that AVX-512 can load as sixteen single-precision numbers.
pub(crate) trait Lanes: Element {
    /// Loads `LANES` elements.
    ///
    /// # Safety
    /// `at..at + LANES` must be readable, and the machine must have AVX-512 F, BW and VL.
    unsafe fn load(at: *const Self) -> __m512;

    /// Loads the elements whose bit is set in `mask`, zero elsewhere.
    ///
    /// # Safety
    /// The elements of set bits must be readable, and the machine must have AVX-512 F, BW and VL.
    unsafe fn load_masked(at: *const Self, mask: u16) -> __m512;
}

impl Lanes for f32 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load(at: *const Self) -> __m512 {
        // SAFETY: the caller vouches for sixteen readable elements; no alignment is needed.
        unsafe { _mm512_loadu_ps(at) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load_masked(at: *const Self, mask: u16) -> __m512 {
        // SAFETY: only elements of set bits are read, and the caller vouches for those.
        unsafe { _mm512_maskz_loadu_ps(mask, at) }
    }
}

impl Lanes for f16 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load(at: *const Self) -> __m512 {
        // SAFETY: the caller vouches for sixteen readable elements of two bytes; no alignment
        // is needed.
        _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(at.cast()) })
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn load_masked(at: *const Self, mask: u16) -> __m512 {
        // SAFETY: only elements of set bits are read, and the caller vouches for those.
        _mm512_cvtph_ps(unsafe { _mm256_maskz_loadu_epi16(mask, at.cast()) })
    }
}

/// Folds the common length of `a` and `b` into `N` sums with `step`.
///
/// `step` must leave its sums alone when both of its inputs are zero: the tail is padded so.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn fold<R: Lanes, const N: usize>(
    a: &[f32],
    b: &[R],
    step: impl Fn(&mut [__m512; N], __m512, __m512),
) -> [f32; N] {
    let length = a.len().min(b.len());
    let mut sums = [[_mm512_setzero_ps(); N]; UNROLL];
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
        let mask = u16::MAX >> (LANES - rest);
        // SAFETY: the mask has `rest` bits set and at + rest <= length, which both slices have.
        let (x, y) = unsafe {
            (f32::load_masked(a.as_ptr().add(at), mask), R::load_masked(b.as_ptr().add(at), mask))
        };
        step(sum, x, y);
        at += rest;
    }
    std::array::from_fn(|n| {
        _mm512_reduce_add_ps(_mm512_add_ps(
            _mm512_add_ps(sums[0][n], sums[1][n]),
            _mm512_add_ps(sums[2][n], sums[3][n]),
        ))
    })
}

/// `sum(a * b)`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(crate) fn dot<R: Lanes>(a: &[f32], b: &[R]) -> f32 {
    let [sum] = fold(a, b, |[sum], x, y| *sum = _mm512_fmadd_ps(x, y, *sum));
    sum
}

/// `sum((a - b)^2)`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(crate) fn l2_squared<R: Lanes>(a: &[f32], b: &[R]) -> f32 {
    let [sum] = fold(a, b, |[sum], x, y| {
        let difference = _mm512_sub_ps(x, y);
        *sum = _mm512_fmadd_ps(difference, difference, *sum);
    });
    sum
}

/// `(sum(a * b), sum(b * b))`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(crate) fn dot_and_norm<R: Lanes>(a: &[f32], b: &[R]) -> (f32, f32) {
    let [dot, norm] = fold(a, b, |[dot, norm], x, y| {
        *dot = _mm512_fmadd_ps(x, y, *dot);
        *norm = _mm512_fmadd_ps(y, y, *norm);
    });
    (dot, norm)
}
