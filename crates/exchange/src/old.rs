//! Collections of the engine before this one.
//!
//! ```text
//!   metadata.json                                  {"collection_id", "dimension", "metric", …}
//!   shards/shard_*/batch_*/vectors/                Zarr array, row × dimension
//!   shards/shard_*/batch_*/metadata.json           {"metadata": [{…}, …], "ids": ["…", …]}
//!   shard_metadata/, hnsw_graph.json               not read: they need not agree with the rest
//! ```
//!
//! A shard is a cluster of near vectors; a batch holds what one call added to it. Nothing was ever
//! changed in place, so an id can be in several batches: **the row written last counts**, the others
//! are left out and counted. What was written last:
//!
//! - Within a shard, the batch of the higher number; within a batch, the later row.
//! - Between shards, the later by the store's clock, as long as that clock and the numbers agree
//!   within every shard. In a copy they often do not: then the batch of the higher number, then
//!   the shard of the higher name.

mod batch;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Deserialize;
use storage::{ObjectMeta, Store};

use crate::batches::{Batch, Batches, MAX_DIMENSIONS, ReadLimits, Tally};
use crate::error::{ExchangeError, Result};
use crate::objects::{Objects, read_if_there};
use batch::OldBatch;

/// Name of the documents that describe a collection and a batch.
const METADATA: &str = "metadata.json";

/// A collection of the old engine.
#[derive(Clone, Debug)]
pub struct OldCollection {
    store: Arc<dyn Store>,
    name: String,
    metric: String,
    dimensions: usize,
    /// The batch that was written last comes first.
    batches: Vec<Arc<OldBatch>>,
}

/// What is read of a collection's `metadata.json`.
#[derive(Deserialize)]
struct Description {
    #[serde(default)]
    collection_id: String,
    dimension: u64,
    #[serde(default)]
    metric: String,
}

impl OldCollection {
    /// Opens the collection whose `metadata.json` is at the top of `store`.
    ///
    /// # Errors
    /// Those of the store; [`ExchangeError::NoCollection`]; [`ExchangeError::Batch`] for a batch
    /// that is not whole.
    pub async fn open(store: &Arc<dyn Store>) -> Result<Self> {
        let none = |what: String| ExchangeError::NoCollection { place: store.url(), what };
        let document = read_if_there(&**store, METADATA).await?;
        let document = document.ok_or_else(|| none("there is no metadata.json".into()))?;
        let description: Description = serde_json::from_slice(&document)
            .map_err(|error| none(format!("metadata.json is not understood: {error}")))?;
        let dimensions = usize::try_from(description.dimension).unwrap_or(usize::MAX);
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(none(format!("its vectors have {dimensions} dimensions")));
        }
        let listed = store.list("shards/").await?;
        let places = places(&listed)?;
        let objects: Objects = listed.into_iter().map(|object| (object.key, object.size)).collect();
        let objects = Arc::new(objects);
        let opened = stream::iter(in_order(places))
            .map(|path| OldBatch::open(store, path, dimensions, Arc::clone(&objects)))
            .buffered(store.concurrency().max(1));
        let batches = opened.map_ok(Arc::new).try_collect().await?;
        let Description { collection_id: name, metric, .. } = description;
        Ok(Self { store: Arc::clone(store), name, metric, dimensions, batches })
    }

    /// The collection's name; empty if it has none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its metric as it was stored (`cosine`, …); empty if there is none.
    pub fn metric(&self) -> &str {
        &self.metric
    }

    /// Elements of a vector: 1 to [`MAX_DIMENSIONS`].
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// How many rows are stored, those with a repeated id included.
    pub fn stored_rows(&self) -> u64 {
        self.batches.iter().map(|batch| batch.rows()).sum()
    }

    /// All rows, each id once, with ids and metadata. The batches written last come first.
    pub fn batches(&self) -> Batches {
        self.batches_within(ReadLimits::default())
    }

    /// As [`batches`](Self::batches), so much at a time.
    pub fn batches_within(&self, limits: ReadLimits) -> Batches {
        let tally = Arc::new(Tally::default());
        let row_bytes = (size_of::<f32>() * self.dimensions) as u64;
        let largest = self.batches.iter().map(|batch| batch.rows() * row_bytes).max().unwrap_or(0);
        let fitting = usize::try_from(limits.band_bytes / largest.max(1)).unwrap_or(usize::MAX);
        let at_once = fitting.clamp(1, self.store.concurrency().max(1));
        let store = Arc::clone(&self.store);
        let read = stream::iter(self.batches.clone())
            .map(move |batch| {
                let store = Arc::clone(&store);
                async move { batch.read(&*store, limits).await }
            })
            .buffered(at_once);
        let mut seen = HashSet::new();
        let mut next_row = 0;
        let dimensions = self.dimensions;
        let counted = Arc::clone(&tally);
        let parts = read.map_ok(move |mut rows| {
            let before = rows.ids.len();
            rows.keep_new(&mut seen, dimensions);
            let repeated = (before - rows.ids.len()) as u64;
            counted.repeated_ids.fetch_add(repeated, Ordering::Relaxed);
            let parts = rows.cut(next_row, dimensions, limits.rows(dimensions));
            next_row += parts.iter().map(|part| part.rows as u64).sum::<u64>();
            stream::iter(parts.into_iter().map(Ok::<Batch, ExchangeError>))
        });
        Batches::new(parts.try_flatten().boxed(), tally)
    }
}

