//! `ambeginscan` … `amendscan`: rows in order of exact distance, as many as are asked for.
//!
//! A scan reads the delta exactly, finds candidates among the segments' rows, and lets
//! [`super::rerank`] decide what has to be fetched. Candidates come from a walk over the graphs, as
//! long as few rows are wanted, or from a sweep over all codes (see [`super::start`]). A scan that has
//! handed out what a walk is good for goes on with a sweep over the rest: it ends only where the index
//! ends.

mod refine;
mod sort;

use std::ops::ControlFlow;
use std::ptr::NonNull;
use std::time::Instant;

use distance::{ExactQuery, Interval, Payload};
use pgrx::PgMemoryContexts;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::ahead::TablePages;
use super::candidates::{Confidence, Segment, dead_entries};
use super::code_sweep::Sweep;
use super::demand::{self, Demand};
use super::fetch::{Fetcher, Wanted};
use super::insert::u64_to_tid;
use super::pending;
use super::rerank::{BULK, Candidate, MAX_WAVE, Rerank, RowId, Settled, Source, Step};
use super::sorted::Sorted;
use super::start::Start;
use super::statistics::ScanStatistics;
use super::vector::{Vector, check_dimensions};
use crate::errors::raise;
use crate::pages::meta::Meta;
use crate::pages::page::Damage;
use crate::pages::{consistent, delta, manifest};
use crate::{settings, shared};

/// Bytes that a row of a wave takes, as a candidate and on its way.
const WAVE_BYTES: usize = 64;

/// `work_mem` in bytes. A sweep has half of it, settled rows and waves a quarter each.
fn memory() -> usize {
    // SAFETY: reads a setting of this process.
    unsafe { pg_sys::work_mem as usize * 1024 }
}

/// Most rows of a wave.
fn largest_wave() -> usize {
    (memory() / 4 / WAVE_BYTES).min(MAX_WAVE)
}

/// Candidates a sweep hands over at first; then twice as many each time.
const FIRST_BLOCK: usize = 256;

/// Most rows that the first wave settles where the plan is not certain how many it reads.
const MAX_FIRST_WAVE: f64 = 512.0;

/// Rows whose pages are asked for at a time, at most.
const MOST_AHEAD: usize = 64;

/// Starts a scan.
#[pg_guard]
pub unsafe extern "C-unwind" fn ambeginscan(
    index: pg_sys::Relation,
    nkeys: i32,
    norderbys: i32,
) -> pg_sys::IndexScanDesc {
    // SAFETY: PostgreSQL passes an open relation; the arrays are allocated as it documents.
    unsafe {
        let scan = pg_sys::RelationGetIndexScan(index, nkeys, norderbys);
        if norderbys > 0 {
            let count = norderbys as usize;
            (*scan).xs_orderbyvals = pg_sys::palloc0(count * size_of::<pg_sys::Datum>()).cast();
            (*scan).xs_orderbynulls = pg_sys::palloc0(count * size_of::<bool>()).cast();
        }
        // Freed with the memory context: also when the statement fails and nobody ends the scan.
        let state = PgMemoryContexts::CurrentMemoryContext.leak_and_drop_on_delete(Scan::default());
        (*scan).opaque = state.cast();
        scan
    }
}

/// Starts over, with another query perhaps.
#[pg_guard]
pub unsafe extern "C-unwind" fn amrescan(
    scan: pg_sys::IndexScanDesc,
    _keys: pg_sys::ScanKey,
    _nkeys: i32,
    orderbys: pg_sys::ScanKey,
    norderbys: i32,
) {
    // SAFETY: a scan `ambeginscan` made; PostgreSQL passes as many keys as it announced.
    unsafe {
        if !orderbys.is_null() && norderbys > 0 {
            std::ptr::copy(orderbys, (*scan).orderByData, norderbys as usize);
        }
        let state = state(scan);
        state.reset();
        state.keys = orderbys as usize;
    }
}

/// Hands out the next row; false when there are no more.
#[pg_guard]
pub unsafe extern "C-unwind" fn amgettuple(
    scan: pg_sys::IndexScanDesc,
    _direction: pg_sys::ScanDirection::Type,
) -> bool {
    // SAFETY: a scan `ambeginscan` made. Only forward scans exist: `amcanbackward` is false.
    unsafe {
        let state = state(scan);
        if !state.started {
            state.start(scan);
        }
        let Some(tid) = state.next() else { return false };
        (*scan).xs_heaptid = u64_to_tid(tid);
        (*scan).xs_recheck = false;
        // Rows are handed out in exact order. PostgreSQL's own queue for others loses their tids.
        (*scan).xs_recheckorderby = false;
        true
    }
}

