//! One-bit codes made of wider ones: for finding the way before looking closely.

use crate::{Bits, FACTORS, layout};

/// Bytes of the sketch of a code of `code_bytes` at `bits`.
pub fn sketch_bytes(bits: Bits, code_bytes: usize) -> usize {
    code_bytes / bits.count()
}

/// Writes the one-bit code, and its factors, of the vector that `code` and `factors` stand for.
///
/// The sketch `s` keeps the signs of the code's values `x`. As RaBitQ's factor makes `⟨x, q⟩` right
/// for the residual, `|x|² / ⟨s, x⟩` makes `⟨s, q⟩` right for `x`, without bias; the other factors
/// stay what they are. What is lost is precision: at 384 dimensions the error is about a twentieth of
/// the residual's length.
///
/// # Panics
/// When a slice is shorter than its code or [`FACTORS`].
pub fn sketch(bits: Bits, code: &[u8], factors: &[f32], to: &mut [u8], to_factors: &mut [f32]) {
    let middle = i32::from(bits.largest());
    let (mut squares, mut magnitudes) = (0i64, 0i64);
    let width = Bits::One.block_bytes();
    for (code, to) in code.chunks_exact(bits.block_bytes()).zip(to.chunks_exact_mut(width)) {
        let levels = layout::unpack(bits, code);
        for level in levels {
            // Twice the value, which makes it whole.
            let value = i64::from(2 * i32::from(level) - middle);
            squares += value * value;
            magnitudes += value.abs();
        }
        layout::pack(Bits::One, &levels.map(|level| level >> (bits.count() - 1)), to);
    }
    // |x|² is a quarter of the squares, ⟨s, x⟩ with s = ±½ a quarter of the magnitudes.
    let stretch = if magnitudes > 0 { squares as f64 / magnitudes as f64 } else { 0.0 };
    to_factors[..FACTORS].copy_from_slice(&factors[..FACTORS]);
    to_factors[1] = (f64::from(factors[1]) * stretch) as f32;
}
