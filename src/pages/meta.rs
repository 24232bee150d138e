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

use super::owner::Owner;
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

/// The meta page's contents.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// Names the index in storage: the folder of its segments.
    pub index_uuid: Uuid,
    /// Who writes below that folder; [`Owner::NOBODY`] while there is none.
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
    token: [u8; 16],
}

/// Bytes of the stored form before it had a token.
const WITHOUT_TOKEN: usize = size_of::<Stored>() - size_of::<Uuid>();

impl Meta {
    /// A new, empty index that has no folder yet.
    pub fn create(parameters: Parameters) -> Self {
        Self {
            index_uuid: Uuid::nil(),
            owner: Owner::NOBODY,
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
        page.grow(size_of::<Stored>().saturating_sub(page.body().len()));
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
            token: self.owner.token.into_bytes(),
        };
        assert!(body.len() >= size_of::<Stored>(), "meta page too short");
        // SAFETY: the body is long enough and `Stored` is plain data.
        unsafe { body.as_mut_ptr().cast::<Stored>().write_unaligned(stored) };
    }

    fn decode(body: &[u8]) -> Self {
        if body.len() < WITHOUT_TOKEN {
            corrupt("it is too short")
        }
        let mut bytes = [0u8; size_of::<Stored>()];
        let length = body.len().min(bytes.len());
        bytes[..length].copy_from_slice(&body[..length]);
        // SAFETY: `bytes` has the size of `Stored`, for which every bit pattern is valid.
        let s = unsafe { bytes.as_ptr().cast::<Stored>().read_unaligned() };
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
                token: Uuid::from_bytes(s.token),
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
