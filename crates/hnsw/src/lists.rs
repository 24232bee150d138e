//! Neighbour lists wherever they lie.

use distance::prefetch;

use crate::NONE;

/// Bytes of a number in a packed list, when row numbers fit: fewer cache lines, and a third less memory.
const SHORT: usize = 3;

/// Bytes of any other number in a packed list.
const LONG: usize = 4;

/// Equally wide lists of row numbers, nearest first; [`NONE`] ends a list that is not full.
#[derive(Clone, Copy, Debug)]
pub struct Lists<'a> {
    width: usize,
    place: Place<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    /// One list after the other.
    Words(&'a [u32]),
    /// Three bytes a number, the first one lowest.
    Short(Packed<'a>),
    /// Four bytes a number.
    Long(Packed<'a>),
}

/// Lists that begin `stride` bytes after each other.
#[derive(Clone, Copy, Debug)]
struct Packed<'a> {
    rows: usize,
    bytes: &'a [u8],
    stride: usize,
}

impl<'a> Packed<'a> {
    #[inline(always)]
    fn list(&self, row: usize, length: usize) -> &'a [u8] {
        assert!(row < self.rows, "row {row} of a graph of {} rows", self.rows);
        &self.bytes[row * self.stride..][..length]
    }
}

impl<'a> Lists<'a> {
    /// Lists of `width` numbers, `row × width`.
    pub fn words(words: &'a [u32], width: usize) -> Self {
        Self { width, place: Place::Words(words) }
    }

    /// `rows` lists of `width` numbers, each packed as [`pack`](Self::pack) does, that begin at
    /// multiples of `stride` in `bytes`.
    pub fn packed(bytes: &'a [u8], stride: usize, rows: usize, width: usize) -> Self {
        let packed = Packed { rows, bytes, stride };
        let place = match Self::packed_bytes(rows, 1) {
            SHORT => Place::Short(packed),
            _ => Place::Long(packed),
        };
        Self { width, place }
    }

    /// Bytes of a packed list of `width` numbers in a graph of `rows` rows.
    pub fn packed_bytes(rows: usize, width: usize) -> usize {
        // The largest number of three bytes stands for `NONE`.
        let number = if rows < 1 << (8 * SHORT) { SHORT } else { LONG };
        width * number
    }

    /// Writes `number` in its packed form, as many bytes as `to` has: its lowest, so that [`NONE`] is all
    /// ones. `false`, and nothing is written, for a number that is neither a row of the graph nor `NONE`.
    #[must_use]
    pub fn pack(number: u32, rows: usize, to: &mut [u8]) -> bool {
        let valid = number == NONE || (number as usize) < rows;
        if valid {
            to.copy_from_slice(&number.to_le_bytes()[..to.len()]);
        }
        valid
    }

    /// How many lists there are.
    pub fn len(&self) -> usize {
        match self.place {
            Place::Words(words) => words.len().checked_div(self.width).unwrap_or(0),
            Place::Short(packed) | Place::Long(packed) => packed.rows,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers a list has room for.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Calls `visit` for each neighbour of `row`.
    ///
    /// # Panics
    /// When there is no such row.
    #[inline(always)]
    pub(crate) fn for_each(&self, row: u32, mut visit: impl FnMut(u32)) {
        let row = row as usize;
        match self.place {
            Place::Words(words) => {
                for number in &words[row * self.width..][..self.width] {
                    if *number == NONE {
                        return;
                    }
                    visit(*number);
                }
            }
            Place::Short(packed) => {
                for number in packed.list(row, self.width * SHORT).as_chunks::<SHORT>().0 {
                    let number = short(*number);
                    if number == NONE {
                        return;
                    }
                    visit(number);
                }
            }
            Place::Long(packed) => {
                for number in packed.list(row, self.width * LONG).as_chunks::<LONG>().0 {
                    let number = u32::from_le_bytes(*number);
                    if number == NONE {
                        return;
                    }
                    visit(number);
                }
            }
        }
    }

    /// The number at `place` of the list of `row`, [`NONE`] behind its end.
    ///
    /// # Panics
    /// When there is no such row or place.
    #[inline]
    pub fn get(&self, row: u32, place: usize) -> u32 {
        let row = row as usize;
        match self.place {
            Place::Words(words) => words[row * self.width..][..self.width][place],
            Place::Short(packed) => {
                short(packed.list(row, self.width * SHORT).as_chunks::<SHORT>().0[place])
            }
            Place::Long(packed) => {
                u32::from_le_bytes(packed.list(row, self.width * LONG).as_chunks::<LONG>().0[place])
            }
        }
    }

    /// The neighbours of `row`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn list(self, row: u32) -> impl Iterator<Item = u32> + use<'a> {
        (0..self.width).map(move |place| self.get(row, place)).take_while(|number| *number != NONE)
    }

    /// Asks for the list of `row`, which will be read soon.
    #[inline(always)]
    pub(crate) fn prefetch(&self, row: u32) {
        let row = row as usize;
        match self.place {
            Place::Words(words) => prefetch::read(&words[row * self.width..][..self.width]),
            Place::Short(packed) => prefetch::read(packed.list(row, self.width * SHORT)),
            Place::Long(packed) => prefetch::read(packed.list(row, self.width * LONG)),
        }
    }
}

/// A number of three bytes.
#[inline(always)]
fn short([low, middle, high]: [u8; SHORT]) -> u32 {
    let number = u32::from_le_bytes([low, middle, high, 0]);
    if number == NONE >> 8 { NONE } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_lists_say_what_words_say() {
        let words = [1, 2, NONE, 0, NONE, NONE, 2, 0, 1];
        let plain = Lists::words(&words, 3);
        for rows in [3, 1 << 24] {
            let bytes_a_list = Lists::packed_bytes(rows, 3);
            let stride = bytes_a_list + 5;
            let mut bytes = vec![0xAA; 3 * stride];
            for (list, bytes) in words.chunks(3).zip(bytes.chunks_mut(stride)) {
                for (number, to) in list.iter().zip(bytes.chunks_exact_mut(bytes_a_list / 3)) {
                    assert!(Lists::pack(*number, rows, to));
                }
            }
            bytes.truncate(3 * stride - 5);
            let mut packed = Lists::packed(&bytes, stride, rows, 3);
            if let Place::Long(packed) = &mut packed.place {
                packed.rows = 3;
            }
            assert_eq!((packed.len(), packed.width()), (3, 3));
            for row in 0..3 {
                let listed: Vec<u32> = packed.list(row).collect();
                assert_eq!(listed, plain.list(row).collect::<Vec<_>>());
                let mut visited = Vec::new();
                packed.for_each(row, |number| visited.push(number));
                assert_eq!(visited, listed);
            }
        }
    }

    #[test]
    fn a_number_that_is_no_row_is_not_packed() {
        let mut bytes = [7; 3];
        assert!(!Lists::pack(3, 3, &mut bytes));
        assert_eq!(bytes, [7; 3]);
        assert!(!Lists::pack(0x00FF_FFFF, 0x00FF_FFFF, &mut bytes));
        assert!(Lists::pack(NONE, 3, &mut bytes));
        assert_eq!(bytes, [0xFF; 3]);
    }
}
