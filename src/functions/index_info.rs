//! What an index is made of.

use std::collections::HashMap;

use pgrx::prelude::*;
use pgrx::{PgRelation, pg_sys};
use uuid::Uuid;

use super::opened::Opened;
use crate::index::catalog;
use crate::index::maintain::delta_bytes;
use crate::pages::manifest::{self, SegmentEntry};
use crate::pages::meta::Meta;
use crate::pages::owner::Owner;
use crate::pages::page::INVALID_BLOCK;
use crate::pages::tombstones::Bitmap;
use crate::pages::{consistent, delta, tombstones};
use crate::settings;
use crate::shared::registry::{self, State};

/// What the pages of an index say about its size.
struct Extent {
    meta: Meta,
    /// Segments, with the number of their removed entries.
    segments: Vec<(SegmentEntry, u64)>,
    delta_entries: u64,
}

impl Extent {
    fn of(index: pg_sys::Relation) -> Self {
        consistent(index, |meta| {
            let segments = manifest::read(index, meta)?;
            let dead = tombstones::read(index, meta, &segments)?;
            let dead = dead.iter().map(Bitmap::count);
            let segments = segments.into_iter().zip(dead).collect();
            let delta_entries = delta::live_tids(index, meta, INVALID_BLOCK)?.len() as u64;
            Ok(Self { meta: *meta, segments, delta_entries })
        })
    }

    fn sum(&self, of: fn(&(SegmentEntry, u64)) -> u64) -> i64 {
        self.segments.iter().map(of).sum::<u64>() as i64
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
        name!(owned, bool),
    ),
> {
    let opened = Opened::new(index.oid(), pg_sys::AccessShareLock as i32);
    let extent = Extent::of(opened.relation());
    let meta = &extent.meta;
    let p = meta.parameters;
    // SAFETY: reads the server's state.
    let recovering = unsafe { pg_sys::RecoveryInProgress() };
    let is_here = |owner: &Owner| Owner::here(opened.relation()).is_ok_and(|here| owner.is(&here));
    let owned = !recovering && (meta.owner.is_nobody() || is_here(&meta.owner));
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
        extent.segments.len() as i32,
        extent.sum(|(entry, _)| entry.rows),
        extent.sum(|(entry, _)| entry.entries),
        extent.delta_entries as i64,
        extent.sum(|(_, dead)| *dead),
        extent.sum(|(entry, _)| entry.storage_bytes),
        extent.sum(|(entry, _)| entry.resident_bytes),
        owned,
    ))
}

/// Where the server stores segments, for those who may see its settings.
fn storage_url() -> Option<String> {
    // SAFETY: looks at the current user only.
    unsafe { pg_sys::superuser() }.then(settings::storage_url)
}

/// The segments of an index.
#[pg_extern(volatile, parallel_restricted)]
#[expect(clippy::type_complexity, reason = "pgrx reads the columns from the type")]
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
        name!(generation, i32),
    ),
> {
    let opened = Opened::new(index.oid(), pg_sys::AccessShareLock as i32);
    let extent = Extent::of(opened.relation());
    TableIterator::new(extent.segments.into_iter().map(|(entry, dead)| {
        (
            entry.segment_uuid.to_string(),
            entry.prefix(),
            entry.rows as i64,
            entry.entries as i64,
            dead as i64,
            entry.storage_bytes as i64,
            entry.resident_bytes as i64,
            entry.generation as i32,
        )
    }))
}

/// Every s3vector index of this database: what it holds, how much of that is in memory, and what
/// waits to be flushed. Behind the view `s3vector_stat_indexes`. Of an index that somebody keeps locked only the name is told;
/// other sessions' temporary ones are left out.
#[pg_extern(volatile, parallel_restricted)]
#[expect(clippy::type_complexity, reason = "pgrx reads the columns from the type")]
fn s3vector_indexes() -> TableIterator<
    'static,
    (
        name!(index, pg_sys::Oid),
        name!(segments, Option<i32>),
        name!(loaded_segments, Option<i32>),
        name!(resident_bytes, Option<i64>),
        name!(storage_bytes, Option<i64>),
        name!(entries, Option<i64>),
        name!(tombstones, Option<i64>),
        name!(delta_rows, Option<i64>),
        name!(delta_bytes, Option<i64>),
        name!(backlog, Option<bool>),
    ),
> {
    let loaded: HashMap<Uuid, u64> = registry::entries()
        .into_iter()
        .filter(|entry| entry.state == State::Ready)
        .map(|entry| (entry.segment_uuid, entry.bytes))
        .collect();
    let listed = catalog::indexes().into_iter().filter(|listed| !listed.temporary);
    TableIterator::new(listed.map(move |listed| {
        let extent = Opened::at_once(listed.oid).map(|opened| Extent::of(opened.relation()));
        let extent = extent.as_ref();
        let bytes = extent.map(|extent| delta_bytes(&extent.meta));
        let resident: Option<Vec<u64>> = extent.map(|extent| {
            let segments = extent.segments.iter();
            segments.filter_map(|(entry, _)| loaded.get(&entry.segment_uuid).copied()).collect()
        });
        (
            listed.oid,
            extent.map(|extent| extent.segments.len() as i32),
            resident.as_ref().map(|graphs| graphs.len() as i32),
            resident.map(|graphs| graphs.iter().sum::<u64>() as i64),
            extent.map(|extent| extent.sum(|(entry, _)| entry.storage_bytes)),
            extent.map(|extent| extent.sum(|(entry, _)| entry.entries)),
            extent.map(|extent| extent.sum(|(_, dead)| *dead)),
            extent.map(|extent| extent.delta_entries as i64),
            bytes.map(|bytes| bytes as i64),
            bytes.map(|bytes| bytes >= settings::flush_bytes()),
        )
    }))
}
