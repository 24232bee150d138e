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

/// A wave of more requests than this is thinned out by reading over larger gaps…
pub const WAVE_REQUESTS: usize = 8;

/// … as long as it brings no more bytes than this: a request costs money and work on both sides,
/// bytes in this number hardly anything.
pub const WAVE_BYTES: u64 = 1 << 20;

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

/// One request: bytes of an object, and which of the pieces asked for lie there.
#[derive(Clone, Debug)]
struct Request {
    key: Arc<str>,
    range: Range<u64>,
    pieces: Vec<usize>,
}

/// Joins requests, the nearest ones of an object first, while there are more than [`WAVE_REQUESTS`]
/// and all of them bring at most [`WAVE_BYTES`].
fn thin_out(requests: &mut Vec<Request>) {
    let mut bytes: u64 = requests.iter().map(|one| one.range.end - one.range.start).sum();
    while requests.len() > WAVE_REQUESTS && bytes < WAVE_BYTES {
        let gap = |pair: &[Request]| pair[1].range.start.saturating_sub(pair[0].range.end);
        let neighbours = requests.windows(2).enumerate().filter(|(_, pair)| {
            pair[0].key == pair[1].key && pair[1].range.end - pair[0].range.start <= MAX_RANGE
        });
        let nearest = neighbours.min_by_key(|(_, pair)| gap(pair));
        let Some((at, more)) = nearest.map(|(at, pair)| (at, gap(pair))) else { return };
        if bytes + more > WAVE_BYTES {
            return;
        }
        bytes += more;
        let joined = requests.remove(at + 1);
        requests[at].range.end = joined.range.end.max(requests[at].range.end);
        requests[at].pieces.extend(joined.pieces);
    }
}

/// Reads pieces with as few requests as [`coalesce`] and [`thin_out`] need, at most `concurrency` at once. `read`
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
    let mut requests: Vec<Request> = Vec::new();
    for group in order.chunk_by(|&a, &b| pieces[a].key == pieces[b].key) {
        let ranges: Vec<_> = group.iter().map(|&piece| pieces[piece].range.clone()).collect();
        for run in coalesce(&ranges, COALESCE_GAP, MAX_RANGE) {
            let key = Arc::clone(&pieces[group[0]].key);
            requests.push(Request { key, range: run.bytes, pieces: group[run.pieces].to_vec() });
        }
    }
    thin_out(&mut requests);
    let mut batch = Batch { pieces: vec![Bytes::new(); pieces.len()], cost: Cost::default() };
    let mut reads = stream::iter(requests)
        .map(|Request { key, range, pieces }| {
            let reading = read(key, range.clone());
            async move { reading.await.map(|answer| (range, pieces, answer)) }
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

    fn requests(key: &str, ranges: &[Range<u64>]) -> Vec<Request> {
        let request = |(piece, range): (usize, &Range<u64>)| Request {
            key: key.into(),
            range: range.clone(),
            pieces: vec![piece],
        };
        ranges.iter().enumerate().map(request).collect()
    }

    #[test]
    fn many_requests_become_few_where_that_costs_few_bytes() {
        const K: u64 = 1 << 10;
        // Twelve of 24 KiB, 300 KiB apart but for three that are nearer.
        let mut at = 0;
        let ranges: Vec<Range<u64>> = (0..12)
            .map(|number| {
                at += if [3, 6, 9].contains(&number) { 260 * K } else { 300 * K };
                at..at + 24 * K
            })
            .collect();
        let mut wave = requests("a", &ranges);
        thin_out(&mut wave);
        // 288 KiB of pieces leave room for two gaps of 236 KiB and no more below a mebibyte.
        let bytes: u64 = wave.iter().map(|one| one.range.end - one.range.start).sum();
        assert!(wave.len() < 12 && bytes <= WAVE_BYTES, "{} requests, {bytes} bytes", wave.len());
        let joined: Vec<_> = wave.iter().filter(|one| one.pieces.len() > 1).collect();
        assert!(joined.iter().all(|one| one.pieces.len() == 2 && one.pieces[1] % 3 == 0));
        // Few requests are left as they are, and those of different objects apart.
        let mut few = requests("a", &ranges[..8]);
        thin_out(&mut few);
        assert_eq!(few.len(), 8);
        let mut apart: Vec<Request> =
            (0..12).flat_map(|key| requests(&key.to_string(), &ranges[..1])).collect();
        thin_out(&mut apart);
        assert_eq!(apart.len(), 12);
    }

    proptest! {
        #[test]
        fn thinning_out_keeps_every_piece_and_the_limit(
            pieces in pieces(), scale in 1u64..8000,
        ) {
            let scaled: Vec<_> =
                pieces.iter().map(|piece| piece.start * scale..piece.end * scale).collect();
            let before: u64 = scaled.iter().map(|piece| piece.end - piece.start).sum();
            let mut wave = requests("a", &scaled);
            thin_out(&mut wave);
            let after: u64 = wave.iter().map(|one| one.range.end - one.range.start).sum();
            prop_assert!(after <= before.max(WAVE_BYTES));
            let inside: Vec<usize> = wave.iter().flat_map(|one| one.pieces.clone()).collect();
            prop_assert_eq!(inside, (0..scaled.len()).collect::<Vec<_>>());
            for one in &wave {
                for &piece in &one.pieces {
                    prop_assert!(one.range.start <= scaled[piece].start);
                    prop_assert!(scaled[piece].end <= one.range.end);
                }
            }
        }

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
