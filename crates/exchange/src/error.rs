//! What can go wrong when arrays come in or go out.

use storage::StorageError;

/// The result of an import or an export.
pub type Result<T> = std::result::Result<T, ExchangeError>;

/// A failed import or export.
///
/// `Display` is a primary message in PostgreSQL's style; [`detail`](Self::detail) and
/// [`hint`](Self::hint) go with it. Rows are counted from 0, as Zarr does.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ExchangeError {
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Nothing is stored at the place.
    #[error("there is nothing at \"{place}\"")]
    Absent {
        /// URL of the store.
        place: String,
    },
    /// The place holds something, but not this array.
    #[error("there is no array \"{array}\" in \"{place}\"")]
    NoArray {
        /// URL of the store.
        place: String,
        /// Path of the array below it; empty for the place itself.
        array: String,
        /// Paths of arrays that are there; empty for the place itself.
        arrays: Vec<String>,
    },
    /// The array has elements of another type.
    #[error("array \"{array}\" is of type {found}")]
    Type {
        /// Path of the array.
        array: String,
        /// The type as its metadata name it.
        found: String,
        /// The types that are read here.
        wanted: &'static str,
    },
    /// The array has another number of axes, or an impossible number of dimensions.
    #[error("array \"{array}\" has the shape {shape:?}")]
    Shape {
        /// Path of the array.
        array: String,
        /// Its shape.
        shape: Vec<u64>,
        /// What shape is read here.
        wanted: String,
    },
    /// Two arrays that belong together have different numbers of rows.
    #[error("arrays \"{vectors}\" and \"{array}\" have different lengths")]
    Lengths {
        /// Path of the array of vectors.
        vectors: String,
        /// Its rows.
        rows: u64,
        /// Path of the other array.
        array: String,
        /// Its length.
        length: u64,
    },
    /// A codec of the array is not known, or not with this configuration.
    #[error("array \"{array}\" has a codec that is not supported: {codec}")]
    Codec {
        /// Path of the array.
        array: String,
        /// The codec, as the array's metadata name it.
        codec: String,
        /// What is said about it.
        what: String,
    },
    /// Something else about the array is not supported.
    #[error("array \"{array}\" cannot be read")]
    Unsupported {
        /// Path of the array.
        array: String,
        /// What and why.
        what: String,
    },
    /// An object does not hold what it must.
    #[error("object \"{key}\" is corrupt")]
    Corrupt {
        /// The object.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// A row holds what a collection cannot.
    #[error("row {row} of array \"{array}\" {what}")]
    Row {
        /// Path of the array.
        array: String,
        /// The row.
        row: u64,
        /// What is wrong with it, as the end of a sentence.
        what: &'static str,
    },
    /// The place is not a collection of the old engine.
    #[error("there is no collection at \"{place}\"")]
    NoCollection {
        /// URL of the store.
        place: String,
        /// What is missing or wrong.
        what: String,
    },
    /// A batch of an old collection is not whole.
    #[error("batch \"{batch}\" is incomplete")]
    Batch {
        /// Path of the batch.
        batch: String,
        /// What is missing or does not fit.
        what: String,
    },
    /// An export must not write where something is already.
    #[error("\"{place}\" is not empty")]
    NotEmpty {
        /// URL of the store.
        place: String,
        /// An object or a folder that is there.
        found: String,
    },
    /// The caller's arguments contradict each other or exceed a limit.
    #[error("invalid exchange: {what}")]
    Invalid {
        /// What is wrong.
        what: String,
    },
    /// A task of the runtime was ended before its work was.
    #[error("the work was given up")]
    Lost,
}

impl ExchangeError {
    /// A [`ExchangeError::Corrupt`] about the object `key`.
    pub(crate) fn corrupt(key: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Corrupt { key: key.into(), what: what.into() }
    }

    /// A [`ExchangeError::Unsupported`] about the array `array`.
    pub(crate) fn unsupported(array: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Unsupported { array: array.into(), what: what.into() }
    }

    /// A [`ExchangeError::Batch`].
    pub(crate) fn batch(batch: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Batch { batch: batch.into(), what: what.into() }
    }

    /// A [`ExchangeError::Invalid`].
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }

    /// Full sentences for a `DETAIL` line.
    pub fn detail(&self) -> Option<String> {
        Some(match self {
            Self::Storage(error) => return Some(error.detail()).filter(|text| !text.is_empty()),
            Self::NoArray { arrays, .. } if arrays.is_empty() => "It has no arrays.".into(),
            Self::NoArray { arrays, .. } => {
                let names: Vec<String> = arrays.iter().map(|name| format!("\"{name}\"")).collect();
                format!("It has {}.", names.join(", "))
            }
            Self::Type { wanted, .. } => format!("Read here are {wanted}."),
            Self::Shape { wanted, .. } => format!("Read here is {wanted}."),
            Self::Lengths { vectors, rows, array, length } => {
                format!("\"{vectors}\" has {rows} rows, \"{array}\" has {length}.")
            }
            Self::Corrupt { what, .. } => format!("Found {what}."),
            Self::Codec { what, .. } | Self::Unsupported { what, .. } => sentence(what),
            Self::NoCollection { what, .. } | Self::Batch { what, .. } => sentence(what),
            Self::NotEmpty { found, .. } => format!("It holds \"{found}\"."),
            _ => return None,
        })
    }

    /// Full sentences for a `HINT` line.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoArray { arrays, .. } if arrays.iter().any(String::is_empty) => {
                Some("The place itself is an array: its name is the empty string.")
            }
            Self::NotEmpty { .. } => Some("Name a place that does not exist yet."),
            Self::Codec { .. } => {
                Some("Copy the array with codecs such as blosc, zstd, gzip, zlib or lz4.")
            }
            _ => None,
        }
    }
}

/// `text` with a capital first letter and a full stop.
fn sentence(text: &str) -> String {
    let text = text.trim_end_matches('.');
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), chars.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_what_is_there() {
        let error = ExchangeError::NoArray {
            place: "file:///x".into(),
            array: "vectors".into(),
            arrays: vec![String::new(), "a/b".into()],
        };
        assert_eq!(error.to_string(), "there is no array \"vectors\" in \"file:///x\"");
        assert_eq!(error.detail().as_deref(), Some("It has \"\", \"a/b\"."));
        assert!(error.hint().is_some_and(|hint| hint.contains("empty string")));
        let error = ExchangeError::batch("shards/a/b", "it has no metadata.json");
        assert_eq!(error.detail().as_deref(), Some("It has no metadata.json."));
    }
}
