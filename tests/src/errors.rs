//! What a failed statement reported.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use postgres::error::{DbError, Severity};

/// An error or a warning of the server.
#[derive(Clone, Debug)]
pub struct Report {
    /// Five characters, for example `58P01`.
    pub sqlstate: String,
    /// Primary message.
    pub message: String,
    /// DETAIL, empty when there is none.
    pub detail: String,
    /// HINT, empty when there is none.
    pub hint: String,
}

impl From<&DbError> for Report {
    fn from(report: &DbError) -> Self {
        Self {
            sqlstate: report.code().code().to_owned(),
            message: report.message().to_owned(),
            detail: report.detail().unwrap_or_default().to_owned(),
            hint: report.hint().unwrap_or_default().to_owned(),
        }
    }
}

impl Report {
    /// Message, detail and hint as one text.
    pub fn text(&self) -> String {
        [self.message.as_str(), &self.detail, &self.hint].join("\n")
    }

    /// Asserts the SQLSTATE, and that message, detail or hint contain every one of `words`.
    #[track_caller]
    pub fn expect(&self, sqlstate: &str, words: &[&str]) -> &Self {
        assert_eq!(self.sqlstate, sqlstate, "SQLSTATE of {self:?}");
        let text = self.text();
        for word in words {
            assert!(text.contains(word), "no '{word}' in {self:?}");
        }
        self
    }
}

/// The report of a statement that must fail.
///
/// # Panics
///
/// When it succeeded, or failed without a report: the connection broke.
#[track_caller]
pub fn failure<T: Debug>(result: Result<T, postgres::Error>) -> Report {
    let error = result.expect_err("the statement must fail");
    error.as_db_error().unwrap_or_else(|| panic!("the connection broke: {error}")).into()
}

/// The warnings that a connection has got.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Vec<Report>>>);

impl Warnings {
    /// Remembers a notice if it is a warning.
    pub(crate) fn note(&self, notice: &DbError) {
        if notice.parsed_severity() == Some(Severity::Warning) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(notice.into());
        }
    }

    /// Those that came since this was last asked.
    pub fn take(&self) -> Vec<Report> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
