//! What this server has asked of storage and Redis, and how quickly they answered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::storage::{LATENCY_CLASSES, Operation, OperationMetrics, latency_bound};
use pgrx::JsonB;
use pgrx::prelude::*;
use serde_json::{Map, Value};

use crate::shared::{counters, storage_metrics};

/// Shares of requests whose latency is told.
const QUANTILES: [f64; 3] = [0.5, 0.95, 0.99];

/// One row for every kind of request, with times in milliseconds. The histogram tells how many
/// requests took at most so long, but longer than the class before. Behind the view
/// `s3vector_stat_requests`.
#[pg_extern(volatile, parallel_restricted)]
#[expect(clippy::type_complexity, reason = "pgrx reads the columns from the type")]
fn s3vector_requests() -> TableIterator<
    'static,
    (
        name!(tier, String),
        name!(operation, String),
        name!(requests, i64),
        name!(errors, i64),
        name!(bytes, i64),
        name!(mean_ms, Option<f64>),
        name!(p50_ms, Option<f64>),
        name!(p95_ms, Option<f64>),
        name!(p99_ms, Option<f64>),
        name!(latency, JsonB),
    ),
> {
    TableIterator::new(Operation::ALL.into_iter().map(|operation| {
        let metrics = storage_metrics::get().of(operation);
        let latency = Latency::of(metrics);
        let (tier, name) = names(operation);
        let [p50, p95, p99] = QUANTILES.map(|share| latency.quantile(share));
        (
            tier.to_owned(),
            name.to_owned(),
            read(&metrics.requests),
            read(&metrics.errors),
            read(&metrics.bytes),
            latency.mean,
            p50,
            p95,
            p99,
            JsonB(latency.histogram()),
        )
    }))
}

/// One row: all requests together, and what was done about slow and failing ones. Behind the view
/// `s3vector_stat_storage`.
#[pg_extern(volatile, parallel_restricted)]
#[expect(clippy::type_complexity, reason = "pgrx reads the columns from the type")]
fn s3vector_storage() -> TableIterator<
    'static,
    (
        name!(reads, i64),
        name!(range_reads, i64),
        name!(writes, i64),
        name!(lists, i64),
        name!(deletes, i64),
        name!(lookups, i64),
        name!(bytes_read, i64),
        name!(bytes_written, i64),
        name!(hedges, i64),
        name!(hedges_won, i64),
        name!(retries, i64),
        name!(throttled, i64),
        name!(rests, i64),
        name!(errors, i64),
        name!(last_error, Option<String>),
        name!(latency, JsonB),
    ),
> {
    let metrics = storage_metrics::get();
    let counts = metrics.snapshot();
    let last_error = counters::get().map(|counters| counters.last_error());
    TableIterator::once((
        counts.get as i64,
        counts.get_range as i64,
        counts.put as i64,
        counts.list as i64,
        counts.delete as i64,
        counts.size as i64,
        counts.bytes_read as i64,
        counts.bytes_written as i64,
        read(&metrics.hedges),
        read(&metrics.hedges_won),
        read(&metrics.retries),
        read(&metrics.throttled),
        read(&metrics.breaks),
        counts.errors as i64,
        last_error.filter(|text| !text.is_empty()),
        JsonB(Latency::of(metrics.of(Operation::GetRange)).histogram()),
    ))
}

fn read(counter: &AtomicU64) -> i64 {
    counter.load(Ordering::Relaxed) as i64
}

/// The tier and the name of an operation.
fn names(operation: Operation) -> (&'static str, &'static str) {
    match operation {
        Operation::Get => ("storage", "read"),
        Operation::GetRange => ("storage", "range read"),
        Operation::Size => ("storage", "lookup"),
        Operation::Put => ("storage", "write"),
        Operation::List => ("storage", "list"),
        Operation::Delete => ("storage", "delete"),
        Operation::RedisRead => ("redis", "read"),
        Operation::RedisWrite => ("redis", "write"),
    }
}

/// The latencies of one kind of request.
struct Latency {
    counts: [u64; LATENCY_CLASSES],
    mean: Option<f64>,
}

impl Latency {
    fn of(metrics: &OperationMetrics) -> Self {
        let counts: [u64; LATENCY_CLASSES] =
            std::array::from_fn(|class| metrics.latency[class].load(Ordering::Relaxed));
        let requests: u64 = counts.iter().sum();
        let total = metrics.microseconds.load(Ordering::Relaxed) as f64 / 1e3;
        Self { counts, mean: (requests > 0).then(|| total / requests as f64) }
    }

    /// What `share` of the requests did not take longer than, to the bound of its class.
    fn quantile(&self, share: f64) -> Option<f64> {
        let requests: u64 = self.counts.iter().sum();
        let wanted = (share * requests as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let class = self.counts.iter().position(|&count| {
            seen += count;
            seen >= wanted
        })?;
        Some(latency_bound(class).map_or(f64::INFINITY, milliseconds))
    }

    fn histogram(&self) -> Value {
        let counted = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let named = counted.map(|(class, &count)| {
            let name = match latency_bound(class) {
                Some(bound) => format!("{} ms", milliseconds(bound)),
                None => "more".to_owned(),
            };
            (name, Value::from(count))
        });
        Value::Object(named.collect::<Map<_, _>>())
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}
