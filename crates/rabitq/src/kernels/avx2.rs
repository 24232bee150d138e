//! Kernels for AVX2: a block of 64 dimensions is two registers.

use std::arch::x86_64::*;

use super::{QueryBlock, for_each_row, half};
use crate::{Bits, Codes};

/// The 64 numbers of a block, in order.
///
/// # Safety
/// `code` must have the block's `8 * BITS` bytes.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn levels<const BITS: u8>(code: *const u8) -> [__m256i; 2] {
    // SAFETY: reads exactly the 64, 32, 16 or 8 bytes that the caller vouches for.
    unsafe {
        match BITS {
            8 => [_mm256_loadu_si256(code.cast()), _mm256_loadu_si256(code.add(32).cast())],
            4 => {
                let bytes = _mm256_loadu_si256(code.cast());
                let mask = _mm256_set1_epi8(0x0F);
                [
                    _mm256_and_si256(bytes, mask),
                    _mm256_and_si256(_mm256_srli_epi64::<4>(bytes), mask),
                ]
            }
            2 => {
                let bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128(code.cast()));
                let mask = _mm256_set1_epi8(0x03);
                [_mm256_set_epi64x(2, 2, 0, 0), _mm256_set_epi64x(6, 6, 4, 4)]
                    .map(|shifts| _mm256_and_si256(_mm256_srlv_epi64(bytes, shifts), mask))
            }
            _ => {
                let bytes = _mm256_set1_epi64x(code.cast::<i64>().read_unaligned());
                let mask = _mm256_set1_epi8(0x01);
                [_mm256_set_epi64x(3, 2, 1, 0), _mm256_set_epi64x(7, 6, 5, 4)]
                    .map(|shifts| _mm256_and_si256(_mm256_srlv_epi64(bytes, shifts), mask))
            }
        }
    }
}

/// The products of 32 levels with 32 query elements, added up into eight sums.
#[inline]
#[target_feature(enable = "avx2")]
fn products<const BITS: u8>(levels: __m256i, query: __m256i) -> __m256i {
    if BITS == 8 {
        // Two products of 8-bit levels can pass 32767, where `maddubs` saturates: widen first.
        let half = |levels: __m128i, query: __m128i| {
            _mm256_madd_epi16(_mm256_cvtepu8_epi16(levels), _mm256_cvtepi8_epi16(query))
        };
        _mm256_add_epi32(
            half(_mm256_castsi256_si128(levels), _mm256_castsi256_si128(query)),
            half(_mm256_extracti128_si256::<1>(levels), _mm256_extracti128_si256::<1>(query)),
        )
    } else {
        // At most 2 * 15 * 128 in sixteen bits.
        _mm256_madd_epi16(_mm256_maddubs_epi16(levels, query), _mm256_set1_epi16(1))
    }
}

/// The sum of the eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn reduce(sum: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b00_00_00_01>(two)))
}

/// See [`super::Dots`].
#[target_feature(enable = "avx2")]
pub(super) fn dots<const BITS: u8>(
    query: &[QueryBlock],
    codes: &Codes<'_>,
    rows: &[u32],
    out: &mut [i32],
) {
    let Some(bits) = Bits::from_u8(BITS) else { return };
    for_each_row(query.len(), bits, codes, rows, out, |code| {
        let mut sums = [_mm256_setzero_si256(); 2];
        for (i, query) in query.iter().enumerate() {
            // SAFETY: `for_each_row` passes as many blocks of code as the query has; a query
            // block is 64 bytes.
            let (levels, query) = unsafe {
                let query = query.0.as_ptr().cast::<__m256i>();
                (
                    levels::<BITS>(code.as_ptr().add(i * bits.block_bytes())),
                    [_mm256_load_si256(query), _mm256_load_si256(query.add(1))],
                )
            };
            for half in 0..2 {
                let products = products::<BITS>(levels[half], query[half]);
                sums[half] = _mm256_add_epi32(sums[half], products);
            }
        }
        reduce(_mm256_add_epi32(sums[0], sums[1]))
    });
}

/// See [`super::Squares`].
#[target_feature(enable = "avx2")]
pub(super) fn squares<const BITS: u8>(
    blocks: usize,
    codes: &Codes<'_>,
    rows: &[u32],
    out: &mut [i32],
) {
    let Some(bits) = Bits::from_u8(BITS) else { return };
    let (half, below) =
        (_mm256_set1_epi8(half(BITS) as i8), _mm256_set1_epi8((half(BITS) - 1) as i8));
    for_each_row(blocks, bits, codes, rows, out, |code| {
        let mut sums = [_mm256_setzero_si256(); 2];
        for i in 0..blocks {
            // SAFETY: `for_each_row` passes so many blocks of code.
            let levels = unsafe { levels::<BITS>(code.as_ptr().add(i * bits.block_bytes())) };
            for (sum, levels) in sums.iter_mut().zip(levels) {
                // The smaller one is the one that does not wrap.
                let k =
                    _mm256_min_epu8(_mm256_sub_epi8(levels, half), _mm256_sub_epi8(below, levels));
                // At most 2 * 127 * 128 in sixteen bits.
                let pairs = _mm256_maddubs_epi16(_mm256_add_epi8(k, _mm256_set1_epi8(1)), k);
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
            }
        }
        reduce(_mm256_add_epi32(sums[0], sums[1]))
    });
}
