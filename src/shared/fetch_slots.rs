//! Fetch slots: how a backend asks the storage worker for exact distances.
//!
//! Every backend has one slot. It writes a request (query, rows), raises the state to
//! `requested` and sleeps on its latch. The worker's main thread copies the request out and lets
//! a thread serve it; that thread writes the answer and wakes the backend. The state word holds
//! the request's number beside the phase, so an answer to a request that was given up meanwhile
//! (cancelled, timed out) finds another number and is dropped.
//!
//! ```text
//!   backend:  idle ─▶ requested ............................. answered ─▶ idle
//!   worker:              └────▶ serving ─▶ writing ─────────────┘
//! ```

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use distance::{Interval, Metric};
use pgrx::pg_sys;
use uuid::Uuid;

use super::text::StoredFailure;
use super::{counters, registry};
use crate::errors::{Failure, FailureKind};
use crate::threads::{wait_for_latch, wake};

/// Rows one request can ask for.
pub const MAX_ROWS: usize = 1024;
/// Segments one request can name.
pub const MAX_SEGMENTS: usize = 256;
/// Elements a query can have: pgvector's limit for a column.
pub const MAX_DIMENSIONS: usize = 16_000;

/// How often a waiting backend looks around, in milliseconds.
const WAIT_MS: i64 = 200;

const PHASE_BITS: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
enum Phase {
    Idle = 0,
    Requested = 1,
    Serving = 2,
    Writing = 3,
    Answered = 4,
}

fn word(number: u64, phase: Phase) -> u64 {
    number << PHASE_BITS | phase as u64
}

/// A slot in use: its state word, which lies with those of all other slots so that the worker can
/// look through them quickly, and the rest.
#[derive(Clone, Copy)]
struct Slot {
    state: &'static AtomicU64,
    body: &'static Body,
}

#[repr(C)]
struct Body {
    latch: AtomicPtr<pg_sys::Latch>,
    request: UnsafeCell<StoredRequest>,
    answer: UnsafeCell<StoredAnswer>,
}

#[repr(C)]
struct StoredRequest {
    metric: u32,
    dimensions: u32,
    segments: u32,
    rows: u32,
    timeout_ms: u64,
    segment: [[u8; 32]; MAX_SEGMENTS],
    row: [RowRef; MAX_ROWS],
    query: [f32; MAX_DIMENSIONS],
}

#[repr(C)]
struct StoredAnswer {
    ok: u32,
    fetched: Fetched,
    distance: [Interval; MAX_ROWS],
    failure: StoredFailure,
}

/// A row of one of the segments a request names.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowRef {
    /// Number of the segment in the request's list.
    pub segment: u32,
    /// Row of the segment.
    pub row: u32,
}

/// What a backend asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// How to measure.
    pub metric: Metric,
    /// The query as the user gave it.
    pub query: &'a [f32],
    /// Folder of the index and segment, for each segment named: at most [`MAX_SEGMENTS`].
    pub segments: &'a [(Uuid, Uuid)],
    /// Rows: at most [`MAX_ROWS`].
    pub rows: &'a [RowRef],
}

/// A request as the worker takes it: a copy, independent of shared memory.
#[derive(Clone, Debug)]
pub struct Request {
    /// Number of the slot to answer to.
    pub slot: usize,
    /// The request's number.
    pub number: u64,
    /// How to measure.
    pub metric: Metric,
    /// The query as the user gave it.
    pub query: Vec<f32>,
    /// Folder of the index and segment, for each segment named.
    pub segments: Vec<(Uuid, Uuid)>,
    /// Rows wanted.
    pub rows: Vec<RowRef>,
    /// How long the backend will wait.
    pub timeout: Duration,
}

/// What a fetch took, beside bringing the distances.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Fetched {
    /// Requests made to the store, hedges among them.
    pub requests: u32,
    /// Of those, made because another was slow.
    pub hedges: u32,
    /// Inner chunks brought.
    pub chunks: u32,
    /// Of those, found in Redis.
    pub redis_chunks: u32,
    /// Bytes received from the store.
    pub bytes: u64,
}

static mut STATES: *mut AtomicU64 = ptr::null_mut();
static mut BODIES: *mut Body = ptr::null_mut();

fn count() -> usize {
    // SAFETY: fixed before shared memory is requested.
    unsafe { pg_sys::MaxBackends as usize }
}

fn states_size() -> usize {
    (count() * size_of::<AtomicU64>()).next_multiple_of(64)
}

/// Bytes of shared memory needed. Most of it is never touched and so never resident.
pub fn size() -> usize {
    states_size() + count() * size_of::<Body>()
}

