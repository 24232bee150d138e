//! Servers that share a folder and a Redis, and what their tests look at.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use storage::{
    Batch, Faulty, FileStore, Metered, Metrics, Operation, Piece, Redis, RedisConfig, RedisState,
    Secret, Store,
};

use crate::common;

/// Long enough for a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Keeps lateness out of the tests that are not about it.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// What a node was told about its Redis.
pub type Told = Arc<Mutex<Vec<(RedisState, String)>>>;

/// One of the servers that share a folder and a Redis.
pub struct Node {
    pub store: Redis<Metered<Arc<Faulty<FileStore>>>>,
    /// What the folder is asked through.
    pub faulty: Arc<Faulty<FileStore>>,
    pub metrics: &'static Metrics,
    pub told: Told,
}

impl Node {
    pub fn new(folder: &tempfile::TempDir, url: &str, timeout: Duration) -> Self {
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
    pub async fn ready(folder: &tempfile::TempDir, url: &str) -> Self {
        let node = Self::new(folder, url, TIMEOUT);
        node.is(RedisState::Up).await;
        node
    }

    /// Waits for a state of Redis.
    pub async fn is(&self, state: RedisState) {
        until("a state of Redis", || count(&self.metrics.redis_state) == state as u64).await;
    }

    pub async fn read(&self, pieces: &[Piece]) -> Batch {
        let reading = self.store.get_pieces(pieces);
        tokio::time::timeout(PATIENCE, reading).await.expect("it does not hang").expect("pieces")
    }

    /// Reads pieces, and waits until Redis has been given what it had not.
    pub async fn read_and_fill(&self, pieces: &[Piece]) -> Batch {
        let before = self.writes();
        let batch = self.read(pieces).await;
        if batch.cost.requests > 0 {
            until("a write to Redis", || self.writes() > before).await;
        }
        batch
    }

    /// Requests that the folder got.
    pub fn requests(&self) -> u64 {
        count(&self.metrics.of(Operation::GetRange).requests)
    }

    /// Requests that Redis got, and answered or not.
    pub fn reads(&self) -> u64 {
        count(&self.metrics.of(Operation::RedisRead).requests)
    }

    /// Writes that Redis got.
    pub fn writes(&self) -> u64 {
        count(&self.metrics.of(Operation::RedisWrite).requests)
    }

    pub fn told(&self) -> Vec<(RedisState, String)> {
        self.told.lock().expect("no panic").clone()
    }
}

pub fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn piece(key: &str, range: Range<u64>) -> Piece {
    Piece { key: key.into(), range }
}

/// A folder with objects `a`, `b` and `c` of 100,000 bytes each, noise but for the second half of
/// `c`, which is zeros.
pub async fn folder() -> (tempfile::TempDir, [Bytes; 3]) {
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
pub fn right(batch: &Batch, pieces: &[Piece], bodies: &[Bytes; 3]) -> bool {
    let wanted = |piece: &Piece| {
        let body = &bodies[(piece.key.as_bytes()[0] - b'a') as usize];
        body.slice(piece.range.start as usize..piece.range.end as usize)
    };
    batch.pieces.iter().eq(pieces.iter().map(wanted).collect::<Vec<_>>().iter())
}
