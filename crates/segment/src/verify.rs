//! Reading a whole segment to see whether it is what was written.
//!
//! Nothing stops at the first fault: each is told, and what can still be read is read. A store that
//! cannot be asked is an error, not a fault.

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use serde_json::Value;
use storage::{ErrorKind, Piece};
use zarrs::metadata::v3::GroupMetadataV3;

use crate::arrays::{self, ArraySpec, CHECKSUM_BYTES, COUNT, VECTORS};
use crate::attributes::SegmentAttributes;
use crate::error::{Result, SegmentError};
use crate::load::pieces;
use crate::reader::Reader;
use crate::resident::ResidentView;
use crate::shard::{ShardIndex, index_bytes, parse_index, shard_key};
use crate::writer::METADATA;

/// Reads under way at once, each of at most 4 MB: a check takes little memory, however large the
/// segment is.
const AT_ONCE: usize = 4;

/// Inner chunks that lie side by side are read together up to this many bytes.
const READ_BYTES: u64 = 4 << 20;

/// Rows of a block in memory looked at between two questions whether to stop.
const STRIDE: usize = 1 << 14;

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
        match error {
            SegmentError::Corrupt { key, what } => Ok(Self { key, what }),
            SegmentError::Version { .. } => {
                let what = error.to_string();
                let SegmentError::Version { key, .. } = error else { return Err(error) };
                Ok(Self { key, what })
            }
            SegmentError::Storage(ref cause) => {
                let key = cause.key().unwrap_or_default().to_owned();
                match cause.kind() {
                    ErrorKind::NotFound => {
                        Ok(Self { key, what: "the object does not exist".into() })
                    }
                    ErrorKind::Corrupt => Ok(Self { key, what: cause.detail() }),
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

/// The content of the arrays beside `vectors` as checksums, by which what is stored and what is in
/// memory can be compared. None of an array that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents([Option<u32>; COUNT]);

impl Contents {
    /// What a block in memory holds. `None` when `stop` has said so.
    pub fn of(view: &ResidentView<'_>, stop: &dyn Fn() -> bool) -> Option<Self> {
        let (codes, graph) = (view.codes(), view.graph());
        let mut sums = [0u32; 3];
        let mut list = Vec::with_capacity(graph.neighbors.width() * size_of::<u32>());
        for row in 0..view.rows() as u32 {
            if (row as usize).is_multiple_of(STRIDE) && stop() {
                return None;
            }
            list.clear();
            for place in 0..graph.neighbors.width() {
                list.extend_from_slice(&graph.neighbors.get(row, place).to_le_bytes());
            }
            let parts = [codes.code(row), bytemuck::cast_slice(codes.factors(row)), &list];
            for (sum, part) in sums.iter_mut().zip(parts) {
                *sum = crc32c::crc32c_append(*sum, part);
            }
        }
        let [codes, factors, neighbors] = sums.map(Some);
        let sum = |bytes: &[u8]| Some(crc32c::crc32c(bytes));
        let integers = |integers: &[u32]| sum(bytemuck::cast_slice(integers));
        Some(Self([
            codes,
            factors,
            neighbors,
            integers(graph.upper_nodes),
            integers(graph.upper_offsets),
            integers(graph.upper_neighbors),
            sum(bytemuck::cast_slice(view.all_tids())),
            integers(view.tid_offsets()),
            sum(bytemuck::cast_slice(view.centroid())),
        ]))
    }

    /// Names of the arrays of which both know the content, and not the same.
    pub fn differing(&self, other: &Self, attributes: &SegmentAttributes) -> Vec<&'static str> {
        let specs = arrays::arrays(attributes);
        let both = specs.iter().zip(self.0.iter().zip(&other.0));
        both.filter(|(_, pair)| matches!(pair, (Some(one), Some(other)) if one != other))
            .map(|(spec, _)| spec.name)
            .collect()
    }

    /// Whether all arrays could be read.
    pub fn is_whole(&self) -> bool {
        self.0.iter().all(Option::is_some)
    }
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

    /// Reads all rows of `vectors` in their order, hands each inner chunk with its number to
    /// `visit`, and tells what is wrong with the others. Of an object that is missing or short
    /// [`verify`](Self::verify) tells, too.
    ///
    /// # Errors
    /// Those of the store that are no fault of an object.
    pub async fn verify_vectors(
        &self,
        tell: &mut Tell<'_>,
        visit: &mut (dyn FnMut(u32, &Bytes) + Send),
    ) -> Result<()> {
        let attributes = self.attributes();
        for shard in 0..attributes.shards() {
            let Some(index) = self.verify_index(shard, tell).await? else { continue };
            let first = shard * attributes.chunks_per_shard();
            let key = self.key(&shard_key(shard));
            let mut reads = stream::iter(together(&index))
                .map(|chunks| {
                    let range = index[chunks.start].start..index[chunks.end - 1].end;
                    let key = &key;
                    async move { (chunks, self.read(key, range).await) }
                })
                .buffered(AT_ONCE);
            while let Some((chunks, body)) = reads.next().await {
                let body = match body {
                    Ok(body) => body,
                    Err(error) => {
                        tell(Fault::of(error)?);
                        continue;
                    }
                };
                let start = index[chunks.start].start;
                for at in chunks {
                    let range = index[at].clone();
                    let part = (range.start - start) as usize..(range.end - start) as usize;
                    let decoded = match self.codec().decode(&body.slice(part)) {
                        Ok(decoded) => decoded,
                        Err(_) => {
                            let piece = Piece { key: key.as_str().into(), range };
                            match self.decode_again(&piece, &mut Default::default()).await {
                                Ok(decoded) => decoded,
                                Err(error) => {
                                    tell(Fault::of(error)?);
                                    continue;
                                }
                            }
                        }
                    };
                    visit(first + at as u32, &decoded);
                }
            }
        }
        Ok(())
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

    /// Reads the index of a shard; where its inner chunks lie, as far as that can be known.
    async fn verify_index(&self, shard: u32, tell: &mut Tell<'_>) -> Result<Option<ShardIndex>> {
        let (attributes, length) = (self.attributes(), index_bytes(self.attributes()));
        let key = self.key(&shard_key(shard));
        let size = match self.store().size(&key).await {
            Ok(size) => size,
            Err(error) => {
                tell(Fault::of(error.into())?);
                return Ok(None);
            }
        };
        let Some(start) = size.checked_sub(length) else {
            tell(Fault { key, what: format!("{size} bytes, too few for an index of {length}") });
            return Ok(None);
        };
        let computed = self.codec().fixed_bytes().map(|fixed| -> ShardIndex {
            let chunks = u64::from(attributes.chunks_in_shard(shard));
            (0..chunks).map(|chunk| chunk * fixed..(chunk + 1) * fixed).collect()
        });
        let read = async {
            let bytes = self.read(&key, start..size).await?;
            let index = parse_index(attributes, self.codec(), shard, &bytes, size);
            let corrupt = |what: String| {
                SegmentError::corrupt(&*key, format!("{what} in bytes {start} to {size}"))
            };
            let index = index.map_err(corrupt)?;
            let ends = index.iter().map(|range| range.end);
            let starts = index.iter().map(|range| range.start).chain([start]);
            if !std::iter::once(0).chain(ends).eq(starts) {
                return Err(corrupt("an index whose inner chunks leave gaps".into()));
            }
            Ok(index)
        };
        match (read.await, computed) {
            (Ok(index), None) => Ok(Some(index)),
            (Ok(index), Some(computed)) => {
                if index != computed {
                    tell(Fault { key, what: "an index that is not that of its chunks".into() });
                }
                Ok(Some(computed))
            }
            (Err(error), computed) => {
                tell(Fault::of(error)?);
                // An object of another size has been told of, and its chunks are not where they
                // belong.
                let whole = |index: &ShardIndex| index.last().is_none_or(|last| last.end <= size);
                Ok(computed.filter(whole))
            }
        }
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

/// Groups of inner chunks to read together.
fn together(index: &ShardIndex) -> Vec<std::ops::Range<usize>> {
    let mut groups: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, range) in index.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if range.end - index[group.start].start <= READ_BYTES => group.end = at + 1,
            _ => groups.push(at..at + 1),
        }
    }
    groups
}
