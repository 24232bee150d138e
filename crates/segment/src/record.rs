//! What a walk reads of a row, side by side in memory.
//!
//! ```text
//!   code │ factors │ level-0 neighbours, packed │ up to a multiple of 16 bytes
//! ```
//!
//! A walk that comes across a row reads its code and its factors; one that goes on from it reads its
//! list. Each row is somewhere else in memory, so what counts is how many cache lines and pages those
//! are. In the store they are arrays of their own.

use hnsw::{GraphError, Lists};
use rabitq::{Codes, FACTORS};

use crate::attributes::SegmentAttributes;

/// Records begin at multiples of this many bytes: no load of a register crosses more than it has to,
/// and little is wasted.
const ALIGNMENT: usize = 16;

/// Bytes of a row's factors.
const FACTOR_BYTES: usize = FACTORS * size_of::<f32>();

/// Bytes of a record with a code of `code_bytes` and `more` behind the factors.
pub(crate) fn stride(code_bytes: usize, more: usize) -> usize {
    (code_bytes + FACTOR_BYTES + more).next_multiple_of(ALIGNMENT)
}

/// Where everything lies in the records of a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Records {
    rows: usize,
    code_bytes: usize,
    /// Neighbours a list has room for.
    width: usize,
    /// Bytes of a list.
    list_bytes: usize,
    /// Bytes from one record to the next.
    stride: usize,
}

/// A part of a record that is an array in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Code,
    Factors,
    Neighbors,
}

impl Records {
    pub(crate) fn of(attributes: &SegmentAttributes) -> Self {
        let (rows, code_bytes) = (attributes.rows as usize, attributes.code_bytes as usize);
        let width = 2 * attributes.m as usize;
        let list_bytes = Lists::packed_bytes(rows, width);
        Self { rows, code_bytes, width, list_bytes, stride: stride(code_bytes, list_bytes) }
    }

    /// Bytes of all records.
    pub(crate) fn bytes(&self) -> usize {
        self.rows * self.stride
    }

    /// Puts `bytes` of an array, those from `start` on, into their places in `records`.
    ///
    /// # Errors
    /// A neighbour that is no row.
    pub(crate) fn put(
        &self,
        part: Part,
        start: usize,
        bytes: &[u8],
        records: &mut [u8],
    ) -> Result<(), GraphError> {
        match part {
            Part::Code => self.scatter(0, self.code_bytes, start, bytes, records),
            Part::Factors => self.scatter(self.code_bytes, FACTOR_BYTES, start, bytes, records),
            Part::Neighbors => return self.pack(start, bytes, records),
        }
        Ok(())
    }

    /// Copies rows of `length` bytes, which may begin and end amid a row, to `offset` of their records.
    fn scatter(
        &self,
        offset: usize,
        length: usize,
        start: usize,
        mut bytes: &[u8],
        records: &mut [u8],
    ) {
        let (mut row, mut at) = (start / length, start % length);
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at((length - at).min(bytes.len()));
            records[row * self.stride + offset + at..][..now.len()].copy_from_slice(now);
            (row, at, bytes) = (row + 1, 0, later);
        }
    }

    /// Packs row numbers, the first of which is the one at byte `start` of the array.
    fn pack(&self, start: usize, bytes: &[u8], records: &mut [u8]) -> Result<(), GraphError> {
        let (lists, number_bytes) =
            (self.code_bytes + FACTOR_BYTES, self.list_bytes / self.width.max(1));
        let first = start / size_of::<u32>();
        for (index, number) in (first..).zip(bytes.as_chunks().0) {
            let (row, place) = (index / self.width, index % self.width);
            let at = row * self.stride + lists + place * number_bytes;
            let value = u32::from_le_bytes(*number);
            if !Lists::pack(value, self.rows, &mut records[at..at + number_bytes]) {
                return Err(GraphError::Element { array: "neighbors", index, value });
            }
        }
        Ok(())
    }

    /// The codes and factors in records.
    pub(crate) fn codes<'a>(&self, records: &'a [u8], floats: &'a [f32]) -> Codes<'a> {
        Codes::records(records, floats, self.code_bytes, self.stride)
    }

    /// The neighbour lists in records.
    pub(crate) fn lists<'a>(&self, records: &'a [u8]) -> Lists<'a> {
        let lists = records.get(self.code_bytes + FACTOR_BYTES..).unwrap_or_default();
        Lists::packed(lists, self.stride, self.rows, self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_of_arrays_find_their_places(
            rows in 1usize..40,
            code in 1usize..9,
            width in 1usize..7,
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            seed: u32,
        ) {
            let code_bytes = 4 * code;
            let list_bytes = Lists::packed_bytes(rows, width);
            let stride = stride(code_bytes, list_bytes);
            let layout = Records { rows, code_bytes, width, list_bytes, stride };
            let codes: Vec<u8> = (0..rows * code_bytes).map(|i| (i as u32 ^ seed) as u8).collect();
            let factors: Vec<f32> = (0..rows * FACTORS).map(|i| i as f32).collect();
            let numbers: Vec<u32> =
                (0..rows * width).map(|i| (i as u32).wrapping_mul(seed) % rows as u32).collect();
            let bytes = |words: &[u32]| -> Vec<u8> {
                words.iter().flat_map(|word| word.to_le_bytes()).collect()
            };
            let factor_bits: Vec<u32> = factors.iter().map(|factor| factor.to_bits()).collect();
            let mut records = vec![0; layout.bytes()];
            for (part, array) in [
                (Part::Code, codes.clone()),
                (Part::Factors, bytes(&factor_bits)),
                (Part::Neighbors, bytes(&numbers)),
            ] {
                // Cut between words.
                let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(array.len()) & !3).collect();
                at.extend([0, array.len()]);
                at.sort_unstable();
                for piece in at.windows(2) {
                    let piece = piece[0]..piece[1];
                    let put = layout.put(part, piece.start, &array[piece], &mut records);
                    prop_assert_eq!(put, Ok(()));
                }
            }
            let floats: Vec<f32> =
                records.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            let shown = layout.codes(&records, &floats);
            for row in 0..rows {
                prop_assert_eq!(shown.code(row as u32), &codes[row * code_bytes..][..code_bytes]);
                prop_assert_eq!(shown.factors(row as u32), &factors[row * FACTORS..][..FACTORS]);
                let list: Vec<u32> = layout.lists(&records).list(row as u32).collect();
                prop_assert_eq!(&list, &numbers[row * width..][..width]);
            }
        }
    }

    #[test]
    fn a_neighbour_that_is_no_row_is_named() {
        let (rows, width) = (5, 2);
        let list_bytes = Lists::packed_bytes(rows, width);
        let layout =
            Records { rows, code_bytes: 8, width, list_bytes, stride: stride(8, list_bytes) };
        let mut records = vec![0; layout.bytes()];
        let bytes = [3u32.to_le_bytes(), 0x0100_0001u32.to_le_bytes()].concat();
        let error = layout.put(Part::Neighbors, 16, &bytes, &mut records);
        let expected = GraphError::Element { array: "neighbors", index: 5, value: 0x0100_0001 };
        assert_eq!(error, Err(expected));
    }
}