/// Where a batch is and when it was written.
#[derive(Clone, Debug)]
struct BatchPlace {
    /// `shards/…/…`
    path: String,
    shard: String,
    /// What its name ends with.
    number: u64,
    modified: SystemTime,
}

/// The batches among the objects listed.
///
/// # Errors
/// [`ExchangeError::Batch`] for one with vectors or metadata only.
fn places(listed: &[ObjectMeta]) -> Result<Vec<BatchPlace>> {
    /// When the metadata were written, and whether there are vectors.
    type Parts = (Option<SystemTime>, bool);
    let mut batches: BTreeMap<(&str, &str), Parts> = BTreeMap::new();
    for object in listed {
        let mut parts = object.key.splitn(4, '/').skip(1);
        let (Some(shard), Some(batch), Some(rest)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if shard.starts_with("shard_") && batch.starts_with("batch_") {
            let (metadata, vectors) = batches.entry((shard, batch)).or_default();
            match rest {
                METADATA => *metadata = Some(object.modified),
                _ => *vectors |= rest.starts_with("vectors/"),
            }
        }
    }
    let whole = batches.into_iter().filter_map(|((shard, batch), parts)| {
        let path = format!("shards/{shard}/{batch}");
        let modified = match parts {
            // Nothing but its own group: it was given up before anything was written.
            (None, false) => return None,
            (None, true) => {
                return Some(Err(ExchangeError::batch(path, "it has no metadata.json")));
            }
            (Some(_), false) => return Some(Err(ExchangeError::batch(path, "it has no vectors"))),
            (Some(modified), true) => modified,
        };
        let digits = batch.rsplit('_').next().unwrap_or_default();
        let number = digits.parse().unwrap_or(0);
        Some(Ok(BatchPlace { path, shard: shard.to_owned(), number, modified }))
    });
    whole.collect()
}

/// Paths of the batches, the one written last first.
fn in_order(mut places: Vec<BatchPlace>) -> Vec<String> {
    places.sort_by(|a, b| (&a.shard, a.number, &a.path).cmp(&(&b.shard, b.number, &b.path)));
    let clock_is_right = places
        .windows(2)
        .all(|pair| pair[0].shard != pair[1].shard || pair[0].modified <= pair[1].modified);
    places.sort_by_cached_key(|place| {
        let modified = clock_is_right.then_some(place.modified);
        Reverse((modified, place.number, place.shard.clone(), place.path.clone()))
    });
    places.into_iter().map(|place| place.path).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn place(shard: &str, number: u64, second: u64) -> BatchPlace {
        BatchPlace {
            path: format!("{shard}/{number}"),
            shard: shard.into(),
            number,
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
        }
    }

    #[test]
    fn the_clock_decides_between_shards_when_it_can_be_right() {
        let right =
            vec![place("a", 0, 10), place("a", 1, 20), place("b", 0, 30), place("b", 1, 30)];
        assert_eq!(in_order(right), ["b/1", "b/0", "a/1", "a/0"]);
        let copied =
            vec![place("a", 0, 20), place("a", 1, 10), place("b", 0, 30), place("b", 10, 30)];
        assert_eq!(in_order(copied), ["b/10", "a/1", "b/0", "a/0"]);
        let equal = vec![place("a", 1, 7), place("b", 0, 7), place("b", 1, 7), place("a", 0, 7)];
        assert_eq!(in_order(equal), ["b/1", "a/1", "b/0", "a/0"]);
    }

    #[test]
    fn halves_of_batches_are_named() {
        let object =
            |key: &str| ObjectMeta { key: key.into(), size: 1, modified: SystemTime::UNIX_EPOCH };
        let whole =
            ["shards/shard_0/batch_7/metadata.json", "shards/shard_0/batch_7/vectors/zarr.json"];
        let listed: Vec<_> = whole
            .into_iter()
            .chain(["shards/shard_0/zarr.json", "shards/shard_0/batch_8/zarr.json"])
            .map(object)
            .collect();
        let found = places(&listed).expect("whole");
        assert_eq!((found.len(), found[0].number), (1, 7));
        for (one, missing) in [(0, "vectors"), (1, "metadata.json")] {
            let error = places(&[object(whole[one])]).expect_err("half");
            assert!(error.to_string().contains("shards/shard_0/batch_7"), "{error}");
            assert!(error.detail().expect("a detail").contains(missing));
        }
    }
}
