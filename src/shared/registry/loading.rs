//! The storage worker's side of the registry: takes requests over, makes room, reports what became of
//! them.

use std::sync::atomic::Ordering;

use pgrx::pg_sys;
use uuid::Uuid;

use super::{Access, Entry, LATEST_RELOAD, SLOTS, State};
use crate::errors::{Failure, FailureKind};

/// A segment the worker shall load.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Where the result belongs.
    pub slot: usize,
    /// Folder of the index.
    pub index_uuid: Uuid,
    /// The segment.
    pub segment_uuid: Uuid,
}

/// Requests a graph that had been used `uses` times before the restart, unless it is here or
/// nothing is free. Until a query uses it, it is the first to be dropped, the less used the sooner.
pub fn reload(index_uuid: Uuid, segment_uuid: Uuid, uses: u64) {
    let mut access = Access::exclusive();
    if let Some(slot) = access.find(segment_uuid) {
        access.shared.slots[slot].uses.fetch_add(uses, Ordering::Relaxed);
        return;
    }
    let Some(slot) = (0..SLOTS).find(|&slot| access.get(slot).state == State::Free) else { return };
    access.renew(slot);
    let guarded = access.get_mut(slot);
    guarded.index_uuid = index_uuid.into_bytes();
    guarded.segment_uuid = segment_uuid.into_bytes();
    guarded.state = State::Requested;
    let slot = &access.shared.slots[slot];
    slot.uses.store(uses, Ordering::Relaxed);
    slot.last_used.store(uses.min(LATEST_RELOAD as u64) as i64, Ordering::Relaxed);
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
    let request = |entry: Entry| Request {
        slot: entry.slot,
        index_uuid: entry.index_uuid,
        segment_uuid: entry.segment_uuid,
    };
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
    if access.is_wanted(request.slot) {
        access.shrink(budget - bytes, None);
    } else if access.used() + bytes > budget {
        let message = "s3vector.graph_memory has no room to load it again";
        return Err(Failure::new(FailureKind::Memory, message));
    }
    Ok(())
}

/// A graph is in memory, in a pinned segment. Drops others when they do not all fit into
/// `budget`: another one may have been loaded meanwhile.
pub fn finish(request: &Request, handle: pg_sys::dsm_handle, bytes: u64, budget: u64) {
    let mut access = Access::exclusive();
    let guarded = access.get_mut(request.slot);
    guarded.handle = handle;
    guarded.bytes = bytes;
    guarded.state = State::Ready;
    // What somebody waits for stays, a reload gives way.
    let keep = access.is_wanted(request.slot).then_some(request.slot);
    access.shrink(budget, keep);
    access.wake_waiters(request.slot);
}

/// A graph could not be loaded.
pub fn fail(request: &Request, failure: &Failure) {
    let mut access = Access::exclusive();
    let guarded = access.get_mut(request.slot);
    guarded.failure.set(failure);
    guarded.state = State::Failed;
    access.wake_waiters(request.slot);
}

/// Gives up a graph that it has requested itself. A query that waits for it meanwhile asks
/// anew, and learns what is wrong.
pub fn withdraw(request: &Request) {
    let mut access = Access::exclusive();
    access.release(request.slot);
    access.wake_waiters(request.slot);
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
