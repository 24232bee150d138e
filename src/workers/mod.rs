//! Background workers.
//!
//! - [`engine`]: what its threads do; no PostgreSQL call.
//! - [`storage`]: one for the server; loads graphs and fetches rows for every backend.

mod engine;
pub mod storage;

/// Asks the postmaster to start the workers.
pub fn register() {
    storage::register();
}
