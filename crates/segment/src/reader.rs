//! Opens a segment and names its objects. Loading is in `load`, fetching vectors in `fetch`.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use storage::Store;
use tokio::sync::OnceCell;
use zarrs::metadata::v3::GroupMetadataV3;

use crate::attributes::SegmentAttributes;
use crate::codec::ChunkCodec;
use crate::error::{Result, SegmentError};
use crate::shard::ShardIndex;
use crate::writer::METADATA;

/// A segment in a store.
///
/// Shared by reference: every method can run many times at once.
#[derive(Debug)]
pub struct Reader {
    store: Arc<dyn Store>,
    prefix: String,
    attributes: SegmentAttributes,
    codec: ChunkCodec,
    /// The indexes of shards, where they are needed and as far as they have been read.
    indexes: Vec<OnceCell<ShardIndex>>,
}

impl Reader {
    /// Opens the segment below `prefix` with one request.
    ///
    /// # Errors
    /// Those of the store ([`NotFound`](storage::ErrorKind::NotFound): no whole segment is
    /// there); [`SegmentError::Corrupt`] and [`SegmentError::Version`].
    pub async fn open(store: Arc<dyn Store>, prefix: &str) -> Result<Self> {
        let key = format!("{prefix}/{METADATA}");
        let metadata = store.get(&key).await?;
        let corrupt = |what: String| SegmentError::corrupt(key.as_str(), what);
        let group: Value = serde_json::from_slice(&metadata)
            .map_err(|error| corrupt(format!("invalid JSON: {error}")))?;
        let kind = (group.get("zarr_format"), group.get("node_type"));
        if kind != (Some(&Value::from(3)), Some(&Value::from("group"))) {
            return Err(corrupt("no Zarr v3 group".into()));
        }
        let group: GroupMetadataV3 = serde_json::from_value(group)
            .map_err(|error| corrupt(format!("unusable group metadata: {error}")))?;
        let attributes = SegmentAttributes::from_zarr(&group.attributes, &key)?;
        Self::with_attributes(store, prefix, attributes)
    }

    /// The segment below `prefix` whose attributes are known already: no request is made.
    ///
    /// # Errors
    /// [`SegmentError::Invalid`] if the attributes are.
    pub fn with_attributes(
        store: Arc<dyn Store>,
        prefix: &str,
        attributes: SegmentAttributes,
    ) -> Result<Self> {
        attributes.validate()?;
        let codec = ChunkCodec::new(&attributes)?;
        let shards = match codec.fixed_bytes() {
            Some(_) => 0,
            None => attributes.shards(),
        };
        Ok(Self {
            store,
            prefix: prefix.to_owned(),
            attributes,
            codec,
            indexes: (0..shards).map(|_| OnceCell::new()).collect(),
        })
    }

    /// What the segment says about itself.
    pub fn attributes(&self) -> &SegmentAttributes {
        &self.attributes
    }

    /// Where the segment lies in its store.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn codec(&self) -> &ChunkCodec {
        &self.codec
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The place of shard `shard`'s index; none when chunks lie at computable places.
    pub(crate) fn index(&self, shard: u32) -> Option<&OnceCell<ShardIndex>> {
        self.indexes.get(shard as usize)
    }

    /// The full key of the object `name` of this segment.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// Exactly the bytes `range` of the object `key`.
    ///
    /// # Errors
    /// Those of the store; [`SegmentError::Corrupt`] if it breaks its promise about the length.
    pub(crate) async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let wanted = range.end - range.start;
        let body = self.store.get_range(key, range.clone()).await?;
        if body.len() as u64 != wanted {
            return Err(SegmentError::corrupt(
                key,
                format!("{} bytes for bytes {} to {}", body.len(), range.start, range.end),
            ));
        }
        Ok(body)
    }
}
