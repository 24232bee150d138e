//! The storage worker: the one process that reads segments for queries.
//!
//! ```text
//!   backends ──registry, fetch slots──▶ main thread ──spawn──▶ tokio tasks ──▶ object store
//!       ▲                                    ▲                     │
//!       └── answers, straight from a task ───┼─────────────────────┤
//!                       DSM ◀── main thread ─┴── messages ─────────┘
//! ```
//!
//! The main thread owns everything of PostgreSQL's: it sleeps on its latch, takes requests over,
//! and creates DSM segments. Tasks own everything that waits for storage; they see plain data and
//! raw memory only, and fill the payload cache, which is made for that.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use ::storage::{RedisConfig, StorageConfig};
use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BgWorkerStartTime, SignalWakeFlags,
};
use pgrx::pg_sys;
use pgrx::prelude::*;
use tokio::runtime::Runtime;

use super::complaints::Complaints;
use super::engine::{Engine, Memory, Message, Outbox};
use super::reload::Reload;
use super::scheduler::Scheduler;
use crate::errors::{Failure, FailureKind};
use crate::settings;
use crate::shared::{counters, fetch_slots, registry};

const NAME: &str = "s3vector storage worker";
/// Threads that serve requests: they wait for the network and compute few distances.
const THREADS: usize = 2;
/// How long the main thread sleeps when nobody wakes it.
const NAP: Duration = Duration::from_secs(10);
/// Longest time a thread computes without waiting for storage: checking the graph of a large
/// segment.
const LONGEST_STEP: Duration = Duration::from_secs(30);
/// How soon the postmaster starts a worker that has ended.
const RESTART: Duration = Duration::from_secs(1);

/// Asks the postmaster to start the worker, on primaries and standbys alike.
pub fn register() {
    BackgroundWorkerBuilder::new(NAME)
        .set_type(NAME)
        .set_library("s3vector")
        .set_function("s3vector_storage_worker")
        .set_start_time(BgWorkerStartTime::ConsistentState)
        .set_restart_time(Some(RESTART))
        .enable_shmem_access(None)
        .load();
}

/// Entry point of the process.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn s3vector_storage_worker(_argument: pg_sys::Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    announce();
    let mut worker = match Worker::start() {
        Ok(worker) => worker,
        Err(error) => pgrx::error!("could not start the s3vector storage worker: {error}"),
    };
    let mut scheduler = Scheduler::new();
    let mut nap = scheduler.work();
    while BackgroundWorker::wait_latch(Some(nap)) {
        if BackgroundWorker::sighup_received() {
            // SAFETY: the main thread of the process, outside any transaction.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
            worker.reconfigure();
        }
        worker.work();
        nap = scheduler.work().min(NAP);
    }
    worker.reload.finish(&worker.runtime);
    // What waits for storage ends at once. What is filling shared memory right now must come to its
    // next wait first: the end of the process takes the memory away.
    worker.runtime.shutdown_timeout(LONGEST_STEP);
    // SAFETY: ends the process. A status other than 0 lets the postmaster start a new worker,
    // unless it is shutting down itself.
    unsafe { pg_sys::proc_exit(1) };
}

/// Makes the worker known to backends, and its end too.
fn announce() {
    let Some(counters) = counters::get() else { return };
    // SAFETY: the main thread of this process; the callback lives as long as the library.
    unsafe {
        pg_sys::on_shmem_exit(Some(retire), pg_sys::Datum::from(0));
        counters.worker_latch.store(pg_sys::MyLatch, Ordering::Release);
        counters.worker_pid.store(pg_sys::MyProcPid, Ordering::Release);
    }
    registry::restart_loads();
    fetch_slots::restart();
    counters.worker_starts.fetch_add(1, Ordering::AcqRel);
}

#[pg_guard]
unsafe extern "C-unwind" fn retire(_code: i32, _argument: pg_sys::Datum) {
    if let Some(counters) = counters::get() {
        counters.worker_pid.store(0, Ordering::Release);
    }
}

/// What the engine is made from.
type Config = (StorageConfig, Option<RedisConfig>);

fn open(runtime: &Runtime, (storage, redis): &Config, outbox: &Outbox) -> Arc<Engine> {
    // What starts in the background starts on the runtime's threads.
    let _inside = runtime.enter();
    Arc::new(Engine::new(storage, redis.clone(), outbox))
}

struct Worker {
    runtime: Runtime,
    engine: Arc<Engine>,
    config: Config,
    outbox: Outbox,
    inbox: Receiver<Message>,
    complaints: Complaints,
    reload: Reload,
}

