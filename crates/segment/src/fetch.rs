//! Fetches inner chunks of vectors in one parallel wave.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::try_join_all;
use storage::{Cost, Piece};

use crate::error::{Result, SegmentError};
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
    /// What it took.
    pub cost: Cost,
}

impl Reader {
    /// Fetches inner chunks, in any order and each once: all requests go out together, with near
    /// chunks in one ([`COALESCE_GAP`](storage::COALESCE_GAP)).
    ///
    /// With compression the index of a shard is needed before its first chunk. It is read with
    /// [`Reader::load`], else here in a wave of its own, and kept. Chunks that are not what was
    /// written are read once more, from the object itself, before that is an error.
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
        let mut cost = Cost::default();
        let pieces = self.places(&wanted, &mut cost).await?;
        let batch = self.store().get_pieces(&pieces).await?;
        cost += batch.cost;
        let mut decoded = Vec::with_capacity(wanted.len());
        for ((&chunk, piece), body) in wanted.iter().zip(&pieces).zip(&batch.pieces) {
            let bytes = match self.codec().decode(body) {
                Ok(bytes) => bytes,
                Err(_) => self.decode_again(piece, &mut cost).await?,
            };
            decoded.push((chunk, bytes));
        }
        Ok(Fetched { chunks: decoded, cost })
    }

    /// Where chunks lie, in their order.
    async fn places(&self, chunks: &[u32], cost: &mut Cost) -> Result<Vec<Piece>> {
        let per_shard = self.attributes().chunks_per_shard();
        let fixed = self.codec().fixed_bytes().unwrap_or(0);
        let groups: Vec<&[u32]> = chunks.chunk_by(|a, b| a / per_shard == b / per_shard).collect();
        let indexes = groups.iter().map(|group| self.shard_index(group[0] / per_shard));
        let mut pieces = Vec::with_capacity(chunks.len());
        for (group, (index, spent)) in groups.iter().zip(try_join_all(indexes).await?) {
            *cost += spent;
            let key: Arc<str> = self.key(&shard_key(group[0] / per_shard)).into();
            pieces.extend(group.iter().map(|chunk| {
                let range = match index {
                    Some(index) => index[(chunk % per_shard) as usize].clone(),
                    None => {
                        let start = u64::from(chunk % per_shard) * fixed;
                        start..start + fixed
                    }
                };
                Piece { key: Arc::clone(&key), range }
            }));
        }
        Ok(pieces)
    }

    /// Reads and decodes a chunk whose bytes were wrong: they may have been so only on their way.
    pub(crate) async fn decode_again(&self, piece: &Piece, cost: &mut Cost) -> Result<Bytes> {
        let body = self.read(&piece.key, piece.range.clone()).await?;
        *cost += Cost { requests: 1, bytes: body.len() as u64, ..Cost::default() };
        self.codec().decode(&body).map_err(|what| {
            let Range { start, end } = piece.range;
            SegmentError::corrupt(&*piece.key, format!("{what} for bytes {start} to {end}"))
        })
    }

    /// Reads the indexes of all shards that chunks cannot be found without, so that no fetch has
    /// to.
    pub(crate) async fn read_indexes(&self) -> Result<()> {
        let shards = match self.codec().fixed_bytes() {
            Some(_) => 0,
            None => self.attributes().shards(),
        };
        try_join_all((0..shards).map(|shard| self.shard_index(shard))).await?;
        Ok(())
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
                cost += Cost { requests: 2, bytes: length, ..Cost::default() };
                parse_index(self.attributes(), self.codec(), shard, &index, size).map_err(|what| {
                    SegmentError::corrupt(key, format!("{what} in bytes {start} to {size}"))
                })
            })
            .await?;
        Ok((Some(index), cost))
    }
}
