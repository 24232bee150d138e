//! SQL-callable functions: what an index is and whether it is whole, what a scan did, what memory holds,
//! maintenance and prewarming by hand.

mod check;
mod index_info;
mod maintenance;
mod opened;
mod prewarm;
mod stats;
mod storage_stats;
