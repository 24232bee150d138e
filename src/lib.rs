//! s3vector: a vector index for PostgreSQL that keeps its HNSW graph and short codes in shared
//! memory and its vectors on S3 (or in a folder) as Zarr v3 arrays.
//!
//! ```text
//!   collections, functions ─┐        workers ─┐
//!              ┌────────────┘                 │
//!              ▼                              ▼
//!            index ──────────────────────▶ shared ──▶ settings
//!              │                              │
//!              ├──▶ pages (WAL-logged state)  │
//!              └──────────────┬───────────────┘
//!                             ▼
//!        crates: segment, exchange ─▶ storage, hnsw, rabitq ─▶ distance; cache, filter
//!                (never call PostgreSQL)
//! ```
//!
//! - [`index`]: the access method, one file a verb.
//! - [`pages`]: what the index relation holds: meta page, manifest, delta, tombstones.
//! - [`shared`]: shared memory: graphs, payload cache, fetch slots, counters.
//! - [`workers`]: the storage worker, the only process that reads segments for queries.
//! - [`functions`]: SQL-callable functions and views.
//! - [`check`]: whether an index and its table agree, and everything in between is whole.
//! - [`collections`]: a vector database's calls over ordinary tables.
//! - [`settings`]: every configuration parameter.

use pgrx::prelude::*;

mod check;
mod collections;
mod errors;
mod faults;
mod functions;
mod identity;
mod index;
mod objects;
mod pages;
mod random;
mod secrets;
mod settings;
mod shared;
mod threads;
mod workers;

::pgrx::pg_module_magic!(name, version);

extension_sql_file!("../sql/views.sql", name = "views", finalize);

/// Called by PostgreSQL when the library is loaded: in the postmaster when it is listed in
/// `shared_preload_libraries`, otherwise in the first backend that needs it.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    hide_backtraces();
    #[cfg(feature = "fault_points")]
    faults::register();
    settings::register();
    secrets::register();
    index::register();
    if settings::preloading() {
        shared::register();
        workers::register();
    }
}

/// Keeps Rust backtraces out of the DETAIL of errors: where RUST_BACKTRACE is set, every error that
/// passes through Rust code would carry one, a cancelled statement too.
fn hide_backtraces() {
    // SAFETY: libraries are loaded on the main thread before this one has started any thread.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
}

#[cfg(any(test, feature = "pg_test"))]
#[path = "../pg_test/mod.rs"]
mod pg_tests;

/// What `cargo pgrx test` asks of the crate root.
#[cfg(test)]
pub mod pg_test {
    /// Nothing to prepare before the server starts.
    pub fn setup(_options: Vec<&str>) {}

    /// The server needs the library preloaded: shared memory and the storage worker.
    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec!["shared_preload_libraries = 's3vector'", "s3vector.cache_size = '64MB'"]
    }
}
