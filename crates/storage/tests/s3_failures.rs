//! What servers and networks can do wrong, played by a small server on the loopback interface.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use storage::{ErrorKind, Metrics, Secret, StorageConfig, StorageError, Store, open};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What the server does with a connection after reading a request's head.
#[derive(Clone)]
enum Play {
    /// Answers and closes.
    Answer(String),
    /// Never answers.
    Stall,
    /// Closes without a word.
    Hang,
}

fn answer(status: &str, headers: &str, body: &str) -> Play {
    let length = body.len();
    Play::Answer(format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
    ))
}

fn service_error(status: &str, code: &str) -> Play {
    let body = format!("<Error><Code>{code}</Code><Message>because</Message></Error>");
    answer(status, "content-type: application/xml\r\n", &body)
}

/// Starts a server that plays `plays` in order, the last one for ever; counts requests.
async fn serve(plays: Vec<Play>) -> (Arc<dyn Store>, Arc<AtomicUsize>) {
    serve_metered(plays, Metrics::leak()).await
}

async fn serve_metered(
    plays: Vec<Play>,
    metrics: &'static Metrics,
) -> (Arc<dyn Store>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let number = counter.fetch_add(1, Ordering::SeqCst);
            let play = plays[number.min(plays.len() - 1)].clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                let mut buffer = [0; 4096];
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    match socket.read(&mut buffer).await {
                        Ok(0) | Err(_) => return,
                        Ok(n) => head.extend_from_slice(&buffer[..n]),
                    }
                }
                match play {
                    Play::Answer(text) => {
                        let _ = socket.write_all(text.as_bytes()).await;
                        let _ = socket.shutdown().await;
                    }
                    Play::Stall => tokio::time::sleep(Duration::from_secs(60)).await,
                    Play::Hang => {}
                }
            });
        }
    });
    (metered_store(port, Duration::from_secs(5), metrics), requests)
}

fn store(port: u16, timeout: Duration) -> Arc<dyn Store> {
    metered_store(port, timeout, Metrics::leak())
}

fn metered_store(port: u16, timeout: Duration, metrics: &'static Metrics) -> Arc<dyn Store> {
    let mut config = StorageConfig::new("s3://bucket/prefix");
    config.s3_endpoint = Some(format!("http://127.0.0.1:{port}"));
    config.s3_region = Some("garage".into());
    config.s3_path_style = true;
    config.access_key_id = Some("id".into());
    config.secret_access_key = Some(Secret::new("hunter2"));
    config.timeout = timeout;
    open(&config, metrics).expect("a store")
}

async fn failure(play: Play) -> StorageError {
    let (store, _) = serve(vec![play]).await;
    store.get("key").await.expect_err("the server fails")
}

