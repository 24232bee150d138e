//! From a URL to a store.

use std::path::PathBuf;
use std::sync::Arc;

use url::Url;

use crate::file::FileStore;
use crate::guarded::Guarded;
use crate::hedging::Hedged;
use crate::metering::Metered;
use crate::s3::S3Store;
use crate::store::Result;
use crate::{Metrics, StorageConfig, StorageError, Store, validate_key};

/// The store that `config` describes, counting in `metrics` what it is asked for. Touches neither
/// network nor disk.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if the URL or another part of the configuration
/// cannot be right. The message never repeats credentials found in it.
pub fn open(config: &StorageConfig, metrics: &'static Metrics) -> Result<Arc<dyn Store>> {
    let url = Url::parse(&config.url).map_err(|cause| match cause {
        url::ParseError::RelativeUrlWithoutBase => {
            StorageError::config("the storage URL has no scheme: supported are \"file\" and \"s3\"")
        }
        cause => StorageError::config(format!("the storage URL cannot be parsed: {cause}")),
    })?;
    refuse_extras("the storage URL", &url)?;
    match url.scheme() {
        "file" => {
            let store = FileStore::new(file_root(&config.url, &url)?);
            let store = store.with_concurrency(config.concurrency);
            Ok(Arc::new(Metered::new(store, metrics)))
        }
        "s3" => {
            let (bucket, prefix) = s3_location(&url)?;
            let store = S3Store::new(config, bucket, prefix, metrics)?;
            let guarded = Guarded::new(Metered::new(store, metrics), metrics);
            Ok(Arc::new(Hedged::new(guarded, metrics)))
        }
        scheme => Err(StorageError::config(format!(
            "the scheme {scheme:?} of the storage URL is not supported: supported are \"file\" and \
             \"s3\""
        ))),
    }
}

/// Refuses the parts of a URL that mean nothing here; credentials among them would leak.
pub(crate) fn refuse_extras(what: &str, url: &Url) -> Result<()> {
    if !url.username().is_empty() || url.password().is_some() {
        return Err(StorageError::config(format!("{what} must not hold credentials")));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(StorageError::config(format!("{what} must not have a query or a fragment")));
    }
    Ok(())
}

/// The directory a `file:` URL names. `text` is the URL as given: parsing hides `..` and a
/// missing `//`.
fn file_root(text: &str, url: &Url) -> Result<PathBuf> {
    let refuse = |why: String| Err(StorageError::config(why));
    if let Some(host) = url.host_str() {
        return refuse(format!(
            "a file URL names an absolute path as in \"file:///path\", not a host or a relative \
             path ({host:?})"
        ));
    }
    if !text.to_ascii_lowercase().starts_with("file:///") {
        return refuse("a file URL begins with \"file:///\" and an absolute path".into());
    }
    if text.split('/').any(|part| part == "." || part == "..") {
        return refuse("the path of a file URL must not have relative parts".into());
    }
    match url.to_file_path() {
        Ok(path) if path.parent().is_some() => Ok(path),
        Ok(_) => refuse("a file URL must name a directory below the root directory".into()),
        Err(()) => refuse("the file URL does not name a path".into()),
    }
}

/// Bucket and prefix (without slashes at its ends) of an `s3:` URL.
fn s3_location(url: &Url) -> Result<(String, String)> {
    let bucket = url.host_str().unwrap_or_default();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if bucket.is_empty() || !bucket.chars().all(allowed) || url.port().is_some() {
        return Err(StorageError::config("an S3 URL names a bucket as in \"s3://bucket/prefix\""));
    }
    let prefix = url.path().trim_matches('/');
    if prefix.contains('%') {
        return Err(StorageError::config(
            "the prefix of an S3 URL must be plain ASCII without blanks or \"%\"",
        ));
    }
    if !prefix.is_empty() {
        validate_key(prefix, "")?;
    }
    Ok((bucket.to_owned(), prefix.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn refused(url: &str) -> String {
        let error = open(&StorageConfig::new(url), Metrics::leak()).expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        error.to_string()
    }

    #[test]
    fn good_urls_open() {
        for (url, shown) in [
            ("file:///var/lib/x", "file:///var/lib/x"),
            ("file:///with%20blank", "file:///with%20blank"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://my.bucket-1/a/b/", "s3://my.bucket-1/a/b"),
        ] {
            assert_eq!(open(&StorageConfig::new(url), Metrics::leak()).expect(url).url(), shown);
        }
    }

    #[test]
    fn unknown_schemes_are_named_with_the_known_ones() {
        let text = refused("ftp://host/x");
        assert!(text.contains("ftp") && text.contains("file") && text.contains("s3"), "{text}");
        assert!(refused("/just/a/path").contains("scheme"));
        refused("");
    }

    #[test]
    fn bad_places_are_refused() {
        for url in [
            "file://host/path",
            "file://relative",
            "file:relative",
            "file:/one/slash",
            "file:///",
            "file:///a/../b",
            "s3://",
            "s3:///prefix",
            "s3://bu%20cket/x",
            "s3://bucket:80/x",
            "s3://bucket/a//b",
            "s3://bucket/a b",
            "s3://bucket?x=1",
            "file:///x?y",
        ] {
            refused(url);
        }
    }

    #[test]
    fn credentials_in_urls_are_refused_and_not_repeated() {
        let text = refused("s3://AKIA:hunter2@bucket/x");
        assert!(!text.contains("hunter2") && !text.contains("AKIA"), "{text}");
        let mut config = StorageConfig::new("s3://bucket");
        config.s3_endpoint = Some("http://user:hunter2@localhost:1".into());
        let error = open(&config, Metrics::leak()).expect_err("credentials in the endpoint");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
