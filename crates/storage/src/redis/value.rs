//! How pieces look in Redis.
//!
//! ```text
//!   ┌─────────┬───────┬──────────┬──────────────┬────────────────────┐
//!   │ version │ codec │ CRC-32C  │ plain length │ the piece, or LZ4  │
//!   │ 1 byte  │ 1     │ 4        │ 4            │                    │
//!   └─────────┴───────┴──────────┴──────────────┴────────────────────┘
//! ```
//!
//! Numbers are little-endian. The checksum covers the key, the codec, and what follows it: so
//! neither a damaged value nor one that belongs to another key can pass for a piece.

use bytes::Bytes;

use crate::Piece;

/// What every key begins with; another format gets another one.
const PREFIX: &str = "s3vector1:";
const VERSION: u8 = 1;
const RAW: u8 = 0;
const LZ4: u8 = 1;
const HEADER: usize = 10;

/// The name of a piece in Redis. What it names never changes.
pub(super) fn key(piece: &Piece) -> Vec<u8> {
    let (start, length) = (piece.range.start, piece.range.end - piece.range.start);
    format!("{PREFIX}{}:{start}+{length}", piece.key).into_bytes()
}

/// The value that holds `plain` under `key`, by LZ4 when that is worth it; `None` when `plain` is
/// too long for the format.
pub(super) fn encode(key: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(plain.len()).ok()?;
    let mut value = vec![0; HEADER + lz4_flex::block::get_maximum_output_size(plain.len())];
    let packed = lz4_flex::block::compress_into(plain, &mut value[HEADER..]).ok();
    // Floats made from half precision shrink by 7 %, and reading them then takes several times as
    // long as the bytes saved would have.
    let codec = match packed.filter(|packed| packed + plain.len() / 8 < plain.len()) {
        Some(packed) => {
            value.truncate(HEADER + packed);
            LZ4
        }
        None => {
            value.truncate(HEADER);
            value.extend_from_slice(plain);
            RAW
        }
    };
    (value[0], value[1]) = (VERSION, codec);
    value[6..10].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum(key, codec, &value[6..]);
    value[2..6].copy_from_slice(&checksum.to_le_bytes());
    value.shrink_to_fit();
    Some(value)
}

/// The piece of `length` bytes that `value` holds under `key`, if it holds that and nothing else.
pub(super) fn decode(key: &[u8], value: Vec<u8>, length: u64) -> Option<Bytes> {
    let (header, body) = value.split_at_checked(HEADER)?;
    let number = |at: usize| header[at..at + 4].try_into().map(u32::from_le_bytes).ok();
    let codec = header[1];
    let sound = header[0] == VERSION
        && u64::from(number(6)?) == length
        && number(2)? == checksum(key, codec, &value[6..]);
    if !sound {
        return None;
    }
    match codec {
        RAW if body.len() as u64 == length => Some(Bytes::from(value).slice(HEADER..)),
        LZ4 => {
            let mut plain = vec![0; usize::try_from(length).ok()?];
            let unpacked = lz4_flex::block::decompress_into(body, &mut plain).ok()?;
            (unpacked == plain.len()).then(|| plain.into())
        }
        _ => None,
    }
}

fn checksum(key: &[u8], codec: u8, rest: &[u8]) -> u32 {
    let of_key = crc32c::crc32c(key);
    crc32c::crc32c_append(crc32c::crc32c_append(of_key, &[codec]), rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that LZ4 cannot make smaller.
    fn noise(length: usize) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(7);
        (0..length).map(|_| random.u8(..)).collect()
    }

    #[test]
    fn keys_name_object_and_bytes() {
        let piece = Piece { key: "a/b/c".into(), range: 24..100 };
        assert_eq!(key(&piece), b"s3vector1:a/b/c:24+76");
    }

    #[test]
    fn lz4_is_used_where_it_helps() {
        let value = encode(b"k", &[7; 5000]).expect("short enough");
        assert!(value[1] == LZ4 && value.len() < 100);
        assert_eq!(decode(b"k", value, 5000).expect("sound"), vec![7; 5000]);
        let value = encode(b"k", &noise(5000)).expect("short enough");
        assert_eq!((value[1], value.len()), (RAW, 5010));
        assert_eq!(decode(b"k", value, 5000).expect("sound"), noise(5000));
        let value = encode(b"k", b"").expect("short enough");
        assert_eq!(decode(b"k", value, 0).expect("sound"), "");
    }

    #[test]
    fn what_belongs_to_another_key_is_refused() {
        for plain in [vec![1; 300], noise(300)] {
            let value = encode(b"one", &plain).expect("short enough");
            assert_eq!(decode(b"two", value.clone(), 300), None);
            assert_eq!(decode(b"one", value.clone(), 299), None);
            assert_eq!(decode(b"one", value, 300).expect("sound"), plain);
        }
    }

    proptest! {
        #[test]
        fn any_change_of_a_value_is_noticed(
            plain in prop::collection::vec(0u8..4, 0..400),
            raw in any::<bool>(),
            at in any::<prop::sample::Index>(),
            change in 1u8..,
            cut in any::<prop::sample::Index>(),
        ) {
            let plain = if raw { noise(plain.len()) } else { plain };
            let value = encode(b"key", &plain).expect("short enough");
            let length = plain.len() as u64;
            let whole = decode(b"key", value.clone(), length);
            prop_assert_eq!(whole.as_deref(), Some(&plain[..]));
            let mut changed = value.clone();
            changed[at.index(value.len())] ^= change;
            prop_assert_eq!(decode(b"key", changed, length), None);
            let cut = value[..cut.index(value.len())].to_vec();
            prop_assert_eq!(decode(b"key", cut, length), None);
            let mut longer = value;
            longer.push(change);
            prop_assert_eq!(decode(b"key", longer, length), None);
        }

        #[test]
        fn foreign_values_are_refused(
            value in prop::collection::vec(any::<u8>(), 0..200), length in 0u64..300,
        ) {
            prop_assert_eq!(decode(b"key", value, length), None);
        }
    }
}
