//! Kernels for AVX-512 (BW, VL and VNNI): a block of 64 dimensions is one register.

use std::arch::x86_64::*;

use super::{QueryBlock, half};
use crate::{Bits, Codes};

/// The 64 numbers of a block, in order.
///
/// # Safety
/// `code` must have the block's `8 * BITS` bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn levels<const BITS: u8>(code: *const u8) -> __m512i {
    // SAFETY: reads exactly the 64, 32, 16 or 8 bytes that the caller vouches for.
    unsafe {
        match BITS {
            8 => _mm512_loadu_si512(code.cast()),
            4 => {
                let bytes = _mm512_broadcast_i64x4(_mm256_loadu_si256(code.cast()));
                let shifts = _mm512_set_epi64(4, 4, 4, 4, 0, 0, 0, 0);
                _mm512_and_si512(_mm512_srlv_epi64(bytes, shifts), _mm512_set1_epi8(0x0F))
            }
            2 => {
                let bytes = _mm512_broadcast_i32x4(_mm_loadu_si128(code.cast()));
                let shifts = _mm512_set_epi64(6, 6, 4, 4, 2, 2, 0, 0);
                _mm512_and_si512(_mm512_srlv_epi64(bytes, shifts), _mm512_set1_epi8(0x03))
            }
            _ => {
                let bytes = _mm512_set1_epi64(code.cast::<i64>().read_unaligned());
                let shifts = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
                _mm512_and_si512(_mm512_srlv_epi64(bytes, shifts), _mm512_set1_epi8(0x01))
            }
        }
    }
}

/// Rows computed side by side: their sums do not wait for each other, and one tree adds up the lanes
/// of all.
const ABREAST: usize = 4;

/// The sums of the lanes of four registers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn reduce([a, b, c, d]: [__m512i; ABREAST]) -> __m128i {
    let (a, b, c, d) = (fold(a), fold(b), fold(c), fold(d));
    let pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs))
}

/// The sum of both halves.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn fold(sum: __m512i) -> __m256i {
    _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum))
}

/// Adds to `sums` what pairs of blocks of four bits come to; returns how many blocks these were.
///
/// Of two blocks side by side the low halves of all bytes are half of each block, the high halves the
/// other. Those need no shift: sixteen times too large as they are, their sums are divided at the end.
///
/// # Safety
/// At each of `starts` there must be as many blocks of four bits as `query` has.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn pairs(
    query: &[QueryBlock],
    starts: [*const u8; ABREAST],
    sums: &mut [__m512i; ABREAST],
) -> usize {
    let mut high_sums = [_mm512_setzero_si512(); ABREAST];
    let (pairs, _) = query.as_chunks::<2>();
    for (i, pair) in pairs.iter().enumerate() {
        let [first, second] = pair.each_ref().map(|block| {
            // SAFETY: a query block is 64 bytes, aligned.
            unsafe { _mm512_load_si512(block.0.as_ptr().cast()) }
        });
        let low = _mm512_shuffle_i64x2::<0b01_00_01_00>(first, second);
        let high = _mm512_shuffle_i64x2::<0b11_10_11_10>(first, second);
        for row in 0..ABREAST {
            // SAFETY: two blocks of four bits are 64 bytes, and the caller vouches for all of them.
            let bytes = unsafe { _mm512_loadu_si512(starts[row].add(i * 64).cast()) };
            let lows = _mm512_and_si512(bytes, _mm512_set1_epi8(0x0F));
            let highs = _mm512_and_si512(bytes, _mm512_set1_epi8(0xF0_u8 as i8));
            sums[row] = _mm512_dpbusd_epi32(sums[row], lows, low);
            high_sums[row] = _mm512_dpbusd_epi32(high_sums[row], highs, high);
        }
    }
    for (sum, high) in sums.iter_mut().zip(high_sums) {
        *sum = _mm512_add_epi32(*sum, _mm512_srai_epi32::<4>(high));
    }
    2 * pairs.len()
}

/// Runs `work` over the codes of [`ABREAST`] rows at a time, each of at least `width` bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn for_each_group(
    width: usize,
    codes: &Codes<'_>,
    rows: &[u32],
    out: &mut [i32],
    work: impl Fn([*const u8; ABREAST]) -> __m128i,
) {
    for (at, out) in (0..rows.len()).step_by(ABREAST).zip(out.chunks_mut(ABREAST)) {
        // A group that is not full repeats its last row.
        let row = |i: usize| rows[(at + i).min(rows.len() - 1)];
        let sums = work([0, 1, 2, 3].map(|i| codes.start(row(i), width)));
        if let [a, b, c, d] = out {
            (*a, *b) = (_mm_cvtsi128_si32(sums), _mm_extract_epi32::<1>(sums));
            (*c, *d) = (_mm_extract_epi32::<2>(sums), _mm_extract_epi32::<3>(sums));
        } else {
            let sums = [
                _mm_cvtsi128_si32(sums),
                _mm_extract_epi32::<1>(sums),
                _mm_extract_epi32::<2>(sums),
            ];
            out.copy_from_slice(&sums[..out.len()]);
        }
    }
}

/// See [`super::Dots`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn dots<const BITS: u8>(
    query: &[QueryBlock],
    codes: &Codes<'_>,
    rows: &[u32],
    out: &mut [i32],
) {
    let Some(bits) = Bits::from_u8(BITS) else { return };
    let width = query.len() * bits.block_bytes();
    for_each_group(width, codes, rows, out, |starts| {
        let mut sums = [_mm512_setzero_si512(); ABREAST];
        let paired = match bits {
            // SAFETY: `start` vouches for as many blocks of code as the query has.
            Bits::Four => unsafe { pairs(query, starts, &mut sums) },
            _ => 0,
        };
        for (i, block) in query.iter().enumerate().skip(paired) {
            for (sum, start) in sums.iter_mut().zip(starts) {
                // SAFETY: a query block is 64 bytes, aligned; `start` as above.
                unsafe {
                    let block = _mm512_load_si512(block.0.as_ptr().cast());
                    let levels = levels::<BITS>(start.add(i * bits.block_bytes()));
                    *sum = _mm512_dpbusd_epi32(*sum, levels, block);
                }
            }
        }
        reduce(sums)
    });
}

/// See [`super::Squares`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn squares<const BITS: u8>(
    blocks: usize,
    codes: &Codes<'_>,
    rows: &[u32],
    out: &mut [i32],
) {
    let Some(bits) = Bits::from_u8(BITS) else { return };
    let (half, below) =
        (_mm512_set1_epi8(half(BITS) as i8), _mm512_set1_epi8((half(BITS) - 1) as i8));
    for_each_group(blocks * bits.block_bytes(), codes, rows, out, |starts| {
        let mut sums = [_mm512_setzero_si512(); ABREAST];
        for i in 0..blocks {
            for (sum, start) in sums.iter_mut().zip(starts) {
                // SAFETY: `for_each_group` vouches for so many blocks of code.
                let levels = unsafe { levels::<BITS>(start.add(i * bits.block_bytes())) };
                // The smaller one is the one that does not wrap.
                let k =
                    _mm512_min_epu8(_mm512_sub_epi8(levels, half), _mm512_sub_epi8(below, levels));
                *sum = _mm512_dpbusd_epi32(*sum, _mm512_add_epi8(k, _mm512_set1_epi8(1)), k);
            }
        }
        reduce(sums)
    });
}
