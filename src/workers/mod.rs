//! Background workers.
//!
//! - [`engine`]: what its threads do; no PostgreSQL call.
//! - [`maintenance`]: one a database, when there is something to do: flushes, merges, sweeps.
//! - [`dismissal`]: ends those whose database is dropped.
//! - [`scheduler`]: when those are started.
//! - [`storage`]: one for the server; loads graphs and fetches rows for every backend.

mod dismissal;
mod engine;
mod maintenance;
mod scheduler;
pub mod storage;

/// Asks the postmaster to start the storage worker, and keeps an eye on databases that are dropped.
pub fn register() {
    storage::register();
    dismissal::register();
}
