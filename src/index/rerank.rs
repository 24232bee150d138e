//! Bound-driven rerank: exact order from estimates, fetching as few vectors as that takes.
//!
//! A candidate has an estimated distance with a lower and an upper bound. A row may be handed out
//! once its exact distance is known and no row still unknown can be nearer: neither a candidate nor
//! one that is *beyond* them, not looked at yet. When that is not so yet, the rows that can still be
//! among the next `want` are settled *together*: all those whose lower bound is not above the
//! `want`th smallest upper bound. One fetch then decides them all.
//!
//! The lower bounds of a walk for one wave hold with a probability only. So what a fetch was planned
//! to settle is handed out after it without asking again: one fetch for `want` rows, always. Sure
//! lower bounds are looked at before each row.
//!
//! A row can turn out nearer than one already handed out, because a walk had missed it. It is handed
//! out all the same, late, and counted: the one exception to the order (invariant 5).
//!
//! The order is that of the operator's values, to the last bit: a merge join or a GROUP BY above the
//! scan fails where two values that differ by rounding alone are out of order. What is computed from a
//! stored vector is an interval that holds the operator's value. Where the interval of the next row meets
//! another row's, or a bound, the row is *refined*: its value is computed by the operator itself.
//!
//! That is the strict mode. With [`Mode::Relaxed`] rows that are certainly among the next `want` are
//! not fetched: which rows come out is exact, their order is by estimates where those are all that is
//! known. With [`Mode::Off`] nothing is ever fetched. Both promise no order.

use std::cmp::Ordering;
use std::collections::VecDeque;

use distance::Interval;

/// Most rows that are settled together, whatever memory there is.
pub const MAX_WAVE: usize = 1 << 14;

/// After all distances, those too that are no numbers: these come last, as in PostgreSQL.
const END: f64 = f64::NAN;

/// The nearer of two distances.
fn nearer(a: f64, b: f64) -> f64 {
    if is_near(a, b) { a } else { b }
}

/// Whether a distance is not farther than another.
fn is_near(distance: f64, due: f64) -> bool {
    distance.total_cmp(&due).is_le()
}

/// Rows wanted from which on a wave is simply the next candidates: it is large in any case, and
/// their estimates and upper bounds are not looked at.
pub const BULK: usize = 1024;

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
    /// A heap tid: of the delta, or refined.
    Tid(u64),
}

/// A row that has been looked up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settled {
    /// Where the operator's value lies.
    pub distance: Interval,
    /// Which row.
    pub source: Source,
}

impl Settled {
    /// A row whose operator's value is known.
    pub fn exact(distance: f64, source: Source) -> Self {
        Self { distance: Interval::exact(distance), source }
    }

    /// The row of a segment, if it is one.
    pub fn id(&self) -> Option<RowId> {
        match self.source {
            Source::Row(id) => Some(id),
            Source::Tid(_) => None,
        }
    }
}

impl Eq for Settled {}

impl PartialOrd for Settled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Settled {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (&self.distance, &other.distance);
        let order = a.lower.total_cmp(&b.lower).then_with(|| a.upper.total_cmp(&b.upper));
        order.then_with(|| self.source.cmp(&other.source))
    }
}

pub use crate::settings::Rerank as Mode;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Hand out the rows that [`Rerank::pop`] returns.
    Ready,
    /// Fetch the rows of [`Rerank::wave`] and give their distances to [`Rerank::settle`].
    Fetch,
    /// Find the operator's values of the rows of [`Rerank::rough`], which are settled no more, and add
    /// them by [`Rerank::add_refined`].
    Refine,
    /// Rows that are not candidates yet may be nearer: add more of them by [`Rerank::add`].
    More,
    /// Rows were given up by [`Rerank::shed`], and their turn has come: begin again with all rows
    /// that have not been handed out.
    Again,
    /// There are no more rows.
    Empty,
}

/// The candidates and settled rows of a scan.
pub struct Rerank {
    mode: Mode,
    /// Whether a segment's row can be several at different distances.
    rounded: bool,
    /// Whether the rows of one fetch are handed out without looking at lower bounds again.
    one_wave: bool,
    largest_wave: usize,
    /// Not settled, by rising lower bound, unless for one wave.
    pending: VecDeque<Candidate>,
    /// Settled, in no order.
    settled: Vec<Settled>,
    /// The next rows to hand out, in order.
    ready: VecDeque<Settled>,
    /// The distance of a row that is not a candidate yet is not below this.
    beyond: f64,
    /// That of a row that was given up is not below this; `None` when there are none.
    shed: Option<f64>,
    wave: Vec<RowId>,
    rough: Vec<Source>,
    uppers: Vec<f64>,
    lowers: Vec<f64>,
    /// Rows the last wave settled that are still to be handed out.
    credit: usize,
    /// No row that has been handed out is farther.
    last: f64,
}