/// Takes the memory into use.
///
/// # Safety
/// Only in the postmaster's startup hook; `area` is [`size`] bytes, zero when new.
pub unsafe fn attach(area: *mut u8) {
    // SAFETY: by the contract; all zeroes are idle slots.
    unsafe {
        STATES = area.cast();
        BODIES = area.add(states_size()).cast();
    }
}

fn slot(number: usize) -> Slot {
    super::require();
    assert!(number < count(), "no fetch slot {number}");
    // SAFETY: `require` has checked that the pointers are set; the number is in range.
    unsafe { at(number) }
}

/// The slot, from any thread: nothing is checked that could raise an error.
///
/// # Safety
/// [`attach`] has set the pointers, and `number` is below [`count`].
unsafe fn at(number: usize) -> Slot {
    // SAFETY: by the contract both lie within the area.
    unsafe { Slot { state: &*STATES.add(number), body: &*BODIES.add(number) } }
}

/// Backend: fetches rows through the worker and returns their distances, in the order asked.
///
/// # Errors
/// The worker's, or one of its own when the worker does not answer in time.
pub fn fetch(
    wanted: &Wanted<'_>,
    timeout: Duration,
    distances: &mut Vec<Interval>,
) -> Result<Fetched, Failure> {
    let fits = wanted.rows.len() <= MAX_ROWS && wanted.segments.len() <= MAX_SEGMENTS;
    assert!(fits, "fetch too large");
    // SAFETY: set for every backend; the latch is this process's own.
    let (own, latch) = unsafe { (pg_sys::MyProcNumber as usize, pg_sys::MyLatch) };
    let slot = slot(own);
    slot.body.latch.store(latch, Ordering::Release);
    let started = Instant::now();
    loop {
        let starts = worker_starts();
        let number = begin(slot);
        // SAFETY: the phase is idle: neither the worker nor a thread of it looks at the slot.
        unsafe {
            (*slot.body.request.get()).fill(wanted, timeout);
        }
        let abandon = Abandon { slot, number };
        slot.state.store(word(number, Phase::Requested), Ordering::Release);
        if let Some(counters) = counters::get() {
            counters.wake_worker();
        }
        if await_answer(slot, number, starts, started, timeout)? {
            // SAFETY: the phase is answered: the writer has let go of the answer.
            let answer = unsafe { &*slot.body.answer.get() };
            if answer.ok == 0 {
                return Err(answer.failure.get());
            }
            distances.clear();
            distances.extend_from_slice(&answer.distance[..wanted.rows.len()]);
            let fetched = answer.fetched;
            drop(abandon);
            return Ok(fetched);
        }
        // The worker was restarted under way: ask the new one.
    }
}

/// Gives the slot the next number and waits out a thread that is still writing an old answer.
fn begin(slot: Slot) -> u64 {
    loop {
        let old = slot.state.load(Ordering::Acquire);
        let number = (old >> PHASE_BITS) + 1;
        let writing = old == word(old >> PHASE_BITS, Phase::Writing);
        if !writing
            && slot
                .state
                .compare_exchange(
                    old,
                    word(number, Phase::Idle),
                    Ordering::AcqRel,
                    Ordering::Acquire,
                )
                .is_ok()
        {
            return number;
        }
        std::hint::spin_loop();
        pgrx::check_for_interrupts!();
    }
}

/// Sleeps until the answer is there (true) or the worker has been restarted (false).
fn await_answer(
    slot: Slot,
    number: u64,
    starts: u64,
    started: Instant,
    timeout: Duration,
) -> Result<bool, Failure> {
    let mut idle_since = None;
    loop {
        if slot.state.load(Ordering::Acquire) == word(number, Phase::Answered) {
            return Ok(true);
        }
        if worker_starts() != starts {
            return Ok(false);
        }
        // The worker keeps the time limit itself; this one is for a worker that hangs.
        if started.elapsed() > timeout + Duration::from_secs(5) {
            let message = "the s3vector storage worker does not answer";
            return Err(Failure::new(FailureKind::Timeout, message)
                .detail(format!("Waited {} ms.", started.elapsed().as_millis())));
        }
        if registry::worker_runs() {
            idle_since = None;
        } else if idle_since.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(5) {
            return Err(registry::no_worker());
        }
        wait_for_latch(WAIT_MS);
        pgrx::check_for_interrupts!();
    }
}

fn worker_starts() -> u64 {
    counters::get().map_or(0, |counters| counters.worker_starts.load(Ordering::Acquire))
}

