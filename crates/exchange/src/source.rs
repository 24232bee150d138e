//! Vectors that somebody else has written: a Zarr array, and perhaps ids and metadata beside it.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use serde::de::IgnoredAny;
use storage::Store;

use crate::array::StoredArray;
use crate::bands::{Cutter, bands};
use crate::batches::{Batch, Batches, MAX_DIMENSIONS, ReadLimits, Tally};
use crate::cell::Cell;
use crate::error::{ExchangeError, Result};
use crate::header::{self, Found};
use crate::objects::join;

/// Most arrays that a message names.
const NAMED: usize = 20;

/// Most metadata that are read to find them.
const LOOKED_AT: usize = 100;

/// An array of vectors (rows × dimensions, `float32` or `float16`), and arrays of the same length
/// beside it.
///
/// Zarr v2 and v3, any chunks, shards or none. Ids are strings or integers, metadata strings that
/// hold JSON objects (an empty one is `{}`).
#[derive(Clone, Debug)]
pub struct Source {
    vectors: Arc<StoredArray<f32>>,
    ids: Option<Arc<StoredArray<String>>>,
    metadata: Option<Arc<StoredArray<String>>>,
}

impl Source {
    /// Opens the array at the path `array` below `store`; the empty path is the store itself.
    /// `ids` and `metadata` are names of arrays in the same group.
    ///
    /// # Errors
    /// Those of the store; what is not there, or is not what it must be.
    pub async fn open(
        store: &Arc<dyn Store>,
        array: &str,
        ids: Option<&str>,
        metadata: Option<&str>,
    ) -> Result<Self> {
        let array = array.trim_matches('/');
        let vectors: StoredArray<f32> = open(store, array, 2).await?;
        let dimensions = vectors.shape()[1];
        if !(1..=MAX_DIMENSIONS as u64).contains(&dimensions) {
            return Err(ExchangeError::Shape {
                array: array.to_owned(),
                shape: vectors.shape().to_vec(),
                wanted: format!("an array of rows × 1 to {MAX_DIMENSIONS} dimensions"),
            });
        }
        let group = array.rsplit_once('/').map_or("", |(group, _)| group);
        let beside = async |name: Option<&str>| match name {
            None => Ok(None),
            Some(_) if array.is_empty() => {
                Err(ExchangeError::invalid("there are no arrays beside one that is not in a group"))
            }
            Some(name) => {
                let path = join(group, name.trim_matches('/'));
                let column: StoredArray<String> = open(store, &path, 1).await?;
                let (rows, length) = (vectors.shape()[0], column.shape()[0]);
                if rows != length {
                    let vectors = array.to_owned();
                    return Err(ExchangeError::Lengths { vectors, rows, array: path, length });
                }
                Ok(Some(Arc::new(column)))
            }
        };
        let (ids, metadata) = (beside(ids).await?, beside(metadata).await?);
        Ok(Self { vectors: Arc::new(vectors), ids, metadata })
    }

    /// How many vectors there are.
    pub fn rows(&self) -> u64 {
        self.vectors.shape()[0]
    }

    /// Elements of a vector: 1 to [`MAX_DIMENSIONS`].
    pub fn dimensions(&self) -> usize {
        self.vectors.shape()[1] as usize
    }

    /// All rows in order.
    pub fn batches(&self) -> Batches {
        self.batches_within(ReadLimits::default())
    }

    /// All rows in order, so much at a time.
    pub fn batches_within(&self, limits: ReadLimits) -> Batches {
        let tally = Arc::new(Tally::default());
        let cut = |column: &Option<Arc<StoredArray<String>>>| {
            column.as_ref().map(|column| Column {
                path: column.path().to_owned(),
                cells: cutter(column, limits, &tally),
            })
        };
        let reading = Reading {
            rows: self.rows(),
            next: 0,
            dimensions: self.dimensions(),
            batch_rows: limits.rows(self.dimensions()),
            vectors: cutter(&self.vectors, limits, &tally),
            ids: cut(&self.ids),
            metadata: cut(&self.metadata),
        };
        let stream = stream::try_unfold(reading, |mut reading| async move {
            Ok(reading.batch().await?.map(|batch| (batch, reading)))
        });
        Batches::new(stream.boxed(), tally)
    }
}

