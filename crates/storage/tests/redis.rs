//! The Redis tier, in front of a file store that counts what it is asked for, with real servers.

mod common;
#[path = "common/redis_server.rs"]
mod redis_server;

use std::ops::Range;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::Commands;
use redis_server::{RedisServer, free_port};
use storage::{
    Batch, Effect, ErrorKind, Fault, Faulty, FileStore, Metered, Metrics, Operation, Piece, Redis,
    RedisConfig, RedisState, Secret, Store,
};

/// Long enough for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(10);
/// Keeps lateness out of the tests that are not about it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What a node was told about its Redis.
type Told = Arc<Mutex<Vec<(RedisState, String)>>>;

/// One of the servers that share a folder and a Redis.
struct Node {
    store: Redis<Metered<Arc<Faulty<FileStore>>>>,
    /// What the folder is asked through.
    faulty: Arc<Faulty<FileStore>>,
    metrics: &'static Metrics,
    told: Told,
}

impl Node {
    fn new(folder: &tempfile::TempDir, url: &str, timeout: Duration) -> Self {
        let metrics = Metrics::leak();
        let file = FileStore::new(folder.path().to_owned());
        let faulty = Arc::new(Faulty::new(file, Vec::new()));
        let told = Told::default();
        let listener = Arc::clone(&told);
        let store = Redis::new(
            Metered::new(Arc::clone(&faulty), metrics),
            &RedisConfig { url: Secret::new(url), ttl: Duration::from_secs(1000), timeout },
            metrics,
            Some(Arc::new(move |state, text: &str| {
                listener.lock().expect("no panic").push((state, text.to_owned()));
            })),
        );
        Self { store: store.expect("a good URL"), faulty, metrics, told }
    }

    /// A node whose Redis answers.
    async fn ready(folder: &tempfile::TempDir, url: &str) -> Self {
        let node = Self::new(folder, url, TIMEOUT);
        node.is(RedisState::Up).await;
        node
    }

    /// Waits for a state of Redis.
    async fn is(&self, state: RedisState) {
        until("a state of Redis", || count(&self.metrics.redis_state) == state as u64).await;
    }

    async fn read(&self, pieces: &[Piece]) -> Batch {
        let reading = self.store.get_pieces(pieces);
        tokio::time::timeout(PATIENCE, reading).await.expect("it does not hang").expect("pieces")
    }

    /// Reads pieces, and waits until Redis has been given what it had not.
    async fn read_and_fill(&self, pieces: &[Piece]) -> Batch {
        let before = self.writes();
        let batch = self.read(pieces).await;
        if batch.cost.requests > 0 {
            until("a write to Redis", || self.writes() > before).await;
        }
        batch
    }

    /// Requests that the folder got.
    fn requests(&self) -> u64 {
        count(&self.metrics.of(Operation::GetRange).requests)
    }

    /// Requests that Redis got, and answered or not.
    fn reads(&self) -> u64 {
        count(&self.metrics.of(Operation::RedisRead).requests)
    }

    /// Writes that Redis got.
    fn writes(&self) -> u64 {
        count(&self.metrics.of(Operation::RedisWrite).requests)
    }

