//! JSON values whose numbers are exact.

use std::collections::BTreeMap;
use std::fmt;

/// Decimal places that a [`Json::Number`] can have.
pub const PLACES: usize = 18;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Boolean(bool),
    /// In units of 10^-[`PLACES`].
    Number(i128),
    Text(String),
    Array(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// A number in plain decimal notation.
    pub fn number(decimal: &str) -> Self {
        let (sign, digits) = match decimal.strip_prefix('-') {
            Some(digits) => (-1, digits),
            None => (1, decimal),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        assert!(fraction.len() <= PLACES, "{decimal} has too many places");
        let units = format!("{whole}{fraction:0<PLACES$}");
        Self::Number(sign * units.parse::<i128>().expect("digits"))
    }

    /// A string.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// An object with one member.
    pub fn object(key: impl Into<String>, value: Self) -> Self {
        Self::Object(BTreeMap::from([(key.into(), value)]))
    }
}

impl fmt::Display for Json {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => out.write_str("null"),
            Self::Boolean(value) => value.fmt(out),
            Self::Number(units) => {
                let digits = format!("{:0>1$}", units.unsigned_abs(), PLACES + 1);
                let (whole, fraction) = digits.split_at(digits.len() - PLACES);
                let sign = if *units < 0 { "-" } else { "" };
                let fraction = fraction.trim_end_matches('0');
                let point = if fraction.is_empty() { "" } else { "." };
                write!(out, "{sign}{whole}{point}{fraction}")
            }
            Self::Text(text) => quoted(text, out),
            Self::Array(elements) => {
                out.write_str("[")?;
                for (index, element) in elements.iter().enumerate() {
                    write!(out, "{}{element}", if index > 0 { "," } else { "" })?;
                }
                out.write_str("]")
            }
            Self::Object(members) => {
                out.write_str("{")?;
                for (index, (key, value)) in members.iter().enumerate() {
                    out.write_str(if index > 0 { "," } else { "" })?;
                    quoted(key, out)?;
                    write!(out, ":{value}")?;
                }
                out.write_str("}")
            }
        }
    }
}

fn quoted(text: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    out.write_str("\"")?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(out, "\\{character}")?,
            '\0'..='\u{1f}' => write!(out, "\\u{:04x}", u32::from(character))?,
            plain => write!(out, "{plain}")?,
        }
    }
    out.write_str("\"")
}

#[test]
fn numbers_are_printed_as_they_are_read() {
    for number in ["0", "-1", "0.1", "-0.000000000000000001", "123456789012345678.5"] {
        assert_eq!(Json::number(number).to_string(), number);
    }
}
