//! What elements become: `f32` or `String`.

use zarrs::array::FillValue;

use crate::kind::Kind;

/// The elements of a chunk, in C order.
pub(crate) enum Decoded<'a> {
    /// Elements of the same length, native-endian.
    Fixed(&'a [u8]),
    /// [`Kind::Text`].
    Text(Vec<String>),
}

/// An element as it is handed out.
pub(crate) trait Cell: Clone + Send + Sync + 'static {
    /// The types it is made from, for a message.
    const WANTED: &'static str;

    /// Bytes of memory that an element takes, roughly.
    const WEIGHT: u64;

    /// Whether it is made from this type.
    fn accepts(kind: Kind) -> bool;

    /// # Errors
    /// What is wrong with an element, in words.
    fn convert(decoded: Decoded<'_>, kind: Kind) -> Result<Vec<Self>, String>;

    /// The element of what was never written.
    ///
    /// # Errors
    /// As [`convert`](Self::convert).
    fn fill(value: &FillValue, kind: Kind) -> Result<Self, String> {
        let bytes = value.as_ne_bytes();
        let decoded = match kind {
            Kind::Text => Decoded::Text(vec![utf8(bytes)?]),
            _ => Decoded::Fixed(bytes),
        };
        let mut cells = Self::convert(decoded, kind)?;
        cells.pop().ok_or_else(|| "no fill value".to_owned())
    }
}

impl Cell for f32 {
    const WANTED: &'static str = "float32 and float16";
    const WEIGHT: u64 = 4;

    fn accepts(kind: Kind) -> bool {
        matches!(kind, Kind::Float16 | Kind::Float32)
    }

    fn convert(decoded: Decoded<'_>, kind: Kind) -> Result<Vec<Self>, String> {
        match (decoded, kind) {
            (Decoded::Fixed(bytes), Kind::Float32) => {
                Ok(parts(bytes).map(Self::from_ne_bytes).collect())
            }
            (Decoded::Fixed(bytes), Kind::Float16) => {
                Ok(parts(bytes).map(|part| half::f16::from_ne_bytes(part).to_f32()).collect())
            }
            _ => Err("elements of another type".into()),
        }
    }
}

impl Cell for String {
    const WANTED: &'static str = "strings and integers";
    const WEIGHT: u64 = 256;

    fn accepts(kind: Kind) -> bool {
        !f32::accepts(kind)
    }

    fn convert(decoded: Decoded<'_>, kind: Kind) -> Result<Vec<Self>, String> {
        let bytes = match decoded {
            Decoded::Text(cells) => return Ok(cells),
            Decoded::Fixed(bytes) => bytes,
        };
        macro_rules! numbers {
            ($type:ty) => {
                Ok(parts(bytes).map(|part| <$type>::from_ne_bytes(part).to_string()).collect())
            };
        }
        match kind {
            Kind::Signed(1) => numbers!(i8),
            Kind::Signed(2) => numbers!(i16),
            Kind::Signed(4) => numbers!(i32),
            Kind::Signed(8) => numbers!(i64),
            Kind::Unsigned(1) => numbers!(u8),
            Kind::Unsigned(2) => numbers!(u16),
            Kind::Unsigned(4) => numbers!(u32),
            Kind::Unsigned(8) => numbers!(u64),
            Kind::Utf32(characters) => bytes.chunks_exact(4 * characters).map(utf32).collect(),
            _ => Err("elements of another type".into()),
        }
    }
}

/// Parts of `N` bytes; what is left over at the end is dropped, the caller has checked the length.
fn parts<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// # Errors
/// Where it is not UTF-8.
pub(crate) fn utf8(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("a string that is not UTF-8: {error}"))?;
    Ok(text.to_owned())
}

/// Characters of four bytes each, without the zeros at the end.
fn utf32(bytes: &[u8]) -> Result<String, String> {
    let codes: Vec<u32> = parts(bytes).map(u32::from_ne_bytes).collect();
    let length = codes.iter().rposition(|&code| code != 0).map_or(0, |last| last + 1);
    let character = |&code| char::from_u32(code).ok_or_else(|| format!("a character {code:#x}"));
    codes[..length].iter().map(character).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_text() {
        let bytes: Vec<u8> = [-5i16, 300].iter().flat_map(|number| number.to_ne_bytes()).collect();
        assert_eq!(
            String::convert(Decoded::Fixed(&bytes), Kind::Signed(2)).unwrap(),
            ["-5", "300"]
        );
        let bytes = u64::MAX.to_ne_bytes();
        let shown = String::convert(Decoded::Fixed(&bytes), Kind::Unsigned(8)).unwrap();
        assert_eq!(shown, ["18446744073709551615"]);
    }

    #[test]
    fn utf32_ends_with_its_zeros() {
        let bytes: Vec<u8> =
            ['ä', '\0', 'b', '\0'].iter().flat_map(|&c| u32::from(c).to_ne_bytes()).collect();
        assert_eq!(String::convert(Decoded::Fixed(&bytes), Kind::Utf32(4)).unwrap(), ["ä\0b"]);
        let bytes = 0xD800u32.to_ne_bytes();
        assert!(String::convert(Decoded::Fixed(&bytes), Kind::Utf32(1)).is_err());
    }

    #[test]
    fn half_precision_is_widened() {
        let bytes = half::f16::from_f32(-1.5).to_ne_bytes();
        assert_eq!(f32::convert(Decoded::Fixed(&bytes), Kind::Float16).unwrap(), [-1.5]);
        assert!(f32::convert(Decoded::Fixed(&bytes), Kind::Text).is_err());
        let fill = FillValue::from(f32::NAN);
        assert!(f32::fill(&fill, Kind::Float32).unwrap().is_nan());
    }
}