    fn told(&self) -> Vec<(RedisState, String)> {
        self.told.lock().expect("no panic").clone()
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn piece(key: &str, range: Range<u64>) -> Piece {
    Piece { key: key.into(), range }
}

/// A folder with objects `a`, `b` and `c` of 100,000 bytes each, noise but for the second half of
/// `c`, which is zeros.
async fn folder() -> (tempfile::TempDir, [Bytes; 3]) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = FileStore::new(folder.path().to_owned());
    let mut half = common::body(50_000, 3).to_vec();
    half.resize(100_000, 0);
    let bodies = [common::body(100_000, 1), common::body(100_000, 2), half.into()];
    for (key, body) in ["a", "b", "c"].into_iter().zip(&bodies) {
        store.put(key, body.clone()).await.expect("put");
    }
    (folder, bodies)
}

/// Whether a batch has the bytes of its pieces.
fn right(batch: &Batch, pieces: &[Piece], bodies: &[Bytes; 3]) -> bool {
    let wanted = |piece: &Piece| {
        let body = &bodies[(piece.key.as_bytes()[0] - b'a') as usize];
        body.slice(piece.range.start as usize..piece.range.end as usize)
    };
    batch.pieces.iter().eq(pieces.iter().map(wanted).collect::<Vec<_>>().iter())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tier_keeps_the_promises_of_a_store() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    common::keeps_its_promises(Arc::new(Node::ready(&folder, &redis.url()).await.store)).await;
}

#[tokio::test]
async fn what_one_node_has_read_another_gets_from_redis() {
    let (redis, (folder, bodies)) = (RedisServer::start(), folder().await);
    let (one, two) =
        (Node::ready(&folder, &redis.url()).await, Node::ready(&folder, &redis.url()).await);
    let pieces: Vec<_> = (0..16).map(|n| piece("a", n * 6000..n * 6000 + 5000)).collect();
    let batch = one.read_and_fill(&pieces).await;
    assert!(right(&batch, &pieces, &bodies));
    assert_eq!((batch.cost.redis_hits, batch.cost.requests), (0, 1));
    assert_eq!(count(&one.metrics.redis_misses), 16);
    let batch = two.read(&pieces).await;
    assert!(right(&batch, &pieces, &bodies));
    assert_eq!((batch.cost.redis_hits, batch.cost.redis_bytes), (16, 80_000));
    assert_eq!((batch.cost.requests, batch.cost.bytes), (0, 0));
    assert_eq!((two.requests(), two.reads(), two.writes()), (0, 1, 0));
    assert_eq!((count(&two.metrics.redis_hits), count(&two.metrics.redis_misses)), (16, 0));
    assert_eq!(one.writes(), 1, "all pieces go in one write");
    assert_eq!(count(&one.metrics.redis_plain_bytes), 80_000);
    // A store that is down is not missed.
    two.faulty.set_script(vec![Fault::always(Effect::Fail(ErrorKind::Unreachable))]);
    assert!(right(&two.read(&pieces).await, &pieces, &bodies));
    let error = two.store.get_pieces(&[piece("b", 0..5)]).await.expect_err("not in Redis");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
}

#[tokio::test]
async fn hits_and_misses_of_several_objects_keep_their_order() {
    let (redis, (folder, bodies)) = (RedisServer::start(), folder().await);
    let node = Node::ready(&folder, &redis.url()).await;
    let some = [piece("c", 40_000..60_000), piece("a", 10..20), piece("b", 0..100_000)];
    node.read_and_fill(&some).await;
    let all = [
        piece("b", 5..25),
        piece("a", 10..20),
        piece("c", 0..30),
        piece("c", 40_000..60_000),
        piece("a", 10..20),
        piece("a", 0..1),
        piece("b", 0..100_000),
        piece("b", 5..25),
    ];
    let batch = node.read_and_fill(&all).await;
    assert!(right(&batch, &all, &bodies));
    assert_eq!(batch.cost.redis_hits, 4);
    let requests = node.requests();
    let batch = node.read(&all).await;
    assert!(right(&batch, &all, &bodies));
    assert_eq!((batch.cost.redis_hits, node.requests()), (8, requests));
    let asked = node.reads();
    let batch = node.store.get_pieces(&[]).await.expect("nothing");
    assert!(batch.pieces.is_empty() && batch.cost == storage::Cost::default());
    assert_eq!((node.reads(), node.requests()), (asked, requests));
}

#[tokio::test]
async fn values_are_compressed_where_that_helps_and_expire() {
    let (redis, (folder, bodies)) = (RedisServer::start(), folder().await);
    let node = Node::ready(&folder, &redis.url()).await;
    let pieces = [piece("c", 0..20_000), piece("c", 60_000..80_000)];
    node.read_and_fill(&pieces).await;
    let keys = ["s3vector1:c:0+20000", "s3vector1:c:60000+20000"];
    assert_eq!(redis.keys(), keys);
    let [noise, zeros] = keys.map(|key| redis.value(key));
    assert_eq!((noise[..2].to_vec(), noise.len()), (vec![1, 0], 20_010));
    assert!(zeros[..2] == [1, 1] && zeros.len() < 300, "{}", zeros.len());
    let written = count(&node.metrics.of(Operation::RedisWrite).bytes);
    assert_eq!(written, (noise.len() + zeros.len()) as u64);
    for key in keys {
        let left: i64 = redis.connect().ttl(key).expect("a time");
        assert!((900..=1000).contains(&left), "{left}");
    }
    assert!(right(&node.read(&pieces).await, &pieces, &bodies));
    assert_eq!(node.requests(), 1);
}

#[tokio::test]
async fn a_large_piece_goes_through() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::ready(&folder, &redis.url()).await;
    let body = common::body(4 << 20, 9);
    node.store.put("large", body.clone()).await.expect("put");
    let pieces = [piece("large", 0..4 << 20), piece("large", 0..10)];
    node.read_and_fill(&pieces).await;
    until("both values", || redis.keys().len() == 2).await;
    let batch = node.read(&pieces).await;
    assert_eq!(batch.cost.redis_hits, 2);
    assert!(batch.pieces[0] == body && batch.pieces[1] == body[..10]);
}

