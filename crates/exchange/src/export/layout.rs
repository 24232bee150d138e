//! Shapes, chunks, codecs and metadata of an exported group.

use std::num::NonZeroU64;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use zarrs::array::codec::ZstdCodec;
use zarrs::array::codec::default_array_to_bytes_codec;
use zarrs::array::{
    ArrayBuilder, ArrayBytes, ArrayBytesOffsets, ArrayToBytesCodecTraits, BytesToBytesCodecTraits,
    CodecChain, CodecOptions, DataType, FillValue, data_type,
};

use super::ExportInfo;
use crate::batches::MAX_DIMENSIONS;
use crate::error::{ExchangeError, Result};

/// Bytes of vectors in a chunk, before compression.
const CHUNK_BYTES: usize = 4 << 20;

/// Most rows of a chunk: metadata may take more than vectors do.
const MAX_CHUNK_ROWS: usize = 8192;

/// zstd's level: vectors hardly compress, and not better with more effort.
const LEVEL: i32 = 3;

/// The arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Vectors,
    Ids,
    Metadata,
}

impl Column {
    /// Every one.
    pub(super) const ALL: [Self; 3] = [Self::Vectors, Self::Ids, Self::Metadata];

    /// Name of the array.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Vectors => "vectors",
            Self::Ids => "ids",
            Self::Metadata => "metadata",
        }
    }

    /// The object of a chunk of rows.
    pub(super) fn chunk_key(self, chunk: u64) -> String {
        match self {
            Self::Vectors => format!("vectors/c/{chunk}/0"),
            _ => format!("{}/c/{chunk}", self.name()),
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Vectors => data_type::float32(),
            _ => data_type::string(),
        }
    }
}

/// How rows are laid out.
#[derive(Debug)]
pub(super) struct Layout {
    dimensions: u64,
    chunk_rows: u64,
    zstd: Arc<ZstdCodec>,
}

impl Layout {
    /// # Errors
    /// [`ExchangeError::Invalid`] for an impossible number of dimensions.
    pub(super) fn new(dimensions: usize) -> Result<Self> {
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(ExchangeError::invalid(format!("vectors of {dimensions} dimensions")));
        }
        let fitting = CHUNK_BYTES / (size_of::<f32>() * dimensions);
        let chunk_rows = fitting.clamp(1, MAX_CHUNK_ROWS) as u64;
        let zstd = Arc::new(ZstdCodec::new(LEVEL, true));
        Ok(Self { dimensions: dimensions as u64, chunk_rows, zstd })
    }

    /// Rows of a chunk, the same for all arrays.
    pub(super) fn chunk_rows(&self) -> usize {
        self.chunk_rows as usize
    }

    /// Lengths along the axes of an array that has so many rows.
    fn shape(&self, column: Column, rows: u64) -> Vec<u64> {
        match column {
            Column::Vectors => vec![rows, self.dimensions],
            _ => vec![rows],
        }
    }

    /// A chunk of vectors, filled up with zeros.
    ///
    /// # Errors
    /// [`ExchangeError::Invalid`] if a codec refuses.
    pub(super) fn encode_vectors(&self, mut vectors: Vec<f32>) -> Result<Vec<u8>> {
        vectors.resize((self.chunk_rows * self.dimensions) as usize, 0.0);
        let bytes: &[u8] = bytemuck::cast_slice(&vectors);
        self.encode(Column::Vectors, ArrayBytes::new_flen(bytes), FillValue::from(0f32))
    }

    /// A chunk of strings, filled up with empty ones.
    ///
    /// # Errors
    /// [`ExchangeError::Invalid`] if a codec refuses.
    pub(super) fn encode_texts(&self, mut texts: Vec<String>) -> Result<Vec<u8>> {
        texts.resize(self.chunk_rows(), String::new());
        let ends = texts.iter().scan(0, |end, text| {
            *end += text.len();
            Some(*end)
        });
        let offsets: Vec<usize> = std::iter::once(0).chain(ends).collect();
        let refused = |error: &dyn std::fmt::Display| ExchangeError::invalid(error.to_string());
        let offsets = ArrayBytesOffsets::new(offsets).map_err(|error| refused(&error))?;
        let bytes = texts.concat().into_bytes();
        let bytes = ArrayBytes::new_vlen(bytes, offsets).map_err(|error| refused(&error))?;
        self.encode(Column::Ids, bytes, FillValue::from(""))
    }

    fn encode(&self, column: Column, bytes: ArrayBytes<'_>, fill: FillValue) -> Result<Vec<u8>> {
        let data_type = column.data_type();
        let packer = Arc::clone(&self.zstd) as Arc<dyn BytesToBytesCodecTraits>;
        let codecs =
            CodecChain::new(Vec::new(), default_array_to_bytes_codec(&data_type), vec![packer]);
        let shape: Vec<NonZeroU64> =
            self.shape(column, self.chunk_rows).into_iter().filter_map(NonZeroU64::new).collect();
        let options = CodecOptions::default().with_concurrent_target(1);
        codecs
            .encode(bytes, &shape, &data_type, &fill, &options)
            .map(std::borrow::Cow::into_owned)
            .map_err(|error| ExchangeError::invalid(format!("a chunk cannot be written: {error}")))
    }

    /// The `zarr.json` of an array.
    ///
    /// # Errors
    /// [`ExchangeError::Invalid`] if zarrs refuses the metadata.
    pub(super) fn metadata(&self, column: Column, rows: u64) -> Result<Vec<u8>> {
        let (shape, chunk) = (self.shape(column, rows), self.shape(column, self.chunk_rows));
        let mut builder = match column {
            Column::Vectors => ArrayBuilder::new(shape, chunk, column.data_type(), 0f32),
            _ => ArrayBuilder::new(shape, chunk, column.data_type(), ""),
        };
        let axes = match column {
            Column::Vectors => &["row", "dimension"][..],
            _ => &["row"],
        };
        builder
            .bytes_to_bytes_codecs(vec![Arc::clone(&self.zstd) as Arc<dyn BytesToBytesCodecTraits>])
            .dimension_names(Some(axes.iter().copied()));
        let metadata = builder.build_metadata().map_err(|error| {
            ExchangeError::invalid(format!("array \"{}\": {error}", column.name()))
        })?;
        Ok(metadata.to_string().into_bytes())
    }
}

/// The `zarr.json` of the group, with a copy of those of `arrays`: readers that know
/// [consolidated metadata](https://zarr.readthedocs.io/en/stable/user-guide/consolidated_metadata/)
/// need no other request to open it, others pass over it.
///
/// # Errors
/// [`ExchangeError::Invalid`] if they are not JSON.
pub(super) fn group(info: &ExportInfo, rows: u64, arrays: &[(Column, Vec<u8>)]) -> Result<Vec<u8>> {
    let refused = |error: serde_json::Error| ExchangeError::invalid(error.to_string());
    let mut copies = Map::new();
    for (column, document) in arrays {
        let document: Value = serde_json::from_slice(document).map_err(refused)?;
        copies.insert(column.name().into(), document);
    }
    let group = json!({
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {
            "collection": info.collection,
            "distance_metric": info.distance_metric,
            "dimension": info.dimensions,
            "rows": rows,
        },
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": false,
            "metadata": copies,
        },
    });
    serde_json::to_vec_pretty(&group).map_err(refused)
}
