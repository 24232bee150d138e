//! Collections: a vector database's calls over ordinary tables.
//!
//! ```text
//!   create ─▶ config          add ─▶ input           search ─▶ order
//!        └──────────┬───────────┴────────┬────────────────┴─▶ filters ─▶ crate filter
//!                   ▼                    ▼
//!                 table  ────────────▶ query ─▶ SPI: the caller's privileges and transaction
//! ```
//!
//! `sql/collections.sql` declares the functions, in schema `s3vector`.

mod add;
mod call;
mod config;
mod create;
mod filters;
mod input;
mod list;
mod order;
mod query;
mod rows;
mod search;
mod table;