#[tokio::test]
async fn values_that_are_not_what_was_written_are_misses_and_repaired() {
    let (redis, (folder, bodies)) = (RedisServer::start(), folder().await);
    let node = Node::ready(&folder, &redis.url()).await;
    let pieces: Vec<_> = (0..8).map(|n| piece("c", 45_000 + n..55_000 + n)).collect();
    node.read_and_fill(&pieces).await;
    let keys = redis.keys();
    assert_eq!(keys.len(), 8);
    let good: Vec<_> = keys.iter().map(|key| redis.value(key)).collect();
    let mut flipped = good[0].clone();
    flipped[5_000] ^= 4;
    let mut codec = good[1].clone();
    codec[1] ^= 1;
    let mut version = good[2].clone();
    version[0] = 9;
    let mut connection = redis.connect();
    for (key, value) in [
        (0, flipped),
        (1, codec),
        (2, version),
        (3, good[3][..good[3].len() - 1].to_vec()),
        (4, Vec::new()),
        (5, b"somebody else's".to_vec()),
        // Of the same length and whole, but another piece.
        (6, good[7].clone()),
    ] {
        let () = connection.set(&keys[key], value).expect("set");
    }
    let () = connection.del(&keys[7]).expect("deleted");
    let () = connection.rpush(&keys[7], "a list, not a string").expect("a list");
    let batch = node.read_and_fill(&pieces).await;
    assert!(right(&batch, &pieces, &bodies));
    assert_eq!(batch.cost.redis_hits, 0);
    let repaired: Vec<_> = keys.iter().map(|key| redis.value(key)).collect();
    assert_eq!(repaired, good);
    assert_eq!(node.read(&pieces).await.cost.redis_hits, 8);
}