/// Ends a scan.
#[pg_guard]
pub unsafe extern "C-unwind" fn amendscan(scan: pg_sys::IndexScanDesc) {
    // SAFETY: a scan `ambeginscan` made. The state itself goes with its memory context.
    unsafe {
        state(scan).reset();
        *state(scan) = Scan::default();
    }
}

/// Whether a relation is an index of this access method.
///
/// # Safety
/// `index` is null or an open relation.
pub unsafe fn is_ours(index: pg_sys::Relation) -> bool {
    // SAFETY: by the contract; the routines of an index relation are set when it is opened.
    unsafe {
        let Some(routine) = index.as_ref().and_then(|index| index.rd_indam.as_ref()) else {
            return false;
        };
        routine
            .amgettuple
            .is_some_and(|function| function as usize == amgettuple as *const () as usize)
    }
}

/// What a scan has done since it began, over all its rescans; `None` when nobody has asked it for
/// a row.
///
/// # Safety
/// `scan` is a scan of one of our indexes that has not been ended.
pub unsafe fn totals(scan: pg_sys::IndexScanDesc) -> Option<ScanStatistics> {
    // SAFETY: by the contract; the reference is gone when this returns.
    let state = unsafe { state(scan) };
    let mut totals = state.before;
    totals += state.statistics;
    state.ever_started.then_some(totals)
}

/// # Safety
/// `scan` was made by [`ambeginscan`], and the result is the only reference to its state.
unsafe fn state<'a>(scan: pg_sys::IndexScanDesc) -> &'a mut Scan {
    // SAFETY: by the contract.
    unsafe { &mut *(*scan).opaque.cast() }
}

/// A scan under way.
#[derive(Default)]
struct Scan {
    started: bool,
    /// Where the executor's ORDER BY keys are: by it is known what the plan asks of the scan.
    keys: usize,
    /// Whether anybody has asked it for a row, before the last rescan perhaps.
    ever_started: bool,
    /// Rows the plan will read, where it says.
    wanted: Option<usize>,
    /// Whether the plan reads on while the distance stays the same.
    ties: bool,
    /// `None` for a NULL query or one without direction: any order will do.
    query: Option<ExactQuery>,
    /// Whether rows come in exact order.
    strict: bool,
    /// Whether stored vectors are rounded to half precision.
    rounded: bool,
    /// The executor's side of the scan, once started.
    scan: Option<NonNull<pg_sys::IndexScanDescData>>,
    segments: Vec<Segment>,
    rerank: Rerank,
    fetcher: Fetcher,
    pages: TablePages,
    /// Bytes of a row on their way out of the payload cache.
    scratch: Vec<u8>,
    /// Where candidates come from once the walk's are used up.
    sweep: Option<Sweep>,
    /// All rows still to come, when memory has turned out too small for a sweep.
    sorted: Option<Sorted>,
    /// Candidates the sweep hands over next.
    block: usize,
    /// Rows of segments that the walk has handed out.
    walked: Vec<RowId>,
    /// Rows that may be handed out before the scan goes on with a sweep.
    allowance: usize,
    /// Rows handed out.
    emitted: usize,
    /// Rows the next fetch settles when the plan does not say.
    wave_rows: usize,
    /// Fetches made.
    waves: u32,
    /// Rows whose tids were looked up last, and whether each is late.
    opened: Vec<(Settled, bool)>,
    /// Their tids, those before `next_tid` handed out.
    tids: Vec<u64>,
    next_tid: usize,
    /// Since the last rescan.
    statistics: ScanStatistics,
    /// What came before that.
    before: ScanStatistics,
}

impl Scan {
    fn reset(&mut self) {
        self.started = false;
        self.segments.clear();
        self.tids.clear();
        self.next_tid = 0;
        self.walked.clear();
        self.sweep = None;
        if let Some(sorted) = self.sorted.take() {
            sorted.end();
        }
        self.emitted = 0;
        self.waves = 0;
    }

