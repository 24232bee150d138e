//! `ambuild`: scans the heap, builds segments and publishes them by writing the meta page.
//!
//! Until the meta page is written nothing names the segments, and until the transaction commits
//! nobody sees the index: a build that fails or is cancelled leaves at most unnamed objects in
//! storage, never half an index.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys;
use pgrx::prelude::*;
use storage::StorageConfig;

use super::assemble::{self, Control, Phase};
use super::collect::Collector;
use super::insert::tid_to_u64;
use super::options;
use super::vector::{Vector, is_indexable};
use crate::pages::manifest::{self, SegmentEntry};
use crate::pages::meta::{Meta, random_uuid};
use crate::pages::page::INVALID_BLOCK;
use crate::pages::wal::{Fork, Locked, MAIN};
use crate::pages::{delta, tombstones};
use crate::threads::run_interruptible;
use crate::{settings, shared};

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
    let mut build = unsafe { Build::new(index) };
    build.probe();
    report_phase(Phase::Scanning);
    // SAFETY: as above; the callback gets `build`, which outlives the scan.
    let heap_tuples = unsafe {
        pg_sys::table_index_build_scan(
            heap,
            index,
            index_info,
            true,
            true,
            Some(collect),
            (&raw mut build).cast(),
            std::ptr::null_mut(),
        )
    };
    if !build.collector.is_empty() {
        build.write_segment();
    }
    let index_tuples = build.entries as f64;
    build.publish();

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
    let meta = Meta::create(index, unsafe { options::parameters(index) });
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
    let name: &CStr = match phase {
        _ if phase == i64::from(pg_sys::PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE) => c"initializing",
        _ if phase == Phase::Scanning as i64 => c"scanning table",
        _ if phase == Phase::Encoding as i64 => c"encoding vectors",
        _ if phase == Phase::Linking as i64 => c"building graph",
        _ if phase == Phase::Ordering as i64 => c"ordering rows",
        _ if phase == Phase::Writing as i64 => c"writing segment",
        _ => return std::ptr::null_mut(),
    };
    // PostgreSQL only reads it.
    name.as_ptr().cast_mut()
}

/// A build under way. Dropped without being published, it takes its segments away again.
struct Build {
    index: pg_sys::Relation,
    storage: StorageConfig,
    meta: Meta,
    collector: Collector,
    segments: Vec<SegmentEntry>,
    entries: u64,
}

/// Called for every live tuple of the heap.
#[pg_guard]
unsafe extern "C-unwind" fn collect(
    _index: pg_sys::Relation,
    tid: pg_sys::ItemPointer,
    values: *mut pg_sys::Datum,
    isnull: *mut bool,
    _is_alive: bool,
    state: *mut std::ffi::c_void,
) {
    // SAFETY: `state` is the `Build` that `ambuild` passed and does not touch during the scan;
    // there is one value and one flag a column.
    unsafe {
        let build = &mut *state.cast::<Build>();
        if *isnull {
            return;
        }
        let vector = Vector::new(*values);
        if !is_indexable(vector.as_slice(), &build.meta.parameters) {
            return;
        }
        if build.collector.is_full() {
            build.write_segment();
            report_phase(Phase::Scanning);
        }
        build.collector.push(tid_to_u64(*tid), vector.as_slice());
    }
}

impl Build {
    /// # Safety
    /// `index` is an open relation of this access method.
    unsafe fn new(index: pg_sys::Relation) -> Self {
        // SAFETY: by the contract; the memory setting is a plain variable.
        let (parameters, budget) =
            unsafe { (options::parameters(index), pg_sys::maintenance_work_mem as usize * 1024) };
        Self {
            index,
            storage: settings::storage(),
            meta: Meta::create(index, parameters),
            collector: Collector::new(&parameters, budget),
            segments: Vec::new(),
            entries: 0,
        }
    }

    /// Raises an error now when the store cannot be written to.
    fn probe(&self) {
        let control = Control::default();
        let (storage, uuid) = (&self.storage, self.meta.index_uuid);
        let probe = || assemble::probe(storage, uuid, &control);
        if let Err(failure) = run_interruptible(&|| control.stop(), probe, || ()) {
            failure.raise();
        }
    }

    /// Turns the collected rows into a segment in storage.
    fn write_segment(&mut self) {
        let rows = self.collector.take();
        let job = assemble::Job {
            rows: &rows,
            parameters: self.meta.parameters,
            index_uuid: self.meta.index_uuid,
            segment_uuid: random_uuid(),
            storage: &self.storage,
            threads: threads(),
        };
        let control = Control::default();
        let built = run_interruptible(
            &|| control.stop(),
            || assemble::run(&job, &control),
            || {
                report_progress(&control);
            },
        );
        match built {
            Ok(segment) => {
                self.entries += segment.entries;
                self.segments.push(SegmentEntry {
                    index_uuid: job.index_uuid,
                    segment_uuid: job.segment_uuid,
                    rows: segment.rows,
                    entries: segment.entries,
                    storage_bytes: segment.storage_bytes,
                    resident_bytes: segment.resident_bytes,
                    generation: 0,
                    tombstones: INVALID_BLOCK,
                });
            }
            Err(failure) => failure.raise(),
        }
    }

    fn publish(mut self) {
        self.meta.segment_rows = self.segments.iter().map(|segment| segment.rows).sum();
        self.meta.segment_entries = self.entries;
        write_pages(self.index, MAIN, self.meta, &self.segments);
        self.segments.clear();
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        if !self.segments.is_empty() {
            let prefixes = self.segments.iter().map(SegmentEntry::prefix).collect();
            assemble::remove(&self.storage, prefixes);
        }
    }
}

/// Writes all pages of a new index; the meta page comes last and makes the rest count.
fn write_pages(index: pg_sys::Relation, fork: Fork, mut meta: Meta, segments: &[SegmentEntry]) {
    let first = Locked::extend(index, fork);
    meta.delta_head = delta::create(index, fork);
    meta.delta_tail = meta.delta_head;
    let named: Vec<SegmentEntry> = segments
        .iter()
        .map(|&segment| SegmentEntry {
            tombstones: tombstones::create(index, fork, segment.entries),
            ..segment
        })
        .collect();
    meta.manifest_head = manifest::write(index, fork, &named);
    meta.write_new(index, &first);
}

/// Threads a build may use: PostgreSQL's own limit for maintenance, and this process itself.
fn threads() -> usize {
    // SAFETY: a plain variable of this process.
    let workers = unsafe { pg_sys::max_parallel_maintenance_workers } as usize;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (workers + 1).min(processors)
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
