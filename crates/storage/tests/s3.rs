//! A real S3 server, when the environment names one: `S3VECTOR_TEST_S3_ENDPOINT`,
//! `S3VECTOR_TEST_S3_BUCKET`, `S3VECTOR_TEST_S3_REGION` (optional) and the usual `AWS_*`
//! credentials. Without it these tests pass without doing anything, and say so.

mod common;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use storage::{ErrorKind, Metrics, Secret, StorageConfig, Store, open};

/// The configuration of a prefix of its own in the test bucket.
fn config(name: &str) -> Option<StorageConfig> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (endpoint, bucket) = (set("S3VECTOR_TEST_S3_ENDPOINT"), set("S3VECTOR_TEST_S3_BUCKET"));
    let (Some(endpoint), Some(bucket)) = (endpoint, bucket) else {
        eprintln!("no S3 server named: {name} not run");
        return None;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    let mut config = StorageConfig::new(format!("s3://{bucket}/test/{name}-{}", now.as_nanos()));
    config.s3_endpoint = Some(endpoint);
    config.s3_region = set("S3VECTOR_TEST_S3_REGION");
    config.s3_path_style = true;
    Some(config)
}

fn store(config: &StorageConfig) -> Arc<dyn Store> {
    open(config, Metrics::leak()).expect("a store")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_keeps_the_promises_of_a_store() {
    let Some(mut config) = config("promises") else { return };
    config.part_bytes = 5 << 20;
    common::keeps_its_promises(store(&config)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_given_up_leaves_nothing() {
    let Some(mut config) = config("given-up") else { return };
    config.part_bytes = 5 << 20;
    let store = store(&config);
    let large = common::body(40 << 20, 1);
    for milliseconds in [1, 5, 20, 60] {
        let put = store.put("x", large.clone());
        let given_up = tokio::time::timeout(Duration::from_millis(milliseconds), put).await;
        store.settle().await;
        if given_up.is_err() {
            let error = store.get("x").await.expect_err("never finished");
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
        store.delete(&["x".into()]).await.expect("delete");
    }
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let Some(good) = config("refusals") else { return };
    let kind = async |config: &StorageConfig| {
        let store = store(config);
        let put = store.put("x", "x".into()).await.expect_err("refused");
        let get = store.get("x").await.expect_err("refused");
        let list = store.list("").await.expect_err("refused");
        eprintln!("{put}: {} {:?}", put.detail(), put.hint());
        assert_eq!(put.kind(), get.kind());
        assert_eq!(put.kind(), list.kind());
        let shown = format!("{put:?} {put} {} {store:?}", put.detail());
        assert!(!shown.contains("hunter2"), "{shown}");
        put.kind()
    };
    let mut missing = good.clone();
    missing.url = "s3://no-such-bucket-here/x".into();
    // Garage, as AWS, answers 403 for a bucket whose existence is none of the key's business.
    let answer = kind(&missing).await;
    assert!(matches!(answer, ErrorKind::BucketMissing | ErrorKind::AccessDenied));

    let mut stranger = good.clone();
    stranger.access_key_id = Some("GK00000000000000000000000a".into());
    stranger.secret_access_key = Some(Secret::new("hunter2"));
    assert_eq!(kind(&stranger).await, ErrorKind::AccessDenied);

    let mut liar = good.clone();
    liar.access_key_id = std::env::var("AWS_ACCESS_KEY_ID").ok();
    liar.secret_access_key = Some(Secret::new("hunter2"));
    assert_eq!(kind(&liar).await, ErrorKind::AccessDenied);
}