    /// # Safety
    /// `scan` is valid and has been given its keys.
    unsafe fn start(&mut self, scan: pg_sys::IndexScanDesc) {
        shared::require();
        // SAFETY: by the contract.
        let (index, argument) = unsafe {
            check_scan(scan);
            count_scan(scan);
            let key = &*(*scan).orderByData;
            let null = key.sk_flags & pg_sys::SK_ISNULL as i32 != 0;
            ((*scan).indexRelation, (!null).then_some(key.sk_argument))
        };
        // Rows that a statement further out has inserted, for a trigger of its own to see.
        pending::write(index);
        // Fixed when the index is created, so they may be read ahead of the rest.
        let parameters = Meta::read(index).parameters;
        self.started = true;
        self.scan = NonNull::new(scan);
        self.ever_started = true;
        self.before += std::mem::take(&mut self.statistics);
        let mode = settings::rerank();
        // SAFETY: the argument is a non-null value of type vector.
        self.query = argument.and_then(|datum| unsafe {
            let vector = Vector::new(datum);
            check_dimensions(vector.as_slice(), parameters.dimensions);
            let query = ExactQuery::new(parameters.metric, vector.as_slice().to_vec());
            query.has_order().then_some(query)
        });
        // In the other modes nobody has asked for an exact order.
        self.strict = mode == settings::Rerank::Strict;
        self.rounded = parameters.payload == Payload::Float16;

        let started = Instant::now();
        let query = self.query.as_ref();
        let (segments, dead, rows) = consistent(index, |meta| {
            let segments = manifest::read(index, meta)?;
            let dead = dead_entries(index, meta, &segments)?;
            Ok((segments, dead, delta_rows(index, meta, query)?))
        });
        self.segments =
            segments.iter().zip(dead).map(|(entry, dead)| Segment::open(entry, dead)).collect();
        self.statistics.segments = self.segments.len() as u32;
        self.statistics.delta_rows = rows.len() as u32;
        self.begin(mode, demand::of(self.keys), rows);
        self.statistics.search += started.elapsed();
        self.statistics.publish();
    }

    /// Finds the first candidates, in the way that suits what the plan is expected to read.
    fn begin(&mut self, mode: settings::Rerank, demand: Demand, delta: Vec<Settled>) {
        self.wanted = demand.exact.then_some(demand.rows as usize);
        self.ties = demand.ties;
        self.wave_rows = settings::wave_rows().max(demand.rows.min(MAX_FIRST_WAVE) as usize);
        let Some(query) = &self.query else {
            self.rerank.start(mode, false, false);
            self.rerank.add_settled(delta);
            self.list_segments();
            self.rerank.add([], f64::INFINITY);
            return;
        };
        for segment in &mut self.segments {
            segment.aim(query.vector());
        }
        let rows = self.segments.iter().map(Segment::rows).sum();
        let start = Start::choose(demand, settings::ef_search(), self.segments.len(), rows);
        let one_wave = matches!(start, Start::Walk { one_wave: true, .. });
        self.rerank.start(mode, self.rounded, one_wave);
        self.rerank.add_settled(delta);
        match start {
            Start::Walk { ef, allowance, .. } => {
                self.allowance = allowance;
                let mut found = Vec::new();
                let confidence = match (one_wave, demand.ties) {
                    (true, _) => Confidence::OneWave,
                    (false, false) if !self.rounded => Confidence::Waves,
                    (false, _) => Confidence::Sure,
                };
                for (number, segment) in self.segments.iter_mut().enumerate() {
                    found.append(&mut segment.walk(number as u32, ef, confidence));
                }
                self.statistics.walks += self.segments.len() as u32;
                self.statistics.candidates += found.len() as u32;
                self.rerank.add(found, f64::INFINITY);
            }
            Start::Sweep => self.begin_sweep(),
        }
    }

    /// The next tid.
    fn next(&mut self) -> Option<u64> {
        loop {
            if let Some(&tid) = self.tids.get(self.next_tid) {
                self.next_tid += 1;
                return Some(tid);
            }
            if self.sorted.is_some() {
                self.take_sorted();
                if self.opened.is_empty() {
                    return None;
                }
                continue;
            }
            let walking = self.sweep.is_none() && self.query.is_some();
            if walking && self.emitted >= self.allowance {
                self.begin_sweep();
            }
            let want = match self.wanted {
                Some(wanted) if wanted > self.emitted => wanted - self.emitted,
                _ => self.wave_rows,
            };
            match self.rerank.next(want) {
                Step::Ready => self.take_ready(),
                Step::Fetch => self.fetch(),
                Step::Refine => self.refine(),
                Step::More => self.sweep_on(),
                Step::Again => self.sweep_again(),
                Step::Empty if walking => self.begin_sweep(),
                Step::Empty => return None,
            }
        }
    }

