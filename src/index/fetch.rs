//! Exact distances for rows of segments: from the payload cache where they lie, the rest from the
//! storage worker in one request, and from the table when storage does not answer.

use std::cell::Cell;
use std::time::{Duration, Instant};

use distance::{ExactQuery, Interval, Payload};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use segment::ResidentView;
use uuid::Uuid;

use super::candidates::Segment;
use super::heap::HeapVectors;
use super::operator::Operator;
use super::rerank::RowId;
use super::statistics::ScanStatistics;
use crate::errors::Failure;
use crate::settings::{self, PayloadFallback};
use crate::shared::fetch_slots::{self, MAX_ROWS, MAX_SEGMENTS, RowRef};
use crate::shared::payload_cache::{self, ChunkKey};

/// Rows whose bytes are asked for before the first of them is measured: as much memory as can be on
/// its way at a time.
const AHEAD: usize = 4;

/// How long a statement does not ask storage again after it has failed.
const PAUSE: Duration = Duration::from_secs(10);

thread_local! {
    /// Start of the statement that was last warned in.
    static WARNED: Cell<pg_sys::TimestampTz> = const { Cell::new(0) };
    /// Start of the statement that storage has last failed in, and when it did.
    static FAILED: Cell<Option<(pg_sys::TimestampTz, Instant)>> = const { Cell::new(None) };
}

/// When the running statement started.
fn statement() -> pg_sys::TimestampTz {
    // SAFETY: reads a variable of this process.
    unsafe { pg_sys::GetCurrentStatementStartTimestamp() }
}

/// Whether storage has failed a moment ago in this statement, perhaps in another scan or before a
/// rescan.
fn has_failed() -> bool {
    FAILED.get().is_some_and(|(start, when)| start == statement() && when.elapsed() < PAUSE)
}

/// What a fetch needs to know of its scan.
pub struct Wanted<'a> {
    /// What distances are to.
    pub query: &'a ExactQuery,
    /// The scan's segments.
    pub segments: &'a [Segment],
    /// The scan, for reading the table.
    pub scan: pg_sys::IndexScanDesc,
    /// Whether the operator is to compute the distances of rows that lie in the payload cache.
    pub by_operator: bool,
}

/// Buffers reused from wave to wave.
#[derive(Default)]
pub struct Fetcher {
    distances: Vec<Option<Interval>>,
    missing: Vec<usize>,
    places: Vec<Cached>,
    row_bytes: Vec<u8>,
    answer: Vec<Interval>,
}

impl Fetcher {
    /// The distances of `wave` to the query, in the wave's order; `None` for a row that the scan's
    /// snapshot does not see. Raises an error when storage does not deliver and no fallback is
    /// wanted.
    pub fn distances(
        &mut self,
        wanted: &Wanted<'_>,
        wave: &[RowId],
        statistics: &mut ScanStatistics,
    ) -> &[Option<Interval>] {
        let before = *statistics;
        self.distances.clear();
        self.missing.clear();
        // Everything lies somewhere else in memory, and one wait for all is as long as one for each.
        self.places.clear();
        let segment = |id: &RowId| &wanted.segments[id.segment as usize];
        self.places.extend(wave.iter().map(|id| Cached::of(segment(id), id.row)));
        wave.iter().for_each(|id| segment(id).prefetch_tid_offsets(id.row));
        payload_cache::prefetch_entries(self.places.iter().map(|place| place.chunk));
        self.places.iter().take(AHEAD).for_each(Cached::prefetch);
        // SAFETY: the scan is the one under way.
        let mut operator =
            wanted.by_operator.then(|| unsafe { Operator::of(wanted.scan, wanted.query) });
        for (number, id) in wave.iter().enumerate() {
            if let Some(later) = self.places.get(number + AHEAD) {
                later.prefetch();
            }
            let segment = segment(id);
            segment.prefetch_tids(id.row);
            let payload = segment.view().payload();
            let place = &self.places[number];
            let found = match &mut operator {
                Some(operator) => place
                    .decode(payload, &mut self.row_bytes, operator.row_mut())
                    .then(|| Interval::exact(operator.value())),
                None => place.distance(wanted.query, payload, &mut self.row_bytes),
            };
            if found.is_none() {
                self.missing.push(number);
            }
            self.distances.push(found);
        }
        statistics.reranked += wave.len() as u32;
        let hits = (wave.len() - self.missing.len()) as u32;
        statistics.cache_hits += hits;
        statistics.refined += if wanted.by_operator { hits } else { 0 };
        statistics.count_lookups(&before);
        if !self.missing.is_empty() {
            let started = Instant::now();
            self.fetch_missing(wanted, wave, statistics);
            statistics.fetch += started.elapsed();
        }
        &self.distances
    }

