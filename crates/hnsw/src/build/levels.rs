//! Which rows have upper levels.

use super::BuildParams;

/// The highest level a row can be given: enough for `m = 2` and two billion rows.
const HIGHEST: u32 = 30;

/// The level of each row, by lot: geometric with ratio `1 / m` (HNSW paper, section 4.1). It
/// depends on the seed and the row number alone, not on threads.
pub(super) fn drawn(params: &BuildParams) -> impl Fn(u32) -> u32 {
    let (seed, factor) = (params.seed, 1.0 / (params.m as f64).ln());
    move |row| {
        // 53 random bits make a float in (0, 1].
        let uniform = ((mix(seed, row) >> 11) + 1) as f64 / (1u64 << 53) as f64;
        ((-uniform.ln() * factor) as u32).min(HIGHEST)
    }
}

/// The upper nodes of a graph, known before anything is inserted.
pub(super) struct Levels {
    /// Row number of each upper node, ascending.
    pub(super) nodes: Vec<u32>,
    /// Where an upper node's lists start, `nodes + 1`; empty without nodes.
    pub(super) offsets: Vec<u32>,
    /// The upper node where searches start, the first of the highest level.
    pub(super) entry: u32,
}

impl Levels {
    /// The levels `level` gives to each of `rows` rows; it is asked in row order.
    pub(super) fn new(rows: usize, mut level: impl FnMut(u32) -> u32) -> Self {
        let (mut nodes, mut offsets) = (Vec::new(), Vec::new());
        let (mut entry, mut highest, mut lists) = (0, 0, 0);
        for row in 0..rows as u32 {
            let level = level(row);
            if level == 0 {
                continue;
            }
            if level > highest {
                (entry, highest) = (nodes.len() as u32, level);
            }
            nodes.push(row);
            offsets.push(lists);
            lists += level;
        }
        if !nodes.is_empty() {
            offsets.push(lists);
        }
        Self { nodes, offsets, entry }
    }

    /// Level of upper node `node`, at least 1.
    pub(super) fn level(&self, node: usize) -> u32 {
        self.offsets[node + 1] - self.offsets[node]
    }

    /// The row searches start from: the entry's, or the first without upper nodes.
    pub(super) fn entry_row(&self) -> u32 {
        self.nodes.get(self.entry as usize).copied().unwrap_or(0)
    }

    /// Upper lists in all.
    pub(super) fn lists(&self) -> usize {
        self.offsets.last().map_or(0, |lists| *lists as usize)
    }
}

/// Scrambles seed and row: two rounds of multiply and shift, as in the finalisers of hash
/// functions.
fn mix(seed: u64, row: u32) -> u64 {
    let mut z = seed ^ (u64::from(row) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    z = (z ^ (z >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    z ^ (z >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(rows: usize) -> Levels {
        Levels::new(rows, drawn(&BuildParams { m: 16, ef_construction: 64, seed: 1 }))
    }

    #[test]
    fn levels_fall_by_m() {
        let levels = levels(100_000);
        let at_least =
            |level| (0..levels.nodes.len()).filter(|n| levels.level(*n) >= level).count();
        assert!((5_900..6_600).contains(&at_least(1)), "{}", at_least(1));
        assert!((330..450).contains(&at_least(2)), "{}", at_least(2));
        let top = levels.level(levels.entry as usize);
        assert!((0..levels.nodes.len()).all(|node| levels.level(node) <= top));
    }

    #[test]
    fn few_rows_need_no_upper_level() {
        let levels = levels(0);
        assert!(levels.nodes.is_empty() && levels.offsets.is_empty());
    }
}
