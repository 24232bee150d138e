//! Keeps reads from waiting, one after the other, for a store that is down.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::store::Result;
use crate::{Attempt, Breaker, ErrorKind, Metrics, ObjectMeta, StorageError, Store};

/// Reads that fail one after the other before the store is given a rest.
const FAILURES: u32 = 3;
/// The first rest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest rest.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A [`Store`] whose reads fail at once for a while after several could not reach it.
///
/// Only [`Unreachable`](ErrorKind::Unreachable) and [`Timeout`](ErrorKind::Timeout) are failures:
/// any other error is an answer. After the pause one read tries again; it goes on to its end even
/// when its caller gives up, so that a store that is back is noticed. Writes and listings always
/// pass; where they succeed, the rest is over.
#[derive(Debug)]
pub struct Guarded<S> {
    inner: Arc<S>,
    guard: Arc<Guard>,
}

#[derive(Debug)]
struct Guard {
    breaker: Breaker,
    /// What reads fail with during a rest: the failure that began it.
    error: Mutex<Option<StorageError>>,
    metrics: &'static Metrics,
}

impl<S: Store + 'static> Guarded<S> {
    /// Guards reads of `inner`: after three failures one after the other it is given rests of half
    /// a second to ten seconds.
    pub fn new(inner: S, metrics: &'static Metrics) -> Self {
        Self::with_breaker(inner, Breaker::new(FAILURES, FIRST_PAUSE, LONGEST_PAUSE), metrics)
    }

    /// Guards reads of `inner` by `breaker`.
    pub fn with_breaker(inner: S, breaker: Breaker, metrics: &'static Metrics) -> Self {
        let guard = Guard { breaker, error: Mutex::new(None), metrics };
        Self { inner: Arc::new(inner), guard: Arc::new(guard) }
    }

    async fn read<T, F>(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        work: impl FnOnce(Arc<S>, String) -> F + Send,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let Some(attempt) = self.guard.breaker.allow() else {
            return Err(self.refusal(key, range));
        };
        let work = work(Arc::clone(&self.inner), key.to_owned());
        if !attempt.is_trial() {
            let outcome = work.await;
            self.guard.judge(attempt, &outcome);
            return outcome;
        }
        // The reads beside this one are refused, and with them the wave they are part of, which
        // would cancel this one before it has said anything.
        let guard = Arc::clone(&self.guard);
        let trial = tokio::spawn(async move {
            let outcome = work.await;
            guard.judge(attempt, &outcome);
            outcome
        });
        trial.await.unwrap_or_else(|_| {
            let cause = "the attempt to reach it again was given up";
            Err(StorageError::new(ErrorKind::Cancelled, "read", self.inner.url(), cause)
                .with_key(key))
        })
    }

    /// The error of a read during a rest.
    fn refusal(&self, key: &str, range: Option<Range<u64>>) -> StorageError {
        let more = match self.guard.breaker.pause().as_millis() {
            0 => "another request is finding out whether it answers again".to_owned(),
            pause => format!("not asked again for {pause} ms"),
        };
        match &*self.guard.error() {
            Some(error) => error.repeated(key, range, &more),
            None => StorageError::new(ErrorKind::Unreachable, "read", self.inner.url(), more)
                .with_key(key),
        }
    }

    /// Notes that the store has answered.
    fn heard<T>(&self, outcome: Result<T>) -> Result<T> {
        if outcome.is_ok() {
            self.guard.breaker.answered();
        }
        outcome
    }
}

