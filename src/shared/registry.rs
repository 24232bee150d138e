//! The registry: which segments' graphs are in shared memory, and which are wanted.
//!
//! A slot goes `free → requested → loading → ready`, or to `failed`, from where the next request
//! tries again. Backends request and wait; the storage worker loads. After a restart of the server the
//! worker requests what had been in memory before. Slots change under one lock,
//! except that readers check a slot's generation without it: a generation never comes back, so a
//! mapping made under it stays usable exactly as long as the number stands.
//!
//! What is kept over time is the name of a segment, not the number of its slot, which may name another
//! segment a moment later. Who waits for a graph, or maps it, pins the slot: it keeps its segment
//! until the pin is gone, and its graph is not dropped.

mod loading;
mod pin;
mod waiting;

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use pgrx::pg_sys;
use uuid::Uuid;

use super::counters;
use super::lock::{Held, Lock};
use super::text::StoredFailure;
use crate::errors::{Failure, FailureKind};

pub use loading::{
    Request, drop_released, fail, finish, make_room, reload, restart_loads, take_requests, withdraw,
};
pub use pin::register;
pub use waiting::obtain;

/// Graphs that can be in memory at once, over all indexes of the server.
pub const SLOTS: usize = 1024;

/// What is being done with a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// Names nothing.
    #[default]
    Free = 0,
    /// A backend wants the segment.
    Requested = 1,
    /// The worker is reading it.
    Loading = 2,
    /// It can be mapped.
    Ready = 3,
    /// The last attempt failed.
    Failed = 4,
}

impl State {
    /// The name views show.
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Requested => "requested",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }
}

#[repr(C)]
struct Slot {
    generation: AtomicU64,
    last_used: AtomicI64,
    /// How often the graph has been used, fading.
    uses: AtomicU64,
    /// Who counts on the slot. It goes up under the registry's lock only.
    pins: AtomicU32,
    condition: UnsafeCell<pg_sys::ConditionVariable>,
    guarded: UnsafeCell<Guarded>,
}

/// What only changes under the registry's lock.
#[repr(C)]
struct Guarded {
    index_uuid: [u8; 16],
    segment_uuid: [u8; 16],
    bytes: u64,
    state: State,
    handle: pg_sys::dsm_handle,
    /// How often loading has failed since the slot was made, and the latest failure.
    failures: u64,
    failure: StoredFailure,
}

#[repr(C)]
struct Shared {
    slots: [Slot; SLOTS],
    /// Bytes of all graphs in memory; changes under the registry's lock only.
    bytes: AtomicU64,
    /// Whether graphs could not be dropped because somebody counted on them.
    crowded: AtomicBool,
}

static mut SHARED: *mut Shared = ptr::null_mut();
static mut LOCK: Option<Lock> = None;

/// A slot as views and callers see it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Number of the slot.
    pub slot: usize,
    /// Changes whenever the slot is given another content.
    pub generation: u64,
    /// Folder of the index.
    pub index_uuid: Uuid,
    /// The segment.
    pub segment_uuid: Uuid,
    /// What is being done with it.
    pub state: State,
    /// Bytes of shared memory, when ready.
    pub bytes: u64,
    /// How often it has been used; see [`fade`].
    pub uses: u64,
    /// The memory, when ready.
    pub handle: pg_sys::dsm_handle,
}

/// In place of the time at which a graph was last used, reloaded ones have the number of their uses,
/// up to this; any time at which a statement started is later.
const LATEST_RELOAD: i64 = 1 << 32;

/// Bytes of shared memory needed.
pub fn size() -> usize {
    size_of::<Shared>()
}

/// Takes the memory into use.
///
/// # Safety
/// Only in the postmaster's startup hook; `area` is [`size`] bytes, zero when new.
pub unsafe fn attach(area: *mut u8, lock: Lock) {
    // SAFETY: by the contract; all zeroes is a valid `Shared` of free slots.
    unsafe {
        SHARED = area.cast();
        LOCK = Some(lock);
        for slot in &(*SHARED).slots {
            pg_sys::ConditionVariableInit(slot.condition.get());
        }
    }
}

/// Whether the library was preloaded.
pub fn attached() -> bool {
    // SAFETY: set once before processes are forked.
    unsafe { !SHARED.is_null() }
}

fn shared() -> &'static Shared {
    super::require();
    // SAFETY: `require` has checked that the pointer is set.
    unsafe { &*SHARED }
}

/// The guarded part of all slots, for as long as the registry's lock is held.
struct Access {
    shared: &'static Shared,
    exclusive: bool,
    _held: Held,
}

impl Access {
    fn share() -> Self {
        let shared = shared();
        Self { shared, exclusive: false, _held: lock().share() }
    }

    fn exclusive() -> Self {
        let shared = shared();
        Self { shared, exclusive: true, _held: lock().exclusive() }
    }

    fn get(&self, slot: usize) -> &Guarded {
        // SAFETY: the lock is held, and only `get_mut`, which borrows `self` alone, writes.
        unsafe { &*self.shared.slots[slot].guarded.get() }
    }

    fn get_mut(&mut self, slot: usize) -> &mut Guarded {
        assert!(self.exclusive, "registry changed under a share lock");
        // SAFETY: the lock is held exclusively, and `self` is borrowed alone.
        unsafe { &mut *self.shared.slots[slot].guarded.get() }
    }

