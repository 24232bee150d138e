//! Background workers.
//!
//! - [`complaints`]: few log lines about many failures.
//! - [`engine`]: what its threads do; no PostgreSQL call.
//! - [`graph_list`]: the file that tells which graphs were in memory.
//! - [`maintenance`]: one a database, when there is something to do: flushes, merges, sweeps.
//! - [`dismissal`]: ends those whose database is dropped.
//! - [`reload`]: loads graphs again after a restart of the server.
//! - [`scheduler`]: when maintenance workers are started.
//! - [`storage`]: one for the server; loads graphs and fetches rows for every backend.

mod complaints;
mod dismissal;
mod engine;
mod graph_list;
mod maintenance;
mod reload;
mod scheduler;
pub mod storage;

/// Asks the postmaster to start the storage worker, and keeps an eye on databases that are dropped.
pub fn register() {
    storage::register();
    dismissal::register();
}
