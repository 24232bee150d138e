//! Fetches inner chunks of vectors in one parallel wave.

use std::ops::Range;

use bytes::Bytes;
use futures::future::try_join_all;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::error::{Result, SegmentError};
use crate::ranges::{COALESCE_GAP, MAX_RANGE, Run, coalesce};
use crate::reader::Reader;
use crate::shard::{ShardIndex, index_bytes, parse_index, shard_key};

/// What one wave brought.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// Chunk number and its bytes: chunk_rows × dimensions elements of the payload type,
    /// little-endian, zeros for the rows that the last chunk of a segment lacks. Ascending, each
    /// chunk once.
    ///
    /// Without compression they are parts of what was read; copy those that are kept for long.
    pub chunks: Vec<(u32, Bytes)>,
    /// Requests to the store.
    pub requests: u32,
    /// Bytes read.
    pub bytes: u64,
}

/// One request of a wave.
struct Request {
    shard: u32,
    /// Bytes of the shard.
    bytes: Range<u64>,
    /// The chunks inside, and where they lie in the shard.
    chunks: Vec<(u32, Range<u64>)>,
}

impl Reader {
    /// Fetches inner chunks, in any order and each once: all requests go out together, with near
    /// chunks in one ([`COALESCE_GAP`]).
    ///
    /// With compression the index of a shard is read before its first chunk, in a wave of its
    /// own, and kept.
    ///
    /// # Errors
    /// Those of the store; [`SegmentError::Corrupt`] naming the object and the bytes;
    /// [`SegmentError::Invalid`] for a chunk that the segment does not have.
    pub async fn fetch_chunks(&self, chunks: &[u32]) -> Result<Fetched> {
        let mut wanted = chunks.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        if let Some(last) = wanted.last().filter(|last| **last >= self.attributes().chunks()) {
            return Err(SegmentError::invalid(format!(
                "inner chunk {last} of a segment that has {}",
                self.attributes().chunks()
            )));
        }
        let mut fetched = Fetched::default();
        let per_shard = self.attributes().chunks_per_shard();
        let groups: Vec<&[u32]> = wanted.chunk_by(|a, b| a / per_shard == b / per_shard).collect();
        let indexes = groups.iter().map(|group| self.shard_index(group[0] / per_shard));
        let mut requests = Vec::new();
        for (group, (index, cost)) in groups.iter().zip(try_join_all(indexes).await?) {
            fetched.requests += cost.requests;
            fetched.bytes += cost.bytes;
            requests.extend(self.plan(group, index));
        }
        let mut reads =
            stream::iter(requests).map(|request| self.run(request)).buffered(self.concurrency());
        while let Some((bytes, mut chunks)) = reads.try_next().await? {
            fetched.requests += 1;
            fetched.bytes += bytes;
            fetched.chunks.append(&mut chunks);
        }
        Ok(fetched)
    }

    /// The requests for chunks of one shard.
    fn plan(&self, chunks: &[u32], index: Option<&ShardIndex>) -> Vec<Request> {
        let per_shard = self.attributes().chunks_per_shard();
        let fixed = self.codec().fixed_bytes().unwrap_or(0);
        let places: Vec<Range<u64>> = chunks
            .iter()
            .map(|chunk| match index {
                Some(index) => index[(chunk % per_shard) as usize].clone(),
                None => {
                    let start = u64::from(chunk % per_shard) * fixed;
                    start..start + fixed
                }
            })
            .collect();
        coalesce(&places, COALESCE_GAP, MAX_RANGE)
            .into_iter()
            .map(|Run { bytes, pieces }| Request {
                shard: chunks[0] / per_shard,
                bytes,
                chunks: pieces.map(|i| (chunks[i], places[i].clone())).collect(),
            })
            .collect()
    }

    /// Reads one range and takes the chunks out of it.
    async fn run(&self, request: Request) -> Result<(u64, Vec<(u32, Bytes)>)> {
        let key = self.key(&shard_key(request.shard));
        let body = self.read(&key, request.bytes.clone()).await?;
        let chunks = request.chunks.into_iter().map(|(chunk, place)| {
            let start = (place.start - request.bytes.start) as usize;
            let end = (place.end - request.bytes.start) as usize;
            let decoded = self.codec().decode(&body.slice(start..end));
            decoded.map(|bytes| (chunk, bytes)).map_err(|what| {
                let (start, end) = (place.start, place.end);
                SegmentError::corrupt(key.as_str(), format!("{what} for bytes {start} to {end}"))
            })
        });
        Ok((body.len() as u64, chunks.collect::<Result<_>>()?))
    }

    /// The index of a shard, where chunks cannot be found without; and what reading it cost now.
    async fn shard_index(&self, shard: u32) -> Result<(Option<&ShardIndex>, Cost)> {
        let mut cost = Cost::default();
        let Some(cell) = self.index(shard) else {
            return Ok((None, cost));
        };
        let index = cell
            .get_or_try_init(async || {
                let key = self.key(&shard_key(shard));
                let size = self.store().size(&key).await?;
                let length = index_bytes(self.attributes());
                let Some(start) = size.checked_sub(length) else {
                    let what = format!("{size} bytes, too few for an index of {length}");
                    return Err(SegmentError::corrupt(key, what));
                };
                let index = self.read(&key, start..size).await?;
                (cost.requests, cost.bytes) = (2, length);
                parse_index(self.attributes(), self.codec(), shard, &index, size).map_err(|what| {
                    SegmentError::corrupt(key, format!("{what} in bytes {start} to {size}"))
                })
            })
            .await?;
        Ok((Some(index), cost))
    }
}

/// What an operation cost.
#[derive(Clone, Copy, Default)]
struct Cost {
    requests: u32,
    bytes: u64,
}
