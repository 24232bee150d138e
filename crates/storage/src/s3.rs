//! A bucket, or a part of one, as a store: AWS S3 and servers that speak its protocol.
//!
//! S3 itself keeps the promises of [`Store`]: an object appears whole when its upload is finished
//! and is durable then. What is added here: exact lengths, uploads in parallel parts, retries of
//! bodies that break off (the SDK retries only up to the response's head), and an end to every
//! wait.

mod attempts;
mod client;
mod errors;
mod plain_http;
mod upload;

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{Delete, Object, ObjectIdentifier};
use bytes::{Bytes, BytesMut};
use tokio::sync::{OnceCell, Semaphore};

use crate::abandoned::Abandoned;
use crate::store::Result;
use crate::{
    ErrorKind, Metrics, ObjectMeta, StorageConfig, StorageError, Store, validate_key,
    validate_prefix,
};
use client::ClientSettings;
use errors::Failure;

/// How often a read starts anew after its body broke off.
const BODY_ATTEMPTS: u32 = 3;

/// Longest pause before the first of those tries; it grows with each.
const BODY_BACKOFF: Duration = Duration::from_millis(50);

/// Most keys in one DeleteObjects request, by the protocol.
const DELETE_BATCH: usize = 1000;

/// A [`Store`] in an S3 bucket.
#[derive(Debug)]
pub struct S3Store {
    settings: ClientSettings,
    /// Made at first use: finding the region or the credentials may take a request.
    client: OnceCell<Client>,
    bucket: String,
    /// Before every key: empty or ending in `/`.
    prefix: String,
    url: String,
    timeout: Duration,
    part_bytes: usize,
    concurrency: usize,
    metrics: &'static Metrics,
    permits: Semaphore,
    abandoned: Abandoned,
}

