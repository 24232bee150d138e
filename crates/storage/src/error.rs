//! What can go wrong with an object store, in words a database user can act on.

use std::fmt;
use std::ops::Range;

/// The reason a storage operation failed, as far as a caller or a user can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A setting is wrong: URL, endpoint, region, or no credentials could be found.
    Config,
    /// The store could not be reached, broke the connection, or answered with a server error.
    Unreachable,
    /// No answer within the time allowed.
    Timeout,
    /// There is no object of that name.
    NotFound,
    /// The bucket does not exist.
    BucketMissing,
    /// The store refused: permissions, unknown key, wrong signature.
    AccessDenied,
    /// No space or quota left.
    DiskFull,
    /// The object is shorter than it must be, or its bytes are not what was written.
    Corrupt,
    /// The operation was given up on request.
    Cancelled,
    /// Anything else.
    Other,
}

impl ErrorKind {
    /// The words for this kind in a primary message.
    fn words(self) -> &'static str {
        match self {
            Self::Config => "wrong configuration",
            Self::Unreachable => "storage is unreachable",
            Self::Timeout => "storage did not answer in time",
            Self::NotFound => "object does not exist",
            Self::BucketMissing => "bucket does not exist",
            Self::AccessDenied => "access denied",
            Self::DiskFull => "no space left",
            Self::Corrupt => "object is damaged",
            Self::Cancelled => "cancelled",
            Self::Other => "unexpected failure",
        }
    }
}

/// A failed storage operation.
///
/// `Display` is a primary message in PostgreSQL's style; [`detail`](Self::detail) and
/// [`hint`](Self::hint) go with it. None of them, nor `Debug`, ever holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageError {
    kind: ErrorKind,
    action: &'static str,
    key: Option<String>,
    range: Option<Range<u64>>,
    url: String,
    cause: String,
}

impl std::error::Error for StorageError {}

impl StorageError {
    /// An error of `kind` while doing `action` (a verb: `"read"`) to the store at `url`.
    ///
    /// `url` must be free of credentials. `cause` is what the operating system or the server
    /// said; it becomes the detail.
    pub fn new(
        kind: ErrorKind,
        action: &'static str,
        url: impl Into<String>,
        cause: impl Into<String>,
    ) -> Self {
        Self { kind, action, key: None, range: None, url: url.into(), cause: cause.into() }
    }

    /// An error about a setting, found before any store exists.
    pub fn config(cause: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, "configure", "", cause)
    }

    /// The same error naming the object it is about.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same error naming the bytes of the object that were wanted.
    #[must_use]
    pub fn with_range(mut self, range: Range<u64>) -> Self {
        self.range = Some(range);
        self
    }

    /// The same error for another read, which was not made because of this one; `more` goes on
    /// with the cause.
    pub(crate) fn repeated(&self, key: &str, range: Option<Range<u64>>, more: &str) -> Self {
        let cause = format!("{}; {more}", self.cause.trim_end_matches(['.', ' ']));
        Self { key: Some(key.to_owned()), range, cause, ..self.clone() }
    }

    /// Why it failed.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The object it is about, if it is about one.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The store, without credentials; empty when there is no store yet.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the operating system or the server said, and which bytes it was about: full sentences
    /// for a `DETAIL` line.
    pub fn detail(&self) -> String {
        let cause = sentence(&self.cause);
        match &self.range {
            Some(Range { start, end }) => {
                format!("{cause} Wanted were bytes {start} to {end}.").trim_start().to_owned()
            }
            None => cause,
        }
    }

    /// What the user can do about it: full sentences for a `HINT` line.
    pub fn hint(&self) -> Option<&'static str> {
        let s3 = !self.url.starts_with("file:");
        Some(match (self.kind, s3) {
            (ErrorKind::Config, _) => {
                "Check s3vector.storage_url (\"file:///absolute/path\" or \"s3://bucket/prefix\"), \
                 s3vector.s3_endpoint, s3vector.s3_region and the credentials."
            }
            (ErrorKind::Unreachable, true) => {
                "Check s3vector.s3_endpoint and s3vector.s3_region, and that this server can reach \
                 the endpoint over the network."
            }
            (ErrorKind::Timeout, true) => {
                "Check the network between this server and s3vector.s3_endpoint, or raise \
                 s3vector.fetch_timeout."
            }
            (ErrorKind::BucketMissing, _) => {
                "Create the bucket, or name an existing one in s3vector.storage_url. Check \
                 s3vector.s3_endpoint, s3vector.s3_region and s3vector.s3_path_style."
            }
            (ErrorKind::AccessDenied, true) => {
                "Check the credentials (the s3vector settings, or the AWS environment, profile or \
                 role of the server) and that they may list, read, write and delete objects below \
                 s3vector.storage_url."
            }
            (ErrorKind::AccessDenied, false) => {
                "The operating system user that runs PostgreSQL needs read and write permission \
                 below the directory in s3vector.storage_url."
            }
            (ErrorKind::DiskFull, true) => {
                "Free space or raise the quota of the bucket in s3vector.storage_url."
            }
            (ErrorKind::DiskFull, false) => {
                "Free space on the file system that holds s3vector.storage_url, or point the \
                 setting elsewhere."
            }
            (ErrorKind::NotFound | ErrorKind::Corrupt, _) => {
                "Check that s3vector.storage_url is the one the index was built with. If the object \
                 is lost, REINDEX builds it anew from the table."
            }
            _ => return None,
        })
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.url.is_empty() {
            return write!(f, "invalid s3vector storage configuration: {}", self.cause);
        }
        write!(f, "could not {}", self.action)?;
        if let Some(key) = &self.key {
            write!(f, " object \"{key}\" in")?;
        }
        write!(f, " \"{}\": {}", self.url, self.kind.words())
    }
}

/// `text` with a capital first letter and a full stop, on one line.
fn sentence(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut chars = text.chars();
    let Some(first) = chars.next() else {
        return text;
    };
    let stop = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{}{}{stop}", first.to_uppercase(), chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_follow_the_style_guide() {
        let error = StorageError::new(
            ErrorKind::AccessDenied,
            "read",
            "s3://bucket/prefix",
            "the server answered\n 403",
        )
        .with_key("a/b");
        assert_eq!(
            error.to_string(),
            "could not read object \"a/b\" in \"s3://bucket/prefix\": access denied"
        );
        assert_eq!(error.detail(), "The server answered 403.");
        assert!(error.hint().is_some_and(|h| h.contains("credentials")));
        assert_eq!(error.key(), Some("a/b"));
        let error = error.with_range(5..25);
        assert_eq!(error.detail(), "The server answered 403. Wanted were bytes 5 to 25.");
    }

    #[test]
    fn hints_fit_the_kind_of_store() {
        let full = |url| StorageError::new(ErrorKind::DiskFull, "write", url, "x").hint();
        assert!(full("file:///x").is_some_and(|h| h.contains("file system")));
        assert!(full("s3://x").is_some_and(|h| h.contains("bucket")));
        let other = StorageError::new(ErrorKind::Other, "write", "s3://x", "");
        assert_eq!((other.hint(), other.detail()), (None, String::new()));
    }

    #[test]
    fn a_configuration_error_needs_no_store() {
        let error = StorageError::config("the scheme \"ftp\" is not supported");
        assert_eq!(
            error.to_string(),
            "invalid s3vector storage configuration: the scheme \"ftp\" is not supported"
        );
        assert!(error.hint().is_some_and(|h| h.contains("s3vector.storage_url")));
    }
}
