//! Bound-driven rerank: exact order from estimates, fetching as few vectors as that takes.
//!
//! A candidate has an estimated distance with a lower and an upper bound. A row may be handed out
//! once its exact distance is known and no candidate still unknown can be nearer. When that is
//! not so yet, the rows that can still be among the next `want` are settled *together*: all those
//! whose lower bound is not above the `want`th smallest upper bound. One fetch then decides them
//! all.
//!
//! Bounds hold with a probability, not certainly. So what a fetch was planned to settle is handed
//! out after it without asking again: one fetch for `want` rows, always. And a row that turns out
//! nearer than one already handed out is dropped and counted, because the order promised is strict
//! (invariant 5).
//!
//! That is the strict mode. With [`Mode::Relaxed`] rows that are certainly among the next `want` are
//! not fetched: which rows come out is exact, their order is by estimates where those are all that is
//! known. With [`Mode::Off`] nothing is ever fetched. Both promise no order, so they drop nothing.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A row of one of a scan's segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowId {
    /// Number of the segment in the scan.
    pub segment: u32,
    /// Row of the segment.
    pub row: u32,
}

/// A row with an estimated distance.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Which row.
    pub id: RowId,
    /// The estimated distance.
    pub estimate: f64,
    /// The distance is not below this.
    pub lower: f64,
    /// The distance is not above this.
    pub upper: f64,
}

/// What a settled row stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A row of a segment.
    Row(RowId),
    /// A heap tid from the delta.
    Tid(u64),
}

/// A row with its exact distance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settled {
    /// The distance, as the operator computes it.
    pub distance: f64,
    /// Which row.
    pub source: Source,
}

impl Eq for Settled {}

impl PartialOrd for Settled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Settled {
    fn cmp(&self, other: &Self) -> Ordering {
        self.distance.total_cmp(&other.distance).then_with(|| self.source.cmp(&other.source))
    }
}

pub use crate::settings::Rerank as Mode;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Hand this row out.
    Emit(Settled),
    /// Fetch the rows of [`Rerank::wave`] and give their distances to [`Rerank::settle`].
    Fetch,
    /// There are no more rows; look for more candidates.
    Empty,
}

/// The candidates and settled rows of a scan.
#[derive(Default)]
pub struct Rerank {
    mode: Mode,
    /// Not settled, by falling lower bound: the next one is last.
    pending: Vec<Candidate>,
    settled: BinaryHeap<Reverse<Settled>>,
    wave: Vec<RowId>,
    uppers: Vec<f64>,
    lowers: Vec<f64>,
    upcoming: Vec<Settled>,
    /// Rows the last wave settled that are still to be handed out.
    credit: usize,
    last: Option<f64>,
    dropped: u64,
}

impl Rerank {
    /// Forgets everything, keeping the memory, and starts anew in `mode`.
    pub fn start(&mut self, mode: Mode) {
        self.mode = mode;
        self.pending.clear();
        self.settled.clear();
        self.wave.clear();
        self.credit = 0;
        self.last = None;
        self.dropped = 0;
    }

    /// Adds candidates, none of which was added before.
    pub fn add(&mut self, candidates: impl IntoIterator<Item = Candidate>) {
        self.credit = 0;
        if self.mode == Mode::Off {
            candidates.into_iter().for_each(|candidate| self.push(estimated(&candidate)));
            return;
        }
        self.pending.extend(candidates);
        self.pending.sort_unstable_by(|a, b| b.lower.total_cmp(&a.lower));
    }

    /// Adds rows whose distance is known.
    pub fn add_settled(&mut self, rows: Vec<Settled>) {
        if self.settled.is_empty() && self.last.is_none() {
            self.settled = rows.into_iter().map(Reverse).collect();
        } else {
            rows.into_iter().for_each(|row| self.push(row));
        }
    }

    /// Rows that turned out nearer than one handed out before.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The next step, if the caller wants `want` more rows.
    pub fn next(&mut self, want: usize) -> Step {
        let nearest = self.settled.peek().map(|Reverse(row)| *row);
        match (nearest, self.pending.last()) {
            (None, None) => Step::Empty,
            (Some(row), pending)
                if self.credit > 0 || pending.is_none_or(|next| row.distance <= next.lower) =>
            {
                self.settled.pop();
                self.credit = self.credit.saturating_sub(1);
                self.last = Some(row.distance);
                Step::Emit(row)
            }
            _ => {
                self.plan(want.max(1));
                // In relaxed mode there may be nothing to fetch: then something is settled.
                if self.wave.is_empty() { self.next(want) } else { Step::Fetch }
            }
        }
    }

