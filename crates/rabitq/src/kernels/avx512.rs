//! Kernels for AVX-512 (BW, VL and VNNI): a block of 64 dimensions is one register.

use std::arch::x86_64::*;

use super::{AHEAD, QueryBlock};
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
    for (at, out) in (0..rows.len()).step_by(ABREAST).zip(out.chunks_mut(ABREAST)) {
        for later in rows.iter().skip(at + AHEAD).take(ABREAST) {
            codes.prefetch(*later);
        }
        // A group that is not full repeats its last row.
        let row = |i: usize| rows[(at + i).min(rows.len() - 1)];
        let (a, b) = (codes.start(row(0), width), codes.start(row(1), width));
        let (c, d) = (codes.start(row(2), width), codes.start(row(3), width));
        let mut sums = [_mm512_setzero_si512(); ABREAST];
        for (i, block) in query.iter().enumerate() {
            // SAFETY: a query block is 64 bytes, aligned; `start` vouches for as many blocks of code as
            // the query has.
            unsafe {
                let block = _mm512_load_si512(block.0.as_ptr().cast());
                let at = i * bits.block_bytes();
                sums[0] = _mm512_dpbusd_epi32(sums[0], levels::<BITS>(a.add(at)), block);
                sums[1] = _mm512_dpbusd_epi32(sums[1], levels::<BITS>(b.add(at)), block);
                sums[2] = _mm512_dpbusd_epi32(sums[2], levels::<BITS>(c.add(at)), block);
                sums[3] = _mm512_dpbusd_epi32(sums[3], levels::<BITS>(d.add(at)), block);
            }
        }
        let sums = reduce(sums);
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