impl Default for Rerank {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            rounded: false,
            one_wave: false,
            largest_wave: MAX_WAVE,
            pending: VecDeque::new(),
            settled: Vec::new(),
            ready: VecDeque::new(),
            beyond: f64::INFINITY,
            shed: None,
            wave: Vec::new(),
            rough: Vec::new(),
            uppers: Vec::new(),
            lowers: Vec::new(),
            credit: 0,
            last: f64::NEG_INFINITY,
        }
    }
}

impl Rerank {
    /// Forgets everything, keeping the memory, and starts anew in `mode`. `rounded` says whether the
    /// store's vectors are rounded, so that a row can stand for several, `one_wave` whether what one fetch
    /// settles is handed out without looking at bounds again.
    pub fn start(&mut self, mode: Mode, rounded: bool, one_wave: bool) {
        self.restart(MAX_WAVE);
        (self.mode, self.rounded, self.one_wave) = (mode, rounded, one_wave);
        self.settled.clear();
        self.ready.clear();
        self.last = f64::NEG_INFINITY;
    }

    /// Forgets the candidates, but not the settled rows: all rows are looked at again, with sure lower
    /// bounds, and at most `largest_wave` are settled together.
    pub fn restart(&mut self, largest_wave: usize) {
        self.largest_wave = largest_wave;
        self.pending.clear();
        self.wave.clear();
        self.settled.extend(self.ready.drain(..));
        self.one_wave = false;
        self.credit = 0;
        (self.beyond, self.shed) = (f64::NEG_INFINITY, None);
    }

    /// Adds candidates, none of which was added before. The distances of rows that are still to be added
    /// are not below `beyond`, which is infinite when there are none.
    pub fn add(&mut self, candidates: impl IntoIterator<Item = Candidate>, beyond: f64) {
        self.credit = 0;
        self.beyond = beyond;
        if self.mode == Mode::Off {
            self.settled.extend(candidates.into_iter().map(|row| estimated(&row)));
            return;
        }
        self.pending.extend(candidates);
        // One wave takes what is near, in whatever order.
        if !self.one_wave {
            sort(&mut self.pending);
        }
    }

    /// Adds rows that have been looked up.
    pub fn add_settled(&mut self, rows: impl IntoIterator<Item = Settled>) {
        let mode = self.mode;
        let looked_up = |row: Settled| Settled { distance: looked_up(mode, row.distance), ..row };
        self.settled.extend(rows.into_iter().map(looked_up));
    }

    /// Takes the rows of [`rough`](Self::rough) with their values, without those that are not there any
    /// more.
    pub fn add_refined(&mut self, rows: impl IntoIterator<Item = Settled>) {
        let before = self.settled.len();
        self.settled.extend(rows);
        let gone = self.rough.len().saturating_sub(self.settled.len() - before);
        self.credit = self.credit.saturating_sub(gone);
    }

