//! Building the SDK's client from a [`StorageConfig`].

use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use url::Url;

use super::attempts::Attempts;
use super::errors::Failure;
use super::plain_http;
use crate::open::refuse_extras;
use crate::store::Result;
use crate::{Metrics, Secret, StorageConfig, StorageError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Tries of a request, the first included.
const ATTEMPTS: u32 = 3;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);
/// What S3-compatible servers expect when nothing else is said.
const ENDPOINT_REGION: &str = "us-east-1";

/// What a client is made of. Its `Debug` shows no secret.
#[derive(Clone, Debug)]
pub(super) struct ClientSettings {
    endpoint: Option<String>,
    region: Option<String>,
    path_style: bool,
    keys: Option<Keys>,
    timeout: Duration,
}

#[derive(Clone, Debug)]
struct Keys {
    id: String,
    secret: Secret,
    token: Option<Secret>,
}

impl ClientSettings {
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for an endpoint that is no HTTP URL, and
    /// for one half of a key pair.
    pub(super) fn new(config: &StorageConfig) -> Result<Self> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let endpoint = given(&config.s3_endpoint);
        if let Some(endpoint) = &endpoint {
            check_endpoint(endpoint)?;
        }
        let secret = |text: &Option<Secret>| text.clone().filter(|text| !text.expose().is_empty());
        let keys = match (given(&config.access_key_id), secret(&config.secret_access_key)) {
            (None, None) => None,
            (Some(id), Some(secret_key)) => {
                Some(Keys { id, secret: secret_key, token: secret(&config.session_token) })
            }
            _ => {
                return Err(StorageError::config(
                    "an S3 access key and its secret must be given together",
                ));
            }
        };
        Ok(Self {
            endpoint,
            region: given(&config.s3_region),
            path_style: config.s3_path_style,
            keys,
            timeout: config.timeout,
        })
    }

    /// The server, for messages.
    pub(super) fn endpoint(&self) -> &str {
        self.endpoint.as_deref().unwrap_or("AWS S3")
    }

    /// Finds region and credentials and builds the client.
    pub(super) async fn connect(
        &self,
        metrics: &'static Metrics,
    ) -> std::result::Result<Client, Failure> {
        let plain = self
            .endpoint
            .as_ref()
            .filter(|endpoint| endpoint.starts_with("http://"))
            .map(|_| plain_http::client(CONNECT_TIMEOUT.min(self.timeout / 2)));
        // Without TLS the certificates of the system need not be read; but the providers of
        // credentials need TLS whatever the endpoint.
        let https =
            || Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let shared_http = match (&plain, &self.keys) {
            (Some(plain), Some(_)) => plain.clone(),
            _ => https(),
        };
        let region = self.region().await?;
        let retry = RetryConfig::standard()
            .with_max_attempts(ATTEMPTS)
            .with_initial_backoff(FIRST_BACKOFF)
            .with_max_backoff(LONGEST_BACKOFF);
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(shared_http)
            .region(region)
            .retry_config(retry)
            .timeout_config(attempt_timeout(self.timeout))
            // Every operation ends by its own timeout already.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(keys) = &self.keys {
            loader = loader.credentials_provider(Credentials::new(
                keys.id.as_str(),
                keys.secret.expose(),
                keys.token.as_ref().map(|token| token.expose().to_owned()),
                None,
                "s3vector settings",
            ));
        }
        if let Some(endpoint) = &self.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let shared = loader.load().await;
        // Checksums beyond the signature's are an AWS extension other servers trip over; what is
        // stored carries its own.
        let mut config = aws_sdk_s3::config::Builder::from(&shared)
            .interceptor(Attempts(metrics))
            .force_path_style(self.path_style)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(plain) = plain {
            config = config.http_client(plain);
        }
        Ok(Client::from_conf(config.build()))
    }

    async fn region(&self) -> std::result::Result<Region, Failure> {
        if let Some(region) = &self.region {
            return Ok(Region::new(region.clone()));
        }
        // Asking the instance for its region takes seconds where there is none to ask, so only
        // do so when talking to AWS.
        let chain = match self.endpoint {
            None => RegionProviderChain::default_provider(),
            Some(_) => RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
                .or_else(ProfileFileRegionProvider::new())
                .or_else(Region::new(ENDPOINT_REGION)),
        };
        chain.region().await.ok_or_else(|| {
            Failure::config("no S3 region is set and neither the environment nor a profile has one")
        })
    }
}

/// The SDK's limits when an operation may take `limit`: half of it for one attempt, so that a
/// request that stalls leaves time for another.
pub(super) fn attempt_timeout(limit: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT.min(limit / 2))
        .operation_attempt_timeout(limit / 2)
        .operation_timeout(limit)
        .build()
}

fn check_endpoint(endpoint: &str) -> Result<()> {
    let url = Url::parse(endpoint).map_err(|cause| {
        StorageError::config(format!("the S3 endpoint cannot be parsed as a URL: {cause}"))
    })?;
    refuse_extras("the S3 endpoint", &url)?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(StorageError::config(
            "the S3 endpoint must be a URL as in \"https://host:port\"",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn refused(change: impl Fn(&mut StorageConfig)) -> String {
        let mut config = StorageConfig::new("s3://bucket");
        change(&mut config);
        let error = ClientSettings::new(&config).expect_err("bad settings");
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn endpoints_must_be_http_urls() {
        for endpoint in ["localhost:9000", "ftp://host", "http://", "//x", "http://h?x"] {
            assert!(refused(|c| c.s3_endpoint = Some(endpoint.into())).contains("endpoint"));
        }
    }

    #[test]
    fn keys_come_in_pairs() {
        assert!(refused(|c| c.access_key_id = Some("id".into())).contains("together"));
        let text = refused(|c| c.secret_access_key = Some(Secret::new("hunter2")));
        assert!(!text.contains("hunter2"));
    }

    #[test]
    fn empty_settings_are_absent_ones() {
        let mut config = StorageConfig::new("s3://bucket");
        config.s3_endpoint = Some(String::new());
        config.access_key_id = Some(String::new());
        config.secret_access_key = Some(Secret::new(""));
        let settings = ClientSettings::new(&config).expect("as if absent");
        assert!(settings.keys.is_none() && settings.endpoint() == "AWS S3");
    }
}
