//! Counts what a store is asked for.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;

use crate::store::Result;
use crate::{ObjectMeta, Store};

/// A [`Store`] that counts the requests it passes on.
#[derive(Debug)]
pub struct Metered<S> {
    inner: S,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    get: AtomicU64,
    get_range: AtomicU64,
    size: AtomicU64,
    put: AtomicU64,
    list: AtomicU64,
    delete: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    errors: AtomicU64,
}

/// The counters of a [`Metered`] store at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Calls of [`Store::get`].
    pub get: u64,
    /// Calls of [`Store::get_range`].
    pub get_range: u64,
    /// Calls of [`Store::size`].
    pub size: u64,
    /// Calls of [`Store::put`].
    pub put: u64,
    /// Calls of [`Store::list`] and [`Store::folders`].
    pub list: u64,
    /// Calls of [`Store::delete`].
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

impl<S: Store> Metered<S> {
    /// Counts the requests to `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, counters: Counters::default() }
    }

    /// The counters now. Each is exact; together they may straddle a request under way.
    pub fn snapshot(&self) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let c = &self.counters;
        Snapshot {
            get: read(&c.get),
            get_range: read(&c.get_range),
            size: read(&c.size),
            put: read(&c.put),
            list: read(&c.list),
            delete: read(&c.delete),
            bytes_read: read(&c.bytes_read),
            bytes_written: read(&c.bytes_written),
            errors: read(&c.errors),
        }
    }

    fn count<T>(&self, requests: &AtomicU64, outcome: Result<T>) -> Result<T> {
        requests.fetch_add(1, Ordering::Relaxed);
        if outcome.is_err() {
            self.counters.errors.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    fn count_read(&self, requests: &AtomicU64, outcome: Result<Bytes>) -> Result<Bytes> {
        let body = self.count(requests, outcome)?;
        self.counters.bytes_read.fetch_add(body.len() as u64, Ordering::Relaxed);
        Ok(body)
    }
}

#[async_trait]
impl<S: Store> Store for Metered<S> {
    async fn get(&self, key: &str) -> Result<Bytes> {
        self.count_read(&self.counters.get, self.inner.get(key).await)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let outcome = self.inner.get_range(key, range).await;
        self.count_read(&self.counters.get_range, outcome)
    }

    async fn size(&self, key: &str) -> Result<u64> {
        self.count(&self.counters.size, self.inner.size(key).await)
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        let length = body.len() as u64;
        self.count(&self.counters.put, self.inner.put(key, body).await)?;
        self.counters.bytes_written.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        self.count(&self.counters.list, self.inner.list(prefix).await)
    }

    async fn folders(&self) -> Result<Vec<String>> {
        self.count(&self.counters.list, self.inner.folders().await)
    }

    async fn delete(&self, keys: &[String]) -> Result<()> {
        self.count(&self.counters.delete, self.inner.delete(keys).await)
    }

    async fn settle(&self) {
        self.inner.settle().await;
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}
