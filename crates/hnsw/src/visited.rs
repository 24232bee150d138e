//! The set of rows a walk has seen.

use std::ops::Range;

/// A bit a row, and the rows in the order they were added. Small enough to stay in the nearest
/// caches (12 KB for 100,000 rows), and emptied by undoing what was set instead of by clearing it all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visited {
    words: Vec<u64>,
    /// The rows of the set, then room for more.
    rows: Vec<u32>,
    /// How many rows are in the set.
    count: usize,
}

impl Visited {
    /// Empties the set and makes room for rows below `rows`.
    pub(crate) fn reset(&mut self, rows: usize) {
        if self.count > self.words.len() / 8 {
            self.words.fill(0);
        } else {
            for row in &self.rows[..self.count] {
                self.words[*row as usize / 64] = 0;
            }
        }
        self.count = 0;
        let words = rows.div_ceil(64);
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
    }

    /// Adds `row`; whether it was missing.
    ///
    /// It is written down in any case, and counted if it was missing: whether it was is as good as
    /// random, and a branch on it would be predicted wrongly every other time.
    #[inline(always)]
    pub(crate) fn insert(&mut self, row: u32) -> bool {
        if self.count == self.rows.len() {
            self.grow();
        }
        let bit = 1 << (row % 64);
        let word = &mut self.words[row as usize / 64];
        let new = *word & bit == 0;
        *word |= bit;
        self.rows[self.count] = row;
        self.count += usize::from(new);
        new
    }

    /// How many rows have been added.
    #[inline(always)]
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The rows by their numbers in the order they were added.
    #[inline(always)]
    pub(crate) fn rows(&self, numbers: Range<usize>) -> &[u32] {
        &self.rows[..self.count][numbers]
    }

    #[cold]
    fn grow(&mut self) {
        self.rows.resize((2 * self.rows.len()).max(1024), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_set_is_empty() {
        let mut visited = Visited::default();
        for round in 0..3 {
            visited.reset(1000);
            for row in (0..1000).step_by(7 + round) {
                assert!(visited.insert(row));
                assert!(!visited.insert(row));
            }
        }
        visited.reset(2000);
        assert!((0..2000).all(|row| visited.insert(row)));
    }

    #[test]
    fn rows_are_named_once_and_in_order() {
        let mut visited = Visited::default();
        visited.reset(5000);
        let rows: Vec<u32> = (0..5000).map(|i| i * 37 % 5000).collect();
        for row in &rows[..3] {
            visited.insert(*row);
        }
        for row in &rows {
            visited.insert(*row);
        }
        assert_eq!((visited.count(), visited.rows(3..5000)), (5000, &rows[3..]));
    }
}
