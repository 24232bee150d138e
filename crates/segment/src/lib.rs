//! One segment: an immutable part of an index, stored as a Zarr v3 group.
//!
//! What is promised:
//! - A segment opens in any Zarr v3 reader: only core codecs and types, every chunk present.
//! - It exists whole or not at all: the group's `zarr.json` is written last.
//! - What is read is what was written, or an error that names the object and the bytes; every
//!   chunk carries a CRC-32C, and so do the attributes. Never zeros in place of data.
//! - Vectors of near rows lie near each other, and a wave of fetches is one round trip.
//! - In memory a segment is one block without pointers, which many processes can map.
//!
//! ```text
//!   SegmentData ──write()──► vectors/c/…   codes/c/…  neighbors/c/…  tids/c/…   zarr.json
//!   (RowSource: rows in         │ shard        │ regular chunks                    │ attributes
//!    final order)               │              │                                   ▼
//!                               │              └──load()──► ResidentView      Reader::open()
//!                               │                           codes, graph, tids
//!                               └──fetch_chunks()──► Fetched
//!                                  ranges → one wave → checked, decoded
//! ```
//!
//! | module | idea |
//! |---|---|
//! | `attributes` | what a segment says about itself, checked |
//! | `defaults` | rows of a chunk and of a shard |
//! | `arrays` | shapes, chunks and Zarr metadata of the arrays |
//! | `codec`, `shard` | inner chunks of vectors; shards and their index |
//! | `rows` | where vectors come from; conversion to the payload type |
//! | `writer`, `control` | writing, progress and stopping |
//! | `reader`, `load`, `fetch` | opening, loading into memory, fetching vectors |
//! | `cached` | one fetch for a burst of equal misses; keeping what was fetched |
//! | `resident`, `record` | the block in memory; what of it belongs to one row |
//! | `check` | what checksums cannot see |
//! | `verify` | reading all of a segment to see whether it is what was written |

mod arrays;
mod attributes;
mod cached;
mod check;
mod codec;
mod control;
mod defaults;
mod error;
mod fetch;
mod load;
mod reader;
mod record;
mod resident;
mod rows;
mod shard;
mod verify;
mod writer;

pub use attributes::{
    Compression, FORMAT_VERSION, MAX_DIMENSIONS, MAX_M, MAX_ROWS, SegmentAttributes,
};
pub use cached::{CachedReader, ChunkCache};
pub use codec::is_sound;
pub use control::WriteControl;
pub use defaults::{choose_rows, default_chunk_rows, default_shard_rows};
pub use error::{Result, SegmentError};
pub use fetch::Fetched;
pub use reader::Reader;
pub use resident::{ALIGNMENT, Resident, ResidentBuffer, ResidentView};
pub use rows::{RowSource, SliceRows, encode};
pub use verify::{Contents, Fault, Tell, Verified};
pub use writer::{SegmentData, Written, remove, write};