    /// Goes on with a sweep over all rows that have neither been handed out nor settled.
    fn begin_sweep(&mut self) {
        let mut sweep = Sweep::new(&self.segments, memory() / 2);
        self.rerank.restart(largest_wave());
        let settled = self.rerank.waiting();
        settled.chain(self.walked.drain(..)).for_each(|id| sweep.take(id));
        self.block = FIRST_BLOCK;
        self.sweep = Some(sweep);
    }

    /// Adds the sweep's next candidates.
    fn sweep_on(&mut self) {
        let often = |sweep: &Sweep| sweep.is_used_up() && sweep.passes() >= sort::MANY_PASSES;
        if self.sweep.as_ref().is_some_and(often) && self.reads_most() {
            return self.sort_rest();
        }
        let Some(sweep) = &mut self.sweep else { return self.rerank.add([], f64::INFINITY) };
        let started = Instant::now();
        let before = sweep.passes();
        let mut found: Vec<Candidate> = Vec::with_capacity(self.block);
        let interrupt = || {
            pgrx::check_for_interrupts!();
        };
        // Large waves are taken by lower bounds alone.
        let measure = !self.strict || self.wanted.is_some() || self.wave_rows < BULK;
        let beyond = sweep.candidates(&self.segments, self.block, measure, &mut found, interrupt);
        let passes = sweep.passes() - before;
        self.statistics.sweeps += passes;
        self.statistics.swept_rows += u64::from(passes) * sweep.rows();
        self.statistics.candidates += found.len() as u32;
        self.block = (2 * self.block).min(largest_wave());
        self.rerank.add(found, beyond);
        self.make_room();
        self.statistics.search += started.elapsed();
        self.statistics.publish();
    }

    /// Sweeps once more from the start: for rows that there was no memory for.
    fn sweep_again(&mut self) {
        if self.reads_most() {
            return self.sort_rest();
        }
        if let Some(sweep) = &mut self.sweep {
            self.rerank.forget_candidates().for_each(|id| sweep.give_back(id));
            sweep.restart();
        }
        self.rerank.restart(largest_wave());
    }

    /// Settles the rows of the wave.
    fn fetch(&mut self) {
        pgrx::check_for_interrupts!();
        if let (Some(query), Some(scan)) = (&self.query, self.scan) {
            let wave = self.rerank.wave().to_vec();
            // Where most rows are refined, looking them up twice takes longer.
            let often = 2 * self.statistics.refined > self.statistics.reranked;
            let wanted = Wanted {
                query,
                segments: &self.segments,
                scan: scan.as_ptr(),
                by_operator: often && self.strict && !self.rounded,
            };
            let distances = self.fetcher.distances(&wanted, &wave, &mut self.statistics);
            self.rerank.settle(distances);
            // The first wave is as large as the plan is expected to need; should it need more, it is
            // little at first.
            let next =
                if self.waves == 0 { self.wave_rows.div_ceil(2) } else { 2 * self.wave_rows };
            self.wave_rows = next.max(settings::wave_rows()).min(largest_wave());
            self.waves += 1;
            self.make_room();
            // More rows at one distance than the walk is good for: nothing has been handed out yet.
            let many = |wanted| self.rerank.settled_within(wanted) > self.allowance;
            if self.ties
                && self.sweep.is_none()
                && self.emitted == 0
                && self.wanted.is_some_and(many)
            {
                self.begin_sweep();
            }
            self.statistics.publish();
        }
    }

    /// Gives up settled rows that do not fit into memory; the sweep will find them again.
    fn make_room(&mut self) {
        if self.sweep.is_none() {
            return;
        }
        let most = memory() / 4 / size_of::<Settled>();
        // Rows of half precision are refined tid by tid, and nobody could find these again.
        if self.strict && !self.rounded && self.rerank.refine_before_shedding(most) {
            self.refine();
        }
        let given_up = self.rerank.shed(most);
        if let Some(sweep) = &mut self.sweep {
            given_up.into_iter().for_each(|id| sweep.give_back(id));
        }
    }

