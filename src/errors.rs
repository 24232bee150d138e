//! Engine errors as PostgreSQL reports: SQLSTATE, message, DETAIL, HINT.
//!
//! An error crosses from the storage worker to a backend through shared memory, so it has a
//! plain form, [`Failure`], that both sides understand.

use exchange::ExchangeError;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use segment::SegmentError;
use storage::{ErrorKind, StorageError};

/// Why something could not be done, ready to be reported.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    /// Decides the SQLSTATE.
    pub kind: FailureKind,
    /// Primary message.
    pub message: String,
    /// DETAIL line; empty for none.
    pub detail: String,
    /// HINT line; empty for none.
    pub hint: String,
}

/// What sort of failure it is. The numbers travel through shared memory within one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum FailureKind {
    /// Nothing more specific: `58030 io_error`.
    #[default]
    Io = 0,
    /// A setting is wrong: `22023 invalid_parameter_value`.
    Config = 1,
    /// The store does not answer: `08006 connection_failure`.
    Unreachable = 2,
    /// The store answers too slowly: `08006 connection_failure`.
    Timeout = 3,
    /// An object or bucket is missing: `58P01 undefined_file`.
    Missing = 4,
    /// The store refuses: `42501 insufficient_privilege`.
    Denied = 5,
    /// No room: `53100 disk_full`.
    DiskFull = 6,
    /// An object is not what was written: `XX001 data_corrupted`.
    Corrupt = 7,
    /// Not enough shared memory: `53200 out_of_memory`.
    Memory = 8,
    /// Stopped on request: `57014 query_canceled`.
    Cancelled = 9,
    /// A value cannot be stored: `22003 numeric_value_out_of_range`.
    Value = 10,
    /// Written by a version this one does not know: `0A000 feature_not_supported`.
    Unsupported = 11,
    /// Somebody else's: `55000 object_not_in_prerequisite_state`.
    Foreign = 12,
}

impl FailureKind {
    /// The kind numbered `value`; unknown numbers mean [`FailureKind::Io`].
    pub fn from_u32(value: u32) -> Self {
        use FailureKind::*;
        [
            Io,
            Config,
            Unreachable,
            Timeout,
            Missing,
            Denied,
            DiskFull,
            Corrupt,
            Memory,
            Cancelled,
            Value,
            Unsupported,
            Foreign,
        ]
        .into_iter()
        .find(|kind| *kind as u32 == value)
        .unwrap_or_default()
    }

    fn sqlstate(self) -> PgSqlErrorCode {
        match self {
            Self::Io => PgSqlErrorCode::ERRCODE_IO_ERROR,
            Self::Config => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            Self::Unreachable | Self::Timeout => PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE,
            Self::Missing => PgSqlErrorCode::ERRCODE_UNDEFINED_FILE,
            Self::Denied => PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            Self::DiskFull => PgSqlErrorCode::ERRCODE_DISK_FULL,
            Self::Corrupt => PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
            Self::Memory => PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
            Self::Cancelled => PgSqlErrorCode::ERRCODE_QUERY_CANCELED,
            Self::Value => PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
            Self::Unsupported => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            Self::Foreign => PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        }
    }
}

impl Failure {
    /// A failure with a message and neither DETAIL nor HINT.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), ..Self::default() }
    }

    /// The same failure with a DETAIL line.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// The same failure with a HINT line.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Raises the failure as an error of the running statement.
    pub fn raise(self) -> ! {
        raise(self.kind.sqlstate(), self.message, self.detail, self.hint)
    }
}

/// Raises an error with an SQLSTATE, a message and, unless they are empty, DETAIL and HINT.
pub fn raise(
    sqlstate: PgSqlErrorCode,
    message: impl Into<String>,
    detail: impl Into<String>,
    hint: impl Into<String>,
) -> ! {
    let (detail, hint) = (detail.into(), hint.into());
    let mut report = ErrorReport::new(sqlstate, message.into(), "s3vector");
    if !detail.is_empty() {
        report = report.set_detail(detail);
    }
    if !hint.is_empty() {
        report = report.set_hint(hint);
    }
    report.report(PgLogLevel::ERROR);
    unreachable!("an error report does not return")
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        let kind = match error.kind() {
            ErrorKind::Config => FailureKind::Config,
            ErrorKind::Unreachable => FailureKind::Unreachable,
            ErrorKind::Timeout => FailureKind::Timeout,
            ErrorKind::NotFound | ErrorKind::BucketMissing => FailureKind::Missing,
            ErrorKind::AccessDenied => FailureKind::Denied,
            ErrorKind::DiskFull => FailureKind::DiskFull,
            ErrorKind::Corrupt => FailureKind::Corrupt,
            ErrorKind::Cancelled => FailureKind::Cancelled,
            ErrorKind::Other => FailureKind::Io,
        };
        Self {
            kind,
            message: error.to_string(),
            detail: error.detail(),
            hint: error.hint().unwrap_or_default().to_owned(),
        }
    }
}

impl From<ExchangeError> for Failure {
    fn from(error: ExchangeError) -> Self {
        use ExchangeError as E;
        let kind = match &error {
            E::Storage(storage) => return storage.clone().into(),
            E::Absent { .. } | E::NoArray { .. } | E::NoCollection { .. } => FailureKind::Missing,
            E::Type { .. } | E::Codec { .. } | E::Unsupported { .. } => FailureKind::Unsupported,
            E::Corrupt { .. } | E::Batch { .. } => FailureKind::Corrupt,
            E::Shape { .. } | E::Lengths { .. } | E::Row { .. } => FailureKind::Config,
            E::NotEmpty { .. } | E::Invalid { .. } => FailureKind::Config,
            E::Lost => FailureKind::Io,
        };
        Self {
            kind,
            message: error.to_string(),
            detail: error.detail().unwrap_or_default(),
            hint: error.hint().unwrap_or_default().to_owned(),
        }
    }
}

impl From<SegmentError> for Failure {
    fn from(error: SegmentError) -> Self {
        let kind = match &error {
            SegmentError::Storage(storage) => return storage.clone().into(),
            SegmentError::Corrupt { .. } => FailureKind::Corrupt,
            SegmentError::Version { .. } => FailureKind::Unsupported,
            SegmentError::OutOfRange { .. } => FailureKind::Value,
            SegmentError::Cancelled => FailureKind::Cancelled,
            SegmentError::Rows { .. } | SegmentError::Invalid { .. } => FailureKind::Io,
        };
        Self {
            kind,
            message: error.to_string(),
            detail: error.detail().unwrap_or_default(),
            hint: error.hint().unwrap_or_default().to_owned(),
        }
    }
}
