//! Reads of many pieces of objects at once: which requests bring them, and what they cost.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::store::Result;

/// Pieces of one object less than this many bytes apart are read together: on S3 a request costs as
/// much time as transferring about that much.
pub const COALESCE_GAP: u64 = 256 << 10;

/// Longest range to read in one request, in bytes (a piece that is longer alone excepted): beyond
/// it two requests side by side are faster than one.
pub const MAX_RANGE: u64 = 4 << 20;

/// Requests of one operation under way at once, where a store does not say.
pub(crate) const CONCURRENCY: usize = 16;

/// A part of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Piece {
    /// The object.
    pub key: Arc<str>,
    /// Bytes of it; not empty.
    pub range: Range<u64>,
}

/// Pieces that were read, and what that took.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In the order asked for; each has as many bytes as its range.
    pub pieces: Vec<Bytes>,
    /// What it took.
    pub cost: Cost,
}

/// What reading pieces took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Requests to the object store, hedges among them.
    pub requests: u32,
    /// Bytes that the object store's answers hold, gaps between pieces included.
    pub bytes: u64,
    /// Requests made a second time because the first was slow.
    pub hedges: u32,
    /// Pieces that came from Redis.
    pub redis_hits: u32,
    /// Their bytes.
    pub redis_bytes: u64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.hedges += other.hedges;
        self.redis_hits += other.redis_hits;
        self.redis_bytes += other.redis_bytes;
    }
}

/// One request: the bytes of the pieces `pieces`, and what lies between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Bytes to read.
    pub bytes: Range<u64>,
    /// Indexes of the pieces inside.
    pub pieces: Range<usize>,
}

/// Joins `pieces` (ascending, not empty, not overlapping) into runs: neighbours less than `gap`
/// bytes apart share one, as long as it stays within `longest` bytes.
pub fn coalesce(pieces: &[Range<u64>], gap: u64, longest: u64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        if let Some(run) = runs.last_mut() {
            let near = piece.start.saturating_sub(run.bytes.end) < gap;
            let short = piece.end.saturating_sub(run.bytes.start) <= longest;
            if near && short && piece.start >= run.bytes.end {
                run.bytes.end = piece.end;
                run.pieces.end = index + 1;
                continue;
            }
        }
        runs.push(Run { bytes: piece.clone(), pieces: index..index + 1 });
    }
    runs
}

/// Reads pieces with as few requests as [`coalesce`] needs, at most `concurrency` at once. `read`
/// gets the bytes of a range and says with how many requests; more than one means hedging.
pub(crate) async fn read_together<F>(
    pieces: &[Piece],
    concurrency: usize,
    read: impl Fn(Arc<str>, Range<u64>) -> F,
) -> Result<Batch>
where
    F: Future<Output = Result<(Bytes, u32)>>,
{
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (&pieces[a], &pieces[b]);
        (&a.key, a.range.start, a.range.end).cmp(&(&b.key, b.range.start, b.range.end))
    });
    // For each request: the object, the bytes, and the pieces inside.
    let mut requests: Vec<(Arc<str>, Range<u64>, Vec<usize>)> = Vec::new();
    for group in order.chunk_by(|&a, &b| pieces[a].key == pieces[b].key) {
        let ranges: Vec<_> = group.iter().map(|&piece| pieces[piece].range.clone()).collect();
        for run in coalesce(&ranges, COALESCE_GAP, MAX_RANGE) {
            let inside = group[run.pieces].to_vec();
            requests.push((Arc::clone(&pieces[group[0]].key), run.bytes, inside));
        }
    }
    let mut batch = Batch { pieces: vec![Bytes::new(); pieces.len()], cost: Cost::default() };
    let mut reads = stream::iter(requests)
        .map(|(key, range, inside)| {
            let reading = read(key, range.clone());
            async move { reading.await.map(|answer| (range, inside, answer)) }
        })
        .buffer_unordered(concurrency.max(1));
    while let Some((range, inside, (body, requests))) = reads.try_next().await? {
        batch.cost += Cost {
            requests,
            bytes: body.len() as u64,
            hedges: requests.saturating_sub(1),
            ..Cost::default()
        };
        for piece in inside {
            let wanted = &pieces[piece].range;
            let (start, end) = (wanted.start - range.start, wanted.end - range.start);
            // A store that breaks its promise about the length: the reader notices.
            let (start, end) = (body.len().min(start as usize), body.len().min(end as usize));
            batch.pieces[piece] = body.slice(start..end);
        }
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn near_pieces_share_a_run() {
        let runs = coalesce(&[0..10, 10..20, 25..30, 36..40], 6, 100);
        assert_eq!(
            runs,
            [Run { bytes: 0..30, pieces: 0..3 }, Run { bytes: 36..40, pieces: 3..4 },]
        );
        assert!(coalesce(&[], 6, 100).is_empty());
    }

    #[test]
    fn runs_are_not_too_long_but_for_one_piece() {
        let runs = coalesce(&[0..60, 60..100, 100..250], 10, 100);
        let bytes: Vec<_> = runs.into_iter().map(|run| run.bytes).collect();
        assert_eq!(bytes, [0..100, 100..250]);
    }

    /// Ascending pieces that do not overlap.
    fn pieces() -> impl Strategy<Value = Vec<Range<u64>>> {
        prop::collection::vec((0u64..500, 1u64..200), 0..60).prop_map(|steps| {
            let mut at = 0;
            steps
                .into_iter()
                .map(|(skip, length)| {
                    let start = at + skip;
                    at = start + length;
                    start..at
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn runs_cover_every_piece_once_and_nothing_needless(
            pieces in pieces(), gap in 0u64..400, longest in 1u64..3000,
        ) {
            let runs = coalesce(&pieces, gap, longest);
            let mut next = 0;
            for run in &runs {
                prop_assert_eq!(run.pieces.start, next);
                prop_assert!(!run.pieces.is_empty());
                next = run.pieces.end;
                let inside = &pieces[run.pieces.clone()];
                prop_assert_eq!(run.bytes.start, inside[0].start);
                prop_assert_eq!(run.bytes.end, inside[inside.len() - 1].end);
                prop_assert!(inside.len() == 1 || run.bytes.end - run.bytes.start <= longest);
                for pair in inside.windows(2) {
                    prop_assert!(pair[1].start - pair[0].end < gap);
                }
            }
            prop_assert_eq!(next, pieces.len());
            for pair in runs.windows(2) {
                let apart = pair[1].bytes.start - pair[0].bytes.end >= gap;
                let first = &pieces[pair[1].pieces.start];
                prop_assert!(apart || first.end - pair[0].bytes.start > longest);
            }
        }
    }
}
