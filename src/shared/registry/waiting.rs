//! A backend's side of the registry: asks for graphs and waits for them.

use pgrx::pg_sys;
use uuid::Uuid;

use super::pin::Pin;
use super::{
    Access, Entry, Guarded, SLOTS, State, is_current, no_worker, note_interest, shared, worker_runs,
};
use crate::errors::{Failure, FailureKind};
use crate::faults::fault_point;
use crate::shared::counters;

/// How often a waiting backend looks whether the worker is still there, in milliseconds.
const WAIT_MS: i64 = 200;
/// How long a backend waits for a worker that is not running, in milliseconds.
const WORKER_GRACE_MS: i64 = 5_000;
/// How often a backend asks for a graph whose loading others have given up.
const ATTEMPTS: usize = 10;

/// A graph in memory, which is not dropped as long as this lives.
pub struct Pinned {
    entry: Entry,
    _pin: Pin,
}

impl Pinned {
    /// Where it is.
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Drops a graph that is not what the registry says it is, so that it is loaded anew.
    pub fn discard(self) {
        let mut access = Access::exclusive();
        let Entry { slot, generation, .. } = self.entry;
        // Another one may have dropped it already.
        if is_current(slot, generation) && access.get(slot).state == State::Ready {
            access.release(slot);
            access.wake_waiters(slot);
        }
    }
}

/// The graph of a segment; has it loaded and waits when it is not in memory. Raises the error that kept
/// it from being loaded.
pub fn obtain(index_uuid: Uuid, segment_uuid: Uuid) -> Pinned {
    for _ in 0..ATTEMPTS {
        let wait = request(index_uuid, segment_uuid);
        fault_point("graph.requested");
        if let Some(pinned) = wait.outcome() {
            return pinned;
        }
    }
    Failure::new(FailureKind::Memory, "could not get the graph of an index segment into memory")
        .detail(format!("Others have given it up {ATTEMPTS} times."))
        .raise()
}

/// A backend's wait for the graph that its pinned slot names.
struct Wait {
    pin: Pin,
    segment_uuid: Uuid,
    /// The slot's failures before.
    failures: u64,
}

impl Wait {
    /// Begins to wait. The lock that `access` holds keeps the slot what it is meanwhile.
    fn begin(access: &Access, slot: usize) -> Self {
        note_interest(slot);
        let Guarded { segment_uuid, failures, .. } = *access.get(slot);
        let pin = Pin::new(access, slot);
        Self { pin, segment_uuid: Uuid::from_bytes(segment_uuid), failures }
    }

    /// The graph; `None` when whoever was loading it has given it up, so that it is to be asked for anew.
    /// Raises the error that kept it from being loaded.
    fn outcome(self) -> Option<Pinned> {
        let slot = self.pin.slot();
        let mut idle_ms = 0;
        loop {
            let access = Access::share();
            let entry = access.entry(slot);
            let guarded = access.get(slot);
            let failure = (guarded.failures != self.failures).then(|| guarded.failure.get());
            drop(access);
            let own = entry.segment_uuid == self.segment_uuid;
            match (entry.state, failure) {
                (State::Ready, _) if own => {
                    cancel_sleep();
                    return Some(Pinned { entry, _pin: self.pin });
                }
                (_, Some(failure)) if own => {
                    cancel_sleep();
                    failure.raise()
                }
                (State::Requested | State::Loading, None) if own => {}
                _ => {
                    cancel_sleep();
                    return None;
                }
            }
            idle_ms = if worker_runs() { 0 } else { idle_ms + WAIT_MS };
            if idle_ms > WORKER_GRACE_MS {
                cancel_sleep();
                no_worker().raise();
            }
            let condition = shared().slots[slot].condition.get();
            // SAFETY: initialised at server start. Interrupts are served while sleeping.
            unsafe {
                pg_sys::ConditionVariableTimedSleep(
                    condition,
                    WAIT_MS as _,
                    pg_sys::PG_WAIT_EXTENSION,
                )
            };
        }
    }
}

fn cancel_sleep() {
    // SAFETY: always allowed; without a prepared sleep it does nothing.
    unsafe { pg_sys::ConditionVariableCancelSleep() };
}

/// Asks for a graph, unless it is in memory or has been asked for.
fn request(index_uuid: Uuid, segment_uuid: Uuid) -> Wait {
    let access = Access::share();
    if let Some(slot) = access.find(segment_uuid)
        && access.get(slot).state != State::Failed
    {
        // It may be a reload that nobody had asked for so far.
        return Wait::begin(&access, slot);
    }
    drop(access);

    let mut access = Access::exclusive();
    let slot = match access.find(segment_uuid) {
        Some(slot) => slot,
        None => take_slot(&mut access),
    };
    let guarded = access.get_mut(slot);
    if matches!(guarded.state, State::Free | State::Failed) {
        guarded.index_uuid = index_uuid.into_bytes();
        guarded.segment_uuid = segment_uuid.into_bytes();
        guarded.state = State::Requested;
    }
    let wait = Wait::begin(&access, slot);
    drop(access);
    if let Some(counters) = counters::get() {
        counters.wake_worker();
    }
    wait
}

/// Makes a slot free: a free one, failing that the slot of a failed load, then of the graph used longest
/// ago.
fn take_slot(access: &mut Access) -> usize {
    let slot = access.loose(State::Free).or_else(|| access.loose(State::Failed));
    match slot.or_else(|| access.least_recently_used()) {
        Some(slot) => {
            access.release(slot);
            slot
        }
        None => Failure::new(FailureKind::Memory, "too many segments are being loaded at once")
            .detail(format!("At most {SLOTS} segments can be in memory."))
            .raise(),
    }
}