    fn entry(&self, slot: usize) -> Entry {
        let guarded = self.get(slot);
        Entry {
            slot,
            generation: self.shared.slots[slot].generation.load(Ordering::Acquire),
            index_uuid: Uuid::from_bytes(guarded.index_uuid),
            segment_uuid: Uuid::from_bytes(guarded.segment_uuid),
            state: guarded.state,
            bytes: guarded.bytes,
            uses: self.shared.slots[slot].uses.load(Ordering::Relaxed),
            handle: guarded.handle,
        }
    }

    fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..SLOTS).map(|slot| self.entry(slot)).filter(|entry| entry.state != State::Free)
    }

    fn find(&self, segment: Uuid) -> Option<usize> {
        (0..SLOTS).find(|&slot| {
            let guarded = self.get(slot);
            guarded.state != State::Free && guarded.segment_uuid == *segment.as_bytes()
        })
    }

    /// Gives a slot another content: mappings made under the old generation become stale.
    fn renew(&mut self, slot: usize) {
        self.shared.slots[slot].generation.fetch_add(1, Ordering::AcqRel);
        self.shared.slots[slot].uses.store(0, Ordering::Relaxed);
    }

    /// Whether the slot may be freed or given to another segment.
    fn is_loose(&self, slot: usize) -> bool {
        self.shared.slots[slot].pins.load(Ordering::Acquire) == 0
    }

    /// The first slot in that state that may be given to another segment.
    fn loose(&self, state: State) -> Option<usize> {
        (0..SLOTS).find(|&slot| self.get(slot).state == state && self.is_loose(slot))
    }

    /// Frees a slot and, when it held a graph, the memory as soon as nobody maps it any more.
    fn release(&mut self, slot: usize) {
        self.renew(slot);
        let guarded = self.get_mut(slot);
        let held = (guarded.state == State::Ready).then_some((guarded.handle, guarded.bytes));
        guarded.state = State::Free;
        guarded.bytes = 0;
        if let Some((handle, bytes)) = held {
            self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
            // SAFETY: the segment was pinned when it became ready, and is unpinned once.
            unsafe { pg_sys::dsm_unpin_segment(handle) };
        }
    }

    /// The ready slot used longest ago of those that nobody counts on.
    fn least_recently_used(&self) -> Option<usize> {
        (0..SLOTS)
            .filter(|&slot| self.get(slot).state == State::Ready && self.is_loose(slot))
            .min_by_key(|&slot| self.shared.slots[slot].last_used.load(Ordering::Relaxed))
    }

    /// Bytes of all graphs in memory.
    fn used(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Whether a statement has asked for the graph since it was requested to be loaded again.
    fn is_wanted(&self, slot: usize) -> bool {
        self.shared.slots[slot].last_used.load(Ordering::Relaxed) > LATEST_RELOAD
    }

    /// Drops the graphs used longest ago until all take at most `bytes`, or somebody counts on each.
    fn shrink(&mut self, bytes: u64) {
        while self.used() > bytes
            && let Some(slot) = self.least_recently_used()
        {
            self.release(slot);
        }
        self.shared.crowded.store(self.used() > bytes, Ordering::Relaxed);
    }

    fn wake_waiters(&self, slot: usize) {
        // SAFETY: initialised at server start; the slot's memory lives as long as the server.
        unsafe { pg_sys::ConditionVariableBroadcast(self.shared.slots[slot].condition.get()) };
    }
}

fn lock() -> Lock {
    // SAFETY: set together with SHARED, before processes are forked.
    match unsafe { LOCK } {
        Some(lock) => lock,
        None => unreachable!("the registry's lock is set with its memory"),
    }
}

/// Whether a mapping made under `generation` is still the slot's.
pub fn is_current(slot: usize, generation: u64) -> bool {
    shared().slots[slot].generation.load(Ordering::Acquire) == generation
}

/// Notes that a graph was used now: who is dropped first when memory is short, and who is loaded
/// first after a restart.
pub fn touch(slot: usize) {
    note_interest(slot);
    shared().slots[slot].uses.fetch_add(1, Ordering::Relaxed);
}

/// Notes that the running statement wants a graph.
fn note_interest(slot: usize) {
    // SAFETY: reads a variable of this process.
    let now = unsafe { pg_sys::GetCurrentStatementStartTimestamp() };
    shared().slots[slot].last_used.store(now, Ordering::Relaxed);
}

/// Halves the uses of every graph, so that new ones count for more than old ones.
pub fn fade() {
    for slot in &shared().slots {
        // Never fails: the closure always has a new value.
        let _ = slot.uses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |uses| Some(uses / 2));
    }
}

/// Every slot in use.
pub fn entries() -> Vec<Entry> {
    Access::share().entries().collect()
}

/// Whether a storage worker is running.
pub fn worker_runs() -> bool {
    counters::get().is_some_and(|counters| counters.worker_pid.load(Ordering::Acquire) != 0)
}

/// What to say of a worker that does not come back.
pub fn no_worker() -> Failure {
    Failure::new(FailureKind::Unreachable, "the s3vector storage worker is not running")
        .hint("See the server log for why it stopped; max_worker_processes must leave room for it.")
}

/// Drops a segment's graph, if it is in memory: nothing names the segment any more. Scans under way
/// keep their mappings.
pub fn forget(segment_uuid: Uuid) {
    let mut access = Access::exclusive();
    let slot = access.find(segment_uuid);
    let unused = |&slot: &usize| access.get(slot).state == State::Ready && access.is_loose(slot);
    if let Some(slot) = slot.filter(unused) {
        access.release(slot);
    }
}
