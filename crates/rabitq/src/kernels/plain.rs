//! Kernels without intrinsics: what every machine can run, and what the others are tested against.

use super::{QueryBlock, for_each_row, half};
use crate::{Bits, Codes, layout};

/// See [`super::Dots`].
pub(super) fn dots<const BITS: u8>(
    query: &[QueryBlock],
    codes: &Codes<'_>,
    rows: &[u32],
    out: &mut [i32],
) {
    let Some(bits) = Bits::from_u8(BITS) else { return };
    for_each_row(query.len(), bits, codes, rows, out, |code| {
        query
            .iter()
            .zip(code.chunks_exact(bits.block_bytes()))
            .map(|(query, code)| {
                let levels = layout::unpack(bits, code);
                query.0.iter().zip(levels).map(|(q, c)| i32::from(*q) * i32::from(c)).sum::<i32>()
            })
            .sum()
    });
}

/// See [`super::Squares`].
pub(super) fn squares<const BITS: u8>(
    blocks: usize,
    codes: &Codes<'_>,
    rows: &[u32],
    out: &mut [i32],
) {
    let Some(bits) = Bits::from_u8(BITS) else { return };
    for_each_row(blocks, bits, codes, rows, out, |code| {
        let square = |level: u8| {
            // The smaller of level - half and half - 1 - level is the one that does not wrap.
            let k = level.wrapping_sub(half(BITS)).min((half(BITS) - 1).wrapping_sub(level));
            i32::from(k) * (i32::from(k) + 1)
        };
        code.chunks_exact(bits.block_bytes())
            .map(|code| layout::unpack(bits, code).map(square).iter().sum::<i32>())
            .sum()
    });
}