impl S3Store {
    /// The store below `prefix` (without slashes at its ends) of `bucket`. No network is touched.
    /// Requests that are tried again are counted in `metrics`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the endpoint is not an HTTP URL or the keys are incomplete.
    pub fn new(
        config: &StorageConfig,
        bucket: String,
        prefix: String,
        metrics: &'static Metrics,
    ) -> Result<Self> {
        let (url, prefix) = match prefix.as_str() {
            "" => (format!("s3://{bucket}"), prefix),
            _ => (format!("s3://{bucket}/{prefix}"), prefix + "/"),
        };
        Ok(Self {
            settings: ClientSettings::new(config)?,
            client: OnceCell::new(),
            bucket,
            prefix,
            url,
            timeout: config.timeout,
            part_bytes: config.part_bytes.max(upload::MIN_PART_BYTES),
            concurrency: config.concurrency,
            metrics,
            permits: Semaphore::new(config.concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            abandoned: Abandoned::default(),
        })
    }

    async fn client(&self) -> std::result::Result<&Client, Failure> {
        self.client.get_or_try_init(|| self.settings.connect(self.metrics)).await
    }

    fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn error(&self, action: &'static str, key: Option<&str>, failure: Failure) -> StorageError {
        let error = StorageError::new(failure.kind, action, &self.url, failure.cause);
        match key {
            Some(key) => error.with_key(key),
            None => error,
        }
    }

    /// Runs one operation when its turn comes, for at most `limit`, and names its error.
    async fn run<T>(
        &self,
        action: &'static str,
        key: Option<&str>,
        limit: Duration,
        work: impl Future<Output = std::result::Result<T, Failure>>,
    ) -> Result<T> {
        let turn = async {
            let _permit = self.permits.acquire().await;
            work.await
        };
        let outcome = match tokio::time::timeout(limit, turn).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::timeout(self.settings.endpoint(), limit)),
        };
        outcome.map_err(|failure| self.error(action, key, failure))
    }

    /// One GET. `range` must not be empty.
    async fn read(&self, key: &str, range: Option<&Range<u64>>) -> Result<Bytes> {
        validate_key(key, &self.url)?;
        let work = async {
            let mut attempt = 1;
            loop {
                match self.read_once(key, range).await {
                    Err(failure) if failure.body_broke_off && attempt < BODY_ATTEMPTS => {
                        self.metrics.retries.fetch_add(1, Ordering::Relaxed);
                        // Each at another moment, so that many readers of a server that breaks
                        // connections do not come back all at once.
                        let most = BODY_BACKOFF * attempt;
                        tokio::time::sleep(most.mul_f64(fastrand::f64())).await;
                        attempt += 1;
                    }
                    outcome => return outcome,
                }
            }
        };
        let outcome = self.run("read", Some(key), self.timeout, work).await;
        outcome.map_err(|error| match range {
            Some(range) => error.with_range(range.clone()),
            None => error,
        })
    }

    async fn read_once(
        &self,
        key: &str,
        range: Option<&Range<u64>>,
    ) -> std::result::Result<Bytes, Failure> {
        let request = self.client().await?.get_object();
        let header = range.map(|r| format!("bytes={}-{}", r.start, r.end - 1));
        let response = request
            .bucket(&self.bucket)
            .key(self.path(key))
            .set_range(header)
            .send()
            .await
            .map_err(|error| Failure::of(&error, self.settings.endpoint()))?;
        let announced = response.content_length().unwrap_or(0).max(0).cast_unsigned();
        let expected = match range {
            Some(range) => {
                check_range(range, response.content_range(), announced)?;
                range.end - range.start
            }
            None => announced,
        };
        collect(response.body, expected, self.settings.endpoint()).await
    }

    async fn size_of(&self, key: &str) -> std::result::Result<u64, Failure> {
        let response = self
            .client()
            .await?
            .head_object()
            .bucket(&self.bucket)
            .key(self.path(key))
            .send()
            .await
            .map_err(|error| Failure::of(&error, self.settings.endpoint()))?;
        let length = response.content_length().unwrap_or(-1);
        u64::try_from(length).map_err(|_| Failure::odd("the server did not tell the size"))
    }

    /// One page of a listing of keys below `prefix`, up to the first `delimiter` after it.
    async fn page(
        &self,
        prefix: &str,
        delimiter: Option<&str>,
        token: Option<String>,
    ) -> std::result::Result<ListObjectsV2Output, Failure> {
        self.client()
            .await?
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(self.path(prefix))
            .set_delimiter(delimiter.map(str::to_owned))
            .set_continuation_token(token)
            .send()
            .await
            .map_err(|error| Failure::of(&error, self.settings.endpoint()))
    }

    /// All pages of a listing. See [`page`](Self::page).
    async fn pages(
        &self,
        prefix: &str,
        delimiter: Option<&str>,
        mut take: impl FnMut(&ListObjectsV2Output),
    ) -> Result<()> {
        let mut token = None;
        loop {
            let page = self.page(prefix, delimiter, token);
            let page = self.run("list objects in", None, self.timeout, page).await?;
            take(&page);
            let next = page.next_continuation_token().map(str::to_owned);
            token = next.filter(|_| page.is_truncated().unwrap_or(false));
            if token.is_none() {
                return Ok(());
            }
        }
    }

    /// An object of a listing; `None` for one that is not ours to see.
    fn listed(&self, object: &Object) -> Option<ObjectMeta> {
        let key = object.key().and_then(|key| key.strip_prefix(&self.prefix))?;
        validate_key(key, "").is_ok().then(|| ObjectMeta {
            key: key.to_owned(),
            size: u64::try_from(object.size().unwrap_or(0)).unwrap_or(0),
            modified: object
                .last_modified()
                .and_then(|time| SystemTime::try_from(*time).ok())
                .unwrap_or(SystemTime::UNIX_EPOCH),
        })
    }

    /// Deletes up to [`DELETE_BATCH`] keys in one request.
    async fn delete_batch(&self, keys: &[String]) -> std::result::Result<(), Failure> {
        let mut delete = Delete::builder().quiet(true);
        for key in keys {
            let object = ObjectIdentifier::builder().key(self.path(key)).build();
            delete = delete.objects(object.map_err(|error| Failure::odd(&error.to_string()))?);
        }
        let delete = delete.build().map_err(|error| Failure::odd(&error.to_string()))?;
        let response = self
            .client()
            .await?
            .delete_objects()
            .bucket(&self.bucket)
            .delete(delete)
            .send()
            .await
            .map_err(|error| Failure::of(&error, self.settings.endpoint()))?;
        for error in response.errors() {
            let failure = Failure::of_code(error.code(), error.message());
            if failure.kind != ErrorKind::NotFound {
                return Err(failure);
            }
        }
        Ok(())
    }

    async fn delete_one(&self, key: &str) -> std::result::Result<(), Failure> {
        let request = self.client().await?.delete_object();
        let outcome = request.bucket(&self.bucket).key(self.path(key)).send().await;
        match outcome.map_err(|error| Failure::of(&error, self.settings.endpoint())) {
            Err(failure) if failure.kind != ErrorKind::NotFound => Err(failure),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Store for S3Store {
    async fn get(&self, key: &str) -> Result<Bytes> {
        self.read(key, None).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        self.read(key, Some(&range)).await
    }

    fn concurrency(&self) -> usize {
        self.concurrency
    }

    async fn size(&self, key: &str) -> Result<u64> {
        validate_key(key, &self.url)?;
        self.run("look up", Some(key), self.timeout, self.size_of(key)).await
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        validate_key(key, &self.url)?;
        self.upload(key, body).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        validate_prefix(prefix, &self.url)?;
        let mut found = Vec::new();
        let take = |page: &ListObjectsV2Output| {
            found.extend(page.contents().iter().filter_map(|object| self.listed(object)));
        };
        self.pages(prefix, None, take).await?;
        Ok(found)
    }

    async fn folders(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let take = |page: &ListObjectsV2Output| {
            for common in page.common_prefixes() {
                let name = common.prefix().and_then(|key| key.strip_prefix(&self.prefix));
                let name = name.and_then(|name| name.strip_suffix('/'));
                found.extend(name.filter(|name| validate_key(name, "").is_ok()).map(str::to_owned));
            }
        };
        self.pages("", Some("/"), take).await?;
        Ok(found)
    }

    async fn delete(&self, keys: &[String]) -> Result<()> {
        for key in keys {
            validate_key(key, &self.url)?;
        }
        for batch in keys.chunks(DELETE_BATCH) {
            let whole = self.delete_batch(batch);
            let outcome = self.run("delete", None, self.timeout, whole).await;
            let Err(error) = outcome else { continue };
            // Some servers lack the batch request; none lacks the single one.
            if !matches!(error.kind(), ErrorKind::Other | ErrorKind::Config) {
                return Err(error);
            }
            for key in batch {
                let single = self.delete_one(key);
                self.run("delete", Some(key), self.timeout, single).await?;
            }
        }
        Ok(())
    }

    async fn settle(&self) {
        self.abandoned.settle().await;
    }

    fn url(&self) -> String {
        self.url.clone()
    }
}

/// Checks that the server answers with the range that was asked for.
fn check_range(
    range: &Range<u64>,
    content_range: Option<&str>,
    announced: u64,
) -> std::result::Result<(), Failure> {
    let wanted = range.end - range.start;
    let expected = format!("bytes {}-{}/", range.start, range.end - 1);
    match content_range {
        Some(answer) if answer.starts_with(&expected) && announced == wanted => Ok(()),
        Some(answer) => Err(Failure::corrupt(format!(
            "bytes {} to {} were wanted but it has only \"{answer}\"",
            range.start, range.end
        ))),
        None => Err(Failure::odd("the server ignored the range of the request")),
    }
}

/// Reads a body that must have `expected` bytes, without a copy when it comes in one piece.
async fn collect(
    mut body: ByteStream,
    expected: u64,
    endpoint: &str,
) -> std::result::Result<Bytes, Failure> {
    let expected =
        usize::try_from(expected).map_err(|_| Failure::odd("the object is too large"))?;
    let mut collected = BytesMut::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| Failure::broken_body(&error, endpoint))?;
        if collected.is_empty() && piece.len() == expected {
            return Ok(piece);
        }
        if collected.capacity() == 0 {
            collected.reserve(expected);
        }
        if collected.len() + piece.len() > expected {
            return Err(Failure::odd("the server sent more than it announced"));
        }
        collected.extend_from_slice(&piece);
    }
    if collected.len() < expected {
        return Err(Failure::broken_body(&"it ended early", endpoint));
    }
    Ok(collected.freeze())
}
