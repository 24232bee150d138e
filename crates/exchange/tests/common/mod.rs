//! Stores, and reading everything from them.

// Every test file uses its own part of this.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use exchange::{Batch, Batches, ExchangeError, ReadLimits};
use storage::{FileStore, ObjectMeta, Result, Store};

/// A store in a folder that goes away with it.
pub fn folder() -> (tempfile::TempDir, Arc<dyn Store>) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = at(folder.path());
    (folder, store)
}

/// The store in an existing folder.
pub fn at(path: &Path) -> Arc<dyn Store> {
    Arc::new(FileStore::new(path.to_owned()))
}

/// Bands and batches so small that a test has many.
pub const SMALL: ReadLimits = ReadLimits { band_bytes: 200, batch_bytes: 120, batch_rows: 7 };

/// All rows together, after checking that the batches follow each other.
pub async fn read_all(mut batches: Batches) -> std::result::Result<Batch, ExchangeError> {
    let mut all = Batch::default();
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        assert_eq!((batch.first_row, batch.rows > 0), (all.rows as u64, true));
        assert_eq!(batch.vectors.len(), batch.rows * batch.dimensions);
        all.rows += batch.rows;
        all.dimensions = batch.dimensions;
        all.vectors.extend(batch.vectors);
        for (all, some) in [(&mut all.ids, batch.ids), (&mut all.metadata, batch.metadata)] {
            let Some(some) = some else { continue };
            assert_eq!(some.len(), batch.rows);
            all.get_or_insert_default().extend(some);
        }
    }
    Ok(all)
}

/// The bits of numbers, so that NaN equals itself.
pub fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

/// A store that notes which bytes are read.
#[derive(Debug)]
pub struct Noting {
    inner: Arc<dyn Store>,
    pub reads: Mutex<BTreeMap<String, Vec<Range<u64>>>>,
}

impl Noting {
    pub fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { inner, reads: Mutex::default() })
    }

    fn note(&self, key: &str, range: Range<u64>) {
        self.reads.lock().expect("no panic").entry(key.to_owned()).or_default().push(range);
    }
}

#[async_trait]
impl Store for Noting {
    async fn get(&self, key: &str) -> Result<Bytes> {
        let bytes = self.inner.get(key).await?;
        self.note(key, 0..bytes.len() as u64);
        Ok(bytes)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.note(key, range.clone());
        self.inner.get_range(key, range).await
    }

    async fn size(&self, key: &str) -> Result<u64> {
        self.inner.size(key).await
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        self.inner.put(key, body).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        self.inner.list(prefix).await
    }

    async fn folders(&self) -> Result<Vec<String>> {
        self.inner.folders().await
    }

    async fn delete(&self, keys: &[String]) -> Result<()> {
        self.inner.delete(keys).await
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}