impl Guard {
    fn judge<T>(&self, attempt: Attempt, outcome: &Result<T>) {
        match outcome {
            Err(error) if matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Timeout) => {
                // Before the breaker opens: then the error must be there.
                *self.error() = Some(error.clone());
                if attempt.failed() {
                    self.metrics.breaks.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(error) if error.kind() == ErrorKind::Cancelled => {}
            _ => attempt.succeeded(),
        }
    }

    fn error(&self) -> MutexGuard<'_, Option<StorageError>> {
        // Whole at every moment.
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl<S: Store + 'static> Store for Guarded<S> {
    async fn get(&self, key: &str) -> Result<Bytes> {
        self.read(key, None, |inner, key| async move { inner.get(&key).await }).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let wanted = range.clone();
        let work = |inner: Arc<S>, key: String| async move { inner.get_range(&key, wanted).await };
        self.read(key, Some(range), work).await
    }

    fn concurrency(&self) -> usize {
        self.inner.concurrency()
    }

    async fn size(&self, key: &str) -> Result<u64> {
        self.read(key, None, |inner, key| async move { inner.size(&key).await }).await
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        self.heard(self.inner.put(key, body).await)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        self.heard(self.inner.list(prefix).await)
    }

    async fn folders(&self) -> Result<Vec<String>> {
        self.heard(self.inner.folders().await)
    }

    async fn delete(&self, keys: &[String]) -> Result<()> {
        if keys.is_empty() {
            return self.inner.delete(keys).await;
        }
        self.heard(self.inner.delete(keys).await)
    }

    async fn settle(&self) {
        self.inner.settle().await;
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Effect, Fault, Faulty, FileStore, Metered, Operation, Piece};

    type Broken = Arc<Faulty<FileStore>>;

    /// A store with one object of ten bytes that can be broken, behind a guard.
    async fn guarded(pause: Duration) -> (tempfile::TempDir, Guarded<Metered<Broken>>, Broken) {
        let directory = tempfile::tempdir().expect("a directory");
        let file = FileStore::new(directory.path().to_owned());
        file.put("a", "0123456789".into()).await.expect("put");
        let (inner, metrics) = (Arc::new(Faulty::new(file, Vec::new())), Metrics::leak());
        let breaker = Breaker::new(3, pause, pause);
        let metered = Metered::new(Arc::clone(&inner), metrics);
        (directory, Guarded::with_breaker(metered, breaker, metrics), inner)
    }

    fn broken(kind: ErrorKind) -> Vec<Fault> {
        vec![Fault::always(Effect::Fail(kind))]
    }

    fn breaks(store: &Guarded<Metered<Broken>>) -> u64 {
        store.guard.metrics.breaks.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn a_store_that_is_down_is_not_asked_for_a_while() {
        let (_directory, store, inner) = guarded(Duration::from_secs(3600)).await;
        inner.set_script(broken(ErrorKind::Timeout));
        for _ in 0..3 {
            store.get_range("a", 0..5).await.expect_err("broken");
        }
        let asked = store.inner.snapshot();
        let error = store.get_range("b", 5..7).await.expect_err("not asked");
        assert_eq!((error.kind(), error.key()), (ErrorKind::Timeout, Some("b")));
        assert_eq!(error.url(), store.url());
        let detail = error.detail();
        assert!(detail.contains("Injected fault; not asked again for"), "{detail}");
        assert!(detail.contains("bytes 5 to 7"), "{detail}");
        let detail = store.size("a").await.expect_err("not asked").detail();
        assert!(detail.contains("not asked again") && !detail.contains("bytes"), "{detail}");
        store.get("a").await.expect_err("not asked");
        assert_eq!(store.inner.snapshot(), asked);
        assert_eq!(breaks(&store), 1);
    }

    #[tokio::test]
    async fn answers_of_every_kind_keep_it_open_to_reads() {
        let (_directory, store, inner) = guarded(Duration::from_secs(3600)).await;
        for kind in [ErrorKind::NotFound, ErrorKind::AccessDenied, ErrorKind::Corrupt] {
            inner.set_script(broken(kind));
            for _ in 0..4 {
                assert_eq!(store.get("a").await.expect_err("broken").kind(), kind);
            }
        }
        for _ in 0..4 {
            inner.set_script(broken(ErrorKind::Unreachable));
            store.get("a").await.expect_err("broken");
            store.get("a").await.expect_err("broken");
            inner.set_script(Vec::new());
            store.list("").await.expect("an answer in between");
        }
        assert_eq!(breaks(&store), 0);
        assert_eq!(store.get("a").await.expect("whole"), "0123456789");
    }

    #[tokio::test]
    async fn writes_pass_and_end_the_rest() {
        let (_directory, store, inner) = guarded(Duration::from_secs(3600)).await;
        inner.set_script(vec![
            Fault::always(Effect::Fail(ErrorKind::Unreachable)).on(Operation::Get),
        ]);
        for _ in 0..3 {
            store.get("a").await.expect_err("broken");
        }
        inner.set_script(Vec::new());
        store.delete(&[]).await.expect("nothing to do");
        store.get("a").await.expect_err("a rest");
        store.put("b", "x".into()).await.expect("put");
        store.get("a").await.expect("the rest is over");
    }

    #[tokio::test]
    async fn a_wave_of_reads_finds_out_that_the_store_is_back() {
        let (_directory, store, inner) = guarded(Duration::from_millis(1)).await;
        inner.set_script(broken(ErrorKind::Unreachable));
        for _ in 0..3 {
            store.get("a").await.expect_err("broken");
        }
        // Of two requests one is the attempt; the other is refused and cancels the wave.
        inner.set_script(vec![Fault::always(Effect::Delay(Duration::from_millis(20)))]);
        inner.put("b", "0123456789".into()).await.expect("put");
        let wave = ["a", "b"].map(|key| Piece { key: key.into(), range: 0..10 });
        let mut waves = 0;
        while store.get_pieces(&wave).await.is_err() {
            waves += 1;
            assert!(waves < 1000, "the store is back and nobody has noticed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(waves > 0);
        assert_eq!(breaks(&store), 1);
    }
}