    /// The rows of segments that are settled and not ready to be handed out.
    pub fn waiting(&self) -> impl Iterator<Item = RowId> + '_ {
        self.settled.iter().filter_map(Settled::id)
    }

    /// Gives up the farthest of the settled rows when there are more than `most`, until half as many
    /// are left. Those that are given up must be candidates again after [`Step::Again`].
    pub fn shed(&mut self, most: usize) -> Vec<RowId> {
        if self.settled.len() <= most {
            return Vec::new();
        }
        self.settled.select_nth_unstable(most / 2);
        let mut given_up = Vec::new();
        for row in self.settled.split_off(most / 2) {
            match row.source {
                Source::Row(id) => {
                    self.shed = Some(nearer(self.shed.unwrap_or(END), row.distance.lower));
                    given_up.push(id);
                }
                // Nobody else knows of these.
                Source::Tid(_) => self.settled.push(row),
            }
        }
        given_up
    }

    /// Forgets the settled rows, and returns them.
    pub fn take_settled(&mut self) -> Vec<Settled> {
        self.settled.extend(self.ready.drain(..));
        std::mem::take(&mut self.settled)
    }

    /// How many of the settled rows may be as near as the `want`th of them.
    pub fn settled_within(&mut self, want: usize) -> usize {
        self.uppers.clear();
        self.uppers.extend(self.settled.iter().map(|row| row.distance.upper));
        if want == 0 || self.uppers.len() < want {
            return self.uppers.len();
        }
        let farthest = *self.uppers.select_nth_unstable_by(want - 1, f64::total_cmp).1;
        self.settled.iter().filter(|row| row.distance.lower <= farthest).count()
    }

    /// Forgets the candidates, and returns which they were.
    pub fn forget_candidates(&mut self) -> impl Iterator<Item = RowId> + '_ {
        self.pending.drain(..).map(|candidate| candidate.id)
    }

    /// No row that is still unknown, or was given up, is nearer than this.
    fn horizon(&self) -> f64 {
        let pending = self.pending.front().map_or(END, |next| next.lower);
        let beyond = if self.beyond == f64::INFINITY { END } else { self.beyond };
        nearer(nearer(pending, beyond), self.shed.unwrap_or(END))
    }

    /// The next step, if the caller wants `want` more rows.
    pub fn next(&mut self, want: usize) -> Step {
        if !self.ready.is_empty() {
            return Step::Ready;
        }
        let horizon = self.horizon();
        // What the last wave was planned for is handed out without looking at bounds again; what it was
        // not planned for waits for the next one, because the bounds are narrow.
        let due = match self.one_wave {
            true if self.credit > 0 => END,
            true if !self.pending.is_empty() => f64::NEG_INFINITY,
            _ => horizon,
        };
        if let Some(step) = self.make_ready(want.max(1), due) {
            return step;
        }
        if self.shed.is_some_and(|shed| is_near(shed, horizon)) {
            return Step::Again;
        }
        match (self.pending.is_empty(), self.beyond == f64::INFINITY) {
            (true, true) => Step::Empty,
            (true, false) => Step::More,
            (false, _) => self.plan(want.clamp(1, self.largest_wave)),
        }
    }

    /// Rows to fetch after [`Step::Fetch`].
    pub fn wave(&self) -> &[RowId] {
        &self.wave
    }

    /// Rows to refine after [`Step::Refine`].
    pub fn rough(&self) -> &[Source] {
        &self.rough
    }

    /// Whether more than `most` rows are settled, some of whose values are not known. If so these are now
    /// to be refined: what is given up must be known, or rows at equal distances are given up for ever.
    pub fn refine_before_shedding(&mut self, most: usize) -> bool {
        self.rough.clear();
        if self.settled.len() > most {
            let rough = self.settled.extract_if(.., |row| !row.distance.is_exact());
            self.rough.extend(rough.map(|row| row.source));
        }
        !self.rough.is_empty()
    }

    /// The next row that is ready to be handed out, and whether it is late: one farther away has been
    /// handed out before.
    pub fn pop(&mut self) -> Option<(Settled, bool)> {
        let row = self.ready.pop_front()?;
        Some((row, self.hand_out(&row)))
    }

    /// Notes that a row is handed out; whether it is late.
    pub fn hand_out(&mut self, row: &Settled) -> bool {
        let late = self.mode == Mode::Strict && row.distance.lower < self.last;
        self.last = self.last.max(row.distance.upper);
        late
    }

    /// Puts the next rows in order, of those that are not farther than `due`: `want` of them, if there are
    /// as many. Or says that some of these must be refined first. `None` when there are none.
    fn make_ready(&mut self, want: usize, due: f64) -> Option<Step> {
        let is_due = |row: &mut Settled| is_near(row.distance.lower, due);
        // Nothing is ready: its memory is used.
        let mut rows = Vec::from(std::mem::take(&mut self.ready));
        rows.extend(self.settled.extract_if(.., is_due));
        rows.sort_unstable();
        let end = if self.credit > 0 { self.credit.min(rows.len()) } else { rows.len() };
        // Where intervals meet two rows may stand the other way round, and so may a row and one that is
        // not known yet.
        let is_placed = |number: usize| {
            let Interval { lower, upper } = rows[number].distance;
            let next = rows.get(number + 1).map_or(due, |next| nearer(next.distance.lower, due));
            let several = self.rounded && rows[number].id().is_some();
            let apart = self.last <= lower && is_near(upper, next) && !several;
            apart || rows[number].distance.is_exact() || self.mode != Mode::Strict
        };
        let placed = (0..end).take_while(|&number| is_placed(number)).count();
        let wanted = want.min(end);
        if placed < wanted {
            let rough: Vec<usize> = (placed..wanted).filter(|&number| !is_placed(number)).collect();
            self.rough.clear();
            self.rough.extend(rough.iter().rev().map(|&number| rows.swap_remove(number).source));
            self.settled.append(&mut rows);
            return Some(Step::Refine);
        }
        self.settled.extend(rows.drain(placed..));
        self.credit = self.credit.saturating_sub(placed);
        self.ready = rows.into();
        (placed > 0).then_some(Step::Ready)
    }

    /// Takes the distances of the wave's rows, in its order; `None` for a row that is not there any
    /// more.
    pub fn settle(&mut self, distances: &[Option<Interval>]) {
        for (&id, distance) in self.wave.iter().zip(distances) {
            match *distance {
                Some(distance) => {
                    let distance = looked_up(self.mode, distance);
                    self.settled.push(Settled { distance, source: Source::Row(id) });
                }
                // What was planned may not suffice without it.
                None => self.credit = self.credit.saturating_sub(1),
            }
        }
    }

    /// Moves the rows that can be among the next `want` from pending to the wave.
    fn plan(&mut self, want: usize) -> Step {
        self.wave.clear();
        if want >= BULK && self.mode == Mode::Strict && !self.one_wave {
            let count = want.min(self.pending.len());
            self.wave.extend(self.pending.drain(..count).map(|candidate| candidate.id));
            // Rows side by side lie in the same chunks.
            self.wave.sort_unstable();
            return Step::Fetch;
        }
        self.uppers.clear();
        self.uppers.extend(self.pending.iter().map(|candidate| candidate.upper));
        self.uppers.extend(self.settled.iter().map(|row| row.distance.upper));
        let threshold = if self.uppers.len() <= want {
            f64::INFINITY
        } else {
            *self.uppers.select_nth_unstable_by(want - 1, f64::total_cmp).1
        };
        if threshold > self.beyond && self.pending.len() < self.largest_wave {
            return Step::More;
        }
        // A row whose upper bound is below all but `want` lower bounds is among the next `want`.
        let certain = match self.mode {
            Mode::Relaxed => self.lower_bound_of_the_next_after(want),
            Mode::Strict | Mode::Off => f64::NEG_INFINITY,
        };
        let (settled, wave) = (&mut self.settled, &mut self.wave);
        let mut take = |candidate: &Candidate| match candidate.upper < certain {
            true => settled.push(estimated(candidate)),
            false => wave.push(candidate.id),
        };
        let near = |candidate: &Candidate| candidate.lower <= threshold;
        if self.one_wave && self.pending.len() <= self.largest_wave {
            self.pending.retain(|candidate| {
                if near(candidate) {
                    take(candidate);
                }
                !near(candidate)
            });
        } else {
            sort(&mut self.pending);
            // One wave may need none of them; otherwise all that is nearer is ready.
            let least = usize::from(!self.one_wave);
            let count = self.pending.partition_point(near).clamp(least, self.largest_wave);
            self.pending.drain(..count).for_each(|candidate| take(&candidate));
        }
        self.credit = if self.one_wave { want } else { 0 };
        // In relaxed mode there may be nothing to fetch: then something is settled.
        if self.wave.is_empty() { self.next(want) } else { Step::Fetch }
    }

    /// The smallest lower bound but `want`.
    fn lower_bound_of_the_next_after(&mut self, want: usize) -> f64 {
        self.lowers.clear();
        self.lowers.extend(self.pending.iter().map(|candidate| candidate.lower));
        self.lowers.extend(self.settled.iter().map(|row| row.distance.lower));
        self.lowers.push(self.beyond);
        if self.lowers.len() <= want {
            return f64::INFINITY;
        }
        *self.lowers.select_nth_unstable_by(want, f64::total_cmp).1
    }
}

