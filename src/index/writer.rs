//! Writes segments that nothing names yet, and takes them away again when nothing comes of it.

use pgrx::pg_sys;
use storage::StorageConfig;
use uuid::Uuid;

use super::assemble::{self, Base, Job};
use super::collect::Rows;
use super::control::Control;
use super::temporary;
use crate::errors::Failure;
use crate::pages::manifest::SegmentEntry;
use crate::pages::meta::{Meta, Owner, Parameters, random_uuid};
use crate::settings;
use crate::threads::run_interruptible;

/// Writes segments into an index's folder. Dropped before [`Writer::finish`] it deletes them.
pub struct Writer<'a> {
    storage: StorageConfig,
    parameters: Parameters,
    index_uuid: Uuid,
    owner: Owner,
    written: Vec<SegmentEntry>,
    watch: &'a mut dyn FnMut(&Control),
}

impl<'a> Writer<'a> {
    /// Prepares to write for `index`: into the folder that `meta` names, or, when another owner
    /// wrote that, into a new one. Says so in the store, which tells whether that can be used.
    ///
    /// `watch` is called every now and then, on the main thread, while a job runs.
    pub fn claim(index: pg_sys::Relation, meta: &Meta, watch: &'a mut dyn FnMut(&Control)) -> Self {
        let owner = Owner::here(index);
        let index_uuid = if meta.owner == owner { meta.index_uuid } else { random_uuid() };
        let storage = settings::storage();
        // SAFETY: `index` is an open relation.
        if unsafe { (*(*index).rd_rel).relpersistence } as u8 == pg_sys::RELPERSISTENCE_TEMP {
            temporary::remember(index_uuid);
        }
        let control = Control::default();
        let claim = || assemble::claim(&storage, index_uuid, owner, &control);
        if let Err(failure) = run_interruptible(&|| control.stop(), claim, || watch(&control)) {
            failure.raise();
        }
        let parameters = meta.parameters;
        Self { storage, parameters, index_uuid, owner, written: Vec::new(), watch }
    }

    /// The folder.
    pub fn index_uuid(&self) -> Uuid {
        self.index_uuid
    }

    /// Who writes.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// What has been written.
    pub fn written(&self) -> &[SegmentEntry] {
        &self.written
    }

    /// Runs a job on a thread, watched, and raises what it fails with.
    pub fn run<T: Send>(
        &mut self,
        job: impl FnOnce(&StorageConfig, &Control) -> Result<T, Failure> + Send,
    ) -> T {
        let control = Control::default();
        let (storage, watch) = (&self.storage, &mut self.watch);
        let outcome =
            run_interruptible(&|| control.stop(), || job(storage, &control), || watch(&control));
        outcome.unwrap_or_else(|failure| failure.raise())
    }

    /// Turns rows into a segment in storage, from the graph of `base` if there is one. Returns the
    /// heap tids of its entries.
    pub fn write(&mut self, rows: &Rows, base: Option<Base<'_>>, generation: u32) -> Vec<u64> {
        let segment_uuid = random_uuid();
        let (parameters, index_uuid) = (self.parameters, self.index_uuid);
        let threads = threads();
        let made = self.run(|storage, control| {
            let job = Job { rows, base, parameters, index_uuid, segment_uuid, storage, threads };
            assemble::run(&job, control)
        });
        self.written.push(SegmentEntry {
            index_uuid,
            segment_uuid,
            rows: made.rows,
            entries: made.tids.len() as u64,
            storage_bytes: made.storage_bytes,
            resident_bytes: made.resident_bytes,
            generation,
        });
        made.tids
    }

    /// Keeps what has been written: it is named now.
    pub fn finish(mut self) {
        self.written.clear();
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if !self.written.is_empty() {
            let prefixes = self.written.iter().map(SegmentEntry::prefix).collect();
            assemble::remove(&self.storage, prefixes);
        }
    }
}

/// Threads a job may use: PostgreSQL's own limit for maintenance, and this process itself.
fn threads() -> usize {
    // SAFETY: a plain variable of this process.
    let workers = unsafe { pg_sys::max_parallel_maintenance_workers } as usize;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (workers + 1).min(processors)
}
