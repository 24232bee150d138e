//! One batch of an old collection.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::try_join;
use futures::stream::TryStreamExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use storage::Store;

use super::METADATA;
use crate::array::StoredArray;
use crate::bands::bands;
use crate::batches::{Batch, ReadLimits};
use crate::error::{ExchangeError, Result};
use crate::objects::{Objects, join};
use crate::source::bad_id;

/// A batch: where it is, and its vectors.
#[derive(Debug)]
pub(super) struct OldBatch {
    path: String,
    vectors: Arc<StoredArray<f32>>,
}

/// The rows of a batch.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) ids: Vec<String>,
    metadata: Vec<String>,
    /// rows × dimensions
    vectors: Vec<f32>,
}

/// What is in a batch's `metadata.json`.
#[derive(Deserialize)]
struct Document<'a> {
    ids: Vec<Id>,
    #[serde(borrow)]
    metadata: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(i64),
    Large(u64),
}

impl OldBatch {
    /// Opens the batch at `path`.
    pub(super) async fn open(
        store: &Arc<dyn Store>,
        path: String,
        dimensions: usize,
        objects: Arc<Objects>,
    ) -> Result<Self> {
        let opened = StoredArray::open(store, &join(&path, "vectors"), 2, Some(objects)).await?;
        let Some(vectors) = opened else {
            return Err(ExchangeError::batch(path, "its vectors have no Zarr metadata"));
        };
        let found = vectors.shape()[1];
        if found != dimensions as u64 {
            let what =
                format!("its vectors have {found} dimensions, the collection's {dimensions}");
            return Err(ExchangeError::batch(path, what));
        }
        Ok(Self { path, vectors: Arc::new(vectors) })
    }

    pub(super) fn rows(&self) -> u64 {
        self.vectors.shape()[0]
    }

    /// Reads all of it.
    pub(super) async fn read(&self, store: &dyn Store, limits: ReadLimits) -> Result<Rows> {
        let key = join(&self.path, METADATA);
        let missing = Arc::new(AtomicU64::new(0));
        let vectors = bands(Arc::clone(&self.vectors), limits.band_bytes, Arc::clone(&missing));
        let vectors = vectors.try_fold(Vec::new(), async |mut all, band| {
            match all.is_empty() {
                true => all = band,
                false => all.extend(band),
            }
            Ok(all)
        });
        let document = async { Ok(store.get(&key).await?) };
        let (document, vectors) = try_join(document, vectors).await?;
        if missing.load(Ordering::Relaxed) > 0 {
            return Err(ExchangeError::batch(self.path.as_str(), "it lacks chunks of its vectors"));
        }
        let document: Document<'_> = serde_json::from_slice(&document)
            .map_err(|error| ExchangeError::corrupt(&*key, format!("other JSON: {error}")))?;
        let rows = self.rows();
        let (ids, metadata) = (document.ids.len() as u64, document.metadata.len() as u64);
        if ids != rows || metadata != rows {
            let what = format!("it has {rows} vectors, {ids} ids and {metadata} metadata");
            return Err(ExchangeError::batch(self.path.as_str(), what));
        }
        let bad = |row: usize, what: &str| {
            Err(ExchangeError::corrupt(&*key, format!("row {row}, which {what}")))
        };
        let mut rows = Rows { vectors, ..Rows::default() };
        for (row, (id, metadata)) in document.ids.into_iter().zip(document.metadata).enumerate() {
            let id = match id {
                Id::Text(text) => text,
                Id::Number(number) => number.to_string(),
                Id::Large(number) => number.to_string(),
            };
            if let Some(what) = bad_id(&id) {
                return bad(row, what);
            }
            match metadata.get() {
                "null" => rows.metadata.push("{}".into()),
                text if text.starts_with('{') => rows.metadata.push(text.into()),
                _ => return bad(row, "has metadata that are not an object"),
            }
            rows.ids.push(id);
        }
        Ok(rows)
    }
}

impl Rows {
    /// Leaves out the rows whose id is in `seen`, or comes again in a later row; adds the others to
    /// `seen`.
    pub(super) fn keep_new(&mut self, seen: &mut HashSet<String>, dimensions: usize) {
        let mut keep = vec![false; self.ids.len()];
        for (id, keep) in self.ids.iter().zip(&mut keep).rev() {
            *keep = !seen.contains(id);
            if *keep {
                seen.insert(id.clone());
            }
        }
        if keep.iter().all(|keep| *keep) {
            return;
        }
        let mut vectors = Vec::with_capacity(self.vectors.len());
        for (vector, _) in
            self.vectors.chunks_exact(dimensions).zip(&keep).filter(|(_, keep)| **keep)
        {
            vectors.extend_from_slice(vector);
        }
        self.vectors = vectors;
        let mut each = keep.iter();
        self.ids.retain(|_| each.next() == Some(&true));
        let mut each = keep.iter();
        self.metadata.retain(|_| each.next() == Some(&true));
    }

    /// Batches of at most `most` rows, numbered from `first_row`.
    pub(super) fn cut(self, first_row: u64, dimensions: usize, most: usize) -> Vec<Batch> {
        let (mut ids, mut metadata) = (self.ids.into_iter(), self.metadata.into_iter());
        let parts = self.vectors.chunks(most * dimensions).enumerate().map(|(part, vectors)| {
            let rows = vectors.len() / dimensions;
            Batch {
                first_row: first_row + (part * most) as u64,
                rows,
                dimensions,
                vectors: vectors.to_vec(),
                ids: Some(ids.by_ref().take(rows).collect()),
                metadata: Some(metadata.by_ref().take(rows).collect()),
            }
        });
        parts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(ids: &[&str]) -> Rows {
        Rows {
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            metadata: (0..ids.len()).map(|row| format!("{{\"row\":{row}}}")).collect(),
            vectors: (0..2 * ids.len()).map(|at| at as f32).collect(),
        }
    }

    #[test]
    fn the_later_row_of_an_id_is_kept() {
        let mut seen = HashSet::from(["x".to_owned()]);
        let mut some = rows(&["a", "x", "b", "a"]);
        some.keep_new(&mut seen, 2);
        assert_eq!(some.ids, ["b", "a"]);
        assert_eq!(some.metadata, ["{\"row\":2}", "{\"row\":3}"]);
        assert_eq!(some.vectors, [4.0, 5.0, 6.0, 7.0]);
        assert_eq!(seen.len(), 3);
    }

    #[test]
    fn batches_are_numbered_on() {
        let parts = rows(&["a", "b", "c"]).cut(10, 2, 2);
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].first_row, parts[0].rows), (10, 2));
        assert_eq!((parts[1].first_row, parts[1].rows), (12, 1));
        assert_eq!(parts[1].vectors, [4.0, 5.0]);
        assert_eq!(parts[1].ids.as_deref(), Some(&["c".to_owned()][..]));
        assert!(rows(&[]).cut(0, 2, 2).is_empty());
    }
}