/// Puts candidates in order of their lower bounds.
fn sort(candidates: &mut VecDeque<Candidate>) {
    let candidates = candidates.make_contiguous();
    if !candidates.is_sorted_by(|a, b| a.lower <= b.lower) {
        candidates.sort_unstable_by(|a, b| a.lower.total_cmp(&b.lower));
    }
}

/// What is known of a distance that was looked up; where nobody has asked for an exact order, what is
/// expected of it, to compare with estimates.
fn looked_up(mode: Mode, distance: Interval) -> Interval {
    match mode {
        Mode::Strict => distance,
        _ => Interval::exact(f64::midpoint(distance.lower, distance.upper)),
    }
}

/// A candidate as if its estimate were its distance.
fn estimated(candidate: &Candidate) -> Settled {
    Settled::exact(candidate.estimate, Source::Row(candidate.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(row: u32, lower: f64, upper: f64) -> Candidate {
        let estimate = (lower + upper) / 2.0;
        Candidate { id: RowId { segment: 0, row }, estimate, lower, upper }
    }

    fn known(distance: f64) -> Option<Interval> {
        Some(Interval::exact(distance))
    }

    /// The rows that are ready, and how many of them are late.
    fn pop_all(rerank: &mut Rerank, rows: &mut Vec<u32>) -> usize {
        let mut count = 0;
        while let Some((row, late)) = rerank.pop() {
            count += usize::from(late);
            rows.push(match row.source {
                Source::Row(id) => id.row,
                Source::Tid(tid) => tid as u32,
            });
        }
        count
    }

    /// Runs to the end with `truth` as distances; returns the rows and the number of waves.
    fn drain(rerank: &mut Rerank, want: usize, truth: &[f64]) -> (Vec<u32>, usize) {
        let (rows, waves, _) = drain_counting(rerank, want, truth);
        (rows, waves)
    }

    /// [`drain`], with the number of late rows.
    fn drain_counting(rerank: &mut Rerank, want: usize, truth: &[f64]) -> (Vec<u32>, usize, usize) {
        let (mut rows, mut waves, mut late) = (Vec::new(), 0, 0);
        loop {
            match rerank.next(want) {
                Step::Ready => late += pop_all(rerank, &mut rows),
                Step::Fetch => {
                    waves += 1;
                    let distances: Vec<_> =
                        rerank.wave().iter().map(|id| known(truth[id.row as usize])).collect();
                    assert!(!distances.is_empty(), "a wave fetches something");
                    rerank.settle(&distances);
                }
                Step::Empty => return (rows, waves, late),
                step => panic!("{step:?}"),
            }
        }
    }

    #[test]
    fn one_wave_settles_as_many_rows_as_wanted() {
        let truth: Vec<f64> = (0..100).map(|i| f64::from((i * 37) % 100)).collect();
        let mut rerank = Rerank::default();
        rerank.start(Mode::Strict, false, true);
        rerank.add(
            (0..100).map(|row| {
                let d = truth[row as usize];
                candidate(row, d - 1.5, d + 1.5)
            }),
            f64::INFINITY,
        );
        let mut waves = 0;
        let mut rows = Vec::new();
        while rows.len() < 10 {
            match rerank.next(10) {
                Step::Ready => {
                    while let Some((row, _)) = rerank.pop() {
                        rows.push(row.distance.lower);
                    }
                }
                Step::Fetch => {
                    waves += 1;
                    assert!(rerank.wave().len() <= 14, "only rows that can matter");
                    let distances: Vec<_> =
                        rerank.wave().iter().map(|id| known(truth[id.row as usize])).collect();
                    rerank.settle(&distances);
                }
                step => panic!("{step:?}"),
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
        rerank.start(Mode::Strict, false, true);
        rerank.add(
            [candidate(0, 0.9, 1.1), candidate(1, 1.9, 2.1), candidate(2, 3.0, 4.0)],
            f64::INFINITY,
        );
        assert_eq!(rerank.next(2), Step::Fetch);
        assert_eq!(rerank.wave().len(), 2);
        rerank.settle(&[known(truth[0]), known(truth[1])]);
        let mut emitted = Vec::new();
        assert_eq!(rerank.next(2), Step::Ready);
        while let Some((row, _)) = rerank.pop() {
            emitted.push(row.distance.lower);
        }
        assert_eq!(emitted, [5.0, 6.0]);
    }

    #[test]
    fn known_rows_wait_for_the_one_wave() {
        let tid = |tid, distance| Settled::exact(distance, Source::Tid(tid));
        // The candidate is nearer than its bound says, and than the known row.
        let mut rerank = Rerank::default();
        rerank.start(Mode::Strict, false, true);
        rerank.add_settled([tid(7, 1.0), tid(8, 5.0)]);
        rerank.add([candidate(0, 1.1, 1.3)], f64::INFINITY);
        assert_eq!(drain_counting(&mut rerank, 2, &[0.9]), (vec![0, 7, 8], 1, 0));
        // Nothing is fetched that cannot be among the rows wanted.
        rerank.start(Mode::Strict, false, true);
        rerank.add_settled([tid(7, 1.0), tid(8, 2.0)]);
        rerank.add([candidate(0, 3.1, 3.3)], f64::INFINITY);
        assert_eq!(rerank.next(2), Step::Ready);
        let mut rows = Vec::new();
        assert_eq!(pop_all(&mut rerank, &mut rows), 0);
        assert_eq!(rows, [7, 8]);
    }

    #[test]
    fn everything_comes_out_once_and_in_order() {
        let truth: Vec<f64> = (0..500).map(|i| f64::from((i * 7919) % 997) / 10.0).collect();
        let mut rerank = Rerank::default();
        rerank.add(
            (0..250).map(|row| {
                let d = truth[row as usize];
                candidate(row, d * 0.9, d * 1.1)
            }),
            f64::INFINITY,
        );
        let delta: Vec<Settled> = (250..500)
            .map(|row| Settled::exact(truth[row as usize], Source::Tid(row as u64)))
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
    fn a_row_with_a_wrong_bound_comes_late_and_is_counted() {
        // Row 3 claims to be far away and is not.
        let truth = [1.0, 2.0, 3.0, 0.5];
        let mut rerank = Rerank::default();
        rerank.add(
            [
                candidate(0, 0.9, 1.1),
                candidate(1, 1.9, 2.1),
                candidate(2, 2.9, 3.1),
                candidate(3, 2.5, 2.6),
            ],
            f64::INFINITY,
        );
        let (rows, _, late) = drain_counting(&mut rerank, 1, &truth);
        assert_eq!((rows, late), (vec![0, 1, 3, 2], 1));
    }

    #[test]
    fn without_candidates_there_is_nothing_to_fetch() {
        let mut rerank = Rerank::default();
        assert_eq!(rerank.next(10), Step::Empty);
        let row = Settled::exact(1.0, Source::Tid(7));
        rerank.add_settled(vec![row]);
        assert_eq!((rerank.next(10), rerank.pop()), (Step::Ready, Some((row, false))));
        assert_eq!(rerank.next(10), Step::Empty);
    }

    #[test]
    fn nan_distances_come_last_and_end() {
        let truth = [f64::NAN, 1.0];
        let mut rerank = Rerank::default();
        rerank.add(
            [candidate(0, 0.0, f64::INFINITY), candidate(1, 0.0, f64::INFINITY)],
            f64::INFINITY,
        );
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
                rerank.start(mode, false, true);
                rerank.add(candidates.clone(), f64::INFINITY);
                let mut rows = Vec::new();
                let mut waves = 0;
                while rows.len() < 10 {
                    match rerank.next(10 - rows.len()) {
                        Step::Ready => _ = pop_all(&mut rerank, &mut rows),
                        Step::Fetch => {
                            waves += 1;
                            let wave = rerank.wave();
                            match mode {
                                Mode::Strict => fetched_strictly += wave.len(),
                                _ => fetched += wave.len(),
                            }
                            let distances: Vec<_> =
                                wave.iter().map(|id| known(truth[id.row as usize])).collect();
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
            rerank.start(mode, false, true);
            let (mut rows, mut late) = (Vec::new(), 0);
            // In two parts, the second of which has rows nearer than those already handed out.
            for part in [0..150, 150..300] {
                rerank.add(
                    part.map(|row| {
                        candidate(row, truth[row as usize] - 0.02, truth[row as usize] + 0.02)
                    }),
                    f64::INFINITY,
                );
                let (more, waves, more_late) = drain_counting(&mut rerank, 10, &truth);
                assert_eq!(waves == 0, mode == Mode::Off);
                late += more_late;
                rows.extend(more);
            }
            assert_eq!(late > 0, mode == Mode::Strict);
            assert_eq!(rows.len(), 300, "{mode:?}");
            rows.sort_unstable();
            rows.dedup();
            assert_eq!(rows.len(), 300, "{mode:?}");
        }
    }

    #[test]
    fn rows_that_are_gone_do_not_break_the_order() {
        let truth: Vec<f64> = (0..100).map(f64::from).collect();
        let mut rerank = Rerank::default();
        rerank.add(
            (0..100).map(|row| {
                let d = truth[row as usize];
                candidate(row, d - 3.0, d + 3.0)
            }),
            f64::INFINITY,
        );
        let mut rows = Vec::new();
        loop {
            match rerank.next(10) {
                Step::Ready => {
                    while let Some((row, _)) = rerank.pop() {
                        rows.push(row.distance.lower);
                    }
                }
                Step::Fetch => {
                    let there = |id: &RowId| {
                        known(truth[id.row as usize]).filter(|_| id.row.is_multiple_of(2))
                    };
                    let distances: Vec<_> = rerank.wave().iter().map(there).collect();
                    rerank.settle(&distances);
                }
                Step::Empty => break,
                step => panic!("{step:?}"),
            }
        }
        assert_eq!(rows, (0..50).map(|row| f64::from(2 * row)).collect::<Vec<_>>());
    }

    /// What is left to add of rows whose bounds are known, in blocks, as a sweep adds them.
    struct Blocks {
        rows: Vec<Candidate>,
        next: usize,
        size: usize,
    }

    impl Blocks {
        fn new(truth: &[f64], width: f64, random: &mut impl FnMut() -> f64) -> Self {
            let mut rows: Vec<Candidate> = truth
                .iter()
                .enumerate()
                .map(|(row, d)| match d.is_finite() {
                    true => candidate(row as u32, d - random() * width, d + random() * width),
                    // Nothing is known of these.
                    false => candidate(row as u32, f64::NEG_INFINITY, f64::INFINITY),
                })
                .collect();
            rows.sort_by(|a, b| a.lower.total_cmp(&b.lower));
            Self { rows, next: 0, size: 7 }
        }

        fn add_to(&mut self, rerank: &mut Rerank, taken: &mut [bool]) {
            let end = (self.next + self.size).min(self.rows.len());
            let block: Vec<Candidate> = self.rows[self.next..end]
                .iter()
                .filter(|row| !std::mem::replace(&mut taken[row.id.row as usize], true))
                .copied()
                .collect();
            self.next = end;
            rerank.add(block, self.rows.get(end).map_or(f64::INFINITY, |row| row.lower));
        }
    }

    /// What is added to a row's number for its second tid.
    const SECOND: u32 = 1000;
    /// How much farther away that is, against how wide intervals are.
    const SECOND_FARTHER: f64 = 0.5;

    /// What a scan does with a row whose value it has had computed.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Refined {
        /// It stays the segment's.
        Row,
        /// It is several tids from then on, each at a distance of its own.
        Tids,
    }

    /// A sweep to the end over rows of which the store tells an interval `error` wide; at most `most`
    /// stay settled. Returns rows in order, those refined, and those late.
    fn sweep(
        truth: &[f64],
        (width, error): (f64, f64),
        most: usize,
        refined: Refined,
        random: &mut impl FnMut() -> f64,
    ) -> (Vec<u32>, usize, usize) {
        let mut blocks = Blocks::new(truth, width, random);
        let mut taken = vec![false; truth.len()];
        let mut rerank = Rerank::default();
        rerank.start(Mode::Strict, refined == Refined::Tids, false);
        let refine = |rerank: &mut Rerank| {
            let mut values = Vec::new();
            for &source in rerank.rough() {
                let Source::Row(id) = source else { panic!("no tid was given") };
                let value = truth[id.row as usize];
                if refined == Refined::Row {
                    values.push(Settled::exact(value, source));
                    continue;
                }
                let tid = |tid: u32, value| Settled::exact(value, Source::Tid(tid.into()));
                values.extend([
                    tid(id.row, value),
                    tid(SECOND + id.row, value + SECOND_FARTHER * error),
                ]);
            }
            assert!(!values.is_empty(), "something is refined");
            let count = rerank.rough().len();
            rerank.add_refined(values);
            count
        };
        let (mut rows, mut count, mut late) = (Vec::new(), 0, 0);
        loop {
            match rerank.next(10) {
                Step::Ready => late += pop_all(&mut rerank, &mut rows),
                Step::Fetch => {
                    let mut distance = |id: &RowId| {
                        let value = truth[id.row as usize];
                        if !value.is_finite() {
                            return Some(Interval::UNKNOWN);
                        }
                        let above = SECOND_FARTHER.max(random()) * error;
                        Some(Interval { lower: value - random() * error, upper: value + above })
                    };
                    let distances: Vec<_> = rerank.wave().iter().map(&mut distance).collect();
                    rerank.settle(&distances);
                    if refined == Refined::Row && rerank.refine_before_shedding(most) {
                        refine(&mut rerank);
                    }
                    for id in rerank.shed(most) {
                        taken[id.row as usize] = false;
                    }
                }
                Step::Refine => count += refine(&mut rerank),
                Step::More => blocks.add_to(&mut rerank, &mut taken),
                Step::Again => {
                    for id in rerank.forget_candidates() {
                        taken[id.row as usize] = false;
                    }
                    blocks.next = 0;
                    rerank.restart(50);
                }
                Step::Empty => return (rows, count, late),
            }
        }
    }

    #[test]
    fn values_never_fall_and_every_row_comes_within_any_memory() {
        for (seed, width, most) in [(1, 0.02, 1000), (2, 0.3, 40), (3, 2.0, 40), (4, 0.02, 5)] {
            for error in [1e-12, 1e-6, 0.001, 0.1] {
                // Many rows are at equal distances, or at ones that differ by less than is known.
                for steps in [3.0, 50.0, 1e9] {
                    for refined in [Refined::Row, Refined::Tids] {
                        let mut random = numbers(seed);
                        let mut value = |_| {
                            let base = (random() * steps).floor() / steps;
                            base + (random() * 4.0).floor() * 1e-7
                        };
                        let truth: Vec<f64> = (0..300).map(&mut value).collect();
                        let how = (width, error);
                        let (rows, _, late) = sweep(&truth, how, most, refined, &mut random);
                        let value = |row: &u32| match truth.get(*row as usize) {
                            Some(value) => *value,
                            None => truth[(row - SECOND) as usize] + SECOND_FARTHER * error,
                        };
                        let values: Vec<f64> = rows.iter().map(value).collect();
                        let case = format!("seed {seed}, error {error}, {steps}, {refined:?}");
                        assert!(values.is_sorted(), "{case}");
                        assert_eq!(late, 0, "{case}");
                        let mut all = rows;
                        all.sort_unstable();
                        let mut expected: Vec<u32> = (0..300).collect();
                        if refined == Refined::Tids {
                            expected.extend(SECOND..SECOND + 300);
                        }
                        assert_eq!(all, expected, "{case}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_infinite_or_no_number_comes_last_within_any_memory() {
        for (seed, most) in [(1, 1000), (2, 40), (3, 5)] {
            let mut random = numbers(seed);
            let kinds = |random: f64| match (random * 4.0) as u32 {
                0 => f64::INFINITY,
                1 => f64::NAN,
                _ => random,
            };
            let truth: Vec<f64> = (0..300).map(|_| kinds(random())).collect();
            let (rows, _, late) = sweep(&truth, (0.02, 1e-6), most, Refined::Row, &mut random);
            let values: Vec<f64> = rows.iter().map(|&row| truth[row as usize]).collect();
            assert!(values.is_sorted_by(|a, b| a.total_cmp(b).is_le()), "{most}: {values:?}");
            assert_eq!((rows.len(), late), (300, 0));
        }
    }

    #[test]
    fn only_rows_whose_intervals_meet_are_refined() {
        let mut random = numbers(5);
        // Two rows at about the same distance, then a gap.
        let truth: Vec<f64> =
            (0..100).map(|row| f64::from(row / 2) + f64::from(row % 2) / 1e9).collect();
        let (_, refined, _) = sweep(&truth, (2.0, 1e-6), 1000, Refined::Row, &mut random);
        assert!(refined > 50, "{refined}");
        let truth: Vec<f64> = (0..100).map(f64::from).collect();
        let (_, refined, _) = sweep(&truth, (2.0, 1e-6), 1000, Refined::Row, &mut random);
        assert_eq!(refined, 0);
    }

    #[test]
    fn rows_that_turn_out_gone_when_refined_are_not_made_up_for() {
        let rough = |lower| Some(Interval { lower, upper: lower + 1.5 });
        let mut rerank = Rerank::default();
        rerank.start(Mode::Strict, false, true);
        rerank.add((0..3).map(|row| candidate(row, f64::from(row), 9.0)), f64::INFINITY);
        assert_eq!(rerank.next(2), Step::Fetch);
        rerank.settle(&[rough(0.0), rough(1.0), rough(2.0)]);
        assert_eq!(rerank.next(2), Step::Refine);
        let (gone, there) = (rerank.rough()[0], rerank.rough()[1]);
        rerank.add_refined([Settled::exact(1.2, there)]);
        assert_ne!(gone, there);
        assert_eq!(rerank.next(2), Step::Ready);
        let mut rows = Vec::new();
        pop_all(&mut rerank, &mut rows);
        assert_eq!(rows.len(), 1);
    }
}
