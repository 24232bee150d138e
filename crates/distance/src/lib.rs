//! Metrics, exact distances and the SIMD kernels under them.
//!
//! The crate promises that a distance has the value PostgreSQL's operator has (`<->`, `<#>`,
//! `<=>` of pgvector) up to the rounding of single-precision sums, on every machine, whatever
//! instruction set computes it and however a row lies in memory.
//!
//! ```text
//!   ExactQuery ──► dot / l2_squared / dot_and_norm ──► Kernels::best()
//!   (operator's      (float32 query × float32 or         │ chosen once, at run time
//!    value, f64)      float16 row)                       ▼
//!                                      Level: avx512 · avx2 · neon · plain
//! ```
//!
//! - [`metric`](Metric): what an index is ordered by, and the element type of stored vectors.
//! - [`exact`](ExactQuery): the distance of one query to many rows, or to their stored bytes.
//! - [`interval`](Interval): where the operator's own value lies, however it rounds.
//! - [`dispatch`](Kernels): one table of kernels for each [`Level`] this machine has.
//! - `plain`, `avx2`, `avx512`, `neon`: the kernels, one instruction set a file.
//! - [`prefetch`](mod@prefetch): asks for memory that is about to be read.
//! - [`aligned`](Aligned): arrays laid out for that.

mod aligned;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dispatch;
mod exact;
mod interval;
mod metric;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
pub mod prefetch;

pub use aligned::Aligned;
pub use dispatch::{Element, Kernels, Level, dot, dot_and_norm, l2_squared};
pub use exact::ExactQuery;
pub use half::f16;
pub use interval::{HALF_ERROR, HALF_LEAST, Interval, summing_error};
pub use metric::{Metric, Payload};