    /// Rows to fetch, after [`Step::Fetch`].
    pub fn wave(&self) -> &[RowId] {
        &self.wave
    }

    /// The settled rows that come next, at most `want`, in any order.
    pub fn upcoming(&mut self, want: usize) -> &[Settled] {
        self.upcoming.clear();
        self.upcoming.extend(self.settled.iter().map(|Reverse(row)| *row));
        if want < self.upcoming.len() {
            self.upcoming.select_nth_unstable(want);
            self.upcoming.truncate(want);
        }
        &self.upcoming
    }

    /// Takes the distances of the wave's rows, in its order; `None` for a row that is not there any
    /// more.
    pub fn settle(&mut self, distances: &[Option<f64>]) {
        let wave = std::mem::take(&mut self.wave);
        for (&id, distance) in wave.iter().zip(distances) {
            match *distance {
                Some(distance) => self.push(Settled { distance, source: Source::Row(id) }),
                // What was planned may not suffice without it.
                None => self.credit = self.credit.saturating_sub(1),
            }
        }
        self.wave = wave;
    }

    fn push(&mut self, row: Settled) {
        let strict = self.mode == Mode::Strict;
        if strict && self.last.is_some_and(|last| row.distance < last) {
            self.dropped += 1;
        } else {
            self.settled.push(Reverse(row));
        }
    }

    /// Moves the rows that can be among the next `want` from pending to the wave.
    fn plan(&mut self, want: usize) {
        self.credit = want;
        self.uppers.clear();
        self.uppers.extend(self.pending.iter().map(|candidate| candidate.upper));
        self.uppers.extend(self.settled.iter().map(|Reverse(row)| row.distance));
        let threshold = if self.uppers.len() <= want {
            f64::INFINITY
        } else {
            *self.uppers.select_nth_unstable_by(want - 1, f64::total_cmp).1
        };
        let keep = self.pending.partition_point(|candidate| candidate.lower > threshold);
        self.wave.clear();
        // A row whose upper bound is below all but `want` lower bounds is among the next `want`.
        let certain = match self.mode {
            Mode::Relaxed => self.lower_bound_of_the_next_after(want),
            Mode::Strict | Mode::Off => f64::NEG_INFINITY,
        };
        let mut nearest = self.pending.split_off(keep);
        nearest.retain(|candidate| {
            let certain = candidate.upper < certain;
            if certain {
                self.settled.push(Reverse(estimated(candidate)));
            }
            !certain
        });
        self.wave.extend(nearest.into_iter().map(|candidate| candidate.id));
    }

    /// The smallest lower bound but `want`.
    fn lower_bound_of_the_next_after(&mut self, want: usize) -> f64 {
        self.lowers.clear();
        self.lowers.extend(self.pending.iter().map(|candidate| candidate.lower));
        self.lowers.extend(self.settled.iter().map(|Reverse(row)| row.distance));
        if self.lowers.len() <= want {
            return f64::INFINITY;
        }
        *self.lowers.select_nth_unstable_by(want, f64::total_cmp).1
    }
}

