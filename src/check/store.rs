//! Asking the store from a thread.

use std::sync::Arc;

use ::storage::{StorageConfig, Store};

use crate::errors::Failure;
use crate::index::control::{Control, until_stopped};
use crate::settings;
use crate::shared::storage_metrics;
use crate::threads::{self, run_interruptible};

/// Runs `work`, which never calls PostgreSQL, on a thread of its own with a store; raises what it
/// fails with.
pub fn run<T: Send>(work: impl AsyncFnOnce(&Arc<dyn Store>) -> Result<T, Failure> + Send) -> T {
    let storage: StorageConfig = settings::storage();
    let control = Control::default();
    let job = || {
        let store = ::storage::open(&storage, storage_metrics::get())?;
        let runtime = threads::runtime("s3vector check", 1)?;
        let outcome = runtime.block_on(until_stopped(&control, work(&store)));
        runtime.shutdown_background();
        outcome
    };
    run_interruptible(&|| control.stop(), job, || ()).unwrap_or_else(|failure| failure.raise())
}

/// Runs `work`, which never calls PostgreSQL and asks often whether to stop, on a thread of its
/// own. It answers with `None` when it was stopped.
pub fn compute<T: Send>(work: impl FnOnce(&dyn Fn() -> bool) -> Option<T> + Send) -> Option<T> {
    let control = Control::default();
    run_interruptible(&|| control.stop(), || work(&|| control.graph.is_stopped()), || ())
}
