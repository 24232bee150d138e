//! Inner products of packed codes with an 8-bit query, and the lengths of codes: exact integers, so all
//! levels agree.

use distance::Level;

use crate::{Bits, Codes, layout::BLOCK};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;

/// 64 dimensions of a query, one signed byte each, aligned to a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub(crate) struct QueryBlock(pub(crate) [i8; BLOCK]);

/// `(query, codes, rows, out)`: writes to `out[i]` the sum over dimensions of query element times
/// code level of row `rows[i]`.
///
/// At most `16000 * 255 * 128`, which fits.
type Dots = unsafe fn(&[QueryBlock], &Codes<'_>, &[u32], &mut [i32]);

/// `(blocks, codes, rows, out)`: writes to `out[i]` the sum over the dimensions of `blocks` blocks of
/// `k (k + 1)`, where the value of row `rows[i]` is `k + ½` or its opposite: its square less a quarter.
///
/// At most `16000 * 127 * 128`, which fits.
type Squares = unsafe fn(usize, &Codes<'_>, &[u32], &mut [i32]);

/// The kernels for codes of one width at one level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    dots: Dots,
    squares: Squares,
}

/// The kernels of module `$module` for codes of `$bits`.
macro_rules! kernel {
    ($module:ident, $bits:expr) => {
        match $bits {
            Bits::One => Kernel { dots: $module::dots::<1>, squares: $module::squares::<1> },
            Bits::Two => Kernel { dots: $module::dots::<2>, squares: $module::squares::<2> },
            Bits::Four => Kernel { dots: $module::dots::<4>, squares: $module::squares::<4> },
            Bits::Eight => Kernel { dots: $module::dots::<8>, squares: $module::squares::<8> },
        }
    };
}

impl Kernel {
    /// The kernel for codes of `bits` at `level`, or `None` if this machine lacks the level.
    pub(crate) fn of(level: Level, bits: Bits) -> Option<Self> {
        if !level.is_available() {
            return None;
        }
        match level {
            Level::Plain => Some(kernel!(plain, bits)),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => Some(kernel!(avx2, bits)),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => Some(kernel!(avx512, bits)),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => Some(kernel!(neon, bits)),
            #[allow(unreachable_patterns, reason = "levels of other architectures")]
            _ => None,
        }
    }

    /// The fastest kernel of this machine for codes of `bits`.
    pub(crate) fn best(bits: Bits) -> Self {
        Self::of(Level::best(), bits).unwrap_or(kernel!(plain, bits))
    }

    /// Writes the inner products of `query` with `rows` of `codes` to `out`. See [`Dots`].
    ///
    /// # Panics
    /// When a row is not in `codes`.
    #[inline]
    pub(crate) fn dots(
        self,
        query: &[QueryBlock],
        codes: &Codes<'_>,
        rows: &[u32],
        out: &mut [i32],
    ) {
        // SAFETY: `of` hands out only kernels whose instructions this machine has.
        unsafe { (self.dots)(query, codes, rows, out) }
    }

    /// Writes sums of squares of `blocks` blocks of `rows` of `codes` to `out`. See [`Squares`].
    ///
    /// # Panics
    /// When a row is not in `codes`.
    #[inline]
    pub(crate) fn squares(self, blocks: usize, codes: &Codes<'_>, rows: &[u32], out: &mut [i32]) {
        // SAFETY: as above.
        unsafe { (self.squares)(blocks, codes, rows, out) }
    }
}

/// Runs `work` over the code of each row, of `blocks` whole blocks.
#[inline(always)]
fn for_each_row(
    blocks: usize,
    bits: Bits,
    codes: &Codes<'_>,
    rows: &[u32],
    out: &mut [i32],
    work: impl Fn(&[u8]) -> i32,
) {
    for (row, out) in rows.iter().zip(out) {
        *out = work(&codes.code(*row)[..blocks * bits.block_bytes()]);
    }
}

/// The half of the levels' range: the first level whose value is positive.
const fn half(bits: u8) -> u8 {
    1 << (bits - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SplitMix64, layout};

    #[test]
    fn all_levels_compute_the_same_integers() {
        let mut random = SplitMix64::new(3);
        for bits in Bits::ALL {
            for blocks in 1..8 {
                let width = blocks * bits.block_bytes();
                let query: Vec<_> = (0..blocks)
                    .map(|_| QueryBlock(std::array::from_fn(|_| random.next_u64() as i8)))
                    .collect();
                let codes: Vec<u8> = (0..9 * width).map(|_| random.next_u64() as u8).collect();
                let rows = [3, 0, 8, 1, 7, 2, 2, 6, 5];
                assert_levels_agree(bits, &query, &codes, &rows);
            }
        }
    }

    #[test]
    fn all_levels_compute_the_same_squares() {
        let mut random = SplitMix64::new(4);
        for bits in Bits::ALL {
            for blocks in [1, 2, 3, 7, 250] {
                let width = blocks * bits.block_bytes();
                let mut codes: Vec<u8> = (0..3 * width).map(|_| random.next_u64() as u8).collect();
                // The largest values there are: nothing may saturate.
                codes.extend(vec![0xFF; width]);
                codes.extend(vec![0; width]);
                let codes = Codes::arrays(&codes, width, &[]);
                let rows = [4, 1, 0, 3, 2, 2, 1];
                let expected = rows.map(|row| {
                    let values = codes.code(row).chunks(bits.block_bytes());
                    let values = values.flat_map(|code| layout::unpack(bits, code));
                    let doubled = values.map(|l| 2 * i32::from(l) - i32::from(bits.largest()));
                    doubled.map(|value| (value * value - 1) / 4).sum::<i32>()
                });
                for level in Level::available() {
                    let mut out = [0; 7];
                    let kernel = Kernel::of(level, bits).expect("available");
                    kernel.squares(blocks, &codes, &rows, &mut out);
                    assert_eq!(out, expected, "{level:?}, {bits:?}, {blocks} blocks");
                }
            }
        }
    }

    #[test]
    fn the_largest_products_do_not_saturate() {
        for bits in Bits::ALL {
            for extreme in [i8::MIN, i8::MAX] {
                // 16,000 dimensions, the most there can be.
                let query = vec![QueryBlock([extreme; BLOCK]); 250];
                let codes = vec![0xFF; 250 * bits.block_bytes()];
                let dots = assert_levels_agree(bits, &query, &codes, &[0]);
                assert_eq!(dots, [16_000 * i32::from(bits.largest()) * i32::from(extreme)]);
            }
        }
    }

    #[test]
    #[should_panic]
    fn a_row_beyond_the_codes_is_refused() {
        let codes = Codes::arrays(&[0; 64], 32, &[]);
        Kernel::best(Bits::Four).dots(&[QueryBlock([0; BLOCK])], &codes, &[2], &mut [0]);
    }

    fn assert_levels_agree(
        bits: Bits,
        query: &[QueryBlock],
        codes: &[u8],
        rows: &[u32],
    ) -> Vec<i32> {
        let dots = |level| {
            let mut out = vec![0; rows.len()];
            let codes = Codes::arrays(codes, query.len() * bits.block_bytes(), &[]);
            Kernel::of(level, bits).expect("available").dots(query, &codes, rows, &mut out);
            out
        };
        let plain = dots(Level::Plain);
        for level in Level::available() {
            assert_eq!(dots(level), plain, "{level:?}, {bits:?}, {} blocks", query.len());
        }
        plain
    }
}
