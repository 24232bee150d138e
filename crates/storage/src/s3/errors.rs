//! What a failed S3 request means.

use std::error::Error;
use std::fmt::Display;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::ErrorKind;

/// Longest piece of a server's message to repeat, in characters.
const LONGEST_MESSAGE: usize = 300;

/// Why a request failed, before it is told which object and store it was about.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) cause: String,
    /// The response began well but its body did not end: worth another try.
    pub(super) body_broke_off: bool,
}

impl Failure {
    fn new(kind: ErrorKind, cause: String) -> Self {
        Self { kind, cause, body_broke_off: false }
    }

    /// A setting is missing or wrong.
    pub(super) fn config(cause: &str) -> Self {
        Self::new(ErrorKind::Config, cause.to_owned())
    }

    /// The object is not what it must be.
    pub(super) fn corrupt(cause: String) -> Self {
        Self::new(ErrorKind::Corrupt, cause)
    }

    /// The server behaves as none should.
    pub(super) fn odd(cause: &str) -> Self {
        Self::new(ErrorKind::Other, cause.to_owned())
    }

    /// The whole operation took longer than `limit`.
    pub(super) fn timeout(endpoint: &str, limit: Duration) -> Self {
        let cause =
            format!("the server at \"{endpoint}\" did not answer within {} ms", limit.as_millis());
        Self::new(ErrorKind::Timeout, cause)
    }

    /// The body of a response ended too early.
    pub(super) fn broken_body(cause: &dyn Display, endpoint: &str) -> Self {
        let cause = format!("the answer of the server at \"{endpoint}\" broke off: {cause}");
        Self { body_broke_off: true, ..Self::new(ErrorKind::Unreachable, cause) }
    }

    /// An error code inside a response, as for one key of a batch.
    pub(super) fn of_code(code: Option<&str>, message: Option<&str>) -> Self {
        let cause = answer("the server", code, message, None);
        Self::new(kind_of(code, None), cause)
    }

    /// What the SDK reports about a request to `endpoint`.
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>, endpoint: &str) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let server = format!("the server at \"{endpoint}\"");
        if let SdkError::ServiceError(service) = error {
            let (code, message) = (service.err().code(), service.err().message());
            let status = service.raw().status().as_u16();
            let cause = answer(&server, code, message, Some(status));
            return Self::new(kind_of(code, Some(status)), cause);
        }
        let chain = chain(error);
        if let Some(kind) = credentials_kind(error) {
            return Self::new(kind, format!("no usable S3 credentials: {chain}"));
        }
        let kind = match error {
            SdkError::TimeoutError(_) => ErrorKind::Timeout,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => ErrorKind::Timeout,
            SdkError::ConstructionFailure(_) => ErrorKind::Config,
            _ => ErrorKind::Unreachable,
        };
        let cause = match kind {
            ErrorKind::Timeout => format!("{server} did not answer in time: {chain}"),
            ErrorKind::Config => format!("the request could not be made: {chain}"),
            _ => format!("no answer from {server}: {chain}"),
        };
        Self::new(kind, cause)
    }
}

/// The kind of a service's error code, or, without a telling one, of the HTTP status.
///
/// Codes are those of the S3 API reference, "Error responses".
fn kind_of(code: Option<&str>, status: Option<u16>) -> ErrorKind {
    match code.unwrap_or_default() {
        "NoSuchKey" | "NotFound" => ErrorKind::NotFound,
        "NoSuchBucket" => ErrorKind::BucketMissing,
        "AccessDenied"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "Forbidden"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "AccountProblem"
        | "AllAccessDisabled"
        | "NotSignedUp"
        | "RequestTimeTooSkewed" => ErrorKind::AccessDenied,
        "InvalidRange" => ErrorKind::Corrupt,
        "AuthorizationHeaderMalformed" | "PermanentRedirect" | "InvalidBucketName" => {
            ErrorKind::Config
        }
        "RequestTimeout" => ErrorKind::Timeout,
        "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" => ErrorKind::DiskFull,
        "SlowDown" | "InternalError" | "ServiceUnavailable" | "Busy" => ErrorKind::Unreachable,
        _ => match status {
            Some(301 | 307 | 308) => ErrorKind::Config,
            Some(401 | 403) => ErrorKind::AccessDenied,
            Some(404) => ErrorKind::NotFound,
            Some(408) => ErrorKind::Timeout,
            Some(416) => ErrorKind::Corrupt,
            Some(507) => ErrorKind::DiskFull,
            Some(501) => ErrorKind::Other,
            Some(429 | 500..) => ErrorKind::Unreachable,
            _ => ErrorKind::Other,
        },
    }
}

/// The sentence that repeats a server's answer.
fn answer(server: &str, code: Option<&str>, message: Option<&str>, status: Option<u16>) -> String {
    let mut text = format!("{server} answered");
    if let Some(status) = status {
        text += &format!(" {status}");
    }
    if let Some(code) = code {
        text += &format!(" {code}");
    }
    if let Some(message) = message {
        let short: String = message.chars().take(LONGEST_MESSAGE).collect();
        text += &format!(": {short}");
    }
    text
}

/// The messages of an error and its sources, each once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let message = error.to_string();
        if !text.contains(&message) {
            text += &format!(": {message}");
        }
        source = error.source();
    }
    text.chars().take(LONGEST_MESSAGE).collect()
}

/// The kind of the credentials error among an error's sources, if there is one.
fn credentials_kind(error: &dyn Error) -> Option<ErrorKind> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<CredentialsError>() {
            return Some(match error {
                CredentialsError::ProviderTimedOut(_) => ErrorKind::Timeout,
                _ => ErrorKind::Config,
            });
        }
        source = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_before_statuses() {
        for (code, status, kind) in [
            (Some("NoSuchKey"), 404, ErrorKind::NotFound),
            (Some("NoSuchBucket"), 404, ErrorKind::BucketMissing),
            (Some("InvalidAccessKeyId"), 403, ErrorKind::AccessDenied),
            (Some("SignatureDoesNotMatch"), 403, ErrorKind::AccessDenied),
            (Some("AuthorizationHeaderMalformed"), 400, ErrorKind::Config),
            (Some("InvalidRange"), 416, ErrorKind::Corrupt),
            (Some("SlowDown"), 503, ErrorKind::Unreachable),
            (Some("Unheard"), 400, ErrorKind::Other),
            (Some("Unheard"), 507, ErrorKind::DiskFull),
            (None, 403, ErrorKind::AccessDenied),
            (None, 404, ErrorKind::NotFound),
            (None, 500, ErrorKind::Unreachable),
            (Some("NotImplemented"), 501, ErrorKind::Other),
            (None, 301, ErrorKind::Config),
        ] {
            assert_eq!(kind_of(code, Some(status)), kind, "{code:?} {status}");
        }
    }

    #[test]
    fn long_messages_are_cut() {
        let text = answer("the server", Some("Code"), Some(&"x".repeat(9999)), Some(400));
        assert!(text.starts_with("the server answered 400 Code: xxx"));
        assert!(text.len() < 400);
    }
}