fn cutter<T: Cell>(array: &Arc<StoredArray<T>>, limits: ReadLimits, tally: &Tally) -> Cutter<T> {
    let missing = Arc::clone(&tally.missing_chunks);
    Cutter::new(bands(Arc::clone(array), limits.band_bytes, missing))
}

/// An array of strings on its way.
struct Column {
    path: String,
    cells: Cutter<String>,
}

/// The arrays on their way.
struct Reading {
    rows: u64,
    next: u64,
    dimensions: usize,
    batch_rows: usize,
    vectors: Cutter<f32>,
    ids: Option<Column>,
    metadata: Option<Column>,
}

impl Reading {
    /// The next batch; `None` at the end.
    async fn batch(&mut self) -> Result<Option<Batch>> {
        let left = self.rows - self.next;
        let rows = usize::try_from(left).unwrap_or(usize::MAX).min(self.batch_rows);
        if rows == 0 {
            return Ok(None);
        }
        let first_row = self.next;
        let vectors = self.vectors.take(rows * self.dimensions).await?;
        let ids = match &mut self.ids {
            None => None,
            Some(column) => Some(column.take(rows, first_row, bad_id).await?),
        };
        let metadata = match &mut self.metadata {
            None => None,
            Some(column) => {
                let mut texts = column.take(rows, first_row, bad_object).await?;
                for text in texts.iter_mut().filter(|text| text.is_empty()) {
                    text.push_str("{}");
                }
                Some(texts)
            }
        };
        self.next += rows as u64;
        let dimensions = self.dimensions;
        Ok(Some(Batch { first_row, rows, dimensions, vectors, ids, metadata }))
    }
}

impl Column {
    /// The next cells, none of which `bad` may complain of.
    async fn take(
        &mut self,
        rows: usize,
        first_row: u64,
        bad: fn(&str) -> Option<&'static str>,
    ) -> Result<Vec<String>> {
        let cells = self.cells.take(rows).await?;
        for (row, cell) in (first_row..).zip(&cells) {
            if let Some(what) = bad(cell) {
                return Err(ExchangeError::Row { array: self.path.clone(), row, what });
            }
        }
        Ok(cells)
    }
}

/// What is wrong with an id.
pub(crate) fn bad_id(id: &str) -> Option<&'static str> {
    match id {
        "" => Some("has an empty id"),
        id if id.contains('\0') => Some("has an id with a zero character"),
        _ => None,
    }
}

/// What is wrong with metadata.
fn bad_object(text: &str) -> Option<&'static str> {
    let object = text.trim_start().starts_with('{');
    let sound = text.is_empty() || (object && serde_json::from_str::<IgnoredAny>(text).is_ok());
    (!sound).then_some("is not a JSON object")
}

/// Opens an array that must be there.
async fn open<T: Cell>(store: &Arc<dyn Store>, path: &str, axes: usize) -> Result<StoredArray<T>> {
    if let Some(array) = StoredArray::open(store, path, axes, None).await? {
        return Ok(array);
    }
    let place = store.url();
    let objects = store.list("").await?;
    if objects.is_empty() {
        return Err(ExchangeError::Absent { place });
    }
    let folders = objects.iter().filter_map(|object| {
        let (folder, name) = object.key.rsplit_once('/').unwrap_or(("", &object.key));
        (name == header::V3 || name == header::V2).then_some(folder)
    });
    let folders: BTreeSet<&str> = folders.collect();
    let mut arrays = Vec::new();
    for folder in folders.into_iter().take(LOOKED_AT) {
        // What cannot be read is not an array to name.
        let found = header::find(&**store, folder).await;
        if arrays.len() < NAMED && matches!(found, Ok(Found::Array(..))) {
            arrays.push(folder.to_owned());
        }
    }
    Err(ExchangeError::NoArray { place, array: path.to_owned(), arrays })
}
