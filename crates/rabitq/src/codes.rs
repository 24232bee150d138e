//! Where the codes and factors of many rows lie.

use distance::prefetch;

use crate::FACTORS;

/// The codes and factors of many rows: in arrays of their own, or side by side in records.
///
/// A walk reads both of every row it comes across, each time somewhere else: in records they are
/// one place, and a cache line less.
#[derive(Clone, Copy, Debug)]
pub struct Codes<'a> {
    codes: &'a [u8],
    code_bytes: usize,
    /// Bytes from one code to the next.
    code_stride: usize,
    factors: &'a [f32],
    /// Floats from one row's factors to the next row's.
    factor_stride: usize,
}

impl<'a> Codes<'a> {
    /// Codes `row × code_bytes`, and factors `row × 3`.
    pub fn arrays(codes: &'a [u8], code_bytes: usize, factors: &'a [f32]) -> Self {
        let (code_stride, factor_stride) = (code_bytes, FACTORS);
        Self { codes, code_bytes, code_stride, factors, factor_stride }
    }

    /// Records of `stride` bytes, in each of which the factors follow a code of `code_bytes`;
    /// `bytes` and `floats` are the same memory.
    ///
    /// # Panics
    /// When codes or records are not whole floats, or the two slices differ in length.
    pub fn records(bytes: &'a [u8], floats: &'a [f32], code_bytes: usize, stride: usize) -> Self {
        let float = size_of::<f32>();
        assert!(
            code_bytes.is_multiple_of(float) && stride.is_multiple_of(float),
            "records of floats"
        );
        assert_eq!(bytes.len(), size_of_val(floats), "the same records");
        let factors = floats.get(code_bytes / float..).unwrap_or_default();
        let (code_stride, factor_stride) = (stride, stride / float);
        Self { codes: bytes, code_bytes, code_stride, factors, factor_stride }
    }

    /// Bytes of a code.
    pub fn code_bytes(&self) -> usize {
        self.code_bytes
    }

    /// The code of a row.
    ///
    /// # Panics
    /// When there is no such row.
    #[inline(always)]
    pub fn code(&self, row: u32) -> &'a [u8] {
        let start = row as usize * self.code_stride;
        &self.codes[start..start + self.code_bytes]
    }

    /// The factors of a row.
    ///
    /// # Panics
    /// When there is no such row.
    #[inline(always)]
    pub fn factors(&self, row: u32) -> &'a [f32; FACTORS] {
        let start = row as usize * self.factor_stride;
        let (factors, _) = self.factors[start..start + FACTORS].as_chunks();
        &factors[0]
    }

    /// Where the code of a row starts, which has at least `length` bytes.
    ///
    /// # Panics
    /// When there is no such row, or its code is shorter.
    #[inline(always)]
    pub(crate) fn start(&self, row: u32, length: usize) -> *const u8 {
        let start = row as usize * self.code_stride;
        self.codes[start..start + length].as_ptr()
    }

    /// How many rows come before `bytes` further on.
    pub(crate) fn rows_in(&self, bytes: usize) -> u32 {
        bytes.div_ceil(self.code_stride.max(1)) as u32
    }

    /// Asks for the code and the factors of a row, which will be read soon. There need not be such a row.
    #[inline(always)]
    pub fn prefetch(&self, row: u32) {
        let factor_bytes = FACTORS * size_of::<f32>();
        let code = self.codes.as_ptr().wrapping_add(row as usize * self.code_stride);
        if self.code_stride > self.code_bytes {
            // The factors come right behind the code.
            prefetch::range(code, self.code_bytes + factor_bytes);
        } else {
            prefetch::range(code, self.code_bytes);
            let factors = self.factors.as_ptr().wrapping_add(row as usize * self.factor_stride);
            prefetch::range(factors.cast(), factor_bytes);
        }
    }
}
