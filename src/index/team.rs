//! Parallel workers that help to read the table of a build: detoasting, visibility and expressions are
//! theirs, rows travel through a queue each.
//!
//! ```text
//!   worker ─ its part of the scan ─▶ Outbox ─▶ shm_mq ─▶ Team::receive ─▶ the builder's sink
//! ```

use std::ffi::{CStr, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pgrx::pg_sys::{self, shm_mq_result};
use pgrx::prelude::*;

use super::options;
use super::table::{self, Sink};
use crate::threads::wait_for_latch;

/// Bytes of a worker's queue: some milliseconds of its work.
const QUEUE_BYTES: usize = 1 << 20;
/// A worker sends rows when it has this many bytes of them.
const MESSAGE_BYTES: usize = 1 << 16;
/// How long to sleep at most while there is nothing to receive, in milliseconds.
const PATIENCE_MS: i64 = 100;

/// Keys of the table of contents.
const SHARED: u64 = 1;
const SCAN: u64 = 2;
const QUEUES: u64 = 3;
const USAGE: u64 = 4;
const QUERY: u64 = 5;

/// What the builder tells the workers, and they it.
#[repr(C)]
struct Shared {
    heap: pg_sys::Oid,
    index: pg_sys::Oid,
    concurrent: bool,
    query_id: i64,
    heap_tuples: AtomicU64,
    broken_hot_chain: AtomicBool,
}

/// What a worker has used, for those who count it by query.
#[repr(C)]
#[derive(Clone, Copy)]
struct Usage {
    buffers: pg_sys::BufferUsage,
    wal: pg_sys::WalUsage,
}

/// The workers of a build, as the builder sees them. Must be [dismissed](Team::dismiss); after an error
/// PostgreSQL ends them with the transaction.
pub struct Team {
    context: *mut pg_sys::ParallelContext,
    snapshot: pg_sys::Snapshot,
    concurrent: bool,
    dimensions: usize,
    /// Queues that are not at their end.
    queues: Vec<*mut pg_sys::shm_mq_handle>,
}

impl Team {
    /// Starts `workers` workers, or fewer when PostgreSQL has no more; `None` when it has no memory for
    /// them.
    ///
    /// # Safety
    /// As for [`table::scan`].
    pub unsafe fn call(
        heap: pg_sys::Relation,
        index: pg_sys::Relation,
        info: *mut pg_sys::IndexInfo,
        workers: i32,
        dimensions: usize,
    ) -> Option<Self> {
        // SAFETY: the sequence that access/parallel.h describes; relations and structure are
        // valid by the contract. All of the shared memory asked for is laid out before workers run.
        unsafe {
            let concurrent = (*info).ii_Concurrent;
            let query = CStr::from_ptr(match pg_sys::debug_query_string {
                text if text.is_null() => c"".as_ptr(),
                text => text,
            });
            pg_sys::EnterParallelMode();
            let context = pg_sys::CreateParallelContext(
                c"s3vector".as_ptr(),
                c"s3vector_build_worker".as_ptr(),
                workers,
            );
            let snapshot = match concurrent {
                true => pg_sys::RegisterSnapshot(pg_sys::GetTransactionSnapshot()),
                false => &raw mut pg_sys::SnapshotAnyData,
            };
            let many = workers as usize;
            let scan_bytes = pg_sys::table_parallelscan_estimate(heap, snapshot);
            let sizes = [
                (SHARED, size_of::<Shared>()),
                (SCAN, scan_bytes),
                (QUEUES, many * QUEUE_BYTES),
                (USAGE, many * size_of::<Usage>()),
                (QUERY, query.to_bytes_with_nul().len()),
            ];
            for (_, bytes) in sizes {
                (*context).estimator.space_for_chunks +=
                    bytes.next_multiple_of(pg_sys::ALIGNOF_BUFFER as usize);
                (*context).estimator.number_of_keys += 1;
            }
            pg_sys::InitializeParallelDSM(context);
            let mut team = Self { context, snapshot, concurrent, dimensions, queues: Vec::new() };
            if (*context).seg.is_null() {
                team.leave();
                return None;
            }
            for (key, bytes) in sizes {
                let chunk = pg_sys::shm_toc_allocate((*context).toc, bytes);
                pg_sys::shm_toc_insert((*context).toc, key, chunk);
            }
            team.chunk::<Shared>(SHARED).write(Shared {
                heap: (*heap).rd_id,
                index: (*index).rd_id,
                concurrent,
                query_id: pg_sys::pgstat_get_my_query_id(),
                heap_tuples: AtomicU64::new(0),
                broken_hot_chain: AtomicBool::new(false),
            });
            pg_sys::table_parallelscan_initialize(heap, team.chunk(SCAN), snapshot);
            let text = query.to_bytes_with_nul();
            team.chunk::<u8>(QUERY).copy_from_nonoverlapping(text.as_ptr(), text.len());
            let queues = team.chunk(QUEUES);
            for number in 0..many {
                let queue = pg_sys::shm_mq_create(queue(queues, number), QUEUE_BYTES);
                pg_sys::shm_mq_set_receiver(queue, pg_sys::MyProc);
            }
            pg_sys::LaunchParallelWorkers(context);
            for number in 0..(*context).nworkers_launched as usize {
                let worker = (*(*context).worker.add(number)).bgwhandle;
                let queue = queue(queues, number).cast();
                team.queues.push(pg_sys::shm_mq_attach(queue, (*context).seg, worker));
            }
            Some(team)
        }
    }

    /// A part of the scan for this process.
    ///
    /// # Safety
    /// `heap` is the relation that the team was called for.
    pub unsafe fn part(&self, heap: pg_sys::Relation) -> pg_sys::TableScanDesc {
        // SAFETY: by the contract; laid out by `call`.
        unsafe { pg_sys::table_beginscan_parallel(heap, self.chunk(SCAN)) }
    }

    /// Rows that the builder should read itself between two looks at what workers have sent: fewer than
    /// a message has, for a worker whose queue is full waits.
    pub fn stride(&self) -> usize {
        (message_rows(self.dimensions) / 4).clamp(1, 16)
    }

    /// Hands on a message of each worker that has sent one; whether there was any. No more than one:
    /// a worker faster than this process would keep it from the others, and from its own part.
    pub fn receive(&mut self, sink: &mut Sink<'_>) -> bool {
        let (mut any, dimensions) = (false, self.dimensions);
        self.queues.retain(|&queue| {
            pgrx::check_for_interrupts!();
            let (mut bytes, mut data) = (0, null_mut());
            // SAFETY: an attached queue. What comes out is a whole message of an `Outbox`, aligned
            // as PostgreSQL aligns everything, and stays until the next call.
            unsafe {
                match pg_sys::shm_mq_receive(queue, &mut bytes, &mut data, true) {
                    shm_mq_result::SHM_MQ_SUCCESS => {
                        any = true;
                        unpack(data, bytes, dimensions, sink);
                        true
                    }
                    shm_mq_result::SHM_MQ_WOULD_BLOCK => true,
                    _ => false,
                }
            }
        });
        any
    }

    /// Hands on all that workers send until they are done.
    pub fn receive_all(&mut self, sink: &mut Sink<'_>) {
        while !self.queues.is_empty() {
            if !self.receive(sink) && !self.queues.is_empty() {
                wait_for_latch(PATIENCE_MS);
            }
        }
    }

    /// Waits for the workers to end, raising what one has failed with; returns the heap tuples they
    /// have seen.
    pub fn dismiss(self, info: &mut pg_sys::IndexInfo) -> f64 {
        // SAFETY: the context is live; what workers have written is complete when they have ended.
        unsafe {
            pg_sys::WaitForParallelWorkersToFinish(self.context);
            for number in 0..(*self.context).nworkers_launched as usize {
                let usage = self.chunk::<Usage>(USAGE).add(number);
                pg_sys::InstrAccumParallelQuery(&raw mut (*usage).buffers, &raw mut (*usage).wal);
            }
            let shared = &*self.chunk::<Shared>(SHARED);
            info.ii_BrokenHotChain |= shared.broken_hot_chain.load(Ordering::Acquire);
            let tuples = shared.heap_tuples.load(Ordering::Acquire) as f64;
            self.leave();
            tuples
        }
    }

    /// Ends parallel mode.
    ///
    /// # Safety
    /// No worker runs, and nothing of the shared memory is used any more.
    unsafe fn leave(&self) {
        // SAFETY: undoes, in reverse, what `call` has begun.
        unsafe {
            if self.concurrent {
                pg_sys::UnregisterSnapshot(self.snapshot);
            }
            pg_sys::DestroyParallelContext(self.context);
            pg_sys::ExitParallelMode();
        }
    }

    /// Where a chunk of the shared memory is.
    fn chunk<T>(&self, key: u64) -> *mut T {
        // SAFETY: `call` has inserted every key.
        unsafe { chunk((*self.context).toc, key) }
    }
}

/// Where a chunk of the shared memory is.
///
/// # Safety
/// `contents` is a team's, and the key has been inserted.
unsafe fn chunk<T>(contents: *mut pg_sys::shm_toc, key: u64) -> *mut T {
    // SAFETY: by the contract.
    unsafe { pg_sys::shm_toc_lookup(contents, key, false).cast() }
}

/// Where a worker's queue is, in the chunk of all of them.
fn queue(queues: *mut u8, number: usize) -> *mut c_void {
    queues.wrapping_add(number * QUEUE_BYTES).cast()
}

/// Entry point of a worker.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn s3vector_build_worker(
    segment: *mut pg_sys::dsm_segment,
    contents: *mut pg_sys::shm_toc,
) {
    // SAFETY: PostgreSQL passes what `Team::call` has laid out; locks are of the kind that the
    // builder holds, which this process shares as a member of its lock group.
    unsafe {
        let number = pg_sys::ParallelWorkerNumber as usize;
        let shared = &*chunk::<Shared>(contents, SHARED);
        // For the log and for views.
        pg_sys::debug_query_string = chunk(contents, QUERY);
        let running = pg_sys::BackendState::STATE_RUNNING;
        pg_sys::pgstat_report_activity(running, pg_sys::debug_query_string);
        pg_sys::pgstat_report_query_id(shared.query_id, false);
        let (heap_lock, index_lock) = match shared.concurrent {
            false => (pg_sys::ShareLock, pg_sys::AccessExclusiveLock),
            true => (pg_sys::ShareUpdateExclusiveLock, pg_sys::RowExclusiveLock),
        };
        let heap = pg_sys::table_open(shared.heap, heap_lock as i32);
        let index = pg_sys::index_open(shared.index, index_lock as i32);
        let info = pg_sys::BuildIndexInfo(index);
        (*info).ii_Concurrent = shared.concurrent;
        let parameters = options::parameters(index);

        let queue: *mut pg_sys::shm_mq = queue(chunk(contents, QUEUES), number).cast();
        pg_sys::shm_mq_set_sender(queue, pg_sys::MyProc);
        let queue = pg_sys::shm_mq_attach(queue, segment, null_mut());
        let mut outbox = Outbox::new(queue, parameters.dimensions);

        pg_sys::InstrStartParallelQuery();
        let part = pg_sys::table_beginscan_parallel(heap, chunk(contents, SCAN));
        let mut send = |tid: u64, vector: &[f32]| outbox.push(tid, vector);
        let tuples = table::scan_part(heap, index, info, part, &parameters, &mut send);
        outbox.flush();
        let usage = chunk::<Usage>(contents, USAGE).add(number);
        pg_sys::InstrEndParallelQuery(&raw mut (*usage).buffers, &raw mut (*usage).wal);

        shared.heap_tuples.fetch_add(tuples as u64, Ordering::AcqRel);
        shared.broken_hot_chain.fetch_or((*info).ii_BrokenHotChain, Ordering::AcqRel);
        pg_sys::shm_mq_detach(queue);
        pg_sys::index_close(index, index_lock as i32);
        pg_sys::table_close(heap, heap_lock as i32);
    }
}

