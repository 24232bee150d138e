//! Shards: objects that hold many chunks and an index of them.
//!
//! Follows the [sharding codec](https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html):
//! the index has an offset and a length for every inner chunk, C order, both all ones for one that
//! is not there.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use storage::Store;
use tokio::sync::OnceCell;
use zarrs::array::{
    ArrayToBytesCodecTraits, BytesRepresentation, CodecChain, CodecOptions, FillValue, data_type,
};
use zarrs::metadata_ext::codec::sharding::{ShardingCodecConfigurationV1, ShardingIndexLocation};

use crate::error::{ExchangeError, Result};
use crate::geometry::Unit;
use crate::objects::read_ranges;

/// Shards up to this many bytes are read whole, in one request.
const WHOLE_BYTES: u64 = 4 << 20;

/// How an array's shards are divided, and those that are in use.
#[derive(Debug)]
pub(crate) struct Shards {
    /// Inner chunks of a shard, down and across.
    inside: [u64; 2],
    index: CodecChain,
    /// Shape of the index.
    shape: Vec<NonZeroU64>,
    index_bytes: u64,
    at_end: bool,
    open: Mutex<HashMap<Unit, Arc<OnceCell<Arc<Shard>>>>>,
}

/// A shard that is in use.
#[derive(Debug)]
pub(crate) struct Shard {
    key: Arc<str>,
    /// Where its inner chunks lie.
    entries: Vec<Option<Range<u64>>>,
    /// All of it, if it is small.
    body: Option<Bytes>,
}

/// Where an inner chunk is.
#[derive(Debug)]
pub(crate) enum Place {
    /// Nowhere: it was never written.
    Missing,
    /// Here.
    Bytes(Bytes),
    /// In the shard.
    Range(Range<u64>),
}

impl Shards {
    /// Shards of the shape `shard` with inner chunks of the shape `inner`: down and across.
    ///
    /// # Errors
    /// What of it is not supported, in words.
    pub(crate) fn new(
        shard: [u64; 2],
        inner: [u64; 2],
        axes: usize,
        configuration: &ShardingCodecConfigurationV1,
    ) -> std::result::Result<Self, String> {
        let whole = inner.iter().zip(shard).all(|(&inner, shard)| inner > 0 && shard % inner == 0);
        if !whole {
            return Err(format!("its shards {shard:?} are not divided evenly by {inner:?}"));
        }
        let inside = [shard[0] / inner[0], shard[1] / inner[1]];
        let lengths = [&inside[..axes], &[2]].concat();
        let shape: Option<Vec<_>> = lengths.iter().map(|&length| NonZeroU64::new(length)).collect();
        let shape = shape.ok_or("its shards are empty")?;
        let index = CodecChain::from_metadata(&configuration.index_codecs)
            .map_err(|error| error.to_string())?;
        let size = index
            .encoded_representation(&shape, &data_type::uint64(), &FillValue::from(u64::MAX))
            .map_err(|error| error.to_string())?;
        let BytesRepresentation::FixedSize(index_bytes) = size else {
            return Err("the index of its shards is compressed".into());
        };
        let at_end = configuration.index_location == ShardingIndexLocation::End;
        Ok(Self { inside, index, shape, index_bytes, at_end, open: Mutex::default() })
    }

    /// The shard that holds `unit`, an inner chunk.
    pub(crate) fn shard_of(&self, unit: Unit) -> Unit {
        [unit[0] / self.inside[0], unit[1] / self.inside[1]]
    }

    /// Opens a shard of `size` bytes, or takes the one that is open already.
    ///
    /// # Errors
    /// Those of the store; [`ExchangeError::Corrupt`] for an index that cannot be.
    pub(crate) async fn open(
        &self,
        store: &dyn Store,
        number: Unit,
        key: &Arc<str>,
        size: u64,
    ) -> Result<Arc<Shard>> {
        let cell = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(open.entry(number).or_default())
        };
        cell.get_or_try_init(|| self.read(store, key, size)).await.cloned()
    }

    /// Forgets the shards before this row of shards.
    pub(crate) fn forget_before(&self, row: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|number, _| number[0] >= row);
    }

    async fn read(&self, store: &dyn Store, key: &Arc<str>, size: u64) -> Result<Arc<Shard>> {
        let corrupt = |what: String| ExchangeError::corrupt(&**key, what);
        let Some(last) = size.checked_sub(self.index_bytes) else {
            let wanted = self.index_bytes;
            return Err(corrupt(format!("{size} bytes, too few for an index of {wanted}")));
        };
        let place = if self.at_end { last..size } else { 0..self.index_bytes };
        let whole = size <= WHOLE_BYTES;
        let range = if whole { 0..size } else { place.clone() };
        let mut read = read_ranges(store, &[(Arc::clone(key), range)]).await?;
        let bytes = read.pop().unwrap_or_default();
        let (index, body) = match whole {
            true if bytes.len() as u64 == size => {
                (bytes.slice(place.start as usize..place.end as usize), Some(bytes))
            }
            true => return Err(corrupt(format!("{} bytes of {size}", bytes.len()))),
            false => (bytes, None),
        };
        let entries = self.parse(&index, size).map_err(corrupt)?;
        Ok(Arc::new(Shard { key: Arc::clone(key), entries, body }))
    }

    /// Reads an index.
    fn parse(
        &self,
        index: &Bytes,
        size: u64,
    ) -> std::result::Result<Vec<Option<Range<u64>>>, String> {
        let options =
            CodecOptions::default().with_concurrent_target(1).with_validate_checksums(true);
        let fill = FillValue::from(u64::MAX);
        let decoded = self
            .index
            .decode(index.as_ref().into(), &self.shape, &data_type::uint64(), &fill, &options)
            .and_then(|decoded| Ok(decoded.into_fixed()?))
            .map_err(|error| format!("an index of chunks that cannot be decoded: {error}"))?;
        let numbers = decoded.as_chunks::<8>().0.iter().copied().map(u64::from_ne_bytes);
        let numbers: Vec<u64> = numbers.collect();
        numbers
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&[offset, length]| match (offset, offset.checked_add(length)) {
                (u64::MAX, _) if length == u64::MAX => Ok(None),
                (_, Some(end)) if end <= size => Ok(Some(offset..end)),
                _ => Err(format!("a chunk of {length} bytes at {offset} of {size}")),
            })
            .collect()
    }

    /// Where `unit` lies in the shard that holds it.
    pub(crate) fn place(&self, shard: &Shard, unit: Unit) -> Place {
        let [down, across] = self.inside;
        let entry = (unit[0] % down) * across + unit[1] % across;
        match (shard.entries.get(entry as usize).cloned().flatten(), &shard.body) {
            (None, _) => Place::Missing,
            (Some(range), Some(body)) => {
                Place::Bytes(body.slice(range.start as usize..range.end as usize))
            }
            (Some(range), None) => Place::Range(range),
        }
    }
}

impl Shard {
    /// The object.
    pub(crate) fn key(&self) -> &Arc<str> {
        &self.key
    }
}
