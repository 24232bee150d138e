//! What the index relation itself holds: a few WAL-logged pages.
//!
//! ```text
//!   block 0  meta ──▶ manifest ──▶ … one entry a segment
//!              │          └──▶ tombstones ──▶ … one bit an entry of that segment
//!              └────▶ delta ──▶ delta ──▶ … rows written since the last segment
//! ```
//!
//! Every page carries its kind, a format version and the number of the next page of its list in
//! its special space ([`page`]). Everything is written with generic WAL records ([`wal`]), so
//! crash recovery and replicas need none of this library's code.

pub mod delta;
pub mod manifest;
pub mod meta;
pub mod page;
pub mod tombstones;
pub mod wal;
