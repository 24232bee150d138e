//! From the bytes of a chunk to its elements.
//!
//! zarrs decodes. What unpacks bytes without knowing how many will come out does so within the
//! length that they must have: bytes that are not what was written never take the memory of the process.

use std::borrow::Cow;
use std::io::Read;
use std::marker::PhantomData;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use zarrs::array::codec::{Bz2Codec, GzipCodec, VlenUtf8Codec, ZlibCodec, ZstdCodec};
use zarrs::array::{
    ArrayBytes, ArrayToBytesCodecTraits, BytesRepresentation, BytesToBytesCodecTraits, CodecChain,
    CodecOptions, DataType, FillValue,
};

use crate::cell::{Cell, Decoded, utf8};
use crate::kind::Kind;

/// Most bytes that a chunk's elements may take.
pub(crate) const MAX_CHUNK_BYTES: u64 = 4 << 30;

/// Decodes the chunks of one array, all of one shape, into elements of type `T`.
#[derive(Debug)]
pub(crate) struct Decoder<T> {
    kind: Kind,
    shape: Vec<NonZeroU64>,
    data_type: DataType,
    fill_value: FillValue,
    /// From elements to bytes.
    arrays: CodecChain,
    /// From bytes to bytes in order of writing, with what each is given then.
    packers: Vec<(Arc<dyn BytesToBytesCodecTraits>, BytesRepresentation)>,
    options: CodecOptions,
    cell: PhantomData<fn() -> T>,
}

impl<T: Cell> Decoder<T> {
    /// # Errors
    /// What of it is not supported, in words.
    pub(crate) fn new(
        kind: Kind,
        shape: &[u64],
        data_type: &DataType,
        fill_value: &FillValue,
        codecs: &CodecChain,
    ) -> Result<Self, String> {
        let shape: Option<Vec<NonZeroU64>> = shape.iter().map(|&n| NonZeroU64::new(n)).collect();
        let shape = shape.ok_or("its chunks are empty")?;
        let elements = shape.iter().try_fold(1u64, |product, n| product.checked_mul(n.get()));
        let element_bytes = kind.bytes().map_or(T::WEIGHT, |bytes| T::WEIGHT.max(bytes as u64));
        let bytes = elements.and_then(|elements| elements.checked_mul(element_bytes));
        if bytes.is_none_or(|bytes| bytes > MAX_CHUNK_BYTES) {
            let shape: Vec<u64> = shape.iter().map(|n| n.get()).collect();
            return Err(format!(
                "its chunks have the shape {shape:?}, and more than {MAX_CHUNK_BYTES} bytes"
            ));
        }
        let arrays = CodecChain::new(
            codecs.array_to_array_codecs().to_vec(),
            Arc::clone(codecs.array_to_bytes_codec()),
            Vec::new(),
        );
        let mut size = arrays
            .encoded_representation(&shape, data_type, fill_value)
            .map_err(|error| error.to_string())?;
        let packers = codecs.bytes_to_bytes_codecs().iter().map(|codec| {
            let given = size;
            size = codec.encoded_representation(&given);
            (Arc::clone(codec), given)
        });
        Ok(Self {
            kind,
            packers: packers.collect(),
            shape,
            data_type: data_type.clone(),
            fill_value: fill_value.clone(),
            arrays,
            // Many chunks are in work at once; each needs but one thread.
            options: CodecOptions::default()
                .with_concurrent_target(1)
                .with_validate_checksums(true),
            cell: PhantomData,
        })
    }

