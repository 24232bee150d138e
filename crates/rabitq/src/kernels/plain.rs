//! Kernels without intrinsics: what every machine can run, and what the others are tested against.

use super::{QueryBlock, for_each_row};
use crate::{Bits, Codes, layout};

/// See [`super::Dots`].
pub(super) fn dots<const BITS: u8>(
    query: &[QueryBlock],
    codes: &Codes<'_>,
    rows: &[u32],
    out: &mut [i32],
) {
    let Some(bits) = Bits::from_u8(BITS) else { return };
    for_each_row(query, bits, codes, rows, out, |code| {
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
