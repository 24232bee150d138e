//! Reading a whole segment to see whether it is what was written.
//!
//! Nothing stops at the first fault: each is told, and what can still be read is read. A store that
//! cannot be asked is an error, not a fault.

mod contents;
mod vectors;

use futures::stream::{self, StreamExt};
use serde_json::Value;
use storage::ErrorKind;
use zarrs::metadata::v3::GroupMetadataV3;

use crate::arrays::{self, ArraySpec, CHECKSUM_BYTES, COUNT, VECTORS};
use crate::attributes::SegmentAttributes;
use crate::error::{Result, SegmentError};
use crate::load::pieces;
use crate::reader::Reader;
use crate::shard::{index_bytes, shard_key};
use crate::writer::METADATA;

pub use contents::Contents;

/// Reads under way at once, each of at most 4 MB: a check takes little memory, however large the
/// segment is.
const AT_ONCE: usize = 4;

/// Something that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The object.
    pub key: String,
    /// What is wrong with it, and where, in words.
    pub what: String,
}

impl Fault {
    /// The fault that an error is about.
    ///
    /// # Errors
    /// The error, when it tells nothing about an object.
    pub fn of(error: SegmentError) -> Result<Self> {
        let fault = |key: &str, what: String| Ok(Self { key: key.to_owned(), what });
        match &error {
            SegmentError::Corrupt { key, what } => fault(key, what.clone()),
            SegmentError::Version { key, .. } => fault(key, error.to_string()),
            SegmentError::Storage(cause) => {
                let key = cause.key().unwrap_or_default();
                match cause.kind() {
                    ErrorKind::NotFound => fault(key, "the object does not exist".into()),
                    ErrorKind::Corrupt => fault(key, cause.detail()),
                    _ => Err(error),
                }
            }
            _ => Err(error),
        }
    }
}

/// Where faults are told.
pub type Tell<'a> = dyn FnMut(Fault) + Send + 'a;

/// What [`Reader::verify`] has seen.
#[derive(Clone, Copy, Debug)]
pub struct Verified {
    /// Bytes of all objects that are there.
    pub bytes: u64,
    /// The content of the arrays beside `vectors`.
    pub contents: Contents,
}

impl Reader {
    /// Reads every object but the rows of `vectors`, and tells what is wrong: objects that are
    /// missing, of the wrong size, or do not hold what their checksums say.
    ///
    /// # Errors
    /// Those of the store that are no fault of an object.
    pub async fn verify(&self, tell: &mut Tell<'_>) -> Result<Verified> {
        let attributes = self.attributes();
        let specs = arrays::arrays(attributes);
        let mut bytes = 0;
        let group = GroupMetadataV3::new().with_attributes(attributes.to_zarr()?);
        let group = serde_json::to_value(&group)
            .map_err(|error| SegmentError::invalid(format!("the group's metadata: {error}")))?;
        bytes += self.verify_metadata(METADATA, &group, tell).await?;
        for (name, expected) in metadata(attributes)? {
            bytes += self.verify_metadata(&name, &expected, tell).await?;
        }

        let shards = (0..attributes.shards()).map(|shard| {
            let fixed = self.codec().fixed_bytes();
            let size = fixed.map(|fixed| {
                u64::from(attributes.chunks_in_shard(shard)) * fixed + index_bytes(attributes)
            });
            (shard_key(shard), size)
        });
        self.verify_sizes(shards.collect(), &mut bytes, tell).await?;
        let chunks = specs.iter().flat_map(|spec| {
            let size = Some(spec.chunk_bytes() + CHECKSUM_BYTES as u64);
            (0..spec.chunks()).map(move |chunk| (spec.chunk_key(chunk), size))
        });
        let sound = self.verify_sizes(chunks.collect(), &mut bytes, tell).await?;
        let contents = self.verify_arrays(&specs, &sound, tell).await?;
        Ok(Verified { bytes, contents })
    }

    /// Compares a metadata object with what is written for these attributes; returns its bytes.
    async fn verify_metadata(
        &self,
        name: &str,
        expected: &Value,
        tell: &mut Tell<'_>,
    ) -> Result<u64> {
        let key = self.key(name);
        let body = match self.store().get(&key).await {
            Ok(body) => body,
            Err(error) => {
                tell(Fault::of(error.into())?);
                return Ok(0);
            }
        };
        match serde_json::from_slice::<Value>(&body) {
            Ok(found) if found == *expected => {}
            Ok(_) => tell(Fault { key, what: "metadata that are not those of the segment".into() }),
            Err(error) => tell(Fault { key, what: format!("invalid JSON: {error}") }),
        }
        Ok(body.len() as u64)
    }

