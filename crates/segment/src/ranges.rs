//! Which bytes to ask for, so that few requests bring many chunks.

use std::ops::Range;

/// Chunks less than this many bytes apart are read together: on S3 a request costs as much time
/// as transferring about that much.
pub const COALESCE_GAP: u64 = 256 << 10;

/// Longest range to read in one request, in bytes (a chunk that is longer alone excepted):
/// beyond it two requests side by side are faster than one.
pub const MAX_RANGE: u64 = 4 << 20;

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