    fn fetch_missing(
        &mut self,
        wanted: &Wanted<'_>,
        wave: &[RowId],
        statistics: &mut ScanStatistics,
    ) {
        let missing = std::mem::take(&mut self.missing);
        let mut rest = missing.as_slice();
        let heap = settings::payload_fallback() == PayloadFallback::Heap;
        let asks = || !heap || !has_failed();
        while !rest.is_empty() && asks() {
            let (names, rows) = request_of(wanted.segments, wave, rest);
            let (now, later) = rest.split_at(rows.len());
            let request = fetch_slots::Wanted {
                metric: wanted.query.metric(),
                query: wanted.query.vector(),
                segments: &names,
                rows: &rows,
            };
            let outcome = fetch_slots::fetch(&request, settings::fetch_timeout(), &mut self.answer);
            match outcome {
                Ok(fetched) => {
                    for (&number, &distance) in now.iter().zip(&self.answer) {
                        self.distances[number] = Some(distance);
                    }
                    statistics.count_wave(&fetched);
                    rest = later;
                }
                Err(failure) if heap => {
                    FAILED.set(Some((statement(), Instant::now())));
                    warn(&failure);
                }
                Err(failure) => failure.raise(),
            }
        }
        self.read_from_table(wanted, wave, rest, statistics);
        self.missing = missing;
    }

    fn read_from_table(
        &mut self,
        wanted: &Wanted<'_>,
        wave: &[RowId],
        missing: &[usize],
        statistics: &mut ScanStatistics,
    ) {
        if missing.is_empty() {
            return;
        }
        // SAFETY: the scan is the one under way.
        let Some(mut table) = (unsafe { HeapVectors::open(wanted.scan) }) else {
            pgrx::error!("an s3vector scan without a table cannot go on without storage");
        };
        let mut tids = Vec::new();
        let mut stored = Vec::new();
        for &number in missing {
            pgrx::check_for_interrupts!();
            let RowId { segment, row } = wave[number];
            let segment = &wanted.segments[segment as usize];
            let payload = segment.view().payload();
            tids.clear();
            segment.live_tids(row, &mut tids);
            // As it would have come from storage.
            let distance = table.read(&tids, |vector| {
                stored.clear();
                payload.encode(vector.as_slice(), &mut stored);
                wanted.query.interval_bytes(payload, &stored)
            });
            self.distances[number] = distance;
        }
        statistics.count_fallback(missing.len() as u32);
    }
}

/// Tells, once a statement, that the table was read in place of storage.
fn warn(failure: &Failure) {
    let statement = statement();
    if WARNED.replace(statement) == statement {
        return;
    }
    let detail = match failure.detail.as_str() {
        "" => format!("Storage failed: {}.", failure.message),
        detail => format!("Storage failed: {}. {detail}", failure.message),
    };
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        "s3vector reads vectors from the table because storage does not deliver them",
        "s3vector",
    )
    .set_detail(detail)
    .set_hint(format!(
        "Answers are right, but slower. {}{}",
        failure.hint,
        if failure.hint.is_empty() { "See s3vector_stat_storage." } else { "" }
    ))
    .report(PgLogLevel::WARNING);
}

/// The longest request that the first of the missing rows make: a slot names so many segments
/// and rows.
fn request_of(
    segments: &[Segment],
    wave: &[RowId],
    missing: &[usize],
) -> (Vec<(Uuid, Uuid)>, Vec<RowRef>) {
    let mut numbers: Vec<u32> = Vec::new();
    let mut rows = Vec::new();
    for &number in missing.iter().take(MAX_ROWS) {
        let RowId { segment, row } = wave[number];
        let named = match numbers.iter().position(|&known| known == segment) {
            Some(named) => named,
            None if numbers.len() == MAX_SEGMENTS => break,
            None => {
                numbers.push(segment);
                numbers.len() - 1
            }
        };
        rows.push(RowRef { segment: named as u32, row });
    }
    let names = numbers.iter().map(|&number| segments[number as usize].name()).collect();
    (names, rows)
}

/// Where the payload cache has a row, if it has it.
#[derive(Clone, Copy)]
pub struct Cached {
    chunk: ChunkKey,
    offset: usize,
    length: usize,
}

impl Cached {
    /// Where a row of a segment would be.
    pub fn of(segment: &Segment, row: u32) -> Self {
        let view: &ResidentView<'_> = segment.view();
        let chunk_rows = view.chunk_rows() as u32;
        let length = view.dimensions() * view.payload().element_bytes();
        let (_, segment_uuid) = segment.name();
        let chunk = ChunkKey { segment: segment_uuid, chunk: row / chunk_rows };
        Self { chunk, offset: (row % chunk_rows) as usize * length, length }
    }

    /// Asks for the row's bytes.
    fn prefetch(&self) {
        payload_cache::prefetch_bytes(&self.chunk, self.offset, self.length);
    }

    /// Decodes the row into `vector`, if its chunk is there.
    pub fn decode(&self, payload: Payload, scratch: &mut Vec<u8>, vector: &mut [f32]) -> bool {
        let decode = |bytes: &[u8]| payload.decode(bytes, vector);
        payload_cache::read(&self.chunk, self.offset, self.length, scratch, decode).is_some()
    }

    /// The row's distance, if its chunk is there.
    fn distance(
        &self,
        query: &ExactQuery,
        payload: Payload,
        scratch: &mut Vec<u8>,
    ) -> Option<Interval> {
        let measure = |bytes: &[u8]| query.interval_bytes(payload, bytes);
        payload_cache::read(&self.chunk, self.offset, self.length, scratch, measure)
    }
}