    /// Looks whether objects are there, and have the size they must have; returns of each whether
    /// it has, and adds their sizes to `bytes`.
    async fn verify_sizes(
        &self,
        objects: Vec<(String, Option<u64>)>,
        bytes: &mut u64,
        tell: &mut Tell<'_>,
    ) -> Result<Vec<bool>> {
        let mut sound = Vec::with_capacity(objects.len());
        let mut sizes = stream::iter(objects)
            .map(|(name, expected)| async move {
                let key = self.key(&name);
                let size = self.store().size(&key).await;
                (key, expected, size)
            })
            .buffered(self.store().concurrency());
        while let Some((key, expected, size)) = sizes.next().await {
            let size = match size {
                Ok(size) => size,
                Err(error) => {
                    tell(Fault::of(error.into())?);
                    sound.push(false);
                    continue;
                }
            };
            *bytes += size;
            let wrong = expected.filter(|expected| *expected != size);
            if let Some(expected) = wrong {
                tell(Fault { key, what: format!("{size} bytes where {expected} belong") });
            }
            sound.push(wrong.is_none());
        }
        Ok(sound)
    }

    /// Reads all chunks of the arrays, `sound` ones of them, and checks their checksums.
    async fn verify_arrays(
        &self,
        specs: &[ArraySpec; COUNT],
        sound: &[bool],
        tell: &mut Tell<'_>,
    ) -> Result<Contents> {
        let mut contents = [Some(0u32); COUNT];
        let before = |array: usize| specs[..array].iter().map(ArraySpec::chunks).sum::<u64>();
        let is_sound = |array: usize, chunk: u64| sound[(before(array) + chunk) as usize];
        for (array, spec) in specs.iter().enumerate() {
            if (0..spec.chunks()).any(|chunk| !is_sound(array, chunk)) {
                contents[array] = None;
            }
        }
        let wanted = pieces(specs).into_iter().filter(|piece| is_sound(piece.array, piece.chunk));
        let mut reads = stream::iter(wanted)
            .map(|piece| async {
                let key = self.key(&specs[piece.array].chunk_key(piece.chunk));
                let body = self.read(&key, piece.bytes.clone()).await;
                (piece, body)
            })
            .buffered(AT_ONCE);
        let mut checksum = 0;
        let mut given_up = None;
        while let Some((piece, body)) = reads.next().await {
            let (array, spec) = (piece.array, &specs[piece.array]);
            if given_up == Some((array, piece.chunk)) {
                continue;
            }
            let finished = body.and_then(|body| match piece.last {
                true => self.finish_chunk(spec, piece.chunk, checksum, &body),
                false => Ok(body),
            });
            let body = match finished {
                Ok(body) => body,
                Err(error) => {
                    tell(Fault::of(error)?);
                    given_up = Some((array, piece.chunk));
                    contents[array] = None;
                    checksum = 0;
                    continue;
                }
            };
            checksum = match piece.last {
                true => 0,
                false => crc32c::crc32c_append(checksum, &body),
            };
            // Padding is no content.
            let range = spec.chunk_range(piece.chunk);
            let start = (range.start + piece.bytes.start).min(range.end);
            let length = (range.end - start).min(body.len() as u64) as usize;
            contents[array] =
                contents[array].map(|sum| crc32c::crc32c_append(sum, &body[..length]));
        }
        Ok(Contents(contents))
    }
}

/// The metadata of all arrays: names of the objects, and what they hold.
///
/// Compared as a whole: whoever updates zarrs and gets other words for the same sees it by the
/// test that compares them with those of today.
fn metadata(attributes: &SegmentAttributes) -> Result<Vec<(String, Value)>> {
    let specs = arrays::arrays(attributes);
    let of_arrays = specs.iter().map(|spec| Ok((spec.name, spec.metadata()?)));
    let of_vectors = std::iter::once_with(|| Ok((VECTORS, arrays::vectors_metadata(attributes)?)));
    of_arrays
        .chain(of_vectors)
        .map(|named: Result<_>| {
            let (name, json) = named?;
            let value = serde_json::from_slice(&json)
                .map_err(|error| SegmentError::invalid(format!("metadata of {name}: {error}")))?;
            Ok((format!("{name}/{METADATA}"), value))
        })
        .collect()
}
