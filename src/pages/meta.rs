//! The meta page, block 0: what the index is, who wrote it, and where its lists start.
//!
//! The page is the single point of publication: a reader that sees it sees a manifest, a delta
//! and tombstones that belong together.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use distance::{Metric, Payload};
use pgrx::pg_sys;
use pgrx::prelude::*;
use segment::Compression;
use uuid::Uuid;

use super::page::{INVALID_BLOCK, Kind, META_BLOCK};
use super::wal::{Change, Locked, MAIN};
use crate::errors::raise;

/// What every segment of an index has in common: fixed when the index is created.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// Elements of a vector.
    pub dimensions: usize,
    /// What the index is ordered by.
    pub metric: Metric,
    /// Neighbours a node keeps on the upper levels; twice as many on level 0.
    pub m: usize,
    /// Candidates kept while a node is linked.
    pub ef_construction: usize,
    /// RaBitQ bits a dimension.
    pub bits: u8,
    /// Element type of the stored vectors.
    pub payload: Payload,
    /// How inner chunks are compressed.
    pub compression: Compression,
    /// Level of the compressor, 1 to 9; 0 is the compression's own default.
    pub compression_level: u8,
    /// Rows of an inner chunk.
    pub chunk_rows: usize,
    /// Rows of a shard object.
    pub shard_rows: usize,
    /// Seed of the rotation all codes of the index share.
    pub rotation_seed: u64,
}

/// Who wrote a folder of the store. A copy of the relation, in another database, on another
/// cluster or on another timeline of the same one, sees an owner that is not itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The cluster.
    pub system_identifier: u64,
    /// Its timeline: changes when a standby is promoted or a backup restored.
    pub timeline: u32,
    /// The inode number of its data directory: changes when files are copied.
    pub directory: u64,
    /// The database.
    pub database: u32,
    /// The relation file.
    pub relation: u32,
}

impl Owner {
    /// Who would write `index` here and now. Not during recovery.
    pub fn here(index: pg_sys::Relation) -> Self {
        // SAFETY: `index` is an open relation.
        let relation = unsafe { (*index).rd_locator.relNumber.to_u32() };
        Self { relation, ..Self::of_database() }
    }

    /// This database, with no relation in particular. Not during recovery.
    pub fn of_database() -> Self {
        // SAFETY: set for every process with a database.
        unsafe {
            Self {
                system_identifier: pg_sys::GetSystemIdentifier(),
                timeline: pg_sys::GetWALInsertionTimeLine(),
                directory: directory(),
                database: pg_sys::MyDatabaseId.to_u32(),
                relation: 0,
            }
        }
    }

    /// Whether another owner is of the same cluster: no clone, no ancestor, no descendant.
    pub fn is_same_cluster(&self, other: &Self) -> bool {
        (self.system_identifier, self.timeline, self.directory)
            == (other.system_identifier, other.timeline, other.directory)
    }
}

/// The inode number of the data directory; 0 if it cannot be told.
fn directory() -> u64 {
    // SAFETY: DataDir is set before any library is loaded and never changes.
    let path = unsafe { CStr::from_ptr(pg_sys::DataDir) };
    let path = Path::new(OsStr::from_bytes(path.to_bytes()));
    std::fs::metadata(path).map_or(0, |metadata| metadata.ino())
}

/// The meta page's contents.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// Names the index in storage: the folder of its segments.
    pub index_uuid: Uuid,
    /// Who writes below that folder.
    pub owner: Owner,
    /// Fixed when the index is created.
    pub parameters: Parameters,
    /// First manifest page, or [`INVALID_BLOCK`] when there are no segments.
    pub manifest_head: pg_sys::BlockNumber,
    /// First page of tombstones, or [`INVALID_BLOCK`] when there are no segments.
    pub tombstone_head: pg_sys::BlockNumber,
    /// First delta page.
    pub delta_head: pg_sys::BlockNumber,
    /// Page the next row goes to.
    pub delta_tail: pg_sys::BlockNumber,
    /// Pages of the delta.
    pub delta_pages: u32,
    /// First page that nothing uses, or [`INVALID_BLOCK`].
    pub free_head: pg_sys::BlockNumber,
    /// Counts publications: pages that a reader has met belong together if this has not moved.
    pub manifest_epoch: u32,
    /// Counts changes of the tombstones; 0 means there are none.
    pub tombstone_epoch: u32,
    /// Rows of all segments, for the planner.
    pub segment_rows: u64,
    /// Entries (heap tuples) of all segments, for the planner.
    pub segment_entries: u64,
}

