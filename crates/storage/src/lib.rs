//! Object storage: one small trait over file systems and S3.
//!
//! What is promised:
//! - A reader sees a whole object or none, and gets exactly the bytes it asked for or an error.
//! - What was put is durable; a put that failed or was given up leaves nothing in its place.
//! - Keys never leave the store's root. Secrets never reach a message, a URL or a `Debug` output.
//! - Every operation ends within a bounded time, and every error says what a user can do.
//! - Nothing here knows PostgreSQL, and no thread started here ever takes one of its signals.
//!
//! ```text
//!   StorageConfig ──open()──► Arc<dyn Store>
//!                                  │
//!      Redis · Hedged · Guarded · Metered    decorators: cache, retry, rest, count;
//!               Latency · Faulty             for tests: slow down, break
//!                                  │
//!                       ┌──────────┴──────────┐
//!                   FileStore              S3Store
//!              rename and fsync      aws-sdk-s3, multipart
//! ```

mod abandoned;
mod breaker;
mod config;
mod error;
mod faults;
mod file;
mod guarded;
mod hedging;
mod key;
mod latency;
mod metering;
mod metrics;
mod open;
mod pieces;
mod redis;
mod runtime;
mod s3;
mod store;

pub use self::redis::{OnState, Redis, RedisConfig, RedisState};
pub use breaker::{Attempt, Breaker};
pub use config::{Secret, StorageConfig};
pub use error::{ErrorKind, StorageError};
pub use faults::{Effect, Fault, Faulty};
pub use file::FileStore;
pub use guarded::Guarded;
pub use hedging::Hedged;
pub use key::{MAX_KEY_BYTES, validate_key, validate_prefix};
pub use latency::Latency;
pub use metering::Metered;
pub use metrics::{
    LATENCY_CLASSES, Metrics, OperationMetrics, Snapshot, latency_bound, latency_class,
};
pub use open::open;
pub use pieces::{
    Batch, COALESCE_GAP, Cost, MAX_RANGE, Piece, Run, WAVE_BYTES, WAVE_REQUESTS, coalesce,
};
pub use runtime::{runtime, with_signals_blocked};
pub use s3::S3Store;
pub use store::{ObjectMeta, Operation, Result, Store};
