//! SQL-callable functions: what an index is, what a scan did, what memory holds.

mod index_info;
mod stats;
