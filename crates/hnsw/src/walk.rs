//! The walk over one layer that both search and build consist of.

use std::ops::Range;

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

    /// Whether what is scored is too large to lie in the nearest caches.
    fn is_far(&self) -> bool;
}

/// What a walk works in, reused from walk to walk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Walk {
    pub(crate) pool: Pool,
    pub(crate) visited: Visited,
    /// Scores of the rows visited last.
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
        let before = self.visited.count();
        if self.visited.insert(row) {
            self.offer(before..before + 1, scorer, dropped);
        }
    }

    /// Expands pending candidates, nearest first, until none is left in the pool or `halt` says
    /// so (HNSW paper, algorithm 2). What finds no place in the pool goes to `dropped`.
    ///
    /// On a far layer the next candidate is chosen, and the memory of its neighbours asked for, before
    /// those of the last one are scored: while one half waits for memory the other computes. Where a
    /// neighbour of the last one would have been nearer, it is next but one.
    #[inline(always)]
    pub(crate) fn run(
        &mut self,
        layer: &impl Layer,
        scorer: &mut impl Scorer,
        mut dropped: impl FnMut(Candidate),
        halt: impl Fn() -> bool,
    ) {
        let mut asked_for = self.visited.count()..self.visited.count();
        loop {
            if halt() {
                return;
            }
            let before = self.visited.count();
            if let Some(row) = self.pool.next() {
                layer.for_each(row, |neighbor| {
                    self.visited.insert(neighbor);
                });
                for new in self.visited.rows(before..self.visited.count()) {
                    scorer.prefetch(*new);
                }
                if let Some(next) = self.pool.peek() {
                    layer.prefetch(next);
                }
            } else if asked_for.is_empty() {
                return;
            }
            let mut due = before..self.visited.count();
            if layer.is_far() {
                std::mem::swap(&mut due, &mut asked_for);
            }
            self.offer(due, scorer, &mut dropped);
        }
    }

    /// Scores rows, numbered in the order they were visited, and offers them to the pool.
    #[inline(always)]
    fn offer(
        &mut self,
        visits: Range<usize>,
        scorer: &mut impl Scorer,
        dropped: &mut impl FnMut(Candidate),
    ) {
        let rows = self.visited.rows(visits);
        if self.scores.len() < rows.len() {
            self.scores.resize(rows.len(), 0.0);
        }
        let scores = &mut self.scores[..rows.len()];
        scorer.scores(rows, scores);
        for (row, score) in rows.iter().zip(scores) {
            let score = if score.is_nan() { f32::INFINITY } else { *score };
            if let Some(candidate) = self.pool.insert(Candidate { score, row: row | PENDING }) {
                dropped(candidate);
            }
        }
    }
}
