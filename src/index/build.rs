//! `ambuild`: scans the heap, builds segments and publishes them by writing the meta page.
//!
//! Until the meta page is written nothing names the segments, and until the transaction commits
//! nobody sees the index: a build that fails or is cancelled leaves at most unnamed objects in
//! storage, never half an index.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::collect::Collector;
use super::control::{Control, Phase};
use super::maintain::is_temporary;
use super::options;
use super::table;
use super::writer::Writer;
use crate::faults::fault_point;
use crate::pages::manifest::{self, SegmentEntry};
use crate::pages::meta::{Meta, Parameters};
use crate::pages::tombstones::Bitmap;
use crate::pages::wal::{Fork, Locked, MAIN};
use crate::pages::{delta, tombstones};
use crate::shared;

const INIT: Fork = pg_sys::ForkNumber::INIT_FORKNUM;

/// Builds the index of a table.
#[pg_guard]
pub unsafe extern "C-unwind" fn ambuild(
    heap: pg_sys::Relation,
    index: pg_sys::Relation,
    index_info: *mut pg_sys::IndexInfo,
) -> *mut pg_sys::IndexBuildResult {
    shared::require();
    // SAFETY: PostgreSQL passes open relations, locked against other builds.
    let parameters = unsafe { options::parameters(index) };
    let mut watch = |control: &Control| report_progress(control);
    let mut build = Build::start(index, parameters, &mut watch);
    // SAFETY: as above.
    if unsafe { claims_at_once(heap, index) } {
        build.writer.claim();
    }
    report_phase(Phase::Scanning);
    let mut collect = |tid: u64, vector: &[f32]| build.collect(tid, vector);
    // SAFETY: as above.
    let heap_tuples = unsafe { table::scan(heap, index, index_info, &parameters, &mut collect) };
    if !build.collector.is_empty() {
        build.write_segment();
    }
    let index_tuples = build.publish() as f64;

    // SAFETY: allocates a zeroed struct in the current memory context.
    let mut result = unsafe { PgBox::<pg_sys::IndexBuildResult>::alloc0() };
    result.heap_tuples = heap_tuples;
    result.index_tuples = index_tuples;
    result.into_pg()
}

/// Writes the template an unlogged index starts from after a crash: an empty index.
#[pg_guard]
pub unsafe extern "C-unwind" fn ambuildempty(index: pg_sys::Relation) {
    // SAFETY: PostgreSQL passes an open relation.
    let meta = Meta::create(unsafe { options::parameters(index) });
    write_pages(index, INIT, meta, &[]);
    // SAFETY: as above. The init fork must be durable although the index itself is not logged.
    unsafe {
        let blocks = pg_sys::RelationGetNumberOfBlocksInFork(index, INIT);
        pg_sys::log_newpage_range(index, INIT, 0, blocks, true);
    }
}

/// Names a phase in `pg_stat_progress_create_index`.
#[pg_guard]
pub unsafe extern "C-unwind" fn ambuildphasename(phase: i64) -> *mut c_char {
    // PostgreSQL only reads it.
    phase_text(phase).map_or(std::ptr::null_mut(), |name| name.as_ptr().cast_mut())
}

/// The name of a phase, as views show it.
pub fn phase_name(phase: i64) -> Option<&'static str> {
    phase_text(phase).and_then(|name| name.to_str().ok())
}

fn phase_text(phase: i64) -> Option<&'static CStr> {
    let name = match phase {
        _ if phase == i64::from(pg_sys::PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE) => c"initializing",
        _ if phase == Phase::Scanning as i64 => c"scanning table",
        _ if phase == Phase::Encoding as i64 => c"encoding vectors",
        _ if phase == Phase::Linking as i64 => c"building graph",
        _ if phase == Phase::Ordering as i64 => c"ordering rows",
        _ if phase == Phase::Writing as i64 => c"writing segment",
        _ => return None,
    };
    Some(name)
}

