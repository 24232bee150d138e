//! Passwords and certificates.

use std::process::Command;

use storage::RedisState;

use crate::node::{Node, TIMEOUT, folder, piece, right, until};
use crate::server::{RedisServer, free_port};

#[tokio::test]
async fn passwords_are_used_and_never_shown() {
    let (redis, (folder, bodies)) = (RedisServer::with_password("hunter2"), folder().await);
    let pieces = [piece("a", 0..1000)];
    let good = Node::ready(&folder, &redis.url()).await;
    good.read_and_fill(&pieces).await;
    assert_eq!(good.read(&pieces).await.cost.redis_hits, 1);
    assert!(!format!("{:?} {:?}", good.store, good.told()).contains("hunter2"));

    for wrong in [":wrong-hunter3@", "nobody:wrong-hunter3@", ""] {
        let url = format!("redis://{wrong}127.0.0.1:{}", redis.port());
        let node = Node::new(&folder, &url, TIMEOUT);
        until("a reason", || !node.told().is_empty()).await;
        assert!(right(&node.read(&pieces).await, &pieces, &bodies));
        assert_eq!((node.reads(), node.requests()), (0, 1));
        let told = node.told();
        assert_eq!((told.len(), told[0].0), (1, RedisState::Down), "{told:?}");
        let told = format!("{told:?} {:?}", node.store);
        assert!(told.to_lowercase().contains("auth"), "{told}");
        assert!(!told.contains("hunter3"), "{told}");
    }
}

/// A server that takes the password, and repeats it when it is asked for anything.
#[tokio::test]
async fn a_server_that_repeats_the_password_does_not_get_it_into_a_message() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = socket.read(&mut buffer).await {
                    let said = String::from_utf8_lossy(&buffer[..read]).into_owned();
                    let answer = match said.contains("MGET") {
                        true => "-ERR go away, hunter2\r\n".to_owned(),
                        // One answer a command.
                        false => "+OK\r\n".repeat(said.matches('*').count()),
                    };
                    let _ = socket.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    let (folder, _) = folder().await;
    let url = format!("redis://:hunter2@127.0.0.1:{port}");
    let node = Node::new(&folder, &url, TIMEOUT);
    until("a reason", || !node.told().is_empty()).await;
    let told = format!("{:?}", node.told());
    assert!(told.contains("go away, …") && !told.contains("hunter2"), "{told}");
}

/// Runs itself again in a process that trusts the server's certificate: which ones a process
/// trusts, the system says through its environment.
#[test]
fn tls_is_for_servers_that_the_system_trusts() {
    const URL: &str = "S3VECTOR_TEST_TLS_URL";
    let runtime = storage::runtime("test", 2).expect("a runtime");
    if let Ok(url) = std::env::var(URL) {
        return runtime.block_on(async {
            let (folder, bodies) = folder().await;
            let node = Node::ready(&folder, &url).await;
            let pieces = [piece("a", 0..50_000)];
            node.read_and_fill(&pieces).await;
            let batch = node.read(&pieces).await;
            assert!(right(&batch, &pieces, &bodies));
            assert_eq!(batch.cost.redis_hits, 1);
        });
    }
    let files = tempfile::tempdir().expect("a folder");
    let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a pair");
    let file = |name: &str, text: String| {
        let path = files.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("plain").to_owned()
    };
    let certificate = file("certificate", pair.cert.pem());
    let key = file("key", pair.signing_key.serialize_pem());
    let port = free_port().to_string();
    let tls = ["--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let more = ["--tls-ca-cert-file", &certificate, "--tls-auth-clients", "no"];
    let redis = RedisServer::with(&[&tls[..], &more].concat(), None);

    let url = format!("rediss://127.0.0.1:{port}");
    let test = std::env::current_exe().expect("a path");
    let run = Command::new(test)
        .args(["--exact", "trust::tls_is_for_servers_that_the_system_trusts", "--nocapture"])
        .env(URL, &url)
        .env("SSL_CERT_FILE", &certificate)
        .output()
        .expect("the test itself");
    let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(redis.keys(), ["s3vector1:a:0+50000"]);

    // This process does not trust it.
    runtime.block_on(async {
        let (folder, bodies) = folder().await;
        let node = Node::new(&folder, &url, TIMEOUT);
        node.is(RedisState::Down).await;
        until("a reason", || !node.told().is_empty()).await;
        assert!(node.told()[0].1.contains("certificate"), "{:?}", node.told());
        let pieces = [piece("a", 0..50_000)];
        assert!(right(&node.read(&pieces).await, &pieces, &bodies));
        assert_eq!(node.requests(), 1);
    });
}
