//! What is needed to open a store; filled from settings by the caller.

use std::fmt;
use std::time::Duration;

/// A string that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The string itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// Where a store is and how to talk to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageConfig {
    /// `file:///absolute/path` or `s3://bucket/prefix`.
    pub url: String,
    /// Base URL of an S3-compatible server; `None` means AWS.
    pub s3_endpoint: Option<String>,
    /// S3 region; `None` means what the AWS environment or profile says.
    pub s3_region: Option<String>,
    /// Address the bucket in the path, as most S3-compatible servers want, not in the host name.
    pub s3_path_style: bool,
    /// Access key; `None` means the AWS chain: environment, profile, web identity, container,
    /// instance role.
    pub access_key_id: Option<String>,
    /// Belongs to `access_key_id`.
    pub secret_access_key: Option<Secret>,
    /// Belongs to `access_key_id` when it is a temporary one.
    pub session_token: Option<Secret>,
    /// Longest time a read, a listing or a deletion may take, retries included. The upload of one
    /// part gets [`UPLOAD_PATIENCE`](Self::UPLOAD_PATIENCE) times as long.
    pub timeout: Duration,
    /// Most requests under way at once.
    pub concurrency: usize,
    /// Objects larger than this many bytes are uploaded in parts of this size (S3 wants at least
    /// 5 MiB).
    pub part_bytes: usize,
}

impl StorageConfig {
    /// How much longer than a read the upload of one part may take.
    pub const UPLOAD_PATIENCE: u32 = 4;

    /// The configuration of `url` with everything else at its default.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            s3_endpoint: None,
            s3_region: None,
            s3_path_style: false,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            timeout: Duration::from_secs(15),
            concurrency: 64,
            part_bytes: 8 << 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let mut config = StorageConfig::new("s3://bucket");
        config.secret_access_key = Some(Secret::new("hunter2"));
        config.session_token = Some(Secret::new("token3"));
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("token3"), "{shown}");
        assert_eq!(Secret::new("hunter2").expose(), "hunter2");
    }
}
