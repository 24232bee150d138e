//! Element types: which ones are read, and what they are called in Zarr v2 and v3.

use serde_json::Value;

/// An element type that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Float16,
    Float32,
    /// Bytes of an element.
    Signed(usize),
    /// Bytes of an element.
    Unsigned(usize),
    /// UTF-8 of any length.
    Text,
    /// UTF-32, padded with zeros: characters of an element.
    Utf32(usize),
}

/// Largest element of [`Kind::Utf32`], in characters.
const MAX_CHARACTERS: usize = 1 << 20;

impl Kind {
    /// The type that Zarr v3 metadata name as `data_type`.
    pub(crate) fn of_v3(data_type: &Value) -> Option<Self> {
        let name = data_type.as_str().or_else(|| data_type["name"].as_str())?;
        Some(match name {
            "float16" => Self::Float16,
            "float32" => Self::Float32,
            "int8" => Self::Signed(1),
            "int16" => Self::Signed(2),
            "int32" => Self::Signed(4),
            "int64" => Self::Signed(8),
            "uint8" => Self::Unsigned(1),
            "uint16" => Self::Unsigned(2),
            "uint32" => Self::Unsigned(4),
            "uint64" => Self::Unsigned(8),
            "string" => Self::Text,
            "fixed_length_utf32" => {
                let bytes = data_type["configuration"]["length_bytes"].as_u64()?;
                utf32(usize::try_from(bytes).ok()? / 4)?
            }
            _ => return None,
        })
    }

    /// The type that Zarr v2 metadata name as `dtype`, in numpy's notation.
    pub(crate) fn of_v2(dtype: &Value) -> Option<Self> {
        let name = dtype.as_str()?;
        if name == "|O" {
            return Some(Self::Text);
        }
        let name = name.strip_prefix(['<', '>', '|'])?;
        let (letter, number) = name.split_at_checked(1)?;
        let number: usize = number.parse().ok()?;
        Some(match (letter, number) {
            ("f", 2) => Self::Float16,
            ("f", 4) => Self::Float32,
            ("i", 1 | 2 | 4 | 8) => Self::Signed(number),
            ("u", 1 | 2 | 4 | 8) => Self::Unsigned(number),
            ("U", _) => utf32(number)?,
            _ => return None,
        })
    }

    /// Bytes of an element as zarrs decodes it; `None` when they differ.
    pub(crate) fn bytes(self) -> Option<usize> {
        Some(match self {
            Self::Float16 => 2,
            Self::Float32 => 4,
            Self::Signed(bytes) | Self::Unsigned(bytes) => bytes,
            Self::Utf32(characters) => 4 * characters,
            Self::Text => return None,
        })
    }
}

fn utf32(characters: usize) -> Option<Kind> {
    (1..=MAX_CHARACTERS).contains(&characters).then_some(Kind::Utf32(characters))
}

/// A type as metadata name it, for a message.
pub(crate) fn name(data_type: &Value) -> String {
    match data_type.as_str().or_else(|| data_type["name"].as_str()) {
        Some(name) => name.to_owned(),
        None => data_type.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_have_two_names() {
        for (v2, v3, kind) in [
            (json!("<f4"), json!("float32"), Kind::Float32),
            (json!(">f2"), json!("float16"), Kind::Float16),
            (json!("|i1"), json!("int8"), Kind::Signed(1)),
            (json!(">u8"), json!({"name": "uint64"}), Kind::Unsigned(8)),
            (json!("|O"), json!("string"), Kind::Text),
            (
                json!("<U8"),
                json!({"name": "fixed_length_utf32", "configuration": {"length_bytes": 32}}),
                Kind::Utf32(8),
            ),
        ] {
            assert_eq!((Kind::of_v2(&v2), Kind::of_v3(&v3)), (Some(kind), Some(kind)));
        }
    }

    #[test]
    fn other_types_have_a_name_too() {
        for (dtype, shown) in [
            (json!("<f8"), "<f8"),
            (json!({"name": "bfloat16"}), "bfloat16"),
            (json!([["a", "<i4"]]), r#"[["a","<i4"]]"#),
            (json!("<U0"), "<U0"),
            (json!("ä"), "ä"),
        ] {
            assert_eq!((Kind::of_v2(&dtype), Kind::of_v3(&dtype)), (None, None));
            assert_eq!(name(&dtype), shown);
        }
    }
}
