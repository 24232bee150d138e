//! JSON read one level at a time: what lies deeper stays text until it is asked for.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::literal::{Literal, quote};
use crate::place::Place;
use crate::{FilterError, MAX_DEPTH};

/// A value whose elements or members have not been read yet.
#[derive(Debug)]
pub(crate) enum Json<'a> {
    Null,
    Boolean(bool),
    /// A number, every digit of it.
    Number(&'a str),
    String(String),
    Array(Vec<&'a RawValue>),
    Object(Members<'a>),
}

/// Keys and values in the order in which they are written.
pub(crate) type Members<'a> = Vec<(String, &'a RawValue)>;

impl<'a> Json<'a> {
    /// Reads the value at `place`.
    ///
    /// # Errors
    ///
    /// When it lies too deep, or has a string that is no text to PostgreSQL.
    pub(crate) fn read(json: &'a RawValue, place: &Place<'_>) -> Result<Self, FilterError> {
        if place.depth() > MAX_DEPTH {
            return Err(FilterError::TooDeep);
        }
        let text = json.get();
        let value = match text.as_bytes().first() {
            Some(b'n') => Self::Null,
            Some(b't') => Self::Boolean(true),
            Some(b'f') => Self::Boolean(false),
            Some(b'"') => Self::String(decode(text)?),
            Some(b'[') => Self::Array(decode(text)?),
            Some(b'{') => Self::Object(decode::<MembersInOrder>(text)?.0),
            _ => Self::Number(text),
        };
        let has_nul = match &value {
            Self::String(text) => text.contains('\0'),
            Self::Object(members) => members.iter().any(|(key, _)| key.contains('\0')),
            _ => false,
        };
        if has_nul {
            return Err(FilterError::Nul { place: place.to_string() });
        }
        Ok(value)
    }

    /// The literal to compare with; `None` for an array or an object.
    pub(crate) fn literal(&self) -> Option<Literal> {
        let (kind, text) = match self {
            Self::Null => ("null", "null".to_owned()),
            Self::Boolean(value) => ("boolean", value.to_string()),
            Self::Number(digits) => ("number", (*digits).to_owned()),
            Self::String(text) => ("string", quote(text)),
            Self::Array(_) | Self::Object(_) => return None,
        };
        Some(Literal { kind, text })
    }

    /// What it is, in a sentence.
    pub(crate) fn described(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// Reads a JSON text, which borrows from it.
pub(crate) fn decode<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, FilterError> {
    serde_json::from_str(text).map_err(|error| FilterError::Json { problem: error.to_string() })
}

struct MembersInOrder<'a>(Members<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for MembersInOrder<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Collect).map(MembersInOrder)
    }
}
