//! The access method `s3vector`: one file a verb.
//!
//! ```text
//!   handler ─▶ options · cost · build ─▶ collect ─▶ assemble ─▶ (pages, storage)
//!           ─▶ insert · vacuum
//!           ─▶ scan ─▶ candidates ─▶ rerank ─▶ fetch ─▶ (shared memory, storage worker)
//!                └─▶ limit: how many rows the plan wants
//! ```

pub mod assemble;
pub mod build;
pub mod candidates;
pub mod codes;
pub mod collect;
pub mod cost;
mod equal;
pub mod fetch;
pub mod handler;
pub mod insert;
pub mod limit;
pub mod options;
pub mod rerank;
pub mod scan;
pub mod statistics;
pub mod vacuum;
pub mod vector;

/// Defines the storage parameters and hooks the executor. Called once, from `_PG_init`.
pub fn register() {
    options::register();
    limit::register();
}
