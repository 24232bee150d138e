//! What an array says about itself: `zarr.json` of Zarr v3, `.zarray` of Zarr v2.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use storage::Store;
use zarrs::array::{Array, ArrayCreateError, ArrayMetadataV2, ArrayMetadataV3, CodecChain};
use zarrs::metadata::ArrayMetadata;
use zarrs::metadata_ext::codec::sharding::{
    ShardingCodecConfiguration, ShardingCodecConfigurationV1,
};

use crate::codecs;
use crate::error::{ExchangeError, Result};
use crate::kind::{self, Kind};
use crate::objects::{join, read_if_there};

/// Name of Zarr v3 metadata.
pub(crate) const V3: &str = "zarr.json";

/// Name of the metadata of a Zarr v2 array.
pub(crate) const V2: &str = ".zarray";

/// The metadata of an array, understood.
pub(crate) struct Header {
    /// What zarrs makes of it; it reads nothing by itself.
    pub(crate) array: Array<()>,
    /// The type of its elements.
    pub(crate) kind: Kind,
    /// Shape of a chunk: what one object holds.
    pub(crate) chunk: Vec<u64>,
    /// When its only codec is the sharding codec: how an object is divided.
    pub(crate) sharding: Option<ShardingCodecConfigurationV1>,
}

/// What is at a path.
pub(crate) enum Found {
    /// An array's metadata: version (2 or 3) and the document.
    Array(u8, Value),
    /// Anything else, or nothing.
    Other,
}

/// Looks for the metadata of an array at `path`.
///
/// # Errors
/// Those of the store; [`ExchangeError::Corrupt`] for what is not JSON.
pub(crate) async fn find(store: &dyn Store, path: &str) -> Result<Found> {
    let key = join(path, V3);
    if let Some(bytes) = read_if_there(store, &key).await? {
        let document = parse(&key, &bytes)?;
        return Ok(match document["node_type"].as_str() {
            Some("array") => Found::Array(3, document),
            _ => Found::Other,
        });
    }
    let key = join(path, V2);
    match read_if_there(store, &key).await? {
        Some(bytes) => Ok(Found::Array(2, parse(&key, &bytes)?)),
        None => Ok(Found::Other),
    }
}

fn parse(key: &str, bytes: &Bytes) -> Result<Value> {
    serde_json::from_slice(bytes).map_err(|error| {
        ExchangeError::corrupt(key, format!("metadata that are not JSON: {error}"))
    })
}

impl Header {
    /// Understands the metadata of the array `path`, whose elements `accepts` must want.
    ///
    /// # Errors
    /// [`ExchangeError::Type`], [`ExchangeError::Codec`] or [`ExchangeError::Unsupported`].
    pub(crate) fn new(
        path: &str,
        version: u8,
        mut document: Value,
        accepts: fn(Kind) -> bool,
        wanted: &'static str,
    ) -> Result<Self> {
        let (kind, name) = match version {
            2 => (Kind::of_v2(&document["dtype"]), kind::name(&document["dtype"])),
            _ => (Kind::of_v3(&document["data_type"]), kind::name(&document["data_type"])),
        };
        let Some(kind) = kind.filter(|kind| accepts(*kind)) else {
            return Err(ExchangeError::Type { array: path.to_owned(), found: name, wanted });
        };
        let typed = |error: serde_json::Error| {
            ExchangeError::unsupported(path, format!("its metadata are not understood: {error}"))
        };
        codecs::prepare(path, version, &mut document)?;
        let (metadata, chunk, sharding) = match version {
            2 => {
                let metadata: ArrayMetadataV2 = serde_json::from_value(document).map_err(typed)?;
                let chunk = metadata.chunks.iter().map(|length| length.get()).collect();
                (ArrayMetadata::V2(metadata), chunk, None)
            }
            _ => {
                let metadata: ArrayMetadataV3 = serde_json::from_value(document).map_err(typed)?;
                refuse_extensions(path, &metadata)?;
                let chunk = regular_chunk(path, &metadata)?;
                let sharding = only_sharding(&metadata);
                (ArrayMetadata::V3(metadata), chunk, sharding)
            }
        };
        let array = Array::new_with_metadata(Arc::new(()), "/", metadata)
            .map_err(|error| refused(path, &error))?;
        if chunk.len() != array.shape().len() || chunk.contains(&0) {
            let what = format!("its chunks have the shape {chunk:?}");
            return Err(ExchangeError::unsupported(path, what));
        }
        Ok(Self { array, kind, chunk, sharding })
    }

    /// The codecs of an object.
    pub(crate) fn codecs(&self) -> Arc<CodecChain> {
        self.array.codecs()
    }
}

/// Refuses what a reader must understand and this one does not.
fn refuse_extensions(path: &str, metadata: &ArrayMetadataV3) -> Result<()> {
    if let Some(one) = metadata.storage_transformers.first() {
        let what = format!("it has the storage transformer \"{}\"", one.name());
        return Err(ExchangeError::unsupported(path, what));
    }
    let unknown = metadata.additional_fields.iter().find(|(_, field)| field.must_understand());
    match unknown {
        Some((name, _)) => {
            let what = format!("its metadata have the unknown field \"{name}\"");
            Err(ExchangeError::unsupported(path, what))
        }
        None => Ok(()),
    }
}

/// The chunk shape of a regular grid.
fn regular_chunk(path: &str, metadata: &ArrayMetadataV3) -> Result<Vec<u64>> {
    let grid = serde_json::to_value(&metadata.chunk_grid).unwrap_or_default();
    let shape = &grid["configuration"]["chunk_shape"];
    let lengths = shape.as_array().filter(|_| grid["name"] == "regular");
    lengths
        .and_then(|lengths| lengths.iter().map(Value::as_u64).collect())
        .ok_or_else(|| ExchangeError::unsupported(path, format!("it has the chunk grid {grid}")))
}

/// The sharding codec's configuration, when there is no other codec.
fn only_sharding(metadata: &ArrayMetadataV3) -> Option<ShardingCodecConfigurationV1> {
    let [codec] = &metadata.codecs[..] else { return None };
    if codec.name() != "sharding_indexed" {
        return None;
    }
    match codec.to_typed_configuration::<ShardingCodecConfiguration>().ok()? {
        ShardingCodecConfiguration::V1(configuration) => Some(configuration),
        _ => None,
    }
}

/// What zarrs refuses. Codecs it does not know have been named before.
fn refused(path: &str, error: &ArrayCreateError) -> ExchangeError {
    ExchangeError::unsupported(path, error.to_string())
}
