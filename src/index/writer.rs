//! Writes segments that nothing names yet, and takes them away again when nothing comes of it.

use ::storage::{StorageConfig, Store};
use pgrx::pg_sys;
use uuid::Uuid;

use super::assemble::{self, Base, Job};
use super::collect::Rows;
use super::control::{Control, until_stopped};
use super::maintain::is_temporary;
use super::temporary;
use crate::errors::Failure;
use crate::objects::claims;
use crate::objects::place::{self, Expected};
use crate::pages::manifest::{self, SegmentEntry};
use crate::pages::meta::{Meta, Parameters, relation_name};
use crate::pages::owner::Owner;
use crate::random::random_uuid;
use crate::settings;
use crate::shared::storage_metrics;
use crate::threads::{self, run_interruptible};

/// Writes segments into an index's folder. Dropped before [`Writer::finish`] it deletes them.
pub struct Writer<'a> {
    index: pg_sys::Relation,
    storage: StorageConfig,
    parameters: Parameters,
    /// Nil until there is one.
    index_uuid: Uuid,
    /// [`Owner::NOBODY`] until the folder is claimed.
    owner: Owner,
    written: Vec<SegmentEntry>,
    watch: &'a mut dyn FnMut(&Control),
}

impl<'a> Writer<'a> {
    /// Prepares to write for an index that has no folder yet. It gets one when the first segment is
    /// written, or by [`Writer::claim`].
    ///
    /// `watch` is called every now and then, on the main thread, while a job runs.
    pub fn new(
        index: pg_sys::Relation,
        parameters: Parameters,
        watch: &'a mut dyn FnMut(&Control),
    ) -> Self {
        Self {
            index,
            storage: settings::storage(),
            parameters,
            index_uuid: Uuid::nil(),
            owner: Owner::NOBODY,
            written: Vec::new(),
            watch,
        }
    }

    /// Prepares to write for an index that exists: into the folder that `meta` names, or, when another
    /// owner wrote that, into a new one, which is claimed. Raises an error when the store is not
    /// the one that the index has written to, or cannot be written to.
    pub fn open(index: pg_sys::Relation, meta: &Meta, watch: &'a mut dyn FnMut(&Control)) -> Self {
        let mut writer = Self::new(index, meta.parameters, watch);
        let segments = manifest::read(index, meta).unwrap_or_else(|damage| damage.raise());
        let expected = Expected::of(meta, &segments, Some(here(index)));
        let name = relation_name(index);
        let is_own = writer.ask_store(async |store| {
            let seen = place::look(store, &expected).await?;
            match seen.unexpected.first() {
                Some(folder) => Err(folder.failure(&name, &store.url())),
                None => Ok(seen.is_own),
            }
        });
        if is_own {
            writer.index_uuid = meta.index_uuid;
        }
        writer.claim();
        writer
    }

    /// Says in the store whose the index's folder is, a new one if it has none. This tells whether the
    /// store can be written to, which is better known before long work than after it.
    pub fn claim(&mut self) {
        if !self.owner.is_nobody() {
            return;
        }
        let owner = here(self.index);
        if self.index_uuid.is_nil() {
            self.index_uuid = random_uuid();
        }
        let index_uuid = self.index_uuid;
        if is_temporary(self.index) {
            temporary::remember(self.index, index_uuid);
        }
        self.ask_store(async |store| Ok(claims::write(store, index_uuid, owner).await?));
        self.owner = owner;
    }

    /// The folder; nil while none has been claimed.
    pub fn index_uuid(&self) -> Uuid {
        self.index_uuid
    }

    /// Who writes; [`Owner::NOBODY`] while no folder has been claimed.
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

    /// Runs a few requests to the store on a thread, and raises what goes wrong.
    fn ask_store<T: Send>(
        &mut self,
        requests: impl AsyncFn(&dyn Store) -> Result<T, Failure> + Sync,
    ) -> T {
        self.run(|storage, control| {
            let store = ::storage::open(storage, storage_metrics::get())?;
            let runtime = threads::runtime("s3vector claim", 1)?;
            let outcome = runtime.block_on(until_stopped(control, requests(&*store)));
            runtime.shutdown_background();
            outcome
        })
    }

    /// Turns rows into a segment in storage, from the graph of `base` if there is one. Returns the
    /// heap tids of its entries.
    pub fn write(&mut self, rows: &Rows, base: Option<Base<'_>>, generation: u32) -> Vec<u64> {
        self.claim();
        let segment_uuid = random_uuid();
        let (parameters, index_uuid) = (self.parameters, self.index_uuid);
        let threads = thread_count();
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

/// Who would write an index here and now; raises an error when that is not known.
fn here(index: pg_sys::Relation) -> Owner {
    Owner::here(index).unwrap_or_else(|failure| failure.raise())
}

/// Threads a job may use: PostgreSQL's own limit for maintenance, and this process itself.
fn thread_count() -> usize {
    // SAFETY: a plain variable of this process.
    let workers = unsafe { pg_sys::max_parallel_maintenance_workers } as usize;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (workers + 1).min(processors)
}
