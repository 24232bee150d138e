//! The arrays of a segment beside `vectors`: shapes, chunks and Zarr metadata.
//!
//! In memory they lie in the same order, but for the first three (see
//! [`resident`](crate::ResidentView)).

use std::ops::Range;
use std::sync::Arc;

use distance::Payload;
use rabitq::FACTORS;
use zarrs::array::codec::bytes_to_bytes::blosc::{
    BloscCodec, BloscCompressionLevel, BloscCompressor, BloscShuffleMode,
};
use zarrs::array::codec::bytes_to_bytes::crc32c::Crc32cCodec;
use zarrs::array::{ArrayBuilder, BytesToBytesCodecTraits};

use crate::attributes::{Compression, SegmentAttributes};
use crate::error::{Result, SegmentError};

/// Bytes of a CRC-32C at the end of a chunk.
pub(crate) const CHECKSUM_BYTES: usize = 4;

/// Largest chunk of an array beside `vectors`, in bytes.
const MAX_CHUNK_BYTES: u64 = 32 << 20;

/// Name of the sharded array.
pub(crate) const VECTORS: &str = "vectors";

/// Arrays beside `vectors`.
pub(crate) const COUNT: usize = 9;

/// The element types in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    U8,
    U32,
    U64,
    F32,
}

impl Element {
    fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U32 | Self::F32 => 4,
            Self::U64 => 8,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::U8 => "uint8",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
            Self::F32 => "float32",
        }
    }
}

/// One array: `length` or `length × width` elements, in regular chunks along its first axis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArraySpec {
    pub(crate) name: &'static str,
    /// Names of the axes; the second is empty when there is but one.
    axes: [&'static str; 2],
    pub(crate) length: u64,
    /// Elements along the second axis, or 1.
    width: u64,
    element: Element,
    fill: u32,
}

impl ArraySpec {
    /// Bytes of one element of the first axis.
    fn row_bytes(&self) -> u64 {
        self.width * self.element.bytes() as u64
    }

    /// Bytes of all elements.
    pub(crate) fn bytes(&self) -> u64 {
        self.length * self.row_bytes()
    }

    /// Chunks; none when the array is empty.
    pub(crate) fn chunks(&self) -> u64 {
        self.bytes().div_ceil(self.chunk_limit())
    }

    /// Length of a chunk: all but equal parts, so that little of the last one is padding.
    fn chunk_length(&self) -> u64 {
        self.length.div_ceil(self.chunks().max(1)).max(1)
    }

    /// [`MAX_CHUNK_BYTES`], but whole rows.
    fn chunk_limit(&self) -> u64 {
        let row = self.row_bytes();
        (MAX_CHUNK_BYTES / row).max(1) * row
    }

    /// Bytes of a chunk without its checksum, padding included.
    pub(crate) fn chunk_bytes(&self) -> u64 {
        self.chunk_length() * self.row_bytes()
    }

    /// The bytes of the array that chunk `chunk` holds.
    pub(crate) fn chunk_range(&self, chunk: u64) -> Range<u64> {
        let start = (chunk * self.chunk_bytes()).min(self.bytes());
        start..(start + self.chunk_bytes()).min(self.bytes())
    }

    /// Name of the object that holds chunk `chunk`, below the array.
    pub(crate) fn chunk_key(&self, chunk: u64) -> String {
        match self.axes[1] {
            "" => format!("{}/c/{chunk}", self.name),
            _ => format!("{}/c/{chunk}/0", self.name),
        }
    }

    /// The array's `zarr.json`.
    ///
    /// # Errors
    /// [`SegmentError::Invalid`] if zarrs refuses the metadata.
    pub(crate) fn metadata(&self) -> Result<Vec<u8>> {
        let plane = self.axes[1].is_empty();
        let dimensions = |first: u64| match plane {
            true => vec![first],
            false => vec![first, self.width],
        };
        let axes = if plane { &self.axes[..1] } else { &self.axes[..] };
        let mut builder = match self.element {
            Element::F32 => ArrayBuilder::new(
                dimensions(self.length),
                dimensions(self.chunk_length()),
                self.element.name(),
                0f32,
            ),
            _ => ArrayBuilder::new(
                dimensions(self.length),
                dimensions(self.chunk_length()),
                self.element.name(),
                self.fill,
            ),
        };
        builder
            .bytes_to_bytes_codecs(vec![Arc::new(Crc32cCodec::new())])
            .dimension_names(Some(axes.iter().copied()));
        to_json(self.name, &builder)
    }
}

