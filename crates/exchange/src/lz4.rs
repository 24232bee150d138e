//! The `lz4` codec of numcodecs: the decoded length (4 bytes, little-endian), then one LZ4 block.
//!
//! Zarr v2 names it `lz4`, v3 `numcodecs.lz4`. zarrs does not have it; here it is made known to it.

use std::borrow::Cow;
use std::sync::{Arc, Once};

use zarrs::array::codec::api::{
    CodecRuntimePluginV2, CodecRuntimePluginV3, PartialDecoderCapability, PartialEncoderCapability,
    register_codec_v2, register_codec_v3,
};
use zarrs::array::{
    ArrayBytesRaw, BytesRepresentation, BytesToBytesCodecTraits, Codec, CodecError,
    CodecMetadataOptions, CodecOptions, CodecTraits, RecommendedConcurrency,
};
use zarrs::metadata::Configuration;
use zarrs::plugin::ZarrVersion;

/// Bytes of the length before the block.
const LENGTH_BYTES: usize = 4;

/// Most bytes that one byte of an LZ4 block can stand for.
const MAX_RATIO: usize = 255;

/// Makes the codec known to zarrs, once.
pub(crate) fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        register_codec_v2(CodecRuntimePluginV2::new(
            |name| name == "lz4",
            |_| Ok(Codec::BytesToBytes(Arc::new(Lz4Codec))),
        ));
        register_codec_v3(CodecRuntimePluginV3::new(
            |name| name == "numcodecs.lz4",
            |_| Ok(Codec::BytesToBytes(Arc::new(Lz4Codec))),
        ));
    });
}

/// The codec; it has no options that matter for reading.
#[derive(Clone, Copy, Debug)]
struct Lz4Codec;

zarrs::plugin::impl_extension_aliases!(Lz4Codec, v3: "numcodecs.lz4", v2: "lz4");

impl CodecTraits for Lz4Codec {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn configuration(
        &self,
        _version: ZarrVersion,
        _options: &CodecMetadataOptions,
    ) -> Option<Configuration> {
        Some(Configuration::default())
    }

    fn partial_decoder_capability(&self) -> PartialDecoderCapability {
        PartialDecoderCapability { partial_read: false, partial_decode: false }
    }

    fn partial_encoder_capability(&self) -> PartialEncoderCapability {
        PartialEncoderCapability { partial_encode: false }
    }
}

impl BytesToBytesCodecTraits for Lz4Codec {
    fn into_dyn(self: Arc<Self>) -> Arc<dyn BytesToBytesCodecTraits> {
        self
    }

    fn recommended_concurrency(
        &self,
        _decoded_representation: &BytesRepresentation,
    ) -> Result<RecommendedConcurrency, CodecError> {
        Ok(RecommendedConcurrency::new_maximum(1))
    }

    fn encoded_representation(&self, decoded: &BytesRepresentation) -> BytesRepresentation {
        decoded.size().map_or(BytesRepresentation::UnboundedSize, |size| {
            // The bound of the LZ4 block format: 16 bytes and one in 255.
            BytesRepresentation::BoundedSize(size + size / 255 + 16 + LENGTH_BYTES as u64)
        })
    }

    fn encode<'a>(
        &self,
        decoded: ArrayBytesRaw<'a>,
        _options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        u32::try_from(decoded.len()).map_err(|_| CodecError::from("too long for lz4"))?;
        Ok(Cow::Owned(lz4_flex::block::compress_prepend_size(&decoded)))
    }

    fn decode<'a>(
        &self,
        encoded: ArrayBytesRaw<'a>,
        _decoded_representation: &BytesRepresentation,
        _options: &CodecOptions,
    ) -> Result<ArrayBytesRaw<'a>, CodecError> {
        decode(&encoded).map(Cow::Owned).map_err(CodecError::from)
    }
}

/// The bytes that were encoded.
///
/// # Errors
/// What is wrong with `encoded`, in words.
fn decode(encoded: &[u8]) -> Result<Vec<u8>, String> {
    let Some((length, block)) = encoded.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(format!("{} bytes, too few for lz4", encoded.len()));
    };
    let length = u32::from_le_bytes(*length) as usize;
    // Before memory is taken for it.
    if length / MAX_RATIO > block.len() {
        return Err(format!("an lz4 block of {} bytes for {length}", block.len()));
    }
    let decoded =
        lz4_flex::block::decompress(block, length).map_err(|error| format!("lz4: {error}"))?;
    match decoded.len() == length {
        true => Ok(decoded),
        false => Err(format!("{} bytes in an lz4 block for {length}", decoded.len())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zarrs_finds_it_under_both_names() {
        register();
        let v2 = serde_json::from_str::<zarrs::metadata::v2::MetadataV2>(
            r#"{"id": "lz4", "acceleration": 1}"#,
        );
        assert!(Codec::from_metadata(&v2.expect("metadata")).is_ok());
        let v3 = zarrs::metadata::v3::MetadataV3::new("numcodecs.lz4".to_owned());
        assert!(Codec::from_metadata(&v3).is_ok());
    }

    #[test]
    fn a_length_that_cannot_be_takes_no_memory() {
        assert!(decode(&[0xFF, 0xFF, 0xFF, 0x7F, 0, 0, 0]).is_err());
        assert!(decode(&[1, 2]).is_err());
        // What numcodecs makes of 24 times "a".
        let known = [24, 0, 0, 0, 30, 97, 1, 0, 80, 97, 97, 97, 97, 97];
        assert_eq!(decode(&known), Ok(vec![b'a'; 24]));
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(bytes in prop::collection::vec(0u8..4, 0..4000)) {
            let options = CodecOptions::default();
            let encoded = Lz4Codec.encode(Cow::Borrowed(&bytes), &options).expect("encoded");
            prop_assert_eq!(decode(&encoded).expect("decoded"), bytes);
        }

        #[test]
        fn anything_else_is_an_error_or_as_long_as_it_says(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(decoded) = decode(&bytes) {
                prop_assert_eq!(decoded.len() as u32, u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
            }
        }
    }
}
