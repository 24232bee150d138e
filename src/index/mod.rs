//! The access method `s3vector`: one file a verb.
//!
//! ```text
//!   handler ─▶ options · cost · build ─▶ table (team) ─▶ collect ─▶ assemble ─▶ (pages, storage)
//!           ─▶ insert ─▶ pending · vacuum ─▶ (asks for maintenance)
//!   maintain ─▶ flush · merge (policy) ─▶ writer ─▶ assemble;  sweep ─▶ (objects)
//!           ─▶ scan ─▶ candidates · code_sweep ─▶ rerank ─▶ fetch ─▶ (shared memory, storage worker; else heap)
//!                ├─▶ start (demand): walk or sweep, by how many rows the plan is expected to read
//!                ├─▶ ahead: the table's pages of the rows that come next
//!                └─▶ explain: what a scan did, in EXPLAIN ANALYZE
//! ```

mod ahead;
pub mod assemble;
pub mod build;
pub mod candidates;
pub mod catalog;
pub mod code_sweep;
pub mod codes;
pub mod collect;
pub mod control;
pub mod cost;
pub mod demand;
mod equal;
mod executor;
pub mod explain;
pub mod fetch;
pub mod flush;
pub mod handler;
mod heap;
pub mod insert;
pub mod maintain;
pub mod merge;
mod operator;
pub mod options;
pub mod pending;
pub mod policy;
pub mod rerank;
pub mod scan;
pub mod sorted;
mod start;
pub mod statistics;
pub mod sweep;
mod table;
mod team;
pub mod temporary;
pub mod vacuum;
pub mod vector;
pub mod writer;

/// Defines the storage parameters, hooks the executor, EXPLAIN and the ends of transactions. Called once, from `_PG_init`.
pub fn register() {
    options::register();
    executor::register();
    pending::register();
    explain::register();
}
