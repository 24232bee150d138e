//! How a code lies in memory.

pub use crate::rotation::BLOCK;

/// Bits a code spends on a dimension. More bits: larger codes, narrower bounds.
///
/// The numbers are part of the stored formats: never renumber.
///
/// # Stored format
///
/// A code has one unsigned number of `b` bits (1, 2, 4 or 8) a dimension. Dimensions come in
/// blocks of 64, a block takes `w = 8 b` bytes, blocks follow each other. Byte `j` of a block
/// holds, from its low bits to its high bits, dimensions `j`, `w + j`, `2w + j`, …:
///
/// ```text
///   b = 4, w = 32:   byte 0 = d0 | d32 << 4    byte 1 = d1 | d33 << 4   …   byte 31 = d31 | d63 << 4
/// ```
///
/// so a register that repeats the `w` bytes, shifted by 0, b, 2b, … and masked, has the 64
/// dimensions in order, whatever `b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Bits {
    /// The sign only.
    One = 1,
    /// Four levels.
    Two = 2,
    /// Sixteen levels.
    Four = 4,
    /// 256 levels.
    Eight = 8,
}

impl Bits {
    /// All widths, narrowest first.
    pub const ALL: [Self; 4] = [Self::One, Self::Two, Self::Four, Self::Eight];

    /// The width of `value` bits, or `None` if codes of that width do not exist.
    pub fn from_u8(value: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|bits| *bits as u8 == value)
    }

    /// The number of bits.
    pub fn count(self) -> usize {
        self as usize
    }

    /// The largest number a dimension can have in a code: `2^b - 1`.
    pub fn largest(self) -> u8 {
        u8::MAX >> (8 - self as u8)
    }

    /// Bytes of a block of 64 dimensions.
    pub fn block_bytes(self) -> usize {
        BLOCK / 8 * self.count()
    }
}

/// Packs `levels`, one number a dimension in whole blocks, into `code`.
pub(crate) fn pack(bits: Bits, levels: &[u8], code: &mut [u8]) {
    let width = bits.block_bytes();
    let (blocks, _) = levels.as_chunks::<BLOCK>();
    for (levels, code) in blocks.iter().zip(code.chunks_exact_mut(width)) {
        code.copy_from_slice(&levels[..width]);
        for field in 1..8 / bits.count() {
            for (byte, level) in code.iter_mut().zip(&levels[field * width..]) {
                *byte |= level << (field * bits.count());
            }
        }
    }
}

/// The 64 numbers of a block, the inverse of [`pack`].
#[inline(always)]
pub(crate) fn unpack(bits: Bits, code: &[u8]) -> [u8; BLOCK] {
    let mut levels = [0; BLOCK];
    for (field, levels) in levels.chunks_exact_mut(bits.block_bytes()).enumerate() {
        for (level, byte) in levels.iter_mut().zip(code) {
            *level = (byte >> (field * bits.count())) & bits.largest();
        }
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacking_gives_back_what_was_packed() {
        for bits in Bits::ALL {
            let levels: Vec<u8> =
                (0..2 * BLOCK).map(|i| (i * 151 % 256) as u8 & bits.largest()).collect();
            let mut code = vec![0xAA; 2 * bits.block_bytes()];
            pack(bits, &levels, &mut code);
            for (block, code) in code.chunks_exact(bits.block_bytes()).enumerate() {
                assert_eq!(unpack(bits, code), levels[block * BLOCK..][..BLOCK], "{bits:?}");
            }
        }
    }

    #[test]
    fn the_layout_never_changes() {
        let levels: Vec<u8> = (0..BLOCK as u8).map(|i| i % 16).collect();
        let mut code = vec![0; Bits::Four.block_bytes()];
        pack(Bits::Four, &levels, &mut code);
        assert_eq!(code[..3], [0x00, 0x11, 0x22]);
        let levels: Vec<u8> = (0..BLOCK as u8).map(|i| u8::from(i % 3 == 0)).collect();
        let mut code = vec![0; Bits::One.block_bytes()];
        pack(Bits::One, &levels, &mut code);
        assert_eq!(code[..2], [0b0100_1001, 0b1001_0010]);
    }
}
