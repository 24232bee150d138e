//! Where the vectors come from, and their bytes in the payload type.

use std::io;

use bytemuck::cast_slice;
use distance::Payload;
use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::error::{Result, SegmentError};

/// The vectors of a segment, in their final order.
pub trait RowSource: Sync {
    /// Fills `out` (rows × dimensions) with the vectors from row `first_row` on.
    ///
    /// Several threads may read at once.
    ///
    /// # Errors
    /// Any, if they cannot be read.
    fn read_rows(&self, first_row: usize, out: &mut [f32]) -> io::Result<()>;
}

/// Vectors in memory: rows × dimensions.
#[derive(Clone, Copy, Debug)]
pub struct SliceRows<'a> {
    rows: &'a [f32],
    dimensions: usize,
}

impl<'a> SliceRows<'a> {
    /// `rows` holds vectors of `dimensions` elements each.
    pub fn new(rows: &'a [f32], dimensions: usize) -> Self {
        Self { rows, dimensions }
    }
}

impl RowSource for SliceRows<'_> {
    fn read_rows(&self, first_row: usize, out: &mut [f32]) -> io::Result<()> {
        let start = first_row.saturating_mul(self.dimensions);
        let rows = self.rows.get(start..).and_then(|rest| rest.get(..out.len()));
        out.copy_from_slice(rows.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Appends a vector to `out` as a segment stores it.
///
/// # Errors
/// [`SegmentError::OutOfRange`] for a value that float16 would turn into an infinity.
pub fn encode(payload: Payload, vector: &[f32], out: &mut Vec<u8>) -> Result<()> {
    append_rows(payload, vector, vector.len().max(1), 0, out)
}

/// Appends `rows` (rows × dimensions, the first being row `first_row`) to `out` as little-endian
/// elements of `payload`.
///
/// # Errors
/// [`SegmentError::OutOfRange`] for a value that float16 would turn into an infinity.
pub(crate) fn append_rows(
    payload: Payload,
    rows: &[f32],
    dimensions: usize,
    first_row: usize,
    out: &mut Vec<u8>,
) -> Result<()> {
    match payload {
        Payload::Float32 => out.extend_from_slice(cast_slice(rows)),
        Payload::Float16 => {
            let limit = f32::from(f16::MAX);
            // A NaN is in no range.
            let bad = |value: &f32| !(-limit..=limit).contains(value);
            if let Some(index) = rows.iter().position(bad) {
                return Err(SegmentError::OutOfRange {
                    row: first_row + index / dimensions,
                    dimension: index % dimensions,
                    value: rows[index],
                });
            }
            let mut halves = vec![f16::ZERO; rows.len()];
            halves.convert_from_f32_slice(rows);
            out.extend_from_slice(cast_slice(&halves));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn float16_refuses_what_it_cannot_hold() {
        let mut out = Vec::new();
        let rows = [1.0, -65504.0, 65504.0, 0.5];
        append_rows(Payload::Float16, &rows, 2, 0, &mut out).expect("in range");
        let halves: &[f16] = bytemuck::pod_collect_to_vec::<u8, f16>(&out).leak();
        assert_eq!(halves.iter().map(|h| f32::from(*h)).collect::<Vec<_>>(), rows);
        for bad in [65504.1, -70000.0, f32::INFINITY, f32::NAN] {
            let rows = [1.0, 1.0, 1.0, bad];
            let error = append_rows(Payload::Float16, &rows, 2, 10, &mut out);
            assert!(
                matches!(error, Err(SegmentError::OutOfRange { row: 11, dimension: 1, .. })),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_slice_knows_its_end() {
        let rows = SliceRows::new(&[1.0, 2.0, 3.0, 4.0], 2);
        let mut out = [0.0; 2];
        rows.read_rows(1, &mut out).expect("the last row");
        assert_eq!(out, [3.0, 4.0]);
        assert!(rows.read_rows(2, &mut out).is_err());
        assert!(rows.read_rows(usize::MAX, &mut out).is_err());
    }
}