/// Gives a request up, unless it was answered, when the backend leaves for whatever reason.
struct Abandon {
    slot: Slot,
    number: u64,
}

impl Drop for Abandon {
    fn drop(&mut self) {
        for phase in [Phase::Requested, Phase::Serving, Phase::Answered] {
            let idle = word(self.number, Phase::Idle);
            let expected = word(self.number, phase);
            // A thread that is writing right now finishes; `begin` waits for it.
            let _ = self.slot.state.compare_exchange(
                expected,
                idle,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
        }
    }
}

impl StoredRequest {
    fn fill(&mut self, wanted: &Wanted<'_>, timeout: Duration) {
        let Wanted { metric, query, segments, rows } = *wanted;
        self.metric = metric as u32;
        self.dimensions = query.len() as u32;
        self.segments = segments.len() as u32;
        self.rows = rows.len() as u32;
        self.timeout_ms = timeout.as_millis() as u64;
        for (stored, (index, segment)) in self.segment.iter_mut().zip(segments) {
            stored[..16].copy_from_slice(index.as_bytes());
            stored[16..].copy_from_slice(segment.as_bytes());
        }
        self.row[..rows.len()].copy_from_slice(rows);
        self.query[..query.len()].copy_from_slice(query);
    }

    fn take(&self, slot: usize, number: u64) -> Request {
        let uuid = |bytes: &[u8]| Uuid::from_slice(bytes).unwrap_or_default();
        Request {
            slot,
            number,
            metric: Metric::from_u8(self.metric as u8).unwrap_or(Metric::L2),
            query: self.query[..(self.dimensions as usize).min(MAX_DIMENSIONS)].to_vec(),
            segments: self.segment[..(self.segments as usize).min(MAX_SEGMENTS)]
                .iter()
                .map(|both| (uuid(&both[..16]), uuid(&both[16..])))
                .collect(),
            rows: self.row[..(self.rows as usize).min(MAX_ROWS)].to_vec(),
            timeout: Duration::from_millis(self.timeout_ms),
        }
    }
}

/// Worker: after a restart, frees the slots that a thread of the last worker was at when it ended.
/// Backends notice the restart and ask again.
pub fn restart() {
    for number in 0..count() {
        let slot = slot(number);
        let state = slot.state.load(Ordering::Acquire);
        let request = state >> PHASE_BITS;
        if [Phase::Serving, Phase::Writing].map(|phase| word(request, phase)).contains(&state) {
            let idle = word(request, Phase::Idle);
            // Else the backend has given it up at this moment.
            let _ = slot.state.compare_exchange(state, idle, Ordering::AcqRel, Ordering::Acquire);
        }
    }
}

/// Worker: takes over every request that waits.
pub fn take_requests() -> Vec<Request> {
    let mut taken = Vec::new();
    for number in 0..count() {
        let slot = slot(number);
        let state = slot.state.load(Ordering::Acquire);
        let request = state >> PHASE_BITS;
        if state != word(request, Phase::Requested) {
            continue;
        }
        // SAFETY: in this phase the backend only waits; should it give up while the copy is
        // made, the exchange below fails and the copy is thrown away.
        let copy = unsafe { (*slot.body.request.get()).take(number, request) };
        let serving = word(request, Phase::Serving);
        if slot.state.compare_exchange(state, serving, Ordering::AcqRel, Ordering::Acquire).is_ok()
        {
            taken.push(copy);
        }
    }
    taken
}

/// Worker, from any thread: answers a request and wakes its backend. An answer to a request that
/// was given up is dropped.
pub fn answer(request: &Request, result: &Result<(Vec<Interval>, Fetched), Failure>) {
    // SAFETY: the number came from `take_requests`, which has been through `slot`.
    let slot = unsafe { at(request.slot) };
    let serving = word(request.number, Phase::Serving);
    let writing = word(request.number, Phase::Writing);
    if slot.state.compare_exchange(serving, writing, Ordering::AcqRel, Ordering::Acquire).is_err() {
        return;
    }
    // SAFETY: in the phase `writing` this thread alone touches the answer.
    let answer = unsafe { &mut *slot.body.answer.get() };
    match result {
        Ok((distances, fetched)) => {
            answer.ok = 1;
            answer.fetched = *fetched;
            answer.distance[..distances.len()].copy_from_slice(distances);
        }
        Err(failure) => {
            answer.ok = 0;
            answer.failure.set(failure);
        }
    }
    let latch = slot.body.latch.load(Ordering::Acquire);
    slot.state.store(word(request.number, Phase::Answered), Ordering::Release);
    wake(latch);
}
