//! Makes a store slow, as if it were far away.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::store::Result;
use crate::{ObjectMeta, Store};

/// A [`Store`] whose every request takes a fixed time longer. Requests in parallel wait in
/// parallel.
#[derive(Debug)]
pub struct Latency<S> {
    inner: S,
    delay: Duration,
}

impl<S: Store> Latency<S> {
    /// Adds `delay` to every request to `inner`.
    pub fn new(inner: S, delay: Duration) -> Self {
        Self { inner, delay }
    }

    async fn wait(&self) {
        tokio::time::sleep(self.delay).await;
    }
}

#[async_trait]
impl<S: Store> Store for Latency<S> {
    async fn get(&self, key: &str) -> Result<Bytes> {
        self.wait().await;
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.wait().await;
        self.inner.get_range(key, range).await
    }

    fn concurrency(&self) -> usize {
        self.inner.concurrency()
    }

    async fn size(&self, key: &str) -> Result<u64> {
        self.wait().await;
        self.inner.size(key).await
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        self.wait().await;
        self.inner.put(key, body).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        self.wait().await;
        self.inner.list(prefix).await
    }

    async fn folders(&self) -> Result<Vec<String>> {
        self.wait().await;
        self.inner.folders().await
    }

    async fn delete(&self, keys: &[String]) -> Result<()> {
        self.wait().await;
        self.inner.delete(keys).await
    }

    async fn settle(&self) {
        self.inner.settle().await;
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}
