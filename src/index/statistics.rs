//! What a scan did: for `s3vector_last_scan()`, EXPLAIN and the cumulative counters.

use std::cell::Cell;
use std::ops::AddAssign;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::shared::counters;
use crate::shared::fetch_slots::Fetched;

/// Counts of one scan.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScanStatistics {
    /// Segments searched.
    pub segments: u32,
    /// Rows that walks and sweeps returned.
    pub candidates: u32,
    /// Rows whose exact distance was looked up, in the cache, in storage or in the table.
    pub reranked: u32,
    /// Of those, rows found in the payload cache.
    pub cache_hits: u32,
    /// Rows whose vector was read from the table because storage did not answer.
    pub heap_rows: u32,
    /// Rows whose distance the operator itself computed, because it is too close to another's.
    pub refined: u32,
    /// Inner chunks fetched through the storage worker.
    pub chunks_fetched: u32,
    /// Of those, the ones that Redis had.
    pub redis_chunks: u32,
    /// Requests made to storage, hedges among them.
    pub requests: u32,
    /// Of those, made because another was slow.
    pub hedges: u32,
    /// Bytes received from storage.
    pub bytes: u64,
    /// Times the scan waited for storage.
    pub waves: u32,
    /// Rows of the delta compared.
    pub delta_rows: u32,
    /// Walks over graphs.
    pub walks: u32,
    /// Passes over the codes of all rows.
    pub sweeps: u32,
    /// Rows whose codes these passes looked at.
    pub swept_rows: u64,
    /// Rows sorted because memory was too small for a sweep.
    pub sorted_rows: u64,
    /// Rows handed out although one farther away had been before.
    pub late: u32,
    /// Time spent searching graphs and the delta.
    pub search: Duration,
    /// Time spent waiting for storage.
    pub fetch: Duration,
}

impl AddAssign for ScanStatistics {
    fn add_assign(&mut self, other: Self) {
        self.segments = self.segments.saturating_add(other.segments);
        self.candidates = self.candidates.saturating_add(other.candidates);
        self.reranked = self.reranked.saturating_add(other.reranked);
        self.cache_hits = self.cache_hits.saturating_add(other.cache_hits);
        self.heap_rows = self.heap_rows.saturating_add(other.heap_rows);
        self.refined = self.refined.saturating_add(other.refined);
        self.chunks_fetched = self.chunks_fetched.saturating_add(other.chunks_fetched);
        self.redis_chunks = self.redis_chunks.saturating_add(other.redis_chunks);
        self.requests = self.requests.saturating_add(other.requests);
        self.hedges = self.hedges.saturating_add(other.hedges);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.waves = self.waves.saturating_add(other.waves);
        self.delta_rows = self.delta_rows.saturating_add(other.delta_rows);
        self.walks = self.walks.saturating_add(other.walks);
        self.sweeps = self.sweeps.saturating_add(other.sweeps);
        self.swept_rows = self.swept_rows.saturating_add(other.swept_rows);
        self.sorted_rows = self.sorted_rows.saturating_add(other.sorted_rows);
        self.late = self.late.saturating_add(other.late);
        self.search += other.search;
        self.fetch += other.fetch;
    }
}

thread_local! {
    static LAST: Cell<Option<ScanStatistics>> = const { Cell::new(None) };
}

impl ScanStatistics {
    /// Makes these the counts of this process's last scan.
    pub fn publish(&self) {
        LAST.set(Some(*self));
    }

    /// Adds what one fetch through the storage worker took.
    pub fn count_wave(&mut self, fetched: &Fetched) {
        self.waves += 1;
        self.requests += fetched.requests;
        self.hedges += fetched.hedges;
        self.chunks_fetched += fetched.chunks;
        self.redis_chunks += fetched.redis_chunks;
        self.bytes += fetched.bytes;
    }

    /// Adds rows that were read from the table.
    pub fn count_fallback(&mut self, rows: u32) {
        self.heap_rows += rows;
        if let Some(counters) = counters::get() {
            counters.heap_rows.fetch_add(u64::from(rows), Ordering::Relaxed);
        }
    }

    /// Adds what was looked up since `before` to the server's totals.
    pub fn count_lookups(&self, before: &Self) {
        if let Some(counters) = counters::get() {
            let hits = u64::from(self.cache_hits - before.cache_hits);
            let looked_up = u64::from(self.reranked - before.reranked);
            counters.cache_hits.fetch_add(hits, Ordering::Relaxed);
            if looked_up > hits {
                counters.cache_misses.fetch_add(looked_up - hits, Ordering::Relaxed);
            }
        }
    }
}

/// The counts of this process's last scan.
pub fn last() -> Option<ScanStatistics> {
    LAST.get()
}
