//! Shards of vectors: inner chunks in order, then an index.
//!
//! Follows the `sharding_indexed` codec of the Zarr v3 specification with the index at the end:
//! for every inner chunk the shard has room for, offset and length as little-endian `u64`, both
//! 2^64 − 1 for one that is absent; then a CRC-32C of the index. Every chunk that holds rows is
//! present, zeros or not, and they lie in order without gaps: uncompressed, chunk `i` of a shard
//! begins at `i × length` and no index is needed to find it.

use std::ops::Range;
use std::thread;

use bytes::Bytes;

use crate::arrays::{CHECKSUM_BYTES, VECTORS};
use crate::attributes::SegmentAttributes;
use crate::codec::{ChunkCodec, strip_checksum};
use crate::control::WriteControl;
use crate::error::{Result, SegmentError};
use crate::rows::{RowSource, append_rows};

/// Bytes of an index entry.
const ENTRY_BYTES: usize = 16;

/// Offset and length of an absent chunk.
const ABSENT: u64 = u64::MAX;

/// Bytes of rows to read at a time.
const READ_BYTES: usize = 1 << 20;

/// Most threads that compress one shard.
const MAX_THREADS: usize = 8;

/// Name of the object that holds shard `shard`, below the segment.
pub(crate) fn shard_key(shard: u32) -> String {
    format!("{VECTORS}/c/{shard}/0")
}

/// Bytes of the index of a shard, checksum included.
pub(crate) fn index_bytes(attributes: &SegmentAttributes) -> u64 {
    (attributes.chunks_per_shard() as usize * ENTRY_BYTES + CHECKSUM_BYTES) as u64
}

/// Encodes shard `shard`.
///
/// # Errors
/// Those of the rows and of their conversion; [`SegmentError::Cancelled`].
pub(crate) fn encode(
    attributes: &SegmentAttributes,
    codec: &ChunkCodec,
    rows: &dyn RowSource,
    shard: u32,
    control: &WriteControl,
) -> Result<Vec<u8>> {
    let first = shard * attributes.chunks_per_shard();
    let chunks = first..first + attributes.chunks_in_shard(shard);
    let work = |chunks| encode_chunks(attributes, codec, rows, chunks, control);
    // Without compression the memory is the limit, not the processor.
    let (mut body, lengths) = match codec.fixed_bytes() {
        Some(_) => work(chunks)?,
        None => in_parallel(chunks, work)?,
    };
    let start = body.len();
    let mut offset = 0u64;
    for length in &lengths {
        body.extend_from_slice(&offset.to_le_bytes());
        body.extend_from_slice(&length.to_le_bytes());
        offset += length;
    }
    body.resize(start + attributes.chunks_per_shard() as usize * ENTRY_BYTES, 0xFF);
    let checksum = crc32c::crc32c(&body[start..]);
    body.extend_from_slice(&checksum.to_le_bytes());
    Ok(body)
}

/// Encoded chunks one after the other, and the length of each.
type Encoded = (Vec<u8>, Vec<u64>);

/// Does `work` on parts of `chunks` side by side and joins the results.
fn in_parallel(
    chunks: Range<u32>,
    work: impl Fn(Range<u32>) -> Result<Encoded> + Sync,
) -> Result<Encoded> {
    let threads = thread::available_parallelism().map_or(1, |n| n.get().min(MAX_THREADS));
    let part = chunks.len().div_ceil(threads).max(1);
    let parts: Vec<Result<Encoded>> = thread::scope(|scope| {
        let work = &work;
        let started: Vec<_> = chunks
            .clone()
            .step_by(part)
            .map(|start| {
                let end = chunks.end.min(start + part as u32);
                scope.spawn(move || work(start..end))
            })
            .collect();
        let lost = || Err(SegmentError::invalid("a thread that encodes vectors panicked"));
        started.into_iter().map(|thread| thread.join().unwrap_or_else(|_| lost())).collect()
    });
    let mut joined = Encoded::default();
    for part in parts {
        let (body, lengths) = part?;
        joined.0.extend_from_slice(&body);
        joined.1.extend_from_slice(&lengths);
    }
    Ok(joined)
}

fn encode_chunks(
    attributes: &SegmentAttributes,
    codec: &ChunkCodec,
    rows: &dyn RowSource,
    chunks: Range<u32>,
    control: &WriteControl,
) -> Result<Encoded> {
    let dimensions = attributes.dimensions as usize;
    let chunk_bytes = attributes.chunk_bytes();
    let chunk_rows = attributes.chunk_rows as usize;
    let at_once = (READ_BYTES / (chunk_rows * dimensions * size_of::<f32>())).max(1);
    let mut read = vec![0f32; at_once * chunk_rows * dimensions];
    let mut plain = Vec::with_capacity(at_once * chunk_bytes);
    let most = chunks.len() * codec.fixed_bytes().unwrap_or(0) as usize;
    let mut body = Vec::with_capacity(most + index_bytes(attributes) as usize);
    let mut lengths = Vec::with_capacity(chunks.len());
    for start in chunks.clone().step_by(at_once) {
        control.check()?;
        let end = chunks.end.min(start + at_once as u32);
        let first_row = start as usize * chunk_rows;
        let count = (end as usize * chunk_rows).min(attributes.rows as usize) - first_row;
        let read = &mut read[..count * dimensions];
        rows.read_rows(first_row, read)
            .map_err(|error| SegmentError::Rows { row: first_row, message: error.to_string() })?;
        plain.clear();
        append_rows(attributes.payload, read, dimensions, first_row, &mut plain)?;
        // The last chunk is as long as the others; zeros stand for the rows it lacks.
        plain.resize((end - start) as usize * chunk_bytes, 0);
        for chunk in plain.chunks_exact(chunk_bytes) {
            let before = body.len();
            codec.encode(chunk, &mut body)?;
            lengths.push((body.len() - before) as u64);
        }
    }
    Ok((body, lengths))
}

/// Where the chunks of a shard lie: the byte range of each that holds rows.
pub(crate) type ShardIndex = Vec<Range<u64>>;

/// Reads the index of shard `shard` from the last [`index_bytes`] of an object of `object_bytes`.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn parse_index(
    attributes: &SegmentAttributes,
    codec: &ChunkCodec,
    shard: u32,
    index: &Bytes,
    object_bytes: u64,
) -> std::result::Result<ShardIndex, String> {
    let entries = strip_checksum(index)?;
    if entries.len() != attributes.chunks_per_shard() as usize * ENTRY_BYTES {
        return Err(format!("an index of {} bytes", entries.len()));
    }
    let data_bytes = object_bytes.saturating_sub(index.len() as u64);
    let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
    let present = attributes.chunks_in_shard(shard) as usize;
    let mut ranges = ShardIndex::with_capacity(present);
    for (number, entry) in entries.iter().enumerate() {
        let (offset, length) = halves(entry);
        let end = offset.checked_add(length).filter(|end| *end <= data_bytes);
        let in_order = ranges.last().is_none_or(|last| last.end <= offset);
        match end {
            Some(end) if number < present && in_order && length <= codec.most_bytes() => {
                ranges.push(offset..end);
            }
            None if number >= present && (offset, length) == (ABSENT, ABSENT) => {}
            _ => {
                return Err(format!(
                    "an index entry for inner chunk {number} that says {length} bytes at {offset}"
                ));
            }
        }
    }
    Ok(ranges)
}

fn halves(entry: &[u8; ENTRY_BYTES]) -> (u64, u64) {
    let both = u128::from_le_bytes(*entry);
    (both as u64, (both >> 64) as u64)
}
