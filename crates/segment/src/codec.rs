//! Inner chunks of vectors: bytes, perhaps compressed, then a CRC-32C.
//!
//! Follows the `crc32c` codec (checksum of all bytes before, little-endian, at the end) and the
//! `blosc` codec of the Zarr v3 specification.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use zarrs::array::codec::bytes_to_bytes::blosc::BloscCodec;
use zarrs::array::{BytesRepresentation, BytesToBytesCodecTraits, CodecOptions};

use crate::arrays::{CHECKSUM_BYTES, compressor};
use crate::attributes::SegmentAttributes;
use crate::error::{Result, SegmentError};

/// Bytes by which a chunk that does not compress grows: blosc's header.
const COMPRESSION_OVERHEAD: usize = 64;

/// Encodes and decodes the inner chunks of one segment.
#[derive(Clone, Debug)]
pub(crate) struct ChunkCodec {
    decoded_bytes: usize,
    compressor: Option<Arc<BloscCodec>>,
    options: CodecOptions,
}

impl ChunkCodec {
    /// # Errors
    /// [`SegmentError::Invalid`] if this build lacks the compressor.
    pub(crate) fn new(attributes: &SegmentAttributes) -> Result<Self> {
        Ok(Self {
            decoded_bytes: attributes.chunk_bytes(),
            compressor: compressor(attributes)?,
            // Many chunks are in work at once; each needs but one thread.
            options: CodecOptions::default().with_concurrent_target(1),
        })
    }

    /// The length of every encoded chunk, when it does not depend on the content.
    pub(crate) fn fixed_bytes(&self) -> Option<u64> {
        match self.compressor {
            None => Some((self.decoded_bytes + CHECKSUM_BYTES) as u64),
            Some(_) => None,
        }
    }

    /// The longest an encoded chunk can be.
    pub(crate) fn most_bytes(&self) -> u64 {
        (self.decoded_bytes + COMPRESSION_OVERHEAD + CHECKSUM_BYTES) as u64
    }

    /// Appends the encoded form of `chunk`.
    ///
    /// # Errors
    /// [`SegmentError::Invalid`] if compression fails.
    pub(crate) fn encode(&self, chunk: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let encoded = match &self.compressor {
            None => Cow::Borrowed(chunk),
            Some(codec) => codec
                .encode(Cow::Borrowed(chunk), &self.options)
                .map_err(|error| SegmentError::invalid(format!("compression failed: {error}")))?,
        };
        out.extend_from_slice(&encoded);
        out.extend_from_slice(&crc32c::crc32c(&encoded).to_le_bytes());
        Ok(())
    }

    /// Checks and decodes a chunk; without compression the result is a part of `encoded`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn decode(&self, encoded: &Bytes) -> std::result::Result<Bytes, String> {
        let body = strip_checksum(encoded)?;
        let decoded = match &self.compressor {
            None => body,
            Some(codec) => {
                let size = BytesRepresentation::FixedSize(self.decoded_bytes as u64);
                let decoded = codec.decode(Cow::Borrowed(&body), &size, &self.options);
                Bytes::from(decoded.map_err(|error| error.to_string())?.into_owned())
            }
        };
        if decoded.len() != self.decoded_bytes {
            return Err(format!(
                "{} decoded bytes where {} belong",
                decoded.len(),
                self.decoded_bytes
            ));
        }
        Ok(decoded)
    }
}

/// Whether an inner chunk, as it is stored, has a CRC-32C at its end that is right: what a tier that
/// keeps stored chunks can check.
pub fn is_sound(bytes: &[u8]) -> bool {
    bytes
        .split_last_chunk::<CHECKSUM_BYTES>()
        .is_some_and(|(body, stored)| u32::from_le_bytes(*stored) == crc32c::crc32c(body))
}

/// `bytes` without the CRC-32C at their end, which must be right.
pub(crate) fn strip_checksum(bytes: &Bytes) -> std::result::Result<Bytes, String> {
    let Some((body, stored)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(format!("{} bytes, too few for a checksum", bytes.len()));
    };
    let (stored, computed) = (u32::from_le_bytes(*stored), crc32c::crc32c(body));
    if stored != computed {
        return Err(format!("checksum {computed:08x} where {stored:08x} belongs"));
    }
    Ok(bytes.slice(..body.len()))
}
