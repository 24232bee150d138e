//! One stored array: which objects hold which rows, and fetching them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use storage::Store;
use zarrs::array::CodecChain;

use crate::cell::Cell;
use crate::decoder::Decoder;
use crate::error::{ExchangeError, Result};
use crate::geometry::{Geometry, Unit};
use crate::header::{self, Found, Header};
use crate::objects::{Objects, join, read_ranges};
use crate::shards::{Place, Shards};

/// A Zarr array of one axis or two, whose elements become `T`.
///
/// It is read in *units*: chunks, or the inner chunks of shards.
#[derive(Debug)]
pub(crate) struct StoredArray<T> {
    store: Arc<dyn Store>,
    path: String,
    shape: Vec<u64>,
    geometry: Geometry,
    zarr: zarrs::array::Array<()>,
    objects: Arc<Objects>,
    decoder: Decoder<T>,
    shards: Option<Shards>,
}

/// The bytes of a unit, and the object they are from.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub(crate) key: Arc<str>,
    pub(crate) bytes: Bytes,
}

impl<T: Cell> StoredArray<T> {
    /// Opens the array at `path`, or answers `None` if there is none. `axes` is how many it must
    /// have; `objects` are those below the path, if they have been listed already.
    ///
    /// # Errors
    /// Those of the store, and what is not supported.
    pub(crate) async fn open(
        store: &Arc<dyn Store>,
        path: &str,
        axes: usize,
        objects: Option<Arc<Objects>>,
    ) -> Result<Option<Self>> {
        let Found::Array(version, document) = header::find(&**store, path).await? else {
            return Ok(None);
        };
        let header = Header::new(path, version, document, T::accepts, T::WANTED)?;
        let shape = header.array.shape().to_vec();
        if shape.len() != axes {
            let axes =
                if axes == 1 { "one axis: the rows" } else { "two axes: rows × dimensions" };
            let wanted = format!("an array of {axes}");
            return Err(ExchangeError::Shape { array: path.to_owned(), shape, wanted });
        }
        let objects = match objects {
            Some(objects) => objects,
            None => Arc::new(Objects::list(&**store, path).await?),
        };
        let unsupported = |what| ExchangeError::unsupported(path, what);
        let plane = |lengths: &[u64]| [lengths[0], lengths.get(1).copied().unwrap_or(1)];
        let chunk = plane(&header.chunk);
        let (unit, codecs, shards) = match &header.sharding {
            None => (header.chunk.clone(), header.codecs(), None),
            Some(sharding) => {
                let inner: Vec<u64> = sharding.chunk_shape.iter().map(|n| n.get()).collect();
                if inner.len() != axes {
                    return Err(unsupported(format!("its inner chunks have the shape {inner:?}")));
                }
                let codecs = CodecChain::from_metadata(&sharding.codecs)
                    .map_err(|error| unsupported(error.to_string()))?;
                let shards =
                    Shards::new(chunk, plane(&inner), axes, sharding).map_err(unsupported)?;
                (inner, Arc::new(codecs), Some(shards))
            }
        };
        let zarr = header.array;
        let decoder =
            Decoder::new(header.kind, &unit, zarr.data_type(), zarr.fill_value(), &codecs)
                .map_err(unsupported)?;
        let [rows, columns] = plane(&shape);
        let [unit_rows, unit_columns] = plane(&unit);
        let geometry = Geometry { rows, columns, unit_rows, unit_columns };
        let (store, path) = (Arc::clone(store), path.to_owned());
        Ok(Some(Self { store, path, shape, geometry, zarr, objects, decoder, shards }))
    }

    /// Where the array is below the store.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Its shape.
    pub(crate) fn shape(&self) -> &[u64] {
        &self.shape
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(crate) fn decoder(&self) -> &Decoder<T> {
        &self.decoder
    }

    /// Forgets the shards that lie wholly before the units' row `row`: they are needed no more.
    pub(crate) fn forget_before(&self, row: u64) {
        if let Some(shards) = &self.shards {
            shards.forget_before(shards.shard_of([row, 0])[0]);
        }
    }

    /// Reads the bytes of all units of `band`, row-major; `None` for one that was never written.
    ///
    /// # Errors
    /// Those of the store; [`ExchangeError::Corrupt`] for a shard that cannot be.
    pub(crate) async fn fetch(&self, band: &Range<u64>) -> Result<Vec<Option<Fetched>>> {
        let units = self.geometry.units(band);
        match &self.shards {
            None => self.fetch_chunks(&units).await,
            Some(shards) => self.fetch_inner(shards, &units).await,
        }
    }

    async fn fetch_chunks(&self, units: &[Unit]) -> Result<Vec<Option<Fetched>>> {
        let places = units.iter().map(|&unit| {
            let key = self.key(unit);
            self.objects.size(&key).map(|size| (key, 0..size))
        });
        self.read(places.collect()).await
    }

    async fn fetch_inner(&self, shards: &Shards, units: &[Unit]) -> Result<Vec<Option<Fetched>>> {
        let numbers: BTreeSet<Unit> = units.iter().map(|&unit| shards.shard_of(unit)).collect();
        let present = numbers.into_iter().filter_map(|number| {
            let key = self.key(number);
            self.objects.size(&key).map(|size| (number, key, size))
        });
        let opened = stream::iter(present.collect::<Vec<_>>())
            .map(async |(number, key, size)| {
                let shard = shards.open(&*self.store, number, &key, size).await?;
                Ok::<_, ExchangeError>((number, shard))
            })
            .buffer_unordered(self.store.concurrency().max(1));
        let opened: BTreeMap<Unit, _> = opened.try_collect().await?;
        let places: Vec<_> = units
            .iter()
            .map(|&unit| {
                let shard = opened.get(&shards.shard_of(unit))?;
                Some((Arc::clone(shard.key()), shards.place(shard, unit)))
            })
            .collect();
        let far = places.iter().map(|place| match place {
            Some((key, Place::Range(range))) => Some((Arc::clone(key), range.clone())),
            _ => None,
        });
        let far = self.read(far.collect()).await?;
        let joined = places.into_iter().zip(far).map(|(place, far)| match place {
            Some((key, Place::Bytes(bytes))) => Some(Fetched { key, bytes }),
            _ => far,
        });
        Ok(joined.collect())
    }

    /// Reads the ranges that there are.
    async fn read(
        &self,
        places: Vec<Option<(Arc<str>, Range<u64>)>>,
    ) -> Result<Vec<Option<Fetched>>> {
        let there: Vec<_> = places.iter().flatten().cloned().collect();
        let mut bytes = read_ranges(&*self.store, &there).await?.into_iter();
        let fetched = places.into_iter().map(|place| {
            let (key, range) = place?;
            let bytes = bytes.next().unwrap_or_default();
            Some((key, range, bytes))
        });
        let fetched: Vec<_> = fetched.collect();
        fetched
            .into_iter()
            .map(|one| {
                let Some((key, range, bytes)) = one else { return Ok(None) };
                match bytes.len() as u64 == range.end - range.start {
                    true => Ok(Some(Fetched { key, bytes })),
                    false => {
                        let what = format!("{} bytes where {range:?} belong", bytes.len());
                        Err(ExchangeError::corrupt(&*key, what))
                    }
                }
            })
            .collect()
    }

    /// The object of a chunk or of a shard.
    fn key(&self, number: Unit) -> Arc<str> {
        let key = self.zarr.chunk_key(&number[..self.shape.len()]);
        join(&self.path, key.as_str()).into()
    }
}