#[tokio::test]
async fn what_the_store_breaks_does_not_stay_in_redis() {
    let (redis, (folder, bodies)) = (RedisServer::start(), folder().await);
    let mut node = Node::ready(&folder, &redis.url()).await;
    node.faulty.set_script(vec![Fault::always(Effect::Truncate(7))]);
    node.read(&[piece("a", 0..10)]).await;
    node.faulty.set_script(Vec::new());
    node.read_and_fill(&[piece("b", 0..10)]).await;
    assert_eq!(redis.keys(), ["s3vector1:b:0+10"], "a short piece is not written");
    // With a check, damage is not written either, and not taken from Redis.
    node.store = node.store.with_check(|body| body.iter().all(|byte| *byte == 0));
    let pieces = [piece("c", 50_000..60_000), piece("b", 0..10)];
    let batch = node.read_and_fill(&pieces).await;
    assert!(right(&batch, &pieces, &bodies));
    assert_eq!(batch.cost.redis_hits, 0);
    node.faulty.set_script(vec![Fault::always(Effect::FlipBit(1))]);
    node.read(&[piece("c", 60_000..70_000)]).await;
    node.faulty.set_script(Vec::new());
    node.read_and_fill(&[piece("c", 70_000..80_000)]).await;
    let keys = redis.keys();
    assert!(!keys.contains(&"s3vector1:c:60000+10000".to_owned()), "{keys:?}");
    assert_eq!(keys.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_may_die_and_come_back() {
    let (mut redis, (folder, bodies)) = (RedisServer::start(), folder().await);
    let node = Node::ready(&folder, &redis.url()).await;
    let pieces: Vec<_> = (0..16).map(|n| piece("b", n * 6000..n * 6000 + 5000)).collect();
    node.read_and_fill(&pieces).await;
    for round in 1..=2 {
        redis.kill();
        for _ in 0..20 {
            let batch = node.read(&pieces).await;
            assert!(right(&batch, &pieces, &bodies));
            assert_eq!(batch.cost.redis_hits, 0);
        }
        node.is(RedisState::Down).await;
        assert_eq!(count(&node.metrics.redis_breaks), round);
        redis.start_again();
        node.is(RedisState::Up).await;
        assert_eq!(node.read_and_fill(&pieces).await.cost.redis_hits, 0);
        assert_eq!(node.read(&pieces).await.cost.redis_hits, 16);
    }
    let told = node.told();
    let states: Vec<_> = told.iter().map(|(state, _)| *state).collect();
    use RedisState::{Down, Up};
    assert_eq!(states, [Up, Down, Up, Down, Up], "once a change: {told:?}");
    let address = format!("\"redis://127.0.0.1:{}\"", redis.port());
    assert!(told.iter().all(|(_, text)| text.contains(&address)), "{told:?}");
    assert!(told[1].1.contains("refused"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_redis_is_asked_three_times_and_then_left_alone() {
    let (redis, (folder, bodies)) = (RedisServer::start(), folder().await);
    let node = Node::new(&folder, &redis.url(), Duration::from_millis(200));
    node.is(RedisState::Up).await;
    let pieces = [piece("a", 0..1000), piece("c", 0..1000)];
    node.read_and_fill(&pieces).await;
    let before = (node.reads(), node.writes());
    redis.freeze();
    for _ in 0..50 {
        assert!(right(&node.read(&pieces).await, &pieces, &bodies));
    }
    assert_eq!((node.reads(), node.writes()), (before.0 + 3, before.1));
    assert_eq!(count(&node.metrics.redis_breaks), 1);
    assert_eq!(count(&node.metrics.redis_state), RedisState::Down as u64);
    let told = node.told();
    assert!(told[1].1.contains("no answer within 200 ms"), "{told:?}");
    redis.thaw();
    node.is(RedisState::Up).await;
    // On a busy machine a first answer may be late.
    let started = Instant::now();
    while node.read(&pieces).await.cost.redis_hits < 2 {
        assert!(started.elapsed() < PATIENCE, "Redis is back and not used");
    }
}

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

#[tokio::test]
async fn what_redis_does_not_take_does_not_keep_it_from_answering() {
    let (redis, (folder, bodies)) = (RedisServer::start(), folder().await);
    let node = Node::ready(&folder, &redis.url()).await;
    let known = [piece("a", 0..1000)];
    node.read_and_fill(&known).await;
    let mut connection = redis.connect();
    for (key, value) in [("maxmemory-policy", "noeviction"), ("maxmemory", "1")] {
        redis::cmd("CONFIG").arg("SET").arg(key).arg(value).exec(&mut connection).expect("set");
    }
    let failed = || count(&node.metrics.of(Operation::RedisWrite).errors);
    for n in 0..5 {
        let more = [piece("b", n * 10..n * 10 + 500), known[0].clone()];
        let batch = node.read_and_fill(&more).await;
        assert!(right(&batch, &more, &bodies));
        assert_eq!(batch.cost.redis_hits, 1);
        until("the failure", || failed() == n + 1).await;
    }
    assert_eq!((redis.keys().len(), count(&node.metrics.redis_breaks)), (1, 0));
}

#[tokio::test]
async fn a_dead_redis_costs_nothing() {
    let (folder, bodies) = folder().await;
    let url = format!("redis://127.0.0.1:{}", free_port());
    let node = Node::new(&folder, &url, TIMEOUT);
    let pieces = [piece("a", 0..1000)];
    for _ in 0..20 {
        assert!(right(&node.read(&pieces).await, &pieces, &bodies));
    }
    node.is(RedisState::Down).await;
    assert_eq!((node.reads(), node.writes(), node.requests()), (0, 0, 20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_serves_as_well() {
    let (mut redis, (folder, bodies)) = (RedisServer::cluster(), folder().await);
    let address = format!("127.0.0.1:{}", redis.port());
    let (one, both) = (
        format!("redis+cluster://{address}"),
        format!("redis://{address},redis://127.0.0.1:{}", free_port()),
    );
    let one = Node::ready(&folder, &one).await;
    // Keys of many hash slots.
    let pieces: Vec<_> = (0..50).map(|n| piece("c", n * 2000..n * 2000 + 1000)).collect();
    one.read_and_fill(&pieces).await;
    assert_eq!(redis.keys().len(), 50);
    let two = Node::ready(&folder, &both).await;
    let batch = two.read(&pieces).await;
    assert!(right(&batch, &pieces, &bodies));
    assert_eq!((batch.cost.redis_hits, two.requests()), (50, 0));
    assert_eq!(two.reads(), 1);

    redis.kill();
    for _ in 0..10 {
        let batch = one.read(&pieces).await;
        assert!(right(&batch, &pieces, &bodies));
    }
    until("a rest", || count(&one.metrics.redis_state) == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_it_ends_its_connections() {
    let ((folder, bodies), redis) = (folder().await, RedisServer::start());
    assert_eq!(redis.connections(), 0);
    let node = Node::ready(&folder, &redis.url()).await;
    assert_eq!(redis.connections(), 2);
    let pieces = [piece("a", 0..1000)];
    assert!(right(&node.read_and_fill(&pieces).await, &pieces, &bodies));
    drop(node);
    until("the connections to end", || redis.connections() == 0).await;
    // Nor do tasks go on when there is no connection.
    let node = Node::new(&folder, &format!("redis://127.0.0.1:{}", free_port()), TIMEOUT);
    let told = Arc::clone(&node.told);
    node.is(RedisState::Down).await;
    drop(node);
    until("the task to end", || Arc::strong_count(&told) == 1).await;
}

#[test]
fn it_can_be_made_before_there_is_a_runtime() {
    let redis = RedisServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let node = Node::new(&folder, &redis.url(), TIMEOUT);
    assert_eq!(redis.connections(), 0);
    let runtime = storage::runtime("test", 1).expect("a runtime");
    runtime.block_on(async {
        node.store.put("a", common::body(100, 1)).await.expect("put");
        let pieces = [piece("a", 5..50)];
        node.read(&pieces).await;
        node.is(RedisState::Up).await;
        node.read_and_fill(&pieces).await;
        assert_eq!(node.read(&pieces).await.cost.redis_hits, 1);
    });
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
        .args(["--exact", "tls_is_for_servers_that_the_system_trusts", "--nocapture"])
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
