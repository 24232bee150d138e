//! SQL behaviour inside one transaction, by topic. What needs several sessions, VACUUM, crashes or
//! another server is in `tests/`.

mod build;
mod collections;
mod errors;
mod explain;
mod maintenance;
mod options;
mod order;
mod planner;
mod prewarm;
mod scan;
mod support;
mod write;
