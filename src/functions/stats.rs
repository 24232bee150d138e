//! Statistics of the running server and of this session's last scan.

use std::sync::atomic::{AtomicU64, Ordering};

use ::storage::RedisState;
use pgrx::prelude::*;

use crate::index::statistics;
use crate::settings;
use crate::shared::counters::{self, Counters};
use crate::shared::{payload_cache, registry, storage_metrics};

/// What the session's last scan of an s3vector index did; no row before the first one.
#[pg_extern(volatile, parallel_restricted)]
#[expect(clippy::type_complexity, reason = "pgrx reads the columns from the type")]
fn s3vector_last_scan() -> TableIterator<
    'static,
    (
        name!(segments, i32),
        name!(candidates, i32),
        name!(delta_rows, i32),
        name!(reranked, i32),
        name!(cache_hits, i32),
        name!(heap_rows, i32),
        name!(refined, i32),
        name!(chunks_fetched, i32),
        name!(redis_chunks, i32),
        name!(requests, i32),
        name!(hedges, i32),
        name!(bytes, i64),
        name!(waves, i32),
        name!(walks, i32),
        name!(sweeps, i32),
        name!(swept_rows, i64),
        name!(sorted_rows, i64),
        name!(late, i32),
        name!(search_ms, f64),
        name!(fetch_ms, f64),
    ),
> {
    let milliseconds = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    TableIterator::new(statistics::last().into_iter().map(move |scan| {
        (
            scan.segments as i32,
            scan.candidates as i32,
            scan.delta_rows as i32,
            scan.reranked as i32,
            scan.cache_hits as i32,
            scan.heap_rows as i32,
            scan.refined as i32,
            scan.chunks_fetched as i32,
            scan.redis_chunks as i32,
            scan.requests as i32,
            scan.hedges as i32,
            scan.bytes as i64,
            scan.waves as i32,
            scan.walks as i32,
            scan.sweeps as i32,
            scan.swept_rows as i64,
            scan.sorted_rows as i64,
            scan.late as i32,
            milliseconds(scan.search),
            milliseconds(scan.fetch),
        )
    }))
}

/// The graphs in shared memory, and those being loaded. Behind the view `s3vector_stat_graphs`.
#[pg_extern(volatile, parallel_restricted)]
fn s3vector_graphs() -> TableIterator<
    'static,
    (
        name!(index_uuid, String),
        name!(segment_uuid, String),
        name!(state, String),
        name!(bytes, i64),
    ),
> {
    TableIterator::new(registry::entries().into_iter().map(|entry| {
        (
            entry.index_uuid.to_string(),
            entry.segment_uuid.to_string(),
            entry.state.name().to_owned(),
            entry.bytes as i64,
        )
    }))
}

/// Where queries found vectors: the payload cache, Redis, storage, the table. Behind the view
/// `s3vector_stat_cache`.
#[pg_extern(volatile, parallel_restricted)]
#[expect(clippy::type_complexity, reason = "pgrx reads the columns from the type")]
fn s3vector_cache() -> TableIterator<
    'static,
    (
        name!(capacity_bytes, i64),
        name!(used_bytes, i64),
        name!(chunks, i64),
        name!(evictions, i64),
        name!(hits, i64),
        name!(misses, i64),
        name!(redis_state, String),
        name!(redis_hits, i64),
        name!(redis_misses, i64),
        name!(table_rows, i64),
    ),
> {
    crate::shared::require();
    let usage = payload_cache::usage();
    let count = |read: fn(&Counters) -> &AtomicU64| {
        counters::get().map_or(0, |counters| read(counters).load(Ordering::Relaxed)) as i64
    };
    let metrics = storage_metrics::get();
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as i64;
    let state = match (settings::redis(), metrics.redis_state.load(Ordering::Relaxed)) {
        (None, _) => "not configured",
        (Some(_), state) if state == RedisState::Up as u64 => "up",
        (Some(_), _) => "down",
    };
    TableIterator::once((
        usage.capacity as i64,
        usage.used as i64,
        usage.chunks as i64,
        usage.evictions as i64,
        count(|counters| &counters.cache_hits),
        count(|counters| &counters.cache_misses),
        state.to_owned(),
        read(&metrics.redis_hits),
        read(&metrics.redis_misses),
        count(|counters| &counters.heap_rows),
    ))
}

/// The storage worker. Behind the view `s3vector_stat_worker`.
#[pg_extern(volatile, parallel_restricted)]
fn s3vector_worker() -> TableIterator<
    'static,
    (
        name!(pid, Option<i32>),
        name!(starts, i64),
        name!(errors, i64),
        name!(last_error, Option<String>),
    ),
> {
    TableIterator::new(counters::get().into_iter().map(|counters| {
        let pid = counters.worker_pid.load(Ordering::Acquire);
        (
            (pid != 0).then_some(pid),
            counters.worker_starts.load(Ordering::Relaxed) as i64,
            counters.errors.load(Ordering::Relaxed) as i64,
            Some(counters.last_error()).filter(|text| !text.is_empty()),
        )
    }))
}

/// Empties the payload cache: what vectors are read next comes from Redis or storage. For
/// measurements.
#[pg_extern(volatile, parallel_unsafe)]
fn s3vector_drop_cache() {
    crate::shared::require();
    payload_cache::clear();
}
