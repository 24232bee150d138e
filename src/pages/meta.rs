//! The meta page, block 0: what the index is, who wrote it, and where its lists start.
//!
//! The page is the single point of publication: a reader that sees it sees a manifest, a delta
//! and tombstones that belong together.

use std::ffi::CStr;

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
    /// Rows of an inner chunk.
    pub chunk_rows: usize,
    /// Rows of a shard object.
    pub shard_rows: usize,
    /// Seed of the rotation all codes of the index share.
    pub rotation_seed: u64,
}

/// The meta page's contents.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// Names the index in storage: the folder of its segments.
    pub index_uuid: Uuid,
    /// The cluster that wrote the index.
    pub system_identifier: u64,
    /// The database that wrote the index.
    pub database: u32,
    /// The relation file that was written.
    pub relation: u32,
    /// Fixed when the index is created.
    pub parameters: Parameters,
    /// First manifest page, or [`INVALID_BLOCK`] when there are no segments.
    pub manifest_head: pg_sys::BlockNumber,
    /// First delta page.
    pub delta_head: pg_sys::BlockNumber,
    /// Page the next row goes to.
    pub delta_tail: pg_sys::BlockNumber,
    /// Counts changes of the manifest.
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
    manifest_epoch: u32,
    tombstone_epoch: u32,
    metric: u8,
    bits: u8,
    payload: u8,
    compression: u8,
    reserved: [u8; 4],
}

impl Meta {
    /// A new, empty index that this database is about to own.
    pub fn create(index: pg_sys::Relation, parameters: Parameters) -> Self {
        // SAFETY: `index` is an open relation; the others are set for every backend.
        let (system_identifier, database, relation) = unsafe {
            (
                pg_sys::GetSystemIdentifier(),
                pg_sys::MyDatabaseId.to_u32(),
                (*index).rd_locator.relNumber.to_u32(),
            )
        };
        Self {
            index_uuid: random_uuid(),
            system_identifier,
            database,
            relation,
            parameters,
            manifest_head: INVALID_BLOCK,
            delta_head: INVALID_BLOCK,
            delta_tail: INVALID_BLOCK,
            manifest_epoch: 0,
            tombstone_epoch: 0,
            segment_rows: 0,
            segment_entries: 0,
        }
    }

    /// Reads the meta page of `index`.
    pub fn read(index: pg_sys::Relation) -> Self {
        let buffer = Locked::share(index, META_BLOCK);
        Self::decode(buffer.expect(Kind::Meta).body())
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
        buffer.expect(Kind::Meta);
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

    fn encode(&self, body: &mut [u8]) {
        let p = &self.parameters;
        let stored = Stored {
            index_uuid: self.index_uuid.into_bytes(),
            system_identifier: self.system_identifier,
            rotation_seed: p.rotation_seed,
            segment_rows: self.segment_rows,
            segment_entries: self.segment_entries,
            database: self.database,
            relation: self.relation,
            dimensions: p.dimensions as u32,
            m: p.m as u32,
            ef_construction: p.ef_construction as u32,
            chunk_rows: p.chunk_rows as u32,
            shard_rows: p.shard_rows as u32,
            manifest_head: self.manifest_head,
            delta_head: self.delta_head,
            delta_tail: self.delta_tail,
            manifest_epoch: self.manifest_epoch,
            tombstone_epoch: self.tombstone_epoch,
            metric: p.metric as u8,
            bits: p.bits,
            payload: p.payload as u8,
            compression: p.compression as u8,
            reserved: [0; 4],
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
            chunk_rows: s.chunk_rows as usize,
            shard_rows: s.shard_rows as usize,
            rotation_seed: s.rotation_seed,
        };
        Self {
            index_uuid: Uuid::from_bytes(s.index_uuid),
            system_identifier: s.system_identifier,
            database: s.database,
            relation: s.relation,
            parameters,
            manifest_head: s.manifest_head,
            delta_head: s.delta_head,
            delta_tail: s.delta_tail,
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