/// Whether a build begins with the claim of a folder, so that who creates an index learns at once
/// whether there is a store for it. A table that is known to be empty is another matter where nobody has
/// asked for an index: PostgreSQL builds it anew at TRUNCATE, and at every commit of a session for a
/// temporary table that is emptied then. Those need no store.
///
/// # Safety
/// What `ambuild` has been passed: open relations.
unsafe fn claims_at_once(heap: pg_sys::Relation, index: pg_sys::Relation) -> bool {
    // SAFETY: by the contract.
    unsafe {
        if pg_sys::RelationGetNumberOfBlocksInFork(heap, MAIN) > 0 {
            return true;
        }
        // The subtransaction that did it, 0 for none.
        let is_new = (*index).rd_createSubid != 0;
        let emptied = (*heap).rd_newRelfilelocatorSubid != 0;
        !is_temporary(index) && (is_new || !emptied)
    }
}

/// A build under way.
struct Build<'a> {
    index: pg_sys::Relation,
    parameters: Parameters,
    collector: Collector,
    writer: Writer<'a>,
}

impl<'a> Build<'a> {
    fn start(
        index: pg_sys::Relation,
        parameters: Parameters,
        watch: &'a mut dyn FnMut(&Control),
    ) -> Self {
        // SAFETY: a plain variable of this process.
        let budget = unsafe { pg_sys::maintenance_work_mem } as usize * 1024;
        let collector = Collector::new(&parameters, budget);
        Self { index, parameters, collector, writer: Writer::new(index, parameters, watch) }
    }

    /// Takes a row of the table.
    fn collect(&mut self, tid: u64, vector: &[f32]) {
        if self.collector.is_full() {
            self.write_segment();
            report_phase(Phase::Scanning);
        }
        self.collector.push(tid, vector);
    }

    /// Turns the collected rows into a segment in storage.
    fn write_segment(&mut self) {
        self.writer.write(&self.collector.take(), None, 0);
        fault_point("build.segment_written");
    }

    /// Writes the index's pages; returns the heap tuples it has.
    fn publish(self) -> u64 {
        let segments = self.writer.written();
        let mut meta = Meta::create(self.parameters);
        meta.index_uuid = self.writer.index_uuid();
        meta.owner = self.writer.owner();
        meta.segment_rows = segments.iter().map(|segment| segment.rows).sum();
        meta.segment_entries = segments.iter().map(|segment| segment.entries).sum();
        let entries = meta.segment_entries;
        fault_point("build.before_publish");
        write_pages(self.index, MAIN, meta, segments);
        fault_point("build.published");
        self.writer.finish();
        entries
    }
}

/// Writes all pages of a new index; the meta page comes last and makes the rest count.
fn write_pages(index: pg_sys::Relation, fork: Fork, mut meta: Meta, segments: &[SegmentEntry]) {
    let new_page = || Locked::extend(index, fork);
    let first = new_page();
    meta.delta_head = delta::create(index, fork);
    meta.delta_tail = meta.delta_head;
    meta.delta_pages = 1;
    let bitmaps: Vec<Bitmap> = segments.iter().map(|s| Bitmap::new(s.entries)).collect();
    meta.tombstone_head = tombstones::write(index, new_page, &bitmaps);
    meta.manifest_head = manifest::write(index, new_page, segments);
    meta.write_new(index, &first);
}

fn report_phase(phase: Phase) {
    report(pg_sys::PROGRESS_CREATEIDX_SUBPHASE, phase as i64);
}

fn report_progress(control: &Control) {
    let progress = control.progress();
    report(pg_sys::PROGRESS_CREATEIDX_SUBPHASE, progress.phase);
    report(pg_sys::PROGRESS_CREATEIDX_TUPLES_TOTAL, progress.total as i64);
    report(pg_sys::PROGRESS_CREATEIDX_TUPLES_DONE, progress.done as i64);
}

fn report(parameter: u32, value: i64) {
    // SAFETY: updates this backend's own status entry.
    unsafe { pg_sys::pgstat_progress_update_param(parameter as i32, value) };
}
