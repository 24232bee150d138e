//! What can go wrong with a segment.

use storage::StorageError;

/// The result of an operation on a segment.
pub type Result<T> = std::result::Result<T, SegmentError>;

/// A failed operation on a segment.
///
/// `Display` is a primary message in PostgreSQL's style; [`detail`](Self::detail) and
/// [`hint`](Self::hint) go with it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SegmentError {
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An object, or the memory image of a segment, does not hold what was written.
    #[error("segment object \"{key}\" is corrupt")]
    Corrupt {
        /// The object; `resident` for a memory image.
        key: String,
        /// What is wrong with it, and where.
        what: String,
    },
    /// The segment was written by a version of this software that this one does not know.
    #[error("segment \"{key}\" has format version {found}, but this server reads version {known}")]
    Version {
        /// The object that says so.
        key: String,
        /// The version found.
        found: u64,
        /// The version this software reads and writes.
        known: u32,
    },
    /// The caller's arguments contradict each other or exceed a limit.
    #[error("invalid segment: {what}")]
    Invalid {
        /// What is wrong.
        what: String,
    },
    /// A value does not fit the payload type.
    #[error("value {value} is out of range for payload type float16")]
    OutOfRange {
        /// The row, in the order of the segment.
        row: usize,
        /// The dimension, from 0.
        dimension: usize,
        /// The value.
        value: f32,
    },
    /// The source of the rows failed.
    #[error("could not read the rows of a segment from row {row}: {message}")]
    Rows {
        /// The first row of the read.
        row: usize,
        /// What the source said.
        message: String,
    },
    /// The caller asked to stop.
    #[error("writing the segment was cancelled")]
    Cancelled,
}

impl SegmentError {
    /// A [`SegmentError::Corrupt`] about the object `key`.
    pub(crate) fn corrupt(key: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Corrupt { key: key.into(), what: what.into() }
    }

    /// A [`SegmentError::Invalid`].
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }

    /// Full sentences for a `DETAIL` line.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Storage(error) => Some(error.detail()).filter(|text| !text.is_empty()),
            Self::Corrupt { what, .. } => Some(format!("Found {what}.")),
            Self::OutOfRange { row, dimension, .. } => Some(format!(
                "It is the element {} of row {row} of the segment; float16 holds magnitudes up to \
                 {}.",
                dimension + 1,
                half::f16::MAX
            )),
            _ => None,
        }
    }

    /// Full sentences for a `HINT` line.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Storage(error) => error.hint(),
            Self::Corrupt { .. } => {
                Some("REINDEX builds the index anew from the table, whose rows are not affected.")
            }
            Self::Version { .. } => {
                Some("Update this server's s3vector, or REINDEX to write the version it reads.")
            }
            Self::OutOfRange { .. } => Some("Create the index WITH (payload = 'float32')."),
            _ => None,
        }
    }
}
