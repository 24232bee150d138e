//! What an index is made of.

use std::ops::ControlFlow;

use pgrx::prelude::*;
use pgrx::{PgRelation, pg_sys};

use crate::errors::raise;
use crate::index::scan::is_ours;
use crate::pages::manifest::{self, SegmentEntry};
use crate::pages::meta::{Meta, relation_name};
use crate::pages::{delta, tombstones};
use crate::settings;

/// An open index of this access method; closes it when dropped.
struct Opened(pg_sys::Relation);

impl Opened {
    /// Opens the relation; raises an error when it is not an s3vector index with storage.
    fn new(relation: &PgRelation) -> Self {
        // SAFETY: opens with a lock or raises an error; anything but an index is refused there.
        unsafe {
            let opened = Self(pg_sys::index_open(relation.oid(), pg_sys::AccessShareLock as i32));
            let kind = (*(*opened.0).rd_rel).relkind as u8;
            if !is_ours(opened.0) || kind != pg_sys::RELKIND_INDEX {
                let name = relation_name(opened.0);
                raise(
                    PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                    format!("\"{name}\" is not an s3vector index"),
                    "",
                    "For a partitioned index ask about the indexes of its partitions.",
                );
            }
            opened
        }
    }

    fn segments(&self, meta: &Meta) -> Vec<(SegmentEntry, u64)> {
        let dead = |entry: &SegmentEntry| match meta.tombstone_epoch {
            0 => 0,
            _ => tombstones::read(self.0, entry.tombstones, entry.entries).count(),
        };
        manifest::read(self.0, meta).into_iter().map(|entry| (entry, dead(&entry))).collect()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: opened by `new`; after an error the transaction's end closes it.
            unsafe { pg_sys::index_close(self.0, pg_sys::AccessShareLock as i32) };
        }
    }
}

/// An index's parameters, where it is stored, and how much there is of it.
#[pg_extern(volatile, parallel_restricted)]
#[expect(clippy::type_complexity, reason = "pgrx reads the columns from the type")]
fn s3vector_index_info(
    index: PgRelation,
) -> TableIterator<
    'static,
    (
        name!(index_uuid, String),
        name!(storage_url, Option<String>),
        name!(metric, String),
        name!(dimensions, i32),
        name!(m, i32),
        name!(ef_construction, i32),
        name!(bits, i32),
        name!(payload, String),
        name!(compression, String),
        name!(chunk_rows, i32),
        name!(shard_rows, i32),
        name!(segments, i32),
        name!(rows, i64),
        name!(entries, i64),
        name!(delta_entries, i64),
        name!(tombstones, i64),
        name!(storage_bytes, i64),
        name!(resident_bytes, i64),
    ),
> {
    let opened = Opened::new(&index);
    let meta = Meta::read(opened.0);
    let p = meta.parameters;
    let segments = opened.segments(&meta);
    let sum = |of: fn(&(SegmentEntry, u64)) -> u64| segments.iter().map(of).sum::<u64>() as i64;
    let mut delta_entries = 0;
    delta::for_each(opened.0, &meta, |_, _| {
        delta_entries += 1;
        ControlFlow::Continue(())
    });
    TableIterator::once((
        meta.index_uuid.to_string(),
        storage_url(),
        p.metric.name().to_owned(),
        p.dimensions as i32,
        p.m as i32,
        p.ef_construction as i32,
        i32::from(p.bits),
        p.payload.name().to_owned(),
        p.compression.name().to_owned(),
        p.chunk_rows as i32,
        p.shard_rows as i32,
        segments.len() as i32,
        sum(|(entry, _)| entry.rows),
        sum(|(entry, _)| entry.entries),
        delta_entries,
        sum(|(_, dead)| *dead),
        sum(|(entry, _)| entry.storage_bytes),
        sum(|(entry, _)| entry.resident_bytes),
    ))
}

/// Where the server stores segments, for those who may see its settings.
fn storage_url() -> Option<String> {
    // SAFETY: looks at the current user only.
    unsafe { pg_sys::superuser() }.then(settings::storage_url)
}

/// The segments of an index.
#[pg_extern(volatile, parallel_restricted)]
fn s3vector_segments(
    index: PgRelation,
) -> TableIterator<
    'static,
    (
        name!(segment_uuid, String),
        name!(prefix, String),
        name!(rows, i64),
        name!(entries, i64),
        name!(tombstones, i64),
        name!(storage_bytes, i64),
        name!(resident_bytes, i64),
    ),
> {
    let opened = Opened::new(&index);
    let meta = Meta::read(opened.0);
    let segments = opened.segments(&meta);
    TableIterator::new(segments.into_iter().map(|(entry, dead)| {
        (
            entry.segment_uuid.to_string(),
            entry.prefix(),
            entry.rows as i64,
            entry.entries as i64,
            dead as i64,
            entry.storage_bytes as i64,
            entry.resident_bytes as i64,
        )
    }))
}
