//! The storage worker's side of the registry: takes requests over, makes room, reports what became of
//! them.

use std::sync::atomic::Ordering;

use pgrx::pg_sys;
use uuid::Uuid;

use super::{Access, Entry, LATEST_RELOAD, SLOTS, State, shared};
use crate::errors::{Failure, FailureKind};

/// A segment the worker shall load.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Folder of the index.
    pub index_uuid: Uuid,
    /// The segment.
    pub segment_uuid: Uuid,
}

impl Access {
    /// The slot of a segment that the worker is loading: it stays the segment's until the worker says
    /// what has become of it.
    fn loading(&self, request: &Request) -> Option<usize> {
        self.find(request.segment_uuid).filter(|&slot| self.get(slot).state == State::Loading)
    }
}

/// Requests a graph that had been used `uses` times before the restart, unless it is here or
/// nothing is free; returns whether it has. Until a query uses the graph, it is the first to be dropped, the less
/// used the sooner.
pub fn reload(index_uuid: Uuid, segment_uuid: Uuid, uses: u64) -> bool {
    let mut access = Access::exclusive();
    if let Some(slot) = access.find(segment_uuid) {
        access.shared.slots[slot].uses.fetch_add(uses, Ordering::Relaxed);
        return false;
    }
    let Some(slot) = access.loose(State::Free) else { return false };
    access.renew(slot);
    let guarded = access.get_mut(slot);
    guarded.index_uuid = index_uuid.into_bytes();
    guarded.segment_uuid = segment_uuid.into_bytes();
    guarded.state = State::Requested;
    let slot = &access.shared.slots[slot];
    slot.uses.store(uses, Ordering::Relaxed);
    slot.last_used.store(uses.min(LATEST_RELOAD as u64) as i64, Ordering::Relaxed);
    true
}

/// Takes over every request.
pub fn take_requests() -> Vec<Request> {
    let waiting = |entry: &Entry| entry.state == State::Requested;
    if !Access::share().entries().any(|entry| waiting(&entry)) {
        return Vec::new();
    }
    let mut access = Access::exclusive();
    let found: Vec<Entry> = access.entries().filter(waiting).collect();
    for entry in &found {
        access.get_mut(entry.slot).state = State::Loading;
    }
    let request =
        |entry: Entry| Request { index_uuid: entry.index_uuid, segment_uuid: entry.segment_uuid };
    found.into_iter().map(request).collect()
}

/// Drops the least recently used graphs until `bytes` more fit into `budget`. For a graph that
/// nobody has asked for nothing is dropped.
pub fn make_room(request: &Request, bytes: u64, budget: u64) -> Result<(), Failure> {
    if bytes > budget {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        return Err(Failure::new(
            FailureKind::Memory,
            "the graph of an index segment does not fit into s3vector.graph_memory",
        )
        .detail(format!("It takes {} MB of {} MB allowed.", mib(bytes), mib(budget)))
        .hint(
            "Increase s3vector.graph_memory, or create the index with fewer bits or a smaller m.",
        ));
    }
    // What is being loaded at the same time counts when it has finished.
    let mut access = Access::exclusive();
    if access.loading(request).is_some_and(|slot| access.is_wanted(slot)) {
        access.shrink(budget - bytes);
    } else if access.used() + bytes > budget {
        let message = "s3vector.graph_memory has no room to load it again";
        return Err(Failure::new(FailureKind::Memory, message));
    }
    Ok(())
}

/// Drops graphs that were to be dropped before and that somebody counted on, until those that are left fit
/// into `budget`.
pub fn drop_released(budget: u64) {
    if shared().crowded.load(Ordering::Relaxed) {
        Access::exclusive().shrink(budget);
    }
}

/// A graph is in memory, in a pinned segment, which belongs to the registry from now on. Drops others
/// when they do not all fit into `budget`: another one may have been loaded meanwhile.
pub fn finish(request: &Request, handle: pg_sys::dsm_handle, bytes: u64, budget: u64) {
    let mut access = Access::exclusive();
    let Some(slot) = access.loading(request) else {
        // SAFETY: the segment was pinned for the registry, which has no use for it.
        unsafe { pg_sys::dsm_unpin_segment(handle) };
        return;
    };
    let guarded = access.get_mut(slot);
    guarded.handle = handle;
    guarded.bytes = bytes;
    guarded.state = State::Ready;
    access.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
    access.shrink(budget);
    access.wake_waiters(slot);
}

/// A graph could not be loaded.
pub fn fail(request: &Request, failure: &Failure) {
    let mut access = Access::exclusive();
    let Some(slot) = access.loading(request) else { return };
    let guarded = access.get_mut(slot);
    guarded.failures += 1;
    guarded.failure.set(failure);
    guarded.state = State::Failed;
    access.wake_waiters(slot);
}

/// Gives up a graph that it has requested itself. A query that waits for it meanwhile asks
/// anew, and learns what is wrong.
pub fn withdraw(request: &Request) {
    let mut access = Access::exclusive();
    let Some(slot) = access.loading(request) else { return };
    access.release(slot);
    access.wake_waiters(slot);
}

/// After a restart, what the last worker was loading is to be loaded again.
pub fn restart_loads() {
    let mut access = Access::exclusive();
    for slot in 0..SLOTS {
        let guarded = access.get_mut(slot);
        if guarded.state == State::Loading {
            guarded.state = State::Requested;
        }
    }
}
