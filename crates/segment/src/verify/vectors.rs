//! The rows of `vectors`, shard by shard.

use std::ops::Range;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use storage::Piece;

use super::{AT_ONCE, Fault, Tell};
use crate::error::{Result, SegmentError};
use crate::reader::Reader;
use crate::shard::{ShardIndex, index_bytes, parse_index, shard_key};

/// Inner chunks that lie side by side are read together up to this many bytes.
const READ_BYTES: u64 = 4 << 20;

impl Reader {
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

/// Groups of inner chunks to read together.
fn together(index: &ShardIndex) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (at, range) in index.iter().enumerate() {
        match groups.last_mut() {
            Some(group) if range.end - index[group.start].start <= READ_BYTES => group.end = at + 1,
            _ => groups.push(at..at + 1),
        }
    }
    groups
}