/// A candidate as if its estimate were its distance.
fn estimated(candidate: &Candidate) -> Settled {
    Settled { distance: candidate.estimate, source: Source::Row(candidate.id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(row: u32, lower: f64, upper: f64) -> Candidate {
        let estimate = (lower + upper) / 2.0;
        Candidate { id: RowId { segment: 0, row }, estimate, lower, upper }
    }

    /// Runs to the end with `truth` as distances; returns the rows and the number of waves.
    fn drain(rerank: &mut Rerank, want: usize, truth: &[f64]) -> (Vec<u32>, usize) {
        let (mut rows, mut waves) = (Vec::new(), 0);
        loop {
            match rerank.next(want) {
                Step::Emit(row) => match row.source {
                    Source::Row(id) => rows.push(id.row),
                    Source::Tid(tid) => rows.push(tid as u32),
                },
                Step::Fetch => {
                    waves += 1;
                    let distances: Vec<Option<f64>> =
                        rerank.wave().iter().map(|id| Some(truth[id.row as usize])).collect();
                    assert!(!distances.is_empty(), "a wave fetches something");
                    rerank.settle(&distances);
                }
                Step::Empty => return (rows, waves),
            }
        }
    }

    #[test]
    fn one_wave_settles_as_many_rows_as_wanted() {
        let truth: Vec<f64> = (0..100).map(|i| f64::from((i * 37) % 100)).collect();
        let mut rerank = Rerank::default();
        rerank.add((0..100).map(|row| {
            let d = truth[row as usize];
            candidate(row, d - 1.5, d + 1.5)
        }));
        let mut waves = 0;
        let mut rows = Vec::new();
        while rows.len() < 10 {
            match rerank.next(10) {
                Step::Emit(Settled { distance, .. }) => rows.push(distance),
                Step::Fetch => {
                    waves += 1;
                    assert!(rerank.wave().len() <= 14, "only rows that can matter");
                    let distances: Vec<Option<f64>> =
                        rerank.wave().iter().map(|id| Some(truth[id.row as usize])).collect();
                    rerank.settle(&distances);
                }
                Step::Empty => unreachable!(),
            }
        }
        assert_eq!(waves, 1);
        assert_eq!(rows, (0..10).map(f64::from).collect::<Vec<_>>());
    }

    #[test]
    fn wrong_bounds_do_not_cause_a_second_wave() {
        // Both rows of the wave are far beyond what their bounds said.
        let truth = [5.0, 6.0, 3.5];
        let mut rerank = Rerank::default();
        rerank.add([candidate(0, 0.9, 1.1), candidate(1, 1.9, 2.1), candidate(2, 3.0, 4.0)]);
        assert_eq!(rerank.next(2), Step::Fetch);
        assert_eq!(rerank.wave().len(), 2);
        rerank.settle(&[Some(truth[0]), Some(truth[1])]);
        let mut emitted = Vec::new();
        for _ in 0..2 {
            if let Step::Emit(row) = rerank.next(2) {
                emitted.push(row.distance);
            }
        }
        assert_eq!(emitted, [5.0, 6.0]);
    }

    #[test]
    fn everything_comes_out_once_and_in_order() {
        let truth: Vec<f64> = (0..500).map(|i| f64::from((i * 7919) % 997) / 10.0).collect();
        let mut rerank = Rerank::default();
        rerank.add((0..250).map(|row| {
            let d = truth[row as usize];
            candidate(row, d * 0.9, d * 1.1)
        }));
        let delta = (250..500)
            .map(|row| Settled { distance: truth[row as usize], source: Source::Tid(row as u64) })
            .collect();
        rerank.add_settled(delta);
        let (rows, waves) = drain(&mut rerank, 10, &truth);
        assert_eq!(rows.len(), 500);
        let distances: Vec<f64> = rows.iter().map(|&row| truth[row as usize]).collect();
        assert!(distances.is_sorted());
        let mut unique = rows;
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), 500);
        assert!(waves > 1);
    }

    #[test]
    fn wrong_bounds_never_break_the_order() {
        // Row 3 claims to be far away and is not.
        let truth = [1.0, 2.0, 3.0, 0.5];
        let mut rerank = Rerank::default();
        rerank.add([
            candidate(0, 0.9, 1.1),
            candidate(1, 1.9, 2.1),
            candidate(2, 2.9, 3.1),
            candidate(3, 2.5, 2.6),
        ]);
        let (rows, _) = drain(&mut rerank, 1, &truth);
        assert_eq!(rows, [0, 1, 2]);
        assert_eq!(rerank.dropped(), 1);
    }

    #[test]
    fn without_candidates_there_is_nothing_to_fetch() {
        let mut rerank = Rerank::default();
        assert_eq!(rerank.next(10), Step::Empty);
        let row = Settled { distance: 1.0, source: Source::Tid(7) };
        rerank.add_settled(vec![row]);
        assert_eq!(rerank.next(10), Step::Emit(row));
        assert_eq!(rerank.next(10), Step::Empty);
    }

    #[test]
    fn nan_distances_come_last_and_end() {
        let truth = [f64::NAN, 1.0];
        let mut rerank = Rerank::default();
        rerank.add([candidate(0, 0.0, f64::INFINITY), candidate(1, 0.0, f64::INFINITY)]);
        let (rows, waves) = drain(&mut rerank, 10, &truth);
        assert_eq!((rows, waves), (vec![1, 0], 1));
    }

    /// Pseudo-random numbers between 0 and 1.
    fn numbers(seed: u64) -> impl FnMut() -> f64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    #[test]
    fn relaxed_rows_are_the_nearest_ones_with_fewer_fetches() {
        let (mut fetched, mut fetched_strictly) = (0, 0);
        for seed in 0..200 {
            let mut random = numbers(seed);
            let truth: Vec<f64> = (0..100).map(|_| random()).collect();
            let candidates: Vec<Candidate> = (0..100)
                .map(|row| {
                    let (below, above) = (random() * 0.03, random() * 0.03);
                    candidate(row, truth[row as usize] - below, truth[row as usize] + above)
                })
                .collect();
            for mode in [Mode::Strict, Mode::Relaxed] {
                let mut rerank = Rerank::default();
                rerank.start(mode);
                rerank.add(candidates.clone());
                let mut rows = Vec::new();
                let mut waves = 0;
                while rows.len() < 10 {
                    match rerank.next(10 - rows.len()) {
                        Step::Emit(Settled { source: Source::Row(id), .. }) => rows.push(id.row),
                        Step::Fetch => {
                            waves += 1;
                            let wave = rerank.wave();
                            match mode {
                                Mode::Strict => fetched_strictly += wave.len(),
                                _ => fetched += wave.len(),
                            }
                            let distances: Vec<Option<f64>> =
                                wave.iter().map(|id| Some(truth[id.row as usize])).collect();
                            rerank.settle(&distances);
                        }
                        step => panic!("{step:?}"),
                    }
                }
                assert!(waves <= 1, "{mode:?}: {waves} waves");
                let mut nearest: Vec<u32> = (0..100).collect();
                nearest.sort_by(|&a, &b| truth[a as usize].total_cmp(&truth[b as usize]));
                nearest.truncate(10);
                if mode == Mode::Relaxed {
                    nearest.sort_unstable();
                    rows.sort_unstable();
                }
                assert_eq!(rows, nearest, "{mode:?}, seed {seed}");
            }
        }
        assert!(fetched * 3 < fetched_strictly * 2, "{fetched} against {fetched_strictly}");
    }

    #[test]
    fn everything_comes_out_once_in_every_mode() {
        for mode in [Mode::Strict, Mode::Relaxed, Mode::Off] {
            let mut random = numbers(7);
            let truth: Vec<f64> = (0..300).map(|_| random()).collect();
            let mut rerank = Rerank::default();
            rerank.start(mode);
            let mut rows = Vec::new();
            // In two parts, the second of which has rows nearer than those already handed out.
            for part in [0..150, 150..300] {
                rerank.add(part.map(|row| {
                    candidate(row, truth[row as usize] - 0.02, truth[row as usize] + 0.02)
                }));
                let (more, waves) = drain(&mut rerank, 10, &truth);
                assert_eq!(waves == 0, mode == Mode::Off);
                rows.extend(more);
            }
            let dropped = rerank.dropped() as usize;
            assert_eq!(rows.len() + dropped, 300, "{mode:?}");
            assert!(mode == Mode::Strict || dropped == 0);
            rows.sort_unstable();
            rows.dedup();
            assert_eq!(rows.len() + dropped, 300, "{mode:?}");
        }
    }

    #[test]
    fn rows_that_are_gone_do_not_break_the_order() {
        let truth: Vec<f64> = (0..100).map(f64::from).collect();
        let mut rerank = Rerank::default();
        rerank.add((0..100).map(|row| {
            let d = truth[row as usize];
            candidate(row, d - 3.0, d + 3.0)
        }));
        let mut rows = Vec::new();
        loop {
            match rerank.next(10) {
                Step::Emit(Settled { distance, .. }) => rows.push(distance),
                Step::Fetch => {
                    let there =
                        |id: &RowId| id.row.is_multiple_of(2).then(|| truth[id.row as usize]);
                    let distances: Vec<Option<f64>> = rerank.wave().iter().map(there).collect();
                    rerank.settle(&distances);
                }
                Step::Empty => break,
            }
        }
        assert_eq!(rows, (0..50).map(|row| f64::from(2 * row)).collect::<Vec<_>>());
        assert_eq!(rerank.dropped(), 0);
    }
}
