//! `ambeginscan` … `amendscan`: rows in order of exact distance, as many as are asked for.
//!
//! A scan searches every segment's graph on codes for `ef_search` candidates, reads the delta
//! exactly, and lets [`super::rerank`] decide what has to be fetched. When the first half of the
//! candidates has been handed out (the other half is where a graph search misses rows) the
//! searches go on for twice as many, so a scan ends only where the index ends.

use std::ops::ControlFlow;
use std::ptr::NonNull;
use std::time::Instant;

use distance::{ExactQuery, Payload};
use pgrx::PgMemoryContexts;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::ahead::TablePages;
use super::candidates::{Segment, dead_entries};
use super::fetch::{Fetcher, Wanted};
use super::insert::u64_to_tid;
use super::limit;
use super::pending;
use super::rerank::{Rerank, RowId, Settled, Source, Step};
use super::statistics::ScanStatistics;
use super::vector::{Vector, check_dimensions};
use crate::errors::raise;
use crate::pages::meta::Meta;
use crate::pages::page::Damage;
use crate::pages::{consistent, delta, manifest};
use crate::{settings, shared};

/// Most candidates a first search keeps because of a large LIMIT; the rest comes as it is needed.
const MAX_FIRST_EF: usize = 1000;

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
        state.wanted = limit::wanted(orderbys);
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
        let Some((tid, distance)) = state.next() else { return false };
        (*scan).xs_heaptid = u64_to_tid(tid);
        (*scan).xs_recheck = false;
        // With a half-precision payload the distance is a lower bound: the executor computes the
        // exact one from the table's own column and puts the rows in order.
        (*scan).xs_recheckorderby = state.recheck;
        if state.recheck {
            *(*scan).xs_orderbyvals = distance.into_datum().unwrap_or(pg_sys::Datum::from(0));
            *(*scan).xs_orderbynulls = false;
        }
        true
    }
}