/// The arrays beside `vectors`, in the order of the layout in memory.
pub(crate) fn arrays(a: &SegmentAttributes) -> [ArraySpec; COUNT] {
    let plane = |name, axes, length: u32, width: u64, element, fill| ArraySpec {
        name,
        axes,
        length: u64::from(length),
        width,
        element,
        fill,
    };
    let line = |name, axis, length: u64, element| ArraySpec {
        name,
        axes: [axis, ""],
        length,
        width: 1,
        element,
        fill: 0,
    };
    let upper_offsets = match a.upper_nodes {
        0 => 0,
        nodes => u64::from(nodes) + 1,
    };
    let m = u64::from(a.m);
    let code = u64::from(a.code_bytes);
    [
        plane("codes", ["row", "byte"], a.rows, code, Element::U8, 0),
        plane("factors", ["row", "factor"], a.rows, FACTORS as u64, Element::F32, 0),
        plane("neighbors", ["row", "neighbor"], a.rows, 2 * m, Element::U32, hnsw::NONE),
        line("upper_nodes", "upper_node", u64::from(a.upper_nodes), Element::U32),
        line("upper_offsets", "upper_node_bound", upper_offsets, Element::U32),
        plane(
            "upper_neighbors",
            ["upper_list", "neighbor"],
            a.upper_lists,
            m,
            Element::U32,
            hnsw::NONE,
        ),
        line("tids", "entry", u64::from(a.entries), Element::U64),
        line("tid_offsets", "row_bound", u64::from(a.rows) + 1, Element::U32),
        line("centroid", "dimension", u64::from(a.dimensions), Element::F32),
    ]
}

/// The compressor of inner chunks, if there is one.
///
/// # Errors
/// [`SegmentError::Invalid`] if this build of blosc lacks it.
pub(crate) fn compressor(a: &SegmentAttributes) -> Result<Option<Arc<BloscCodec>>> {
    let (name, default_level) = match a.compression {
        Compression::None => return Ok(None),
        Compression::Zstd => (BloscCompressor::Zstd, 3),
        Compression::Lz4 => (BloscCompressor::LZ4, 5),
    };
    let level = if a.compression_level == 0 { default_level } else { a.compression_level };
    let refuse = |error: &dyn std::fmt::Display| {
        SegmentError::invalid(format!("no compressor {}: {error}", a.compression.name()))
    };
    let level = BloscCompressionLevel::try_from(level).map_err(|_| refuse(&"bad level"))?;
    let typesize = Some(a.payload.element_bytes());
    BloscCodec::new(name, level, None, BloscShuffleMode::Shuffle, typesize)
        .map(|codec| Some(Arc::new(codec)))
        .map_err(|error| refuse(&error))
}

/// The `zarr.json` of `vectors`.
///
/// # Errors
/// [`SegmentError::Invalid`] if zarrs refuses the metadata.
pub(crate) fn vectors_metadata(a: &SegmentAttributes) -> Result<Vec<u8>> {
    let dimensions = u64::from(a.dimensions);
    let shape = vec![u64::from(a.rows), dimensions];
    let shard = vec![u64::from(a.shard_rows), dimensions];
    let mut builder = match a.payload {
        Payload::Float32 => ArrayBuilder::new(shape, shard, a.payload.name(), 0f32),
        Payload::Float16 => ArrayBuilder::new(shape, shard, a.payload.name(), half::f16::ZERO),
    };
    let mut codecs: Vec<Arc<dyn BytesToBytesCodecTraits>> = Vec::new();
    if let Some(codec) = compressor(a)? {
        codecs.push(codec);
    }
    codecs.push(Arc::new(Crc32cCodec::new()));
    builder
        .subchunk_shape(vec![u64::from(a.chunk_rows), dimensions])
        .bytes_to_bytes_codecs(codecs)
        .dimension_names(Some(["row", "dimension"]));
    to_json(VECTORS, &builder)
}

fn to_json(name: &str, builder: &ArrayBuilder) -> Result<Vec<u8>> {
    let refuse = |error: &dyn std::fmt::Display| {
        SegmentError::invalid(format!("the metadata of array {name}: {error}"))
    };
    let metadata = builder.build_metadata().map_err(|error| refuse(&error))?;
    serde_json::to_vec_pretty(&metadata).map_err(|error| refuse(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn chunks_cover_an_array_with_little_padding(length in 0u64..50_000_000, width in 1u64..9000) {
            let spec = ArraySpec {
                name: "x",
                axes: ["a", "b"],
                length,
                width,
                element: Element::U32,
                fill: 0,
            };
            let chunks = spec.chunks();
            prop_assert!(spec.chunk_bytes() <= MAX_CHUNK_BYTES);
            prop_assert!(spec.chunk_bytes().is_multiple_of(width * 4));
            let mut next = 0;
            for chunk in 0..chunks {
                let range = spec.chunk_range(chunk);
                prop_assert!(range.start == next && range.end > next);
                next = range.end;
            }
            prop_assert_eq!(next, spec.bytes());
            let padding = (chunks * spec.chunk_bytes() - spec.bytes()) / (width * 4);
            prop_assert!(padding < chunks.max(1));
        }
    }
}