    /// Takes the next rows that are ready.
    fn take_ready(&mut self) {
        let mut most = MOST_AHEAD;
        if self.sweep.is_none() && self.query.is_some() {
            most = most.min(self.allowance.saturating_sub(self.emitted)).max(1);
        }
        self.opened.clear();
        while self.opened.len() < most
            && let Some(row) = self.rerank.pop()
        {
            self.opened.push(row);
        }
        self.open();
    }

    /// Looks up the tids of the rows that are handed out next, and asks for their pages.
    fn open(&mut self) {
        self.emitted += self.opened.len();
        // Each lies somewhere else in memory, and one wait for all is as long as one for each.
        let segment = |id: &RowId| &self.segments[id.segment as usize];
        let ids = || self.opened.iter().filter_map(|(row, _)| row.id());
        ids().for_each(|id| segment(&id).prefetch_tid_offsets(id.row));
        ids().for_each(|id| segment(&id).prefetch_tids(id.row));
        self.tids.clear();
        for (row, late) in &self.opened {
            self.statistics.late += u32::from(*late);
            match row.source {
                Source::Tid(tid) => self.tids.push(tid),
                Source::Row(id) => segment(&id).live_tids(id.row, &mut self.tids),
            }
        }
        if self.sweep.is_none() {
            self.walked.extend(self.opened.iter().filter_map(|(row, _)| row.id()));
        }
        self.next_tid = 0;
        self.statistics.publish();
        if let Some(scan) = self.scan {
            // SAFETY: the scan is the one under way.
            unsafe { self.pages.ask(scan.as_ptr(), &self.tids) };
        }
    }

    /// Every row of the segments, in no particular order: what a query without direction gets.
    fn list_segments(&mut self) {
        let mut rows = Vec::new();
        for (number, segment) in self.segments.iter().enumerate() {
            let id = |row| RowId { segment: number as u32, row };
            let source = (0..segment.view().rows() as u32).map(|row| Source::Row(id(row)));
            rows.extend(source.map(|source| Settled::exact(0.0, source)));
        }
        self.rerank.add_settled(rows);
    }
}

/// The delta's rows with their distances, with none for a query without direction.
fn delta_rows(
    index: pg_sys::Relation,
    meta: &Meta,
    query: Option<&ExactQuery>,
) -> Result<Vec<Settled>, Damage> {
    let mut rows = Vec::new();
    delta::for_each(index, meta, |tid, vector| {
        let unordered = Interval::exact(0.0);
        let distance =
            query.map_or(unordered, |query| query.interval_bytes(Payload::Float32, vector));
        rows.push(Settled { distance, source: Source::Tid(tid) });
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

/// Raises an error for what an index scan by distance cannot be.
///
/// # Safety
/// `scan` is valid.
unsafe fn check_scan(scan: pg_sys::IndexScanDesc) {
    // SAFETY: by the contract.
    let (orders, mvcc) = unsafe {
        let snapshot = (*scan).xs_snapshot;
        let kind = if snapshot.is_null() {
            pg_sys::SnapshotType::SNAPSHOT_MVCC
        } else {
            (*snapshot).snapshot_type
        };
        let mvcc = kind == pg_sys::SnapshotType::SNAPSHOT_MVCC
            || kind == pg_sys::SnapshotType::SNAPSHOT_HISTORIC_MVCC;
        ((*scan).numberOfOrderBys, mvcc)
    };
    if orders != 1 {
        raise(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            "cannot scan s3vector index without order",
            "",
            "",
        );
    }
    // A removed tuple's place may hold another tuple by the time it is looked at; only an MVCC
    // snapshot tells the two apart.
    if !mvcc {
        raise(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            "non-MVCC snapshots are not supported with s3vector",
            "",
            "",
        );
    }
}

/// Counts the scan in `pg_stat_user_indexes` and in EXPLAIN ANALYZE.
///
/// # Safety
/// `scan` is valid.
unsafe fn count_scan(scan: pg_sys::IndexScanDesc) {
    // SAFETY: by the contract; the statistics entry is this process's own.
    unsafe {
        let index = (*scan).indexRelation;
        if (*index).pgstat_info.is_null() && (*index).pgstat_enabled {
            pg_sys::pgstat_assoc_relation(index);
        }
        if let Some(statistics) = (*index).pgstat_info.as_mut() {
            statistics.counts.numscans += 1;
        }
        if let Some(instrument) = (*scan).instrument.as_mut() {
            instrument.nsearches += 1;
        }
    }
}
