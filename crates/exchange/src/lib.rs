//! Vectors in and out: foreign Zarr arrays, collections of the engine before this one, exports.
//!
//! What is promised:
//! - What is read is what was written, or an error that names the array or the object. Damaged
//!   bytes are an error wherever a codec has a checksum, and never a panic.
//! - Each chunk is fetched once, many side by side, and memory is bounded by a band of chunks,
//!   however long the array is.
//! - An export opens in any Zarr v3 reader; one that was broken off does not open at all.
//! - Nothing here knows PostgreSQL. Dropping a stream or a future ends what it had under way.
//!
//! ```text
//!              ┌── Source ──────── vectors, ids, metadata: v2 or v3, any chunks ─┐
//!   Store ─────┤                                                                 ├──► Batches ──► rows
//!     ▲        └── OldCollection ─ shards/shard_*/batch_*: vectors + JSON ───────┘    (a stream)
//!     │
//!     └─────────── Export ◄─────── rows as they come; metadata last
//!
//!   header ──► array (+ shards) ──fetch──► decoder ──► bands ──cut──► batches
//!   zarr.json   which object holds what    bytes to     rows in order
//!   .zarray                                elements
//! ```
//!
//! | module | idea |
//! |---|---|
//! | `objects` | which objects there are; reading many ranges at once |
//! | `kind`, `cell` | element types, and what they become |
//! | `codecs`, `lz4` | codec names as writers write them; the one that zarrs lacks |
//! | `header` | an array's metadata, understood |
//! | `geometry` | rows, columns and chunks |
//! | `array`, `shards` | which object holds which rows |
//! | `decoder` | from bytes to elements, within limits |
//! | `bands` | rows in order, a band of chunks at a time |
//! | `batches` | what the caller gets |
//! | `source`, `old`, `export` | the three doors |
//!
//! A caller that must not await runs the stream as a task of a runtime (see [`storage::runtime`])
//! and takes batches from a bounded channel.

mod array;
mod bands;
mod batches;
mod cell;
mod codecs;
mod decoder;
mod error;
mod export;
mod geometry;
mod header;
mod kind;
mod lz4;
mod objects;
mod old;
mod shards;
mod source;

pub use batches::{Batch, Batches, MAX_DIMENSIONS, ReadLimits};
pub use error::{ExchangeError, Result};
pub use export::{Export, ExportInfo, Exported};
pub use old::OldCollection;
pub use source::Source;
