//! Slow requests are made twice, within a budget.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use storage::{
    Effect, ErrorKind, Fault, Faulty, FileStore, Hedged, Metered, Metrics, Operation, Piece, Store,
};

const OBJECT: &str = "a/object";
const SLOW: Duration = Duration::from_secs(5);

struct Sample {
    _directory: tempfile::TempDir,
    store: Hedged<Arc<Faulty<Metered<FileStore>>>>,
    faulty: Arc<Faulty<Metered<FileStore>>>,
    metrics: &'static Metrics,
}

impl Sample {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let metrics = Metrics::leak();
        let inner = Metered::new(FileStore::new(directory.path().join("store")), metrics);
        inner.put(OBJECT, Bytes::from(vec![7; 1000])).await.expect("written");
        let faulty = Arc::new(Faulty::new(inner, Vec::new()));
        let store = Hedged::new(Arc::clone(&faulty), metrics);
        Self { _directory: directory, store, faulty, metrics }
    }

    async fn read(&self) -> storage::Result<storage::Batch> {
        self.store.get_pieces(&[Piece { key: OBJECT.into(), range: 100..200 }]).await
    }

    /// Reads often enough for the store to know what is slow.
    async fn learn(&self) {
        for _ in 0..64 {
            let batch = self.read().await.expect("read");
            assert_eq!((batch.cost.requests, batch.cost.hedges), (1, 0));
        }
    }

    /// The next `n` reads after `skip` take [`SLOW`].
    fn slow(&self, skip: u64, times: u64) {
        let fault = Fault::always(Effect::Delay(SLOW)).on(Operation::GetRange);
        self.faulty.set_script(vec![Fault { skip, times, ..fault }]);
    }

    fn hedges(&self) -> u64 {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        assert!(read(&self.metrics.hedges_won) <= read(&self.metrics.hedges));
        read(&self.metrics.hedges)
    }
}

#[tokio::test]
async fn promises_are_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let inner = FileStore::new(directory.path().join("store"));
    common::keeps_its_promises(Arc::new(Hedged::new(inner, Metrics::leak()))).await;
}

#[tokio::test]
async fn a_slow_request_is_made_again_and_the_first_answer_counts() {
    let sample = Sample::new().await;
    sample.learn().await;
    sample.slow(0, 1);
    let started = std::time::Instant::now();
    let batch = sample.read().await.expect("read");
    assert!(started.elapsed() < SLOW, "the second request answers");
    assert_eq!(batch.pieces[0], vec![7; 100]);
    assert_eq!((batch.cost.requests, batch.cost.hedges), (2, 1));
    assert_eq!(sample.metrics.hedges_won.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn nothing_is_hedged_before_it_is_known_what_is_slow() {
    let sample = Sample::new().await;
    sample.faulty.set_script(vec![
        Fault::always(Effect::Delay(Duration::from_millis(50))).on(Operation::GetRange).nth(0),
    ]);
    assert_eq!(sample.read().await.expect("read").cost.hedges, 0);
    assert_eq!(sample.hedges(), 0);
}

#[tokio::test]
async fn an_outage_does_not_double_the_load() {
    let sample = Sample::new().await;
    sample.learn().await;
    let fault = Fault::always(Effect::Delay(Duration::from_millis(60))).on(Operation::GetRange);
    sample.faulty.set_script(vec![fault]);
    // Saved up before: a few. Earned since: one in twenty.
    let mut reads = tokio::task::JoinSet::new();
    let sample = Arc::new(sample);
    for _ in 0..400 {
        let sample = Arc::clone(&sample);
        reads.spawn(async move { sample.read().await.expect("read").cost.requests });
    }
    let requests: u32 = reads.join_all().await.into_iter().sum();
    assert_eq!(u64::from(requests), 400 + sample.hedges());
    assert!((1..=8 + 20).contains(&sample.hedges()), "{} hedges", sample.hedges());
}

#[tokio::test]
async fn a_store_that_asks_for_fewer_requests_gets_no_hedges() {
    let sample = Sample::new().await;
    sample.learn().await;
    sample.metrics.throttled.fetch_add(1, Ordering::Relaxed);
    let fault = Fault::always(Effect::Delay(Duration::from_millis(100))).on(Operation::GetRange);
    sample.faulty.set_script(vec![Fault { times: 1, ..fault }]);
    assert_eq!(sample.read().await.expect("read").cost.requests, 1);
    assert_eq!(sample.hedges(), 0);
}

#[tokio::test]
async fn a_failure_of_one_of_two_requests_is_none() {
    let sample = Sample::new().await;
    sample.learn().await;
    // The first is slow, the second fails at once.
    let slow = Fault::always(Effect::Delay(Duration::from_millis(300))).on(Operation::GetRange);
    let fails = Fault::always(Effect::Fail(ErrorKind::Unreachable)).on(Operation::GetRange);
    sample.faulty.set_script(vec![slow.nth(0), fails.nth(0)]);
    let batch = sample.read().await.expect("the first request answers");
    assert_eq!((batch.pieces[0].len(), batch.cost.hedges), (100, 1));
}
