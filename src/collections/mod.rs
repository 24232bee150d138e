//! Collections: a vector database's calls over ordinary tables.
//!
//! ```text
//!   import, export ─▶ pipe ─▶ crate exchange: a thread that reads or writes Zarr arrays
//!        │
//!        ▼
//!   create ─▶ config      add ─▶ input      search ─▶ order, rows
//!        └──────────┬───────┴────────┬────────────────┴─▶ filters ─▶ crate filter
//!                   ▼                ▼
//!                 table ─────────▶ query ─▶ SPI: the caller's privileges and transaction
//! ```
//!
//! `sql/collections.sql` declares the functions, in schema `s3vector`.

mod add;
mod call;
mod config;
mod create;
mod export;
mod filters;
mod import;
mod input;
mod list;
mod order;
mod pipe;
mod query;
mod rows;
mod search;
mod table;
