//! Kernels for NEON: a block of 64 dimensions is four registers.

use std::arch::aarch64::*;

use super::{QueryBlock, for_each_row, half};
use crate::{Bits, Codes};

/// The 64 numbers of a block, in order.
///
/// # Safety
/// `code` must have the block's `8 * BITS` bytes.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn levels<const BITS: u8>(code: *const u8) -> [uint8x16_t; 4] {
    // SAFETY: reads exactly the 64, 32, 16 or 8 bytes that the caller vouches for.
    unsafe {
        match BITS {
            8 => [
                vld1q_u8(code),
                vld1q_u8(code.add(16)),
                vld1q_u8(code.add(32)),
                vld1q_u8(code.add(48)),
            ],
            4 => {
                let (low, high) = (vld1q_u8(code), vld1q_u8(code.add(16)));
                let mask = vdupq_n_u8(0x0F);
                [
                    vandq_u8(low, mask),
                    vandq_u8(high, mask),
                    vshrq_n_u8::<4>(low),
                    vshrq_n_u8::<4>(high),
                ]
            }
            2 => {
                let bytes = vld1q_u8(code);
                let mask = vdupq_n_u8(0x03);
                [
                    vandq_u8(bytes, mask),
                    vandq_u8(vshrq_n_u8::<2>(bytes), mask),
                    vandq_u8(vshrq_n_u8::<4>(bytes), mask),
                    vshrq_n_u8::<6>(bytes),
                ]
            }
            _ => {
                let bytes = vld1_u8(code);
                let mask = vdupq_n_u8(0x01);
                [
                    vcombine_u8(bytes, vshr_n_u8::<1>(bytes)),
                    vcombine_u8(vshr_n_u8::<2>(bytes), vshr_n_u8::<3>(bytes)),
                    vcombine_u8(vshr_n_u8::<4>(bytes), vshr_n_u8::<5>(bytes)),
                    vcombine_u8(vshr_n_u8::<6>(bytes), vshr_n_u8::<7>(bytes)),
                ]
                .map(|fields| vandq_u8(fields, mask))
            }
        }
    }
}

/// Adds the products of 16 levels with 16 query elements to four sums.
#[inline]
#[target_feature(enable = "neon")]
fn accumulate<const BITS: u8>(sum: int32x4_t, levels: uint8x16_t, query: int8x16_t) -> int32x4_t {
    if BITS == 8 {
        // Levels above 127 do not fit a signed byte: widen both sides first.
        let (low, high) = (vmovl_u8(vget_low_u8(levels)), vmovl_high_u8(levels));
        let (low, high) = (vreinterpretq_s16_u16(low), vreinterpretq_s16_u16(high));
        let (query_low, query_high) = (vmovl_s8(vget_low_s8(query)), vmovl_high_s8(query));
        let sum = vmlal_s16(sum, vget_low_s16(low), vget_low_s16(query_low));
        let sum = vmlal_high_s16(sum, low, query_low);
        let sum = vmlal_s16(sum, vget_low_s16(high), vget_low_s16(query_high));
        vmlal_high_s16(sum, high, query_high)
    } else {
        let levels = vreinterpretq_s8_u8(levels);
        let low = vmull_s8(vget_low_s8(levels), vget_low_s8(query));
        // At most 2 * 15 * 128 in sixteen bits.
        vpadalq_s16(sum, vaddq_s16(low, vmull_high_s8(levels, query)))
    }
}

/// See [`super::Dots`].
#[target_feature(enable = "neon")]
pub(super) fn dots<const BITS: u8>(
    query: &[QueryBlock],
    codes: &Codes<'_>,
    rows: &[u32],
    out: &mut [i32],
) {
    let Some(bits) = Bits::from_u8(BITS) else { return };
    for_each_row(query.len(), bits, codes, rows, out, |code| {
        let mut sums = [vdupq_n_s32(0); 4];
        for (i, query) in query.iter().enumerate() {
            // SAFETY: `for_each_row` passes as many blocks of code as the query has.
            let levels = unsafe { levels::<BITS>(code.as_ptr().add(i * bits.block_bytes())) };
            for part in 0..4 {
                // SAFETY: a query block is 64 bytes.
                let query = unsafe { vld1q_s8(query.0.as_ptr().add(16 * part)) };
                sums[part] = accumulate::<BITS>(sums[part], levels[part], query);
            }
        }
        vaddvq_s32(vaddq_s32(vaddq_s32(sums[0], sums[1]), vaddq_s32(sums[2], sums[3])))
    });
}

/// See [`super::Squares`].
#[target_feature(enable = "neon")]
pub(super) fn squares<const BITS: u8>(
    blocks: usize,
    codes: &Codes<'_>,
    rows: &[u32],
    out: &mut [i32],
) {
    let Some(bits) = Bits::from_u8(BITS) else { return };
    let (half, below) = (vdupq_n_u8(half(BITS)), vdupq_n_u8(half(BITS) - 1));
    for_each_row(blocks, bits, codes, rows, out, |code| {
        let mut sums = [vdupq_n_u32(0); 4];
        for i in 0..blocks {
            // SAFETY: `for_each_row` passes so many blocks of code.
            let levels = unsafe { levels::<BITS>(code.as_ptr().add(i * bits.block_bytes())) };
            for (sum, levels) in sums.iter_mut().zip(levels) {
                // The smaller one is the one that does not wrap.
                let k = vminq_u8(vsubq_u8(levels, half), vsubq_u8(below, levels));
                let more = vaddq_u8(k, vdupq_n_u8(1));
                // At most 127 * 128 in sixteen bits.
                *sum = vpadalq_u16(*sum, vmull_u8(vget_low_u8(k), vget_low_u8(more)));
                *sum = vpadalq_u16(*sum, vmull_high_u8(k, more));
            }
        }
        vaddvq_u32(vaddq_u32(vaddq_u32(sums[0], sums[1]), vaddq_u32(sums[2], sums[3]))) as i32
    });
}
