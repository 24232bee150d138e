//! How many rows a chunk and a shard of vectors hold when nobody says.

use distance::Payload;

use crate::error::{Result, SegmentError};

/// Largest default inner chunk, in bytes: with near vectors side by side, small enough to waste
/// little of a read, large enough to hold several candidates.
const CHUNK_BYTES: u64 = 24 << 10;

/// Aimed-at shard, in bytes: large enough that objects stay few, small enough to hold several in
/// memory while they upload.
const SHARD_BYTES: u64 = 32 << 20;

/// Rows of an inner chunk: the largest power of two that keeps it within 24 KiB, at least 1 and
/// at most 1024.
///
/// | dimensions | float32 | float16 |
/// |---|---|---|
/// | 100 | 32 | 64 |
/// | 384 | 16 | 32 |
/// | 1536 | 4 | 8 |
pub fn default_chunk_rows(dimensions: u32, payload: Payload) -> u32 {
    let row_bytes = u64::from(dimensions.max(1)) * payload.element_bytes() as u64;
    let fitting = (CHUNK_BYTES / row_bytes).clamp(1, 1024) as u32;
    1 << fitting.ilog2()
}

/// Rows of a shard: about 32 MiB, a multiple of `chunk_rows`.
pub fn default_shard_rows(dimensions: u32, payload: Payload, chunk_rows: u32) -> u32 {
    let row_bytes = u64::from(dimensions.max(1)) * payload.element_bytes() as u64;
    let chunk_bytes = row_bytes * u64::from(chunk_rows.max(1));
    let chunks = (SHARD_BYTES / chunk_bytes).max(1);
    // 32 MiB of one-byte rows fit a u32 many times over.
    (chunks as u32).saturating_mul(chunk_rows.max(1))
}

/// Rows of an inner chunk and of a shard for a segment of `rows` rows, from what was asked for.
///
/// A shard is never larger than the segment (rounded up to whole chunks): its index would list
/// chunks that cannot exist.
///
/// # Errors
/// [`SegmentError::Invalid`] if a number asked for is 0, or `shard_rows` is not a multiple of
/// `chunk_rows`.
pub fn choose_rows(
    dimensions: u32,
    payload: Payload,
    rows: u32,
    chunk_rows: Option<u32>,
    shard_rows: Option<u32>,
) -> Result<(u32, u32)> {
    let chunk = chunk_rows.unwrap_or_else(|| default_chunk_rows(dimensions, payload));
    let shard = shard_rows.unwrap_or_else(|| default_shard_rows(dimensions, payload, chunk));
    if chunk == 0 || shard == 0 || !shard.is_multiple_of(chunk) {
        return Err(SegmentError::invalid(format!(
            "shard_rows is {shard}, but must be a multiple of chunk_rows, which is {chunk}"
        )));
    }
    let needed = u64::from(rows.max(1).div_ceil(chunk)) * u64::from(chunk);
    Ok((chunk, needed.min(u64::from(shard)) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn usual_dimensions() {
        let rows = |dimensions| default_chunk_rows(dimensions, Payload::Float32);
        assert_eq!([100, 384, 768, 1536, 16_000].map(rows), [32, 16, 8, 4, 1]);
        assert_eq!(default_chunk_rows(384, Payload::Float16), 32);
        assert_eq!(default_shard_rows(384, Payload::Float32, 16), 21_840);
    }

    #[test]
    fn what_is_asked_for_is_checked() {
        let ask = |chunk, shard| choose_rows(384, Payload::Float32, 100_000, chunk, shard);
        assert_eq!(ask(None, None).expect("defaults"), (16, 21_840));
        assert_eq!(ask(Some(10), Some(100)).expect("fits"), (10, 100));
        for (chunk, shard) in [(10, 101), (0, 5), (5, 0), (10, 5)] {
            assert!(ask(Some(chunk), Some(shard)).is_err());
        }
    }

    proptest! {
        #[test]
        fn sizes_stay_in_bounds(dimensions in 1u32..=16_000, half: bool, rows in 1u32..5_000_000) {
            let payload = if half { Payload::Float16 } else { Payload::Float32 };
            let row = u64::from(dimensions) * payload.element_bytes() as u64;
            let (chunk, shard) =
                choose_rows(dimensions, payload, rows, None, None).expect("defaults fit");
            prop_assert!(chunk == 1 || u64::from(chunk) * row <= 24 << 10);
            prop_assert!(shard % chunk == 0);
            prop_assert!(u64::from(shard) * row <= 33 << 20);
            let whole = u64::from(rows) * row;
            prop_assert!(u64::from(shard) * row >= (16 << 20).min(whole));
        }
    }
}