/// Ends a scan.
#[pg_guard]
pub unsafe extern "C-unwind" fn amendscan(scan: pg_sys::IndexScanDesc) {
    // SAFETY: a scan `ambeginscan` made. The state itself goes with its memory context.
    unsafe { *state(scan) = Scan::default() };
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
    /// Whether anybody has asked it for a row, before the last rescan perhaps.
    ever_started: bool,
    /// Rows the plan wants, if it says.
    wanted: Option<usize>,
    /// `None` for a NULL query or one without direction: any order will do.
    query: Option<ExactQuery>,
    recheck: bool,
    /// The executor's side of the scan, once started.
    scan: Option<NonNull<pg_sys::IndexScanDescData>>,
    segments: Vec<Segment>,
    rerank: Rerank,
    fetcher: Fetcher,
    pages: TablePages,
    /// Candidates each search has been asked for.
    ef: usize,
    /// Rows that may be handed out before the searches go on.
    allowance: usize,
    /// Rows handed out.
    emitted: usize,
    /// Rows the next fetch settles when the plan does not say.
    wave_rows: usize,
    /// Tids of the current row that are still to come, last one first.
    tids: Vec<u64>,
    distance: f64,
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
        self.emitted = 0;
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
        self.rerank.start(mode);
        self.wave_rows = settings::wave_rows();
        // SAFETY: the argument is a non-null value of type vector.
        self.query = argument.and_then(|datum| unsafe {
            let vector = Vector::new(datum);
            check_dimensions(vector.as_slice(), parameters.dimensions);
            let query = ExactQuery::new(parameters.metric, vector.as_slice().to_vec());
            query.has_order().then_some(query)
        });
        // In the other modes nobody has asked for an exact order.
        self.recheck = parameters.payload == Payload::Float16
            && self.query.is_some()
            && mode == settings::Rerank::Strict;
        let wanted = self.wanted.unwrap_or(0).min(MAX_FIRST_EF);
        self.ef = settings::ef_search().max(wanted);
        self.allowance = wanted.max(self.ef / 2);

        let started = Instant::now();
        let (query, recheck) = (self.query.as_ref(), self.recheck);
        let (segments, dead, rows) = consistent(index, |meta| {
            let segments = manifest::read(index, meta)?;
            let dead = dead_entries(index, meta, &segments)?;
            Ok((segments, dead, delta_rows(index, meta, query, recheck)?))
        });
        self.segments =
            segments.iter().zip(dead).map(|(entry, dead)| Segment::open(entry, dead)).collect();
        self.statistics.segments = self.segments.len() as u32;
        self.statistics.delta_rows = rows.len() as u32;
        self.rerank.add_settled(rows);
        match &self.query {
            Some(query) => {
                for segment in &mut self.segments {
                    segment.aim(query.vector());
                }
                self.search(self.ef);
            }
            None => self.list_segments(),
        }
        self.statistics.search += started.elapsed();
        self.statistics.publish();
    }

    /// Lets every search return up to `more` further candidates; false when none has any.
    fn search(&mut self, more: usize) -> bool {
        let mut found = false;
        for (number, segment) in self.segments.iter_mut().enumerate() {
            let candidates = segment.search(number as u32, more);
            found |= !candidates.is_empty();
            self.statistics.candidates += candidates.len() as u32;
            self.rerank.add(candidates);
        }
        found
    }

    /// The next tid and its distance.
    fn next(&mut self) -> Option<(u64, f64)> {
        loop {
            if let Some(tid) = self.tids.pop() {
                return Some((tid, self.distance));
            }
            if self.emitted >= self.allowance && self.query.is_some() {
                self.extend();
            }
            let want = match self.wanted {
                Some(wanted) if wanted > self.emitted => wanted - self.emitted,
                _ => self.wave_rows,
            };
            match self.rerank.next(want) {
                Step::Emit(row) => self.open(row),
                Step::Fetch => self.fetch(want),
                Step::Empty => {
                    if self.query.is_none() || !self.extend() {
                        return None;
                    }
                }
            }
        }
    }

    /// Searches on, for as many candidates again; false when the index has no more.
    fn extend(&mut self) -> bool {
        pgrx::check_for_interrupts!();
        let started = Instant::now();
        let found = self.search(self.ef);
        self.ef *= 2;
        self.allowance = if found { self.ef / 2 } else { usize::MAX };
        self.statistics.search += started.elapsed();
        self.statistics.publish();
        found
    }

    /// Settles the rows of the wave, `want` of which are about to be handed out.
    fn fetch(&mut self, want: usize) {
        pgrx::check_for_interrupts!();
        if let (Some(query), Some(scan)) = (&self.query, self.scan) {
            let wave = self.rerank.wave().to_vec();
            let wanted = Wanted {
                query,
                segments: &self.segments,
                recheck: self.recheck,
                scan: scan.as_ptr(),
            };
            let distances = self.fetcher.distances(&wanted, &wave, &mut self.statistics);
            self.rerank.settle(distances);
            self.statistics.dropped = self.rerank.dropped() as u32;
            self.wave_rows *= 2;
            self.statistics.publish();
            self.ask_for_pages(want);
        }
    }

    /// Asks for the table's pages of the next `want` rows.
    fn ask_for_pages(&mut self, want: usize) {
        let Some(scan) = self.scan else { return };
        // No row is current: the list is free.
        for row in self.rerank.upcoming(want.min(MOST_AHEAD)) {
            match row.source {
                Source::Tid(tid) => self.tids.push(tid),
                Source::Row(RowId { segment, row }) => {
                    self.segments[segment as usize].live_tids(row, &mut self.tids);
                }
            }
        }
        // SAFETY: the scan is the one under way.
        unsafe { self.pages.ask(scan.as_ptr(), &self.tids) };
        self.tids.clear();
    }

    /// Makes a settled row the current one.
    fn open(&mut self, row: Settled) {
        self.emitted += 1;
        self.distance = row.distance;
        match row.source {
            Source::Tid(tid) => self.tids.push(tid),
            Source::Row(RowId { segment, row }) => {
                self.segments[segment as usize].live_tids(row, &mut self.tids);
            }
        }
    }

    /// Every row of the segments, in no particular order: what a query without direction gets.
    fn list_segments(&mut self) {
        let mut rows = Vec::new();
        for (number, segment) in self.segments.iter().enumerate() {
            let id = |row| RowId { segment: number as u32, row };
            let source = (0..segment.view().rows() as u32).map(|row| Source::Row(id(row)));
            rows.extend(source.map(|source| Settled { distance: 0.0, source }));
        }
        self.rerank.add_settled(rows);
    }
}

/// The delta's rows with their exact distances, with lower bounds when everything is to be
/// rechecked, with none for a query without direction.
fn delta_rows(
    index: pg_sys::Relation,
    meta: &Meta,
    query: Option<&ExactQuery>,
    recheck: bool,
) -> Result<Vec<Settled>, Damage> {
    let mut rows = Vec::new();
    delta::for_each(index, meta, |tid, vector| {
        let distance = match query {
            None => 0.0,
            Some(query) if recheck => query.lower_bound_bytes(Payload::Float32, vector),
            Some(query) => query.distance_bytes(Payload::Float32, vector),
        };
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
