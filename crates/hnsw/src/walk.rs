//! The walk over one layer that both search and build consist of.

use crate::{
    Candidate, Scorer,
    pool::{PENDING, Pool},
    visited::Visited,
};

/// One layer of a graph, by rows.
pub(crate) trait Layer {
    /// Calls `visit` for each neighbour of `row`.
    fn for_each(&self, row: u32, visit: impl FnMut(u32));

    /// Asks for the neighbour list of `row`.
    fn prefetch(&self, row: u32);
}

/// What a walk works in, reused from walk to walk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Walk {
    pub(crate) pool: Pool,
    pub(crate) visited: Visited,
    /// Neighbours to be scored together, and their scores.
    rows: Vec<u32>,
    scores: Vec<f32>,
}

impl Walk {
    /// Scores `row`, unless it has been visited, and offers it to the pool.
    #[inline(always)]
    pub(crate) fn seed(
        &mut self,
        scorer: &mut impl Scorer,
        row: u32,
        dropped: &mut impl FnMut(Candidate),
    ) {
        if self.visited.insert(row) {
            self.rows.clear();
            self.rows.push(row);
            self.offer(scorer, dropped);
        }
    }

    /// Expands pending candidates, nearest first, until none is left in the pool or `halt` says
    /// so (HNSW paper, algorithm 2). What finds no place in the pool goes to `dropped`.
    #[inline(always)]
    pub(crate) fn run(
        &mut self,
        layer: &impl Layer,
        scorer: &mut impl Scorer,
        mut dropped: impl FnMut(Candidate),
        halt: impl Fn() -> bool,
    ) {
        while let Some(row) = self.pool.next() {
            if halt() {
                return;
            }
            self.rows.clear();
            layer.for_each(row, |neighbor| {
                if self.visited.insert(neighbor) {
                    scorer.prefetch(neighbor);
                    self.rows.push(neighbor);
                }
            });
            // The list after this one is known already unless a nearer row turns up now.
            if let Some(next) = self.pool.peek() {
                layer.prefetch(next);
            }
            self.offer(scorer, &mut dropped);
        }
    }

    #[inline(always)]
    fn offer(&mut self, scorer: &mut impl Scorer, dropped: &mut impl FnMut(Candidate)) {
        self.scores.resize(self.rows.len(), 0.0);
        scorer.scores(&self.rows, &mut self.scores);
        for (row, score) in self.rows.iter().zip(&self.scores) {
            let score = if score.is_nan() { f32::INFINITY } else { *score };
            if let Some(candidate) = self.pool.insert(Candidate { score, row: row | PENDING }) {
                dropped(candidate);
            }
        }
    }
}