/// Collects rows into messages. A row is its tid's lower and upper half and its elements.
struct Outbox {
    queue: *mut pg_sys::shm_mq_handle,
    message: Vec<u32>,
    /// Elements of a message that is full.
    full: usize,
}

impl Outbox {
    fn new(queue: *mut pg_sys::shm_mq_handle, dimensions: usize) -> Self {
        let full = message_rows(dimensions) * row_elements(dimensions);
        Self { queue, message: Vec::with_capacity(full), full }
    }

    fn push(&mut self, tid: u64, vector: &[f32]) {
        self.message.extend([tid as u32, (tid >> 32) as u32]);
        self.message.extend(vector.iter().map(|element| element.to_bits()));
        if self.message.len() >= self.full {
            self.flush();
        }
    }

    /// Sends what there is; waits for room in the queue, and raises an error when nobody reads it.
    fn flush(&mut self) {
        if self.message.is_empty() {
            return;
        }
        let (bytes, data) = (size_of_val(&self.message[..]), self.message.as_ptr().cast());
        // SAFETY: an attached queue and a live buffer, which is copied.
        match unsafe { pg_sys::shm_mq_send(self.queue, bytes, data, false, false) } {
            shm_mq_result::SHM_MQ_SUCCESS => self.message.clear(),
            _ => pgrx::error!("could not send rows to the process that builds the index"),
        }
    }
}

/// Rows of a message that is full.
fn message_rows(dimensions: usize) -> usize {
    (MESSAGE_BYTES / size_of::<u32>() / row_elements(dimensions)).max(1)
}

/// Elements of a row in a message.
fn row_elements(dimensions: usize) -> usize {
    size_of::<u64>() / size_of::<u32>() + dimensions
}

/// Hands the rows of a message to `sink`.
///
/// # Safety
/// `data` points to `bytes` bytes of an [`Outbox`]'s message, aligned for `u32`.
unsafe fn unpack(data: *const c_void, bytes: usize, dimensions: usize, sink: &mut Sink<'_>) {
    // SAFETY: by the contract; any bits are a valid u32 and a valid f32.
    let (words, elements) = unsafe {
        let count = bytes / size_of::<u32>();
        (
            std::slice::from_raw_parts(data.cast::<u32>(), count),
            std::slice::from_raw_parts(data.cast::<f32>(), count),
        )
    };
    let row = row_elements(dimensions);
    for (words, elements) in words.chunks_exact(row).zip(elements.chunks_exact(row)) {
        let tid = u64::from(words[0]) | u64::from(words[1]) << 32;
        sink(tid, &elements[row - dimensions..]);
    }
}
