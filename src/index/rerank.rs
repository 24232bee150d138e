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
mod tests;
