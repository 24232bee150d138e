//! What a built graph promises beyond what a walk over it needs.

use crate::{GraphView, search::entry_row};

/// Rows a loop goes through before it looks whether to stop.
const STRIDE: usize = 1 << 16;

/// A neighbour list that no build makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crooked {
    /// The list's level.
    pub level: u32,
    /// Whose list it is: a row on level 0, an upper node above.
    pub node: u32,
    /// The neighbour that is the node itself, or that stands there twice.
    pub neighbor: u32,
}

/// Calls `found` for every list of `graph` that names its own node or a neighbour twice: neither is
/// ever built. The graph is one that [`validate`](fn@crate::validate) accepts. Ends early when
/// `stop` says so.
pub fn crooked(graph: &GraphView<'_>, stop: &dyn Fn() -> bool, mut found: impl FnMut(Crooked)) {
    let mut sorted = Vec::new();
    let mut look = |level: u32, node: u32, list: &mut dyn Iterator<Item = u32>| {
        sorted.clear();
        sorted.extend(list);
        sorted.sort_unstable();
        let twice = sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        let own = sorted.binary_search(&node).is_ok().then_some(node);
        if let Some(neighbor) = own.or(twice) {
            found(Crooked { level, node, neighbor });
        }
    };
    for row in 0..graph.rows() as u32 {
        if (row as usize).is_multiple_of(STRIDE) && stop() {
            return;
        }
        look(0, row, &mut graph.neighbors.list(row));
    }
    for (node, bounds) in (0..).zip(graph.upper_offsets.windows(2)) {
        for (level, number) in (1..).zip(bounds[0]..bounds[1]) {
            let list = &graph.upper_neighbors[number as usize * graph.m..][..graph.m];
            look(level, node, &mut list.iter().copied().filter(|node| *node != crate::NONE));
        }
    }
}

/// Which rows a path leads to on level 0, from the entry point: in a built graph all.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    rows: usize,
    words: Vec<u64>,
}

impl Reached {
    /// Finds them, in three bits a row. The graph is one that [`validate`](fn@crate::validate)
    /// accepts. `None` when `stop` has said so.
    pub fn of(graph: &GraphView<'_>, stop: &dyn Fn() -> bool) -> Option<Self> {
        let rows = graph.rows();
        let mut reached = Self { rows, words: vec![0; rows.div_ceil(64)] };
        if rows == 0 {
            return Some(reached);
        }
        // The rows to go on from, as bits too: a stack could grow as long as the graph.
        let mut now = vec![0u64; reached.words.len()];
        let mut next = now.clone();
        let entry = entry_row(graph);
        reached.mark(entry);
        now[entry as usize / 64] |= 1 << (entry % 64);
        loop {
            let mut any = false;
            let mut looked = 0;
            for (at, word) in now.iter_mut().enumerate() {
                let mut word = std::mem::take(word);
                looked += word.count_ones() as usize;
                if looked >= STRIDE {
                    looked = 0;
                    if stop() {
                        return None;
                    }
                }
                while word != 0 {
                    let row = (at * 64) as u32 + word.trailing_zeros();
                    word &= word - 1;
                    for neighbor in graph.neighbors.list(row) {
                        if reached.mark(neighbor) {
                            next[neighbor as usize / 64] |= 1 << (neighbor % 64);
                            any = true;
                        }
                    }
                }
            }
            if !any {
                return Some(reached);
            }
            if stop() {
                return None;
            }
            std::mem::swap(&mut now, &mut next);
        }
    }

    /// Whether `row` can be reached.
    pub fn contains(&self, row: u32) -> bool {
        self.words[row as usize / 64] >> (row % 64) & 1 == 1
    }

    /// The rows that cannot, ascending.
    pub fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.rows as u32).filter(|row| !self.contains(*row))
    }

    /// Marks a row; whether it was not marked before.
    fn mark(&mut self, row: u32) -> bool {
        let (word, bit) = (&mut self.words[row as usize / 64], 1 << (row % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}
