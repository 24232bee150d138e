//! What the cluster tests stand on: PostgreSQL clusters and S3 servers of their own, started for a
//! test and gone after it, and the truth that answers are compared with.
//!
//! ```text
//!   a test ──▶ Cluster ──▶ postgres (a child process, private socket)
//!     │          └── storage settings ──▶ (Proxy: latency, faults) ──▶ Garage, Redis
//!     │                                    (child processes, loopback)
//!     ├──▶ Items: seeded vectors, loaded into a table ──▶ exact neighbours, recall
//!     └──▶ python: checks by zarr-python
//! ```
//!
//! Nothing here links the extension: tests see what a client sees. Helpers panic instead of
//! returning errors, because a test that cannot be set up has failed; a cluster that is dropped
//! while its test panics prints the end of its server log.
//!
//! - [`tools`]: where PostgreSQL, Garage, Python and others are (`make test` says).
//! - [`cluster`]: a PostgreSQL cluster. [`process`]: the child processes below it.
//! - [`garage`]: an S3 server. [`redis`]: a Redis server.
//! - [`proxy`]: makes the S3 server slow, or fail. [`tcp_proxy`]: the same for any server.
//! - [`items`]: vectors, their table, exact answers and recall.
//! - [`check`]: `s3vector_check`, and how every cluster ends with it.
//! - [`answers`]: asking an index and checking what every answer must fulfil.
//! - [`standby`]: copies of a cluster: streaming standbys, restored backups.
//! - [`volumes`]: file systems of a test's own.
//! - [`store`]: what lies in a folder of objects. [`upkeep`]: flush, sweep and what they report.
//! - [`reading`]: what queries read and from where; the storage worker.
//! - [`model`]: what clients know of the rows they wrote while servers died.
//! - [`errors`]: what a failed statement reported.
//! - [`python`]: checks that need zarr-python.
//! - [`clients`]: programs in Python and JavaScript that use s3vector as its users do.
//! - [`wait`]: waiting for something that happens elsewhere.

pub mod answers;
pub mod check;
pub mod clients;
pub mod cluster;
pub mod errors;
pub mod garage;
pub mod items;
pub mod model;
pub mod process;
pub mod proxy;
pub mod python;
pub mod reading;
pub mod redis;
pub mod standby;
pub mod store;
pub mod tcp_proxy;
pub mod tools;
pub mod upkeep;
pub mod volumes;
pub mod wait;

pub use cluster::Cluster;
pub use garage::Garage;
pub use items::{Items, Metric};
pub use proxy::Proxy;
pub use redis::Redis;