    /// The element of what was never written.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn fill(&self) -> Result<T, String> {
        T::fill(&self.fill_value, self.kind)
    }

    /// The elements of a chunk in C order.
    ///
    /// # Errors
    /// What is wrong with `bytes`, in words.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Vec<T>, String> {
        // Codecs are others' code, and the bytes may be anything.
        catch_unwind(AssertUnwindSafe(|| self.try_decode(bytes)))
            .unwrap_or_else(|_| Err("bytes that a codec cannot take".into()))
    }

    fn try_decode(&self, bytes: &[u8]) -> Result<Vec<T>, String> {
        let mut bytes = Cow::Borrowed(bytes);
        for (codec, size) in self.packers.iter().rev() {
            bytes = unpack(&**codec, bytes, size, &self.options)?;
        }
        let elements: usize = self.shape.iter().map(|n| n.get() as usize).product();
        if self.is_plain_text() {
            return T::convert(Decoded::Text(vlen_utf8(&bytes, elements)?), self.kind);
        }
        let decoded = self
            .arrays
            .decode(bytes, &self.shape, &self.data_type, &self.fill_value, &self.options)
            .map_err(|error| error.to_string())?;
        let cells = match decoded {
            ArrayBytes::Fixed(bytes) => T::convert(Decoded::Fixed(&bytes), self.kind)?,
            ArrayBytes::Variable(values) => {
                let (bytes, offsets) = values.into_parts();
                let texts = offsets.windows(2).map(|pair| {
                    bytes.get(pair[0]..pair[1]).ok_or_else(|| "offsets beyond the end".to_owned())
                });
                let texts = texts.map(|text| utf8(text?)).collect::<Result<_, _>>()?;
                T::convert(Decoded::Text(texts), self.kind)?
            }
            ArrayBytes::Optional(_) => return Err("optional elements".into()),
        };
        match cells.len() == elements {
            true => Ok(cells),
            false => Err(format!("{} elements where {elements} belong", cells.len())),
        }
    }

    /// Whether bytes are `vlen-utf8`, which is read here: zarrs trusts the lengths in it.
    fn is_plain_text(&self) -> bool {
        let codec = &**self.arrays.array_to_bytes_codec();
        codec.as_any().is::<VlenUtf8Codec>() && self.arrays.array_to_array_codecs().is_empty()
    }
}

/// Undoes one codec.
fn unpack<'a>(
    codec: &dyn BytesToBytesCodecTraits,
    bytes: Cow<'a, [u8]>,
    size: &BytesRepresentation,
    options: &CodecOptions,
) -> Result<Cow<'a, [u8]>, String> {
    let limit = size.size().unwrap_or(MAX_CHUNK_BYTES);
    let any = codec.as_any();
    let unpacked = if any.is::<ZstdCodec>() {
        zstd::Decoder::with_buffer(&*bytes).and_then(|reader| read_within(reader, limit))
    } else if any.is::<GzipCodec>() {
        read_within(flate2::bufread::GzDecoder::new(&*bytes), limit)
    } else if any.is::<ZlibCodec>() {
        read_within(flate2::bufread::ZlibDecoder::new(&*bytes), limit)
    } else if any.is::<Bz2Codec>() {
        read_within(bzip2::bufread::BzDecoder::new(&*bytes), limit)
    } else {
        let decoded = codec.decode(bytes, size, options).map_err(|error| error.to_string())?;
        return match decoded.len() as u64 > limit {
            true => Err(format!("more than {limit} bytes")),
            false => Ok(decoded),
        };
    };
    unpacked.map(Cow::Owned).map_err(|error| error.to_string())
}

/// All that `reader` has, which must be no more than `limit` bytes.
fn read_within(reader: impl Read, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(std::io::Error::other(format!("more than {limit} bytes")));
    }
    Ok(bytes)
}

/// Reads `vlen-utf8`: the number of strings, then each one's length and bytes (numbers of 4 bytes,
/// little-endian).
fn vlen_utf8(bytes: &[u8], elements: usize) -> Result<Vec<String>, String> {
    let mut rest = bytes;
    let number = |rest: &mut &[u8]| {
        let (number, after) = rest.split_first_chunk::<4>().ok_or("strings that end too soon")?;
        *rest = after;
        Ok::<_, String>(u32::from_le_bytes(*number) as usize)
    };
    let count = number(&mut rest)?;
    if count != elements {
        return Err(format!("{count} strings where {elements} belong"));
    }
    let mut texts = Vec::with_capacity(elements.min(rest.len() / 4));
    for _ in 0..count {
        let length = number(&mut rest)?;
        let (text, after) = rest.split_at_checked(length).ok_or("strings that end too soon")?;
        rest = after;
        texts.push(utf8(text)?);
    }
    Ok(texts)
}