/// The stored form. Fixed layout, little surprises: widths first, no padding between fields.
#[repr(C)]
#[derive(Clone, Copy)]
struct Stored {
    index_uuid: [u8; 16],
    system_identifier: u64,
    directory: u64,
    rotation_seed: u64,
    segment_rows: u64,
    segment_entries: u64,
    database: u32,
    relation: u32,
    dimensions: u32,
    m: u32,
    ef_construction: u32,
    chunk_rows: u32,
    shard_rows: u32,
    manifest_head: u32,
    delta_head: u32,
    delta_tail: u32,
    delta_pages: u32,
    free_head: u32,
    manifest_epoch: u32,
    tombstone_epoch: u32,
    timeline: u32,
    tombstone_head: u32,
    metric: u8,
    bits: u8,
    payload: u8,
    compression: u8,
    compression_level: u8,
    reserved: [u8; 3],
}

impl Meta {
    /// A new, empty index that this database is about to own.
    pub fn create(index: pg_sys::Relation, parameters: Parameters) -> Self {
        Self {
            index_uuid: random_uuid(),
            owner: Owner::here(index),
            parameters,
            manifest_head: INVALID_BLOCK,
            tombstone_head: INVALID_BLOCK,
            delta_head: INVALID_BLOCK,
            delta_tail: INVALID_BLOCK,
            delta_pages: 0,
            free_head: INVALID_BLOCK,
            manifest_epoch: 0,
            tombstone_epoch: 0,
            segment_rows: 0,
            segment_entries: 0,
        }
    }

    /// Reads the meta page of `index`.
    pub fn read(index: pg_sys::Relation) -> Self {
        let buffer = Locked::share(index, META_BLOCK);
        Self::of(&buffer)
    }

    /// What a locked meta page says.
    pub fn of(buffer: &Locked) -> Self {
        match buffer.expect(Kind::Meta) {
            Ok(page) => Self::decode(page.body()),
            Err(damage) => damage.raise(),
        }
    }

    /// Writes the first page of a relation that has none yet.
    pub fn write_new(&self, index: pg_sys::Relation, buffer: &Locked) {
        debug_assert_eq!(buffer.block(), META_BLOCK);
        let mut change = Change::start(index);
        let mut page = change.create(buffer, Kind::Meta);
        self.encode(page.grow(size_of::<Stored>()));
        change.finish();
    }

    /// Changes the meta page by one WAL record of its own.
    pub fn update(index: pg_sys::Relation, edit: impl FnOnce(&mut Self)) {
        let buffer = Locked::exclusive(index, MAIN, META_BLOCK);
        let mut change = Change::start(index);
        Self::edit(&mut change, &buffer, edit);
        change.finish();
    }

    /// Makes a change of the meta page part of `change`.
    pub fn edit(change: &mut Change, buffer: &Locked, edit: impl FnOnce(&mut Self)) {
        let mut page = change.edit(buffer);
        let mut meta = Self::decode(page.body());
        edit(&mut meta);
        meta.encode(page.body_mut());
    }

    /// Notes that tombstones have changed: copies that backends keep are old now.
    pub fn count_tombstones(&mut self) {
        // 0 means "there are none": skip it when the counter wraps.
        self.tombstone_epoch = self.tombstone_epoch.checked_add(1).unwrap_or(1);
    }

