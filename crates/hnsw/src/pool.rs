//! The best candidates of a walk, and which of them it still has to expand.

/// A row and its score, as [`Scorer`](crate::Scorer) gave it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The score; lower is nearer.
    pub score: f32,
    /// The row.
    pub row: u32,
}

impl Candidate {
    /// Nearest first, ties by row.
    pub(crate) fn order(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then_with(|| self.row.cmp(&other.row))
    }
}

/// Rows are below this: the bit marks candidates not expanded yet.
pub(crate) const PENDING: u32 = 1 << 31;

/// Windows up to this size are counted through: a few cache lines at full speed, where each step of
/// halving waits for the one before.
const COUNTED: usize = 128;

/// A sorted window of the best candidates.
///
/// HNSW's two heaps (SIGMOD paper, algorithm 2) hold the same rows twice. One sorted array with a
/// mark on what is still to be expanded does the same work with one insertion, and is the sorted
/// result when the walk ends. Once a walk has ended no candidate in it is marked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    /// Earlier results, then the window, sorted ascending.
    entries: Vec<Candidate>,
    /// The scores of the window's entries, for finding places among them.
    scores: Vec<f32>,
    /// Where the window starts.
    start: usize,
    /// How many entries it has at most.
    size: usize,
    /// No candidate before this one is pending.
    cursor: usize,
}

impl Pool {
    /// Empties the pool and opens a window for `size` candidates.
    pub(crate) fn reset(&mut self, size: usize) {
        self.entries.clear();
        self.open(size);
    }

    /// Keeps what is there and opens a window for `size` more candidates behind it.
    pub(crate) fn open(&mut self, size: usize) {
        self.start = self.entries.len();
        self.size = size;
        self.cursor = self.start;
        self.entries.reserve(size);
        self.scores.clear();
        self.scores.reserve(size);
    }

    /// All candidates: those of earlier windows, then the current window's.
    pub(crate) fn entries(&self) -> &[Candidate] {
        &self.entries
    }

    /// Whether a candidate of this score would be refused.
    #[inline(always)]
    fn refuses(&self, score: f32) -> bool {
        self.scores.len() == self.size && self.scores.last().is_none_or(|last| *last <= score)
    }

    /// Adds a candidate, pending if it is so marked. Returns the candidate that found no place:
    /// this one or the last.
    #[inline(always)]
    pub(crate) fn insert(&mut self, candidate: Candidate) -> Option<Candidate> {
        if self.refuses(candidate.score) {
            return Some(candidate);
        }
        let mut dropped = None;
        if self.scores.len() == self.size {
            self.scores.pop();
            dropped = self.entries.pop();
        }
        let place = rank(&self.scores, candidate.score);
        self.scores.insert(place, candidate.score);
        let at = self.start + place;
        self.entries.insert(at, candidate);
        self.cursor = self.cursor.min(at);
        dropped
    }

    /// The nearest pending candidate's row, no longer pending from now on.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<u32> {
        while let Some(entry) = self.entries.get_mut(self.cursor) {
            self.cursor += 1;
            if entry.row & PENDING != 0 {
                entry.row &= !PENDING;
                return Some(entry.row);
            }
        }
        None
    }

    /// The nearest pending candidate's row, if it is close behind the last one.
    #[inline(always)]
    pub(crate) fn peek(&self) -> Option<u32> {
        let row = self.entries.get(self.cursor)?.row;
        (row & PENDING != 0).then_some(row & !PENDING)
    }
}

/// How many of the sorted `scores` are not above `score`.
#[inline(always)]
fn rank(scores: &[f32], score: f32) -> usize {
    let (mut before, mut rest) = (0, scores);
    while rest.len() > COUNTED {
        let (left, right) = rest.split_at(rest.len() / 2);
        if right[0] <= score {
            before += left.len();
            rest = right;
        } else {
            rest = left;
        }
    }
    before + rest.iter().map(|other| u32::from(*other <= score)).sum::<u32>() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_keeps_the_best_in_order_and_gives_back_the_rest() {
        let mut pool = Pool::default();
        pool.reset(3);
        let mut dropped = Vec::new();
        for (row, score) in [5.0, 1.0, 4.0, 2.0, 3.0].into_iter().enumerate() {
            dropped.extend(pool.insert(Candidate { score, row: row as u32 | PENDING }));
        }
        let scores =
            |candidates: &[Candidate]| candidates.iter().map(|c| c.score).collect::<Vec<_>>();
        assert_eq!(scores(pool.entries()), [1.0, 2.0, 3.0]);
        assert_eq!(scores(&dropped), [5.0, 4.0]);
        assert_eq!(std::iter::from_fn(|| pool.next()).collect::<Vec<_>>(), [1, 3, 4]);
        pool.open(1);
        assert_eq!(pool.insert(Candidate { score: 0.5, row: 9 }), None);
        assert_eq!(scores(pool.entries()), [1.0, 2.0, 3.0, 0.5]);
    }

    #[test]
    fn ranks_are_those_of_a_search() {
        let scores: Vec<f32> = (0..1000).map(|i| (i / 3) as f32).collect();
        for count in [0, 1, 2, 127, 128, 129, 300, 1000] {
            for score in [-1.0, 0.0, 0.5, 41.0, 42.0, 99.5, 333.0, f32::INFINITY] {
                let scores = &scores[..count];
                let expected = scores.partition_point(|other| *other <= score);
                assert_eq!(rank(scores, score), expected, "{score} among {count}");
            }
        }
    }

    #[test]
    fn a_window_of_nothing_refuses_everything() {
        let mut pool = Pool::default();
        pool.reset(0);
        let candidate = Candidate { score: 1.0, row: 1 };
        assert_eq!(pool.insert(candidate), Some(candidate));
    }
}
