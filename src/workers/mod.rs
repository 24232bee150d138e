//! Background workers.
//!
//! - [`engine`]: what its threads do; no PostgreSQL call.
//! - [`maintenance`]: one a database, when there is something to do: flushes, merges, sweeps.
//! - [`scheduler`]: when those are started.
//! - [`storage`]: one for the server; loads graphs and fetches rows for every backend.

mod engine;
mod maintenance;
mod scheduler;
pub mod storage;

/// Asks the postmaster to start the workers.
pub fn register() {
    storage::register();
}
