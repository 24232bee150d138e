//! The decorators: what they count, slow down and break.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use storage::{
    Effect, ErrorKind, Fault, Faulty, FileStore, Latency, Metered, Metrics, Operation, Store,
};

fn store() -> (tempfile::TempDir, FileStore) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = FileStore::new(directory.path().to_owned());
    (directory, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decorators_keep_the_promises_of_a_store() {
    let (_directory, inner) = store();
    let slow = Latency::new(inner, Duration::from_micros(10));
    common::keeps_its_promises(Arc::new(Metered::new(
        Faulty::new(slow, Vec::new()),
        Metrics::leak(),
    )))
    .await;
}

#[tokio::test]
async fn metering_counts_requests_bytes_and_errors() {
    let (_directory, inner) = store();
    let store = Metered::new(inner, Metrics::leak());
    store.put("a", common::body(100, 1)).await.expect("put");
    let before = store.snapshot();
    store.get("a").await.expect("get");
    store.get_range("a", 10..30).await.expect("range");
    store.get_range("a", 90..130).await.expect_err("too far");
    store.size("a").await.expect("size");
    store.list("").await.expect("list");
    store.delete(&["a".into()]).await.expect("delete");
    let counted = store.snapshot().since(&before);
    assert_eq!((counted.get, counted.get_range, counted.size), (1, 2, 1));
    assert_eq!((counted.put, counted.list, counted.delete), (0, 1, 1));
    assert_eq!((counted.bytes_read, counted.errors), (120, 1));
    assert_eq!(counted.requests(), 6);
    assert_eq!(store.snapshot().bytes_written, 100);
    assert_eq!(store.url(), format!("file://{}", _directory.path().display()));
}

#[tokio::test]
async fn latency_is_added_to_each_request_but_not_summed_over_a_wave() {
    let (_directory, inner) = store();
    inner.put("a", common::body(1000, 1)).await.expect("put");
    let store = Latency::new(inner, Duration::from_millis(20));
    let start = Instant::now();
    let wave = (0..50).map(|n| store.get_range("a", n..n + 10));
    futures::future::try_join_all(wave).await.expect("all of them");
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(20), "{took:?}");
}

#[tokio::test]
async fn faults_strike_where_the_script_says() {
    let (_directory, inner) = store();
    let body = common::body(100, 1);
    for key in ["x/1", "y/1"] {
        inner.put(key, body.clone()).await.expect("put");
    }
    let second =
        Fault::always(Effect::Fail(ErrorKind::Timeout)).on(Operation::Get).key("x/").nth(1);
    let store = Faulty::new(inner, vec![second]);
    store.get("x/1").await.expect("the first passes");
    store.get("y/1").await.expect("another key");
    store.size("x/1").await.expect("another operation");
    let error = store.get("x/1").await.expect_err("the second fails");
    assert_eq!((error.kind(), error.key()), (ErrorKind::Timeout, Some("x/1")));
    store.get("x/1").await.expect("the third passes");

    store.set_script(vec![Fault::always(Effect::Truncate(7))]);
    assert_eq!(store.get("x/1").await.expect("get"), body.slice(..7));
    store.set_script(vec![Fault::always(Effect::FlipBit(800 + 11))]);
    let read = store.get_range("x/1", 0..100).await.expect("range");
    let flipped: Vec<_> = (0..100).filter(|i| read[*i] != body[*i]).collect();
    assert_eq!((flipped, read[1] ^ body[1]), (vec![1], 1 << 3));
    store.set_script(vec![Fault::always(Effect::Delay(Duration::from_millis(5)))]);
    assert_eq!(store.get("x/1").await.expect("late"), body);
}