#[tokio::test]
async fn answers_become_kinds() {
    for (play, kind) in [
        (service_error("404 Not Found", "NoSuchKey"), ErrorKind::NotFound),
        (service_error("404 Not Found", "NoSuchBucket"), ErrorKind::BucketMissing),
        (service_error("403 Forbidden", "AccessDenied"), ErrorKind::AccessDenied),
        (service_error("403 Forbidden", "InvalidAccessKeyId"), ErrorKind::AccessDenied),
        (service_error("403 Forbidden", "SignatureDoesNotMatch"), ErrorKind::AccessDenied),
        (service_error("507 Full", "InsufficientStorage"), ErrorKind::DiskFull),
        (service_error("301 Moved", "PermanentRedirect"), ErrorKind::Config),
        (service_error("416 Range", "InvalidRange"), ErrorKind::Corrupt),
        (answer("403 Forbidden", "", ""), ErrorKind::AccessDenied),
        (answer("400 Bad Request", "", "<html>not S3</html>"), ErrorKind::Other),
    ] {
        let error = failure(play).await;
        assert_eq!(error.kind(), kind, "{error:?}");
        assert_eq!(error.key(), Some("key"));
        assert!(error.detail().contains("127.0.0.1"), "{}", error.detail());
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn a_head_without_a_body_still_tells_the_kind() {
    for (status, kind) in
        [("403 Forbidden", ErrorKind::AccessDenied), ("404 Not Found", ErrorKind::NotFound)]
    {
        let (store, _) = serve(vec![answer(status, "", "")]).await;
        assert_eq!(store.size("key").await.expect_err(status).kind(), kind);
    }
}

#[tokio::test]
async fn server_errors_are_tried_again() {
    let busy = service_error("503 Slow Down", "SlowDown");
    let good = answer("200 OK", "", "hello");
    let (store, requests) = serve(vec![busy.clone(), busy.clone(), good]).await;
    assert_eq!(store.get("key").await.expect("the third answer"), "hello");
    assert_eq!(requests.load(Ordering::SeqCst), 3);
    let (store, requests) = serve(vec![busy]).await;
    assert_eq!(store.get("key").await.expect_err("always busy").kind(), ErrorKind::Unreachable);
    assert_eq!(requests.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_connection_that_breaks_is_tried_again() {
    let good = answer("200 OK", "", "hello");
    let (store, _) = serve(vec![Play::Hang, good]).await;
    assert_eq!(store.get("key").await.expect("the second answer"), "hello");
    let error = failure(Play::Hang).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_tried_again_and_never_returned() {
    let short = Play::Answer("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel".into());
    let good = answer("200 OK", "", "hello");
    let (store, requests) = serve(vec![short.clone(), short.clone(), good]).await;
    assert_eq!(store.get("key").await.expect("the third answer"), "hello");
    assert_eq!(requests.load(Ordering::SeqCst), 3);
    let (store, requests) = serve(vec![short]).await;
    let error = store.get("key").await.expect_err("always short");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    assert_eq!(requests.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_range_that_is_not_the_one_asked_for_is_an_error() {
    let partial = |range: &str, body: &str| {
        answer("206 Partial Content", &format!("content-range: bytes {range}\r\n"), body)
    };
    let read = async |play: Play| {
        let (store, _) = serve(vec![play]).await;
        store.get_range("key", 10..15).await
    };
    assert_eq!(read(partial("10-14/100", "hello")).await.expect("right"), "hello");
    for play in [partial("10-12/13", "hel"), partial("0-4/100", "hello")] {
        let error = read(play).await.expect_err("another range");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
    }
    let error = read(answer("200 OK", "", "hello")).await.expect_err("no range at all");
    assert!(error.detail().contains("ignored the range"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_stalls_is_left_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    // Connections wait in the backlog; nobody ever answers.
    let store = store(port, Duration::from_millis(300));
    let error = store.get("key").await.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("s3vector.fetch_timeout")));
    let (_, stalled) = (listener, serve(vec![Play::Stall]).await);
    drop(stalled);
}

#[tokio::test]
async fn a_closed_port_is_unreachable_and_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let store = store(port, Duration::from_secs(5));
    for error in [
        store.get("key").await.expect_err("nobody there"),
        store.put("key", "x".into()).await.expect_err("nobody there"),
        store.list("").await.expect_err("nobody there"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
        assert!(error.detail().contains(&port.to_string()), "{}", error.detail());
    }
}

#[tokio::test]
async fn batch_deletion_falls_back_to_single_ones() {
    let unknown = service_error("501 Not Implemented", "NotImplemented");
    let gone = answer("204 No Content", "", "");
    let (store, requests) = serve(vec![unknown, gone]).await;
    let keys = ["a".to_owned(), "b".to_owned()];
    store.delete(&keys).await.expect("one by one");
    assert_eq!(requests.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn tries_and_requests_for_patience_are_counted() {
    let metrics = Metrics::leak();
    let slow_down = || service_error("503 Slow Down", "SlowDown");
    let (store, requests) =
        serve_metered(vec![slow_down(), slow_down(), answer("200 OK", "", "body")], metrics).await;
    assert_eq!(store.get("key").await.expect("the third try"), "body");
    assert_eq!(requests.load(Ordering::SeqCst), 3);
    assert_eq!(metrics.retries.load(Ordering::Relaxed), 2);
    assert_eq!(metrics.throttled.load(Ordering::Relaxed), 2);
    assert_eq!((metrics.snapshot().get, metrics.snapshot().errors), (1, 0));
}

#[tokio::test]
async fn errors_of_ranges_name_the_bytes() {
    let (store, _) = serve(vec![service_error("404 Not Found", "NoSuchKey")]).await;
    let error = store.get_range("key", 5..25).await.expect_err("no such object");
    assert!(error.detail().ends_with("Wanted were bytes 5 to 25."), "{}", error.detail());
}
