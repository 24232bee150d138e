//! A directory as a store: the embedded default.
//!
//! An object is a file. A write goes to a temporary file beside it, is flushed to disk, renamed
//! over the name, and the directories are flushed: a crash leaves the old object, the new one,
//! or a stray `*.tmp` that listings show. Files and directories are private to their owner, for
//! they hold the table's data. All I/O happens on tokio's blocking threads.

mod io;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use url::Url;

use crate::abandoned::Abandoned;
use crate::store::Result;
use crate::{ErrorKind, ObjectMeta, StorageError, Store, pieces, validate_key, validate_prefix};

/// A [`Store`] below one directory, which is created by the first write.
#[derive(Clone, Debug)]
pub struct FileStore {
    root: Arc<Path>,
    url: String,
    concurrency: usize,
    abandoned: Abandoned,
}

impl FileStore {
    /// The store below the absolute path `root`.
    pub fn new(root: PathBuf) -> Self {
        let url = Url::from_file_path(&root).map_or_else(|()| "file:".to_owned(), String::from);
        Self {
            root: root.into(),
            url,
            concurrency: pieces::CONCURRENCY,
            abandoned: Abandoned::default(),
        }
    }

    /// The same store with at most `requests` requests of one operation under way at once.
    #[must_use]
    pub fn with_concurrency(mut self, requests: usize) -> Self {
        self.concurrency = requests.max(1);
        self
    }

    /// Runs `work` on a blocking thread and gives its error a kind and a name.
    async fn run<T: Send + 'static>(
        &self,
        action: &'static str,
        key: Option<&str>,
        work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let root = Arc::clone(&self.root);
        let outcome = tokio::task::spawn_blocking(move || work(&root)).await;
        let failure = match outcome {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(cause)) => {
                StorageError::new(io::kind_of(&cause), action, &self.url, cause.to_string())
            }
            Err(lost) => {
                let kind =
                    if lost.is_cancelled() { ErrorKind::Cancelled } else { ErrorKind::Other };
                StorageError::new(kind, action, &self.url, "the operation was not finished")
            }
        };
        Err(match key {
            Some(key) => failure.with_key(key),
            None => failure,
        })
    }

    /// Like [`run`](Self::run) for one object: `work` gets its path.
    async fn run_on<T: Send + 'static>(
        &self,
        action: &'static str,
        key: &str,
        work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T> {
        validate_key(key, &self.url)?;
        let name = key.to_owned();
        self.run(action, Some(key), move |root| work(&root.join(name))).await
    }
}

#[async_trait]
impl Store for FileStore {
    async fn get(&self, key: &str) -> Result<Bytes> {
        self.run_on("read", key, io::read).await.map(Bytes::from)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let wanted = range.clone();
        let outcome = self.run_on("read", key, move |path| io::read_range(path, range)).await;
        outcome.map(Bytes::from).map_err(|error| error.with_range(wanted))
    }

    fn concurrency(&self) -> usize {
        self.concurrency
    }

    async fn size(&self, key: &str) -> Result<u64> {
        self.run_on("look up", key, io::size).await
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        validate_key(key, &self.url)?;
        // The blocking thread outlives this future; the guard tells it to stop and tidy up.
        let (done, finished) = oneshot::channel::<()>();
        let mut guard = Guard {
            stop: Arc::new(AtomicBool::new(false)),
            finished: Some(finished),
            abandoned: self.abandoned.clone(),
        };
        let stop = Arc::clone(&guard.stop);
        let name = key.to_owned();
        let outcome = self
            .run("write", Some(key), move |root| {
                let _done = done;
                io::write(root, &name, &body, &stop)
            })
            .await;
        guard.finished = None;
        outcome
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        validate_prefix(prefix, &self.url)?;
        let prefix = prefix.to_owned();
        self.run("list objects in", None, move |root| io::list(root, &prefix)).await
    }

    async fn folders(&self) -> Result<Vec<String>> {
        self.run("list objects in", None, io::folders).await
    }

    async fn delete(&self, keys: &[String]) -> Result<()> {
        for key in keys {
            let name = key.clone();
            validate_key(key, &self.url)?;
            self.run("delete", Some(key), move |root| io::delete(root, &name)).await?;
        }
        Ok(())
    }

    async fn settle(&self) {
        self.abandoned.settle().await;
    }

    fn url(&self) -> String {
        self.url.clone()
    }
}

/// Stops a write when dropped before its end.
struct Guard {
    stop: Arc<AtomicBool>,
    /// Closed when the write has ended; `None` once nobody need wait for that.
    finished: Option<oneshot::Receiver<()>>,
    abandoned: Abandoned,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let (Some(finished), Ok(runtime)) = (self.finished.take(), Handle::try_current()) else {
            return;
        };
        self.abandoned.add(runtime.spawn(async move {
            // An error is how the other end's closing shows.
            let _ = finished.await;
        }));
    }
}