impl Worker {
    fn start() -> std::io::Result<Self> {
        let runtime = ::storage::runtime("s3vector io", THREADS)?;
        let (sender, inbox) = mpsc::channel();
        // SAFETY: this process's own latch.
        let outbox = Outbox::new(sender, unsafe { pg_sys::MyLatch });
        let config = (settings::storage(), settings::redis());
        let engine = open(&runtime, &config, &outbox);
        let (complaints, reload) = (Complaints::default(), Reload::new());
        let mut worker = Self { runtime, engine, config, outbox, inbox, complaints, reload };
        worker.work();
        Ok(worker)
    }

    /// Takes changed settings into use. Requests under way finish with the old ones.
    fn reconfigure(&mut self) {
        let config = (settings::storage(), settings::redis());
        if config != self.config {
            self.engine = open(&self.runtime, &config, &self.outbox);
            self.config = config;
        }
    }

    /// Does everything there is to do without waiting for storage.
    fn work(&mut self) {
        self.reload.work(&self.runtime, &self.outbox);
        for request in registry::take_requests() {
            let (engine, outbox) = (Arc::clone(&self.engine), self.outbox.clone());
            self.runtime.spawn(async move { outbox.send(engine.measure(request).await) });
        }
        for request in fetch_slots::take_requests() {
            let (engine, outbox) = (Arc::clone(&self.engine), self.outbox.clone());
            self.runtime.spawn(engine.serve(request, outbox));
        }
        while let Ok(message) = self.inbox.try_recv() {
            self.handle(message);
        }
        registry::drop_released(settings::graph_memory());
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Measured { request, reader, bytes } => {
                let room = registry::make_room(&request, bytes as u64, settings::graph_memory());
                match room.and_then(|()| create_memory(bytes)) {
                    Ok(memory) => {
                        let outbox = self.outbox.clone();
                        let engine = Arc::clone(&self.engine);
                        self.runtime.spawn(async move {
                            outbox.send(engine.load(request, reader, memory).await)
                        });
                    }
                    Err(failure) => self.fail(&request, &failure),
                }
            }
            Message::Loaded { request, memory } => {
                let bytes = memory.bytes() as u64;
                // SAFETY: created by this process; from here on it lives without a mapping,
                // until the registry unpins it.
                let handle = unsafe {
                    let handle = pg_sys::dsm_segment_handle(memory.segment());
                    pg_sys::dsm_pin_segment(memory.segment());
                    pg_sys::dsm_detach(memory.segment());
                    handle
                };
                registry::finish(&request, handle, bytes, settings::graph_memory());
            }
            Message::NotLoaded { request, memory, failure } => {
                if let Some(memory) = memory {
                    // SAFETY: created by this process, mapped by nobody else: detaching frees it.
                    unsafe { pg_sys::dsm_detach(memory.segment()) };
                }
                self.fail(&request, &failure);
            }
            Message::Log(text) => pgrx::log!("s3vector: {text}"),
            Message::Failed(text) => {
                if let Some(counters) = counters::get() {
                    counters.set_last_error(&text);
                }
                self.complaints.log(&text);
            }
        }
    }

    /// Tells who waits for a graph that it could not be loaded.
    fn fail(&mut self, request: &registry::Request, failure: &Failure) {
        if self.reload.refused(request, failure) {
            return;
        }
        if let Some(counters) = counters::get() {
            counters.set_last_error(&failure.message);
        }
        pgrx::log!(
            "s3vector: could not load segment {}: {}",
            request.segment_uuid,
            failure.message
        );
        registry::fail(request, failure);
    }
}

/// A DSM segment to load a graph into.
fn create_memory(bytes: usize) -> Result<Memory, Failure> {
    PgTryBuilder::new(|| {
        // SAFETY: outside a transaction the segment belongs to the process; it is detached or
        // pinned when the load ends.
        unsafe {
            let segment = pg_sys::dsm_create(bytes, 0);
            let address = pg_sys::dsm_segment_address(segment);
            Ok(Memory::new(segment, address.cast(), bytes))
        }
    })
    .catch_others(|error| {
        // SAFETY: outside a transaction nobody else releases what the failed call may hold.
        unsafe { pg_sys::LWLockReleaseAll() };
        let cause = match &error {
            pg_sys::panic::CaughtError::PostgresError(report)
            | pg_sys::panic::CaughtError::ErrorReport(report)
            | pg_sys::panic::CaughtError::RustPanic { ereport: report, .. } => {
                report.message().to_owned()
            }
        };
        Err(Failure::new(
            FailureKind::Memory,
            "could not get shared memory for the graph of an index segment",
        )
        .detail(format!("{} MB were asked for: {cause}.", bytes.div_ceil(1 << 20)))
        .hint(
            "Enlarge the shared memory file system (/dev/shm; in a container its --shm-size), or \
             create the index with fewer bits or a smaller m.",
        ))
    })
    .execute()
}
