//! Writing an object: in one request, or in parts side by side.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::runtime::Handle;

use super::S3Store;
use super::client::attempt_timeout;
use super::errors::Failure;
use crate::StorageConfig;
use crate::abandoned::Abandoned;
use crate::store::Result;

/// Smallest part S3 takes, in bytes (but for the last one).
pub(super) const MIN_PART_BYTES: usize = 5 << 20;

/// Most parts of one object, by the protocol.
const MAX_PARTS: usize = 10_000;

/// Parts of one object under way at once; the store's own limit holds besides.
const PARTS_AT_ONCE: usize = 4;

impl S3Store {
    /// Writes an object. Dropping the future, or a failure, aborts an upload in parts.
    pub(super) async fn upload(&self, key: &str, body: Bytes) -> Result<()> {
        if body.len() <= self.part_bytes {
            let limit = self.timeout * StorageConfig::UPLOAD_PATIENCE;
            return self.run("write", Some(key), limit, self.put_whole(key, body)).await;
        }
        let part_bytes = self.part_bytes.max(body.len().div_ceil(MAX_PARTS));
        let upload = self.run("write", Some(key), self.timeout, self.begin(key)).await?;
        let parts = stream::iter(0..body.len().div_ceil(part_bytes))
            .map(|index| {
                let start = index * part_bytes;
                let part = body.slice(start..(start + part_bytes).min(body.len()));
                self.put_part(key, &upload, index, part)
            })
            .buffered(PARTS_AT_ONCE)
            .try_collect()
            .await?;
        let limit = self.timeout * StorageConfig::UPLOAD_PATIENCE;
        self.run("write", Some(key), limit, self.complete(upload, parts)).await
    }

    /// The timeouts of one upload request.
    fn patient(&self) -> Builder {
        let limit = self.timeout * StorageConfig::UPLOAD_PATIENCE;
        Builder::new().timeout_config(attempt_timeout(limit))
    }

    async fn put_whole(&self, key: &str, body: Bytes) -> std::result::Result<(), Failure> {
        let request = self.client().await?.put_object();
        request
            .bucket(&self.bucket)
            .key(self.path(key))
            .body(ByteStream::from(body))
            .customize()
            .config_override(self.patient())
            .send()
            .await
            .map_err(|error| Failure::of(&error, self.settings.endpoint()))?;
        Ok(())
    }

    async fn begin(&self, key: &str) -> std::result::Result<Upload, Failure> {
        let client = self.client().await?.clone();
        let (bucket, path) = (self.bucket.clone(), self.path(key));
        let abandoned = self.abandoned.clone();
        let endpoint = self.settings.endpoint().to_owned();
        // A task of its own: if this future is dropped, the upload that the server is just
        // creating still gets its identifier, and so its end.
        let task = tokio::spawn(async move {
            let request = client.create_multipart_upload();
            let response = request.bucket(&bucket).key(&path).send().await;
            let response = response.map_err(|error| Failure::of(&error, &endpoint))?;
            let id = response.upload_id();
            let id = id.ok_or_else(|| Failure::odd("the server did not name the upload"))?;
            Ok(Upload {
                id: Some(id.to_owned()),
                client,
                bucket,
                path,
                abandoned,
                runtime: Handle::current(),
            })
        });
        task.await.unwrap_or_else(|_| Err(Failure::odd("the upload was not started")))
    }

    async fn put_part(
        &self,
        key: &str,
        upload: &Upload,
        index: usize,
        body: Bytes,
    ) -> Result<CompletedPart> {
        let number = i32::try_from(index + 1).unwrap_or(i32::MAX);
        let work = async {
            let request = upload.client.upload_part();
            let response = request
                .bucket(&upload.bucket)
                .key(&upload.path)
                .set_upload_id(upload.id.clone())
                .part_number(number)
                .body(ByteStream::from(body))
                .customize()
                .config_override(self.patient())
                .send()
                .await
                .map_err(|error| Failure::of(&error, self.settings.endpoint()))?;
            Ok(CompletedPart::builder()
                .part_number(number)
                .set_e_tag(response.e_tag().map(str::to_owned))
                .build())
        };
        let limit = self.timeout * StorageConfig::UPLOAD_PATIENCE;
        self.run("write", Some(key), limit, work).await
    }

    async fn complete(
        &self,
        mut upload: Upload,
        parts: Vec<CompletedPart>,
    ) -> std::result::Result<(), Failure> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = upload.client.complete_multipart_upload();
        request
            .bucket(&upload.bucket)
            .key(&upload.path)
            .set_upload_id(upload.id.clone())
            .multipart_upload(parts)
            .customize()
            .config_override(self.patient())
            .send()
            .await
            .map_err(|error| Failure::of(&error, self.settings.endpoint()))?;
        upload.id = None;
        Ok(())
    }
}

/// An upload in parts that is aborted when dropped before its end: the server would keep, and
/// bill, its parts for ever.
struct Upload {
    /// `None` once completed.
    id: Option<String>,
    client: Client,
    bucket: String,
    path: String,
    abandoned: Abandoned,
    runtime: Handle,
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let request = self.client.abort_multipart_upload();
        let request = request.bucket(&self.bucket).key(&self.path).upload_id(id);
        // Nobody is left to tell about a failure; a lifecycle rule of the bucket is the remedy.
        let task = self.runtime.spawn(async move {
            let _ = request.send().await;
        });
        self.abandoned.add(task);
    }
}
