//! Kernels for AVX-512 (BW, VL and VNNI): a block of 64 dimensions is one register.

use std::arch::x86_64::*;

use super::{QueryBlock, for_each_row};
use crate::Bits;

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

/// See [`super::Dots`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn dots<const BITS: u8>(
    query: &[QueryBlock],
    codes: &[u8],
    rows: &[u32],
    out: &mut [i32],
) {
    let Some(bits) = Bits::from_u8(BITS) else { return };
    for_each_row(query, bits, codes, rows, out, |code| {
        let mut sums = [_mm512_setzero_si512(); 2];
        for (i, query) in query.iter().enumerate() {
            // SAFETY: `for_each_row` passes as many blocks of code as the query has; a query
            // block is 64 bytes.
            let (levels, query) = unsafe {
                (
                    levels::<BITS>(code.as_ptr().add(i * bits.block_bytes())),
                    _mm512_load_si512(query.0.as_ptr().cast()),
                )
            };
            sums[i % 2] = _mm512_dpbusd_epi32(sums[i % 2], levels, query);
        }
        _mm512_reduce_add_epi32(_mm512_add_epi32(sums[0], sums[1]))
    });
}
