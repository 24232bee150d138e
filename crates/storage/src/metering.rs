//! Counts what a store is asked for.

use std::ops::Range;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;

use crate::store::Result;
use crate::{Metrics, ObjectMeta, Operation, Snapshot, Store};

/// A [`Store`] that counts and times the requests it passes on.
#[derive(Debug)]
pub struct Metered<S> {
    inner: S,
    metrics: &'static Metrics,
}

impl<S: Store> Metered<S> {
    /// Counts the requests to `inner` in `metrics`.
    pub fn new(inner: S, metrics: &'static Metrics) -> Self {
        Self { inner, metrics }
    }

    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        self.metrics.snapshot()
    }

    /// Counts a request once it has ended, be it by being given up.
    async fn count<T>(
        &self,
        operation: Operation,
        bytes: impl Fn(&T) -> u64,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let started = Started { metrics: self.metrics, operation, at: Instant::now() };
        let outcome = work.await;
        started.end(match &outcome {
            Ok(value) => Ok(bytes(value)),
            Err(_) => Err(()),
        });
        outcome
    }
}

/// A request under way.
struct Started {
    metrics: &'static Metrics,
    operation: Operation,
    at: Instant,
}

impl Started {
    fn end(self, outcome: std::result::Result<u64, ()>) {
        self.metrics.count(self.operation, self.at.elapsed(), outcome);
        std::mem::forget(self);
    }
}

impl Drop for Started {
    /// The request was given up: it was made, and brought nothing.
    fn drop(&mut self) {
        self.metrics.count(self.operation, self.at.elapsed(), Ok(0));
    }
}

#[async_trait]
impl<S: Store> Store for Metered<S> {
    async fn get(&self, key: &str) -> Result<Bytes> {
        self.count(Operation::Get, length, self.inner.get(key)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.count(Operation::GetRange, length, self.inner.get_range(key, range)).await
    }

    fn concurrency(&self) -> usize {
        self.inner.concurrency()
    }

    async fn size(&self, key: &str) -> Result<u64> {
        self.count(Operation::Size, |_| 0, self.inner.size(key)).await
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        let length = body.len() as u64;
        self.count(Operation::Put, |()| length, self.inner.put(key, body)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        self.count(Operation::List, |_| 0, self.inner.list(prefix)).await
    }

    async fn folders(&self) -> Result<Vec<String>> {
        self.count(Operation::List, |_| 0, self.inner.folders()).await
    }

    async fn delete(&self, keys: &[String]) -> Result<()> {
        self.count(Operation::Delete, |()| 0, self.inner.delete(keys)).await
    }

    async fn settle(&self) {
        self.inner.settle().await;
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

fn length(body: &Bytes) -> u64 {
    body.len() as u64
}
