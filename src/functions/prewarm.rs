//! `s3vector_prewarm`: fills memory before queries need it.

use std::cmp::Reverse;

use distance::Metric;
use pgrx::prelude::*;
use pgrx::{PgRelation, pg_sys};

use super::opened::Opened;
use crate::errors::raise;
use crate::pages::manifest::SegmentEntry;
use crate::pages::meta::{Parameters, relation_name};
use crate::pages::{consistent, manifest};
use crate::settings;
use crate::shared::fetch_slots::{self, MAX_ROWS, RowRef, Wanted};
use crate::shared::payload_cache::{self, ChunkKey};
use crate::shared::{self, registry};

/// Most bytes of vectors that one request brings: how much is lost by a cancelled one.
const REQUEST_BYTES: usize = 16 << 20;

/// What has been brought into memory.
#[derive(Clone, Copy, Debug, Default)]
struct Warmed {
    count: u64,
    bytes: u64,
}

/// Loads the graphs of an index (`graph`), fills what is free of the payload cache with its vectors
/// (`payload`), or both (`all`): the largest segments first, because most rows are in them.
///
/// Returns how many graphs are in memory now, as many as fit into `s3vector.graph_memory` together,
/// and how many inner chunks have been fetched.
#[pg_extern(volatile, parallel_restricted)]
fn s3vector_prewarm(
    index: PgRelation,
    what: default!(&str, "'all'"),
) -> TableIterator<
    'static,
    (name!(graphs, i32), name!(graph_bytes, i64), name!(chunks, i64), name!(payload_bytes, i64)),
> {
    let (graph, payload) = parts(what);
    shared::require();
    let opened = Opened::new(index.oid(), pg_sys::AccessShareLock as i32);
    check_privilege(opened.relation());
    let (parameters, mut segments) = consistent(opened.relation(), |meta| {
        Ok((meta.parameters, manifest::read(opened.relation(), meta)?))
    });
    segments.sort_by_key(|segment| Reverse(segment.rows));
    let graphs = if graph { load_graphs(&segments) } else { Warmed::default() };
    let chunks = if payload { fill_cache(&parameters, &segments) } else { Warmed::default() };
    TableIterator::once((
        graphs.count as i32,
        graphs.bytes as i64,
        chunks.count as i64,
        chunks.bytes as i64,
    ))
}

/// Whether graphs are wanted, and whether vectors are.
fn parts(what: &str) -> (bool, bool) {
    match what {
        "all" => (true, true),
        "graph" => (true, false),
        "payload" => (false, true),
        _ => raise(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("s3vector_prewarm() cannot load \"{what}\""),
            "",
            "Ask for 'graph', 'payload' or 'all'.",
        ),
    }
}

/// Raises an error unless the user may read the index's table: who could fill memory by queries.
fn check_privilege(index: pg_sys::Relation) {
    // SAFETY: `index` is an open relation.
    let checked = unsafe {
        let table = (*(*index).rd_index).indrelid;
        let select = pg_sys::AclMode::from(pg_sys::ACL_SELECT);
        pg_sys::pg_class_aclcheck(table, pg_sys::GetUserId(), select)
    };
    if checked != pg_sys::AclResult::ACLCHECK_OK {
        raise(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("permission denied for index {}", relation_name(index)),
            "",
            "Only roles with the SELECT privilege on its table may prewarm it.",
        );
    }
}

/// Has graphs loaded, one after the other, as many as can be in memory together.
fn load_graphs(segments: &[SegmentEntry]) -> Warmed {
    let mut loaded = Warmed::default();
    for segment in segments {
        pgrx::check_for_interrupts!();
        // The first is asked for in any case: when it alone is too large, that is an error.
        if loaded.count > 0 && loaded.bytes + segment.resident_bytes > settings::graph_memory() {
            continue;
        }
        let pinned = registry::obtain(segment.index_uuid, segment.segment_uuid);
        registry::touch(pinned.entry().slot);
        loaded.count += 1;
        loaded.bytes += pinned.entry().bytes;
    }
    loaded
}

/// Fetches inner chunks that are not in the payload cache, until it is full.
fn fill_cache(parameters: &Parameters, segments: &[SegmentEntry]) -> Warmed {
    let row_bytes = parameters.dimensions * parameters.payload.element_bytes();
    let chunk_bytes = (parameters.chunk_rows * row_bytes).max(1);
    let at_once = (REQUEST_BYTES / chunk_bytes).clamp(1, MAX_ROWS);
    let usage = payload_cache::usage();
    let takes = chunk_bytes.next_multiple_of(cache::FRAME);
    let mut room = usage.capacity.saturating_sub(usage.taken) as usize / takes;
    let mut fetched = Warmed::default();
    for segment in segments {
        let chunks = 0..segment.rows.div_ceil(parameters.chunk_rows as u64) as u32;
        let mut missing = chunks.filter(|&chunk| !is_cached(segment, chunk));
        loop {
            pgrx::check_for_interrupts!();
            let wanted: Vec<u32> = missing.by_ref().take(at_once.min(room)).collect();
            if wanted.is_empty() {
                break;
            }
            fetch(parameters, segment, &wanted);
            room -= wanted.len();
            fetched.count += wanted.len() as u64;
            fetched.bytes += (wanted.len() * chunk_bytes) as u64;
        }
    }
    fetched
}

fn is_cached(segment: &SegmentEntry, chunk: u32) -> bool {
    let key = ChunkKey { segment: segment.segment_uuid, chunk };
    payload_cache::contains(&key)
}

/// Has chunks fetched: asks for the first row of each. The storage worker puts them into the cache;
/// nobody wants to know the distances.
fn fetch(parameters: &Parameters, segment: &SegmentEntry, chunks: &[u32]) {
    let first_row = |&chunk: &u32| RowRef { segment: 0, row: chunk * parameters.chunk_rows as u32 };
    let rows: Vec<RowRef> = chunks.iter().map(first_row).collect();
    let wanted = Wanted {
        metric: Metric::L2,
        query: &vec![0.0; parameters.dimensions],
        segments: &[(segment.index_uuid, segment.segment_uuid)],
        rows: &rows,
    };
    let outcome = fetch_slots::fetch(&wanted, settings::fetch_timeout(), &mut Vec::new());
    if let Err(failure) = outcome {
        failure.raise();
    }
}
