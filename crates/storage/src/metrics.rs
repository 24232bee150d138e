//! Counts and times of what stores are asked for, in memory that processes can share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Operation;

/// Classes of a latency histogram.
pub const LATENCY_CLASSES: usize = 40;

/// What stores were asked for, and how that went.
///
/// Only atomic counters, so that one value can lie in memory that several processes share; all
/// zeroes is a valid new one.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Metrics {
    operations: [OperationMetrics; Operation::COUNT],
    /// Requests that the S3 client tried again.
    pub retries: AtomicU64,
    /// Answers that asked for fewer requests: 503 SlowDown, 429.
    pub throttled: AtomicU64,
    /// Requests made a second time because the first was slow.
    pub hedges: AtomicU64,
    /// Of those, the ones whose second request answered first.
    pub hedges_won: AtomicU64,
    /// Times that a store was given a rest because requests failed one after the other.
    pub breaks: AtomicU64,
    /// Pieces that Redis had.
    pub redis_hits: AtomicU64,
    /// Pieces asked of Redis that it did not have, or not in time.
    pub redis_misses: AtomicU64,
    /// Times that Redis was given a rest.
    pub redis_breaks: AtomicU64,
    /// Whether Redis answers: 0 not configured, 1 it does, 2 it is being given a rest.
    pub redis_state: AtomicU64,
    /// Bytes of pieces before they went to Redis.
    pub redis_plain_bytes: AtomicU64,
}

/// The counters of one kind of operation.
#[derive(Debug)]
#[repr(C)]
pub struct OperationMetrics {
    /// Requests that have ended.
    pub requests: AtomicU64,
    /// Of those, the ones that failed.
    pub errors: AtomicU64,
    /// Bytes read or written by those that did not.
    pub bytes: AtomicU64,
    /// Microseconds all of them took.
    pub microseconds: AtomicU64,
    /// Requests by class of latency: see [`latency_bound`].
    pub latency: [AtomicU64; LATENCY_CLASSES],
}

impl Default for OperationMetrics {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            requests: zero(),
            errors: zero(),
            bytes: zero(),
            microseconds: zero(),
            latency: std::array::from_fn(|_| zero()),
        }
    }
}

/// Upper bound of a class of latencies; the classes grow by a factor of √2 from 64 µs on, and the
/// last has no bound.
pub fn latency_bound(class: usize) -> Option<Duration> {
    (class + 1 < LATENCY_CLASSES).then(|| {
        let micros = 64.0 * 2f64.powf(class as f64 / 2.0);
        Duration::from_micros(micros.round() as u64)
    })
}

/// The class of a latency.
pub fn latency_class(latency: Duration) -> usize {
    let ratio = (latency.as_micros() as f64 / 64.0).max(f64::MIN_POSITIVE);
    let mut class = ((ratio.log2() * 2.0).ceil().max(0.0) as usize).min(LATENCY_CLASSES - 1);
    // Rounding of the bounds to whole microseconds.
    while latency_bound(class).is_some_and(|bound| latency > bound) {
        class += 1;
    }
    while class > 0 && latency_bound(class - 1).is_some_and(|bound| latency <= bound) {
        class -= 1;
    }
    class
}

impl Metrics {
    /// New counters that live as long as the process.
    pub fn leak() -> &'static Self {
        Box::leak(Box::default())
    }

    /// The counters of one kind of operation.
    pub fn of(&self, operation: Operation) -> &OperationMetrics {
        &self.operations[operation as usize]
    }

    /// Counts an operation that took `latency`: the bytes that went either way, or a failure.
    pub fn count(&self, operation: Operation, latency: Duration, outcome: Result<u64, ()>) {
        let counters = self.of(operation);
        let add = |counter: &AtomicU64, n: u64| counter.fetch_add(n, Ordering::Relaxed);
        add(&counters.requests, 1);
        add(&counters.microseconds, latency.as_micros() as u64);
        add(&counters.latency[latency_class(latency)], 1);
        match outcome {
            Ok(bytes) => add(&counters.bytes, bytes),
            Err(()) => add(&counters.errors, 1),
        };
    }

    /// The counters now. Each is exact; together they may straddle a request under way.
    pub fn snapshot(&self) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let requests = |operation| read(&self.of(operation).requests);
        let bytes = |operation| read(&self.of(operation).bytes);
        Snapshot {
            get: requests(Operation::Get),
            get_range: requests(Operation::GetRange),
            size: requests(Operation::Size),
            put: requests(Operation::Put),
            list: requests(Operation::List),
            delete: requests(Operation::Delete),
            bytes_read: bytes(Operation::Get) + bytes(Operation::GetRange),
            bytes_written: bytes(Operation::Put),
            errors: Operation::ALL.iter().map(|&kind| read(&self.of(kind).errors)).sum(),
        }
    }
}

/// The most important counters of a [`Metrics`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Calls of [`Store::get`](crate::Store::get).
    pub get: u64,
    /// Calls of [`Store::get_range`](crate::Store::get_range).
    pub get_range: u64,
    /// Calls of [`Store::size`](crate::Store::size).
    pub size: u64,
    /// Calls of [`Store::put`](crate::Store::put).
    pub put: u64,
    /// Calls of [`Store::list`](crate::Store::list) and [`Store::folders`](crate::Store::folders).
    pub list: u64,
    /// Calls of [`Store::delete`](crate::Store::delete).
    pub delete: u64,
    /// Bytes that came back from reads.
    pub bytes_read: u64,
    /// Bytes of finished writes.
    pub bytes_written: u64,
    /// Calls that failed.
    pub errors: u64,
}

impl Snapshot {
    /// Requests of every kind.
    pub fn requests(&self) -> u64 {
        self.get + self.get_range + self.size + self.put + self.list + self.delete
    }

    /// What was counted after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            get: self.get.saturating_sub(earlier.get),
            get_range: self.get_range.saturating_sub(earlier.get_range),
            size: self.size.saturating_sub(earlier.size),
            put: self.put.saturating_sub(earlier.put),
            list: self.list.saturating_sub(earlier.list),
            delete: self.delete.saturating_sub(earlier.delete),
            bytes_read: self.bytes_read.saturating_sub(earlier.bytes_read),
            bytes_written: self.bytes_written.saturating_sub(earlier.bytes_written),
            errors: self.errors.saturating_sub(earlier.errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_and_bounds_agree() {
        for class in 0..LATENCY_CLASSES {
            let Some(bound) = latency_bound(class) else {
                assert_eq!(class, LATENCY_CLASSES - 1);
                continue;
            };
            assert_eq!(latency_class(bound), class);
            assert_eq!(latency_class(bound + Duration::from_micros(1)), class + 1);
        }
        assert_eq!(latency_class(Duration::ZERO), 0);
        assert_eq!(latency_class(Duration::from_secs(1 << 40)), LATENCY_CLASSES - 1);
        // Long enough for every timeout that makes sense.
        assert!(latency_bound(LATENCY_CLASSES - 2) > Some(Duration::from_secs(30)));
    }
}