    fn encode(&self, body: &mut [u8]) {
        let p = &self.parameters;
        let stored = Stored {
            index_uuid: self.index_uuid.into_bytes(),
            system_identifier: self.owner.system_identifier,
            directory: self.owner.directory,
            rotation_seed: p.rotation_seed,
            segment_rows: self.segment_rows,
            segment_entries: self.segment_entries,
            database: self.owner.database,
            relation: self.owner.relation,
            dimensions: p.dimensions as u32,
            m: p.m as u32,
            ef_construction: p.ef_construction as u32,
            chunk_rows: p.chunk_rows as u32,
            shard_rows: p.shard_rows as u32,
            manifest_head: self.manifest_head,
            delta_head: self.delta_head,
            delta_tail: self.delta_tail,
            delta_pages: self.delta_pages,
            free_head: self.free_head,
            manifest_epoch: self.manifest_epoch,
            tombstone_epoch: self.tombstone_epoch,
            timeline: self.owner.timeline,
            tombstone_head: self.tombstone_head,
            metric: p.metric as u8,
            bits: p.bits,
            payload: p.payload as u8,
            compression: p.compression as u8,
            compression_level: p.compression_level,
            reserved: [0; 3],
        };
        assert!(body.len() >= size_of::<Stored>(), "meta page too short");
        // SAFETY: the body is long enough and `Stored` is plain data.
        unsafe { body.as_mut_ptr().cast::<Stored>().write_unaligned(stored) };
    }

    fn decode(body: &[u8]) -> Self {
        if body.len() < size_of::<Stored>() {
            corrupt("it is too short")
        }
        // SAFETY: the body is long enough and every bit pattern is a valid `Stored`.
        let s = unsafe { body.as_ptr().cast::<Stored>().read_unaligned() };
        let parameters = Parameters {
            dimensions: s.dimensions as usize,
            metric: Metric::from_u8(s.metric).unwrap_or_else(|| corrupt("unknown metric")),
            m: s.m as usize,
            ef_construction: s.ef_construction as usize,
            bits: s.bits,
            payload: Payload::from_u8(s.payload).unwrap_or_else(|| corrupt("unknown payload")),
            compression: Compression::from_u8(s.compression)
                .unwrap_or_else(|| corrupt("unknown compression")),
            compression_level: s.compression_level,
            chunk_rows: s.chunk_rows as usize,
            shard_rows: s.shard_rows as usize,
            rotation_seed: s.rotation_seed,
        };
        Self {
            index_uuid: Uuid::from_bytes(s.index_uuid),
            owner: Owner {
                system_identifier: s.system_identifier,
                timeline: s.timeline,
                directory: s.directory,
                database: s.database,
                relation: s.relation,
            },
            parameters,
            manifest_head: s.manifest_head,
            tombstone_head: s.tombstone_head,
            delta_head: s.delta_head,
            delta_tail: s.delta_tail,
            delta_pages: s.delta_pages,
            free_head: s.free_head,
            manifest_epoch: s.manifest_epoch,
            tombstone_epoch: s.tombstone_epoch,
            segment_rows: s.segment_rows,
            segment_entries: s.segment_entries,
        }
    }
}

/// A random (version 4) uuid from PostgreSQL's strong random source.
pub fn random_uuid() -> Uuid {
    uuid::Builder::from_random_bytes(random_bytes()).into_uuid()
}

/// A random seed from PostgreSQL's strong random source.
pub fn random_seed() -> u64 {
    u64::from_le_bytes(random_bytes())
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    // SAFETY: the buffer is N bytes long.
    if !unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), N) } {
        raise(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "could not generate random bytes", "", "");
    }
    bytes
}

/// The index's name for messages.
pub fn relation_name(index: pg_sys::Relation) -> String {
    // SAFETY: `index` is an open relation; its name is a NUL-terminated string.
    unsafe { CStr::from_ptr((*(*index).rd_rel).relname.data.as_ptr()) }
        .to_string_lossy()
        .into_owned()
}

fn corrupt(what: &str) -> ! {
    raise(
        PgSqlErrorCode::ERRCODE_INDEX_CORRUPTED,
        "the meta page of the index is damaged",
        format!("The page says: {what}."),
        "REINDEX rebuilds the index from its table.",
    )
}
