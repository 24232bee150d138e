//! SQL-callable functions: what an index is, what a scan did, what memory holds, maintenance by hand.

mod index_info;
mod maintenance;
mod opened;
mod stats;
mod storage_stats;
