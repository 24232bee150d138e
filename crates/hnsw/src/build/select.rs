//! Which candidates become neighbours.

use super::links::Link;
use crate::{Candidate, NodeScorer, Scorer};

/// Chosen neighbours a new link is compared with at a time: the first few, being near, refuse most.
const GROUP: usize = 8;

/// Buffers of the selection, reused from row to row.
#[derive(Default)]
pub(super) struct Selection {
    /// The result of [`select`](Self::select) or [`add`](Self::add), nearest first.
    pub(super) links: Vec<Link>,
    /// Candidates, by number, that nothing chosen so far leads to.
    open: Vec<u32>,
    rows: Vec<u32>,
    scores: Vec<f32>,
}

impl Selection {
    /// Chooses at most `limit` of the sorted `candidates` (HNSW paper, algorithm 4): each is
    /// chosen unless it is at least as near to one chosen before, which then leads to it. What
    /// room remains is filled with the nearest of those.
    ///
    /// *At least as near*, not nearer: among many rows of equal distance one is chosen, and the
    /// others leave room for links that lead away.
    ///
    /// Measured is from each chosen one to the candidates still open, not from each candidate to those
    /// chosen before, which is the same up to the error of estimates: few are chosen, and the first of
    /// them, being near, close most of the others.
    pub(super) fn select(
        &mut self,
        scorer: &mut impl NodeScorer,
        candidates: &[Candidate],
        limit: usize,
    ) {
        self.links.clear();
        self.links.extend(candidates.iter().map(|&Candidate { row, score }| Link {
            row,
            score,
            shadowed: true,
        }));
        self.open.clear();
        self.open.extend(0..candidates.len() as u32);
        let mut room = limit;
        while room > 0 && !self.open.is_empty() {
            let nearest = self.open.remove(0) as usize;
            self.links[nearest].shadowed = false;
            room -= 1;
            if room > 0 && !self.open.is_empty() {
                self.close(scorer, nearest);
            }
        }
        self.links.retain(|link| {
            let keep = !link.shadowed || room > 0;
            room -= usize::from(link.shadowed && keep);
            keep
        });
    }

    /// Takes from the open candidates those that the chosen one numbered `chosen` leads to.
    fn close(&mut self, scorer: &mut impl NodeScorer, chosen: usize) {
        let Self { links, open, rows, scores } = self;
        rows.clear();
        rows.extend(open.iter().map(|&number| links[number as usize].row));
        scores.resize(rows.len().max(scores.len()), 0.0);
        scorer.aim(links[chosen].row);
        scorer.scores(rows, &mut scores[..rows.len()]);
        let mut between = scores.iter();
        open.retain(|&number| {
            !between.next().is_some_and(|between| *between <= links[number as usize].score)
        });
    }

    /// Adds `new` to `links`, which are the neighbours of one row; `scorer` is aimed at `new`.
    /// Of more than `width` links the farthest shadowed one goes, or the farthest.
    ///
    /// This keeps the outcome of the selection without repeating it: only the new link is
    /// compared with the others.
    pub(super) fn add(&mut self, scorer: &mut impl Scorer, mut new: Link, width: usize) {
        if self.links.iter().any(|link| link.row == new.row) {
            return;
        }
        let at = self.links.partition_point(|link| link.score <= new.score);
        // Links that are shadowed themselves take no part in the selection.
        let chosen = |link: &&Link| !link.shadowed;
        self.rows.clear();
        self.rows.extend(self.links[..at].iter().filter(chosen).map(|link| link.row));
        self.scores.resize(width.max(self.scores.len()), 0.0);
        new.shadowed = self.rows.chunks(GROUP).any(|group| {
            let scores = &mut self.scores[..group.len()];
            scorer.scores(group, scores);
            scores.iter().any(|between| *between <= new.score)
        });
        if !new.shadowed {
            self.rows.clear();
            self.rows.extend(self.links[at..].iter().filter(chosen).map(|link| link.row));
            let scores = &mut self.scores[..self.rows.len()];
            scorer.scores(&self.rows, scores);
            let farther = self.links[at..].iter_mut().filter(|link| !link.shadowed);
            for (link, between) in farther.zip(scores) {
                link.shadowed = *between <= link.score;
            }
        }
        self.links.insert(at, new);
        if self.links.len() > width {
            let last = self.links.len() - 1;
            let victim = self.links.iter().rposition(|link| link.shadowed).unwrap_or(last);
            self.links.remove(victim);
        }
    }
}
