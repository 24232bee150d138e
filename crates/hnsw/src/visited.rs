//! The set of rows a walk has seen.

/// A bit a row. Small enough to stay in the nearest caches (12 KB for 100,000 rows), and emptied
/// by undoing what was set instead of by clearing it all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visited {
    words: Vec<u64>,
    /// Words with a bit set, each named once.
    touched: Vec<u32>,
}

impl Visited {
    /// Empties the set and makes room for rows below `rows`.
    pub(crate) fn reset(&mut self, rows: usize) {
        if self.touched.len() > self.words.len() / 8 {
            self.words.fill(0);
        } else {
            for word in &self.touched {
                self.words[*word as usize] = 0;
            }
        }
        self.touched.clear();
        let words = rows.div_ceil(64);
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
    }

    /// Adds `row`; whether it was missing.
    #[inline(always)]
    pub(crate) fn insert(&mut self, row: u32) -> bool {
        let (index, bit) = (row / 64, 1 << (row % 64));
        let word = &mut self.words[index as usize];
        if *word & bit != 0 {
            return false;
        }
        if *word == 0 {
            self.touched.push(index);
        }
        *word |= bit;
        true
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
}
