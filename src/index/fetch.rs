//! Exact distances for rows of segments: from the payload cache where they lie, the rest from the
//! storage worker in one request.

use std::time::Instant;

use distance::ExactQuery;
use segment::ResidentView;
use uuid::Uuid;

use super::candidates::Segment;
use super::rerank::RowId;
use super::statistics::ScanStatistics;
use crate::settings;
use crate::shared::fetch_slots::{self, MAX_ROWS, MAX_SEGMENTS, RowRef};
use crate::shared::payload_cache::{self, ChunkKey};

/// Buffers reused from wave to wave.
#[derive(Default)]
pub struct Fetcher {
    distances: Vec<f64>,
    missing: Vec<usize>,
    row_bytes: Vec<u8>,
    answer: Vec<f64>,
}

impl Fetcher {
    /// The distances of `wave` to `query`, in the wave's order. Raises an error when storage
    /// does not deliver.
    pub fn distances(
        &mut self,
        query: &ExactQuery,
        segments: &[Segment],
        wave: &[RowId],
        statistics: &mut ScanStatistics,
    ) -> &[f64] {
        let before = *statistics;
        self.distances.clear();
        self.missing.clear();
        for (number, id) in wave.iter().enumerate() {
            let segment = &segments[id.segment as usize];
            let found = cached(query, segment, id.row, &mut self.row_bytes);
            if found.is_none() {
                self.missing.push(number);
            }
            self.distances.push(found.unwrap_or(f64::NAN));
        }
        statistics.reranked += wave.len() as u32;
        statistics.cache_hits += (wave.len() - self.missing.len()) as u32;
        statistics.count_lookups(&before);
        if !self.missing.is_empty() {
            let started = Instant::now();
            self.fetch_missing(query, segments, wave, statistics);
            statistics.fetch += started.elapsed();
        }
        &self.distances
    }

    fn fetch_missing(
        &mut self,
        query: &ExactQuery,
        segments: &[Segment],
        wave: &[RowId],
        statistics: &mut ScanStatistics,
    ) {
        let missing = std::mem::take(&mut self.missing);
        let mut rest = missing.as_slice();
        while !rest.is_empty() {
            let (names, rows) = request_of(segments, wave, rest);
            let (now, later) = rest.split_at(rows.len());
            let fetched = fetch_slots::fetch(
                query.metric(),
                query.vector(),
                &names,
                &rows,
                settings::fetch_timeout(),
                &mut self.answer,
            );
            for (&number, &distance) in now.iter().zip(&self.answer) {
                self.distances[number] = distance;
            }
            statistics.waves += 1;
            statistics.requests += fetched.requests;
            statistics.chunks_fetched += fetched.chunks;
            statistics.bytes += fetched.bytes;
            rest = later;
        }
        self.missing = missing;
    }
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

/// The distance of a row whose chunk is in the payload cache.
fn cached(query: &ExactQuery, segment: &Segment, row: u32, scratch: &mut Vec<u8>) -> Option<f64> {
    let view: &ResidentView<'_> = segment.view();
    let chunk_rows = view.chunk_rows() as u32;
    let row_bytes = view.dimensions() * view.payload().element_bytes();
    let (_, segment_uuid) = segment.name();
    let key = ChunkKey { segment: segment_uuid, chunk: row / chunk_rows };
    let offset = (row % chunk_rows) as usize * row_bytes;
    payload_cache::read(&key, offset, row_bytes, scratch, |bytes| {
        query.order_value(view.payload(), bytes)
    })
}
