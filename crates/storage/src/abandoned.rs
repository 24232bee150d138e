//! Work that goes on after the future that started it was dropped.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;

/// The tidying up of given-up operations, so that somebody can wait for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Abandoned(Arc<Mutex<Vec<JoinHandle<()>>>>);

impl Abandoned {
    /// Remembers `task` until it has ended.
    pub(crate) fn add(&self, task: JoinHandle<()>) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    /// Waits until every task has ended.
    pub(crate) async fn settle(&self) {
        let tasks = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            // A task that panicked has ended, too.
            let _ = task.await;
        }
    }
}
