//! Who has asked for maintenance, and what maintenance workers are doing: one slot a database.
//!
//! Backends ask by setting bits and waking the storage worker, which starts a maintenance worker
//! for the database unless one runs already. The slot is how one is told from none.

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use pgrx::pg_sys;

use super::counters;
use super::lock::Lock;
use super::text::Text;

/// Databases that can have maintenance at the same time; the rest waits for a slot.
const SLOTS: usize = 256;

/// To look at every index: flush, merge, pack.
pub const WORK: u32 = 1;
/// To sweep.
pub const SWEEP: u32 = 2;

/// How long a worker may take from being registered to being there, in microseconds.
const START_LIMIT: i64 = 30_000_000;
/// The pause after a worker that somebody has ended, in microseconds.
const TERMINATED_PAUSE: i64 = 4_000_000;
/// The longest pause after failures, in microseconds.
const LONGEST_PAUSE: i64 = 60_000_000;

/// What a database's maintenance is and has done.
#[repr(C)]
pub struct Slot {
    /// The database; 0 is a free slot.
    pub database: AtomicU32,
    /// What has been asked for since a worker last looked.
    wants: AtomicU32,
    /// Process id of the running worker; 0 while there is none.
    pub pid: AtomicI32,
    latch: AtomicPtr<pg_sys::Latch>,
    /// When a worker was registered that is not there yet; 0 when none is awaited.
    registered: AtomicI64,
    /// Nothing is started before this time.
    not_before: AtomicI64,
    /// Failures in a row.
    failures: AtomicU32,
    /// What the worker has taken over and not ended.
    under_way: AtomicU32,
    /// The index that is being worked on; 0 while none is.
    pub index: AtomicU32,
    /// Phase of the job, as `pg_stat_progress_create_index` numbers it; 0 while there is none.
    pub phase: AtomicI64,
    /// How far the phase is.
    pub done: AtomicU64,
    /// How far it has to go.
    pub total: AtomicU64,
    /// Deltas turned into segments.
    pub flushes: AtomicU64,
    /// Merges.
    pub merges: AtomicU64,
    /// Sweeps.
    pub sweeps: AtomicU64,
    /// Passes over the database's indexes.
    pub rounds: AtomicU64,
    /// Passes that failed.
    pub errors: AtomicU64,
    last_error: UnsafeCell<Text<512>>,
}

#[repr(C)]
struct Shared {
    slots: [Slot; SLOTS],
}

static mut SHARED: *mut Shared = ptr::null_mut();
static mut LOCK: Option<Lock> = None;

/// Bytes of shared memory needed.
pub fn size() -> usize {
    size_of::<Shared>()
}

/// Takes the memory into use.
///
/// # Safety
/// Only in the postmaster's startup hook; `area` is [`size`] bytes, zero when new.
pub unsafe fn attach(area: *mut u8, lock: Lock) {
    // SAFETY: by the contract; all zeroes are free slots.
    unsafe {
        SHARED = area.cast();
        LOCK = Some(lock);
    }
}

/// Every slot; none when the library was not preloaded.
fn all() -> &'static [Slot] {
    // SAFETY: set once before processes are forked; the memory lives as long as the server.
    unsafe { SHARED.as_ref() }.map_or(&[], |shared| &shared.slots)
}

/// The slots that are in use.
pub fn slots() -> impl Iterator<Item = &'static Slot> {
    all().iter().filter(|slot| slot.database.load(Ordering::Acquire) != 0)
}

/// The slot of a database, a new one if it has none; `None` when all are taken.
pub fn slot(database: u32) -> Option<&'static Slot> {
    let find = || slots().find(|slot| slot.database.load(Ordering::Acquire) == database);
    if let Some(slot) = find() {
        return Some(slot);
    }
    // SAFETY: set together with SHARED.
    let lock = unsafe { LOCK }?;
    let _held = lock.exclusive();
    find().or_else(|| {
        let idle = |slot: &&Slot| slot.wants.load(Ordering::Acquire) == 0 && !slot.is_taken();
        let free = |slot: &&Slot| slot.database.load(Ordering::Acquire) == 0;
        let slot = all().iter().find(free).or_else(|| all().iter().find(idle))?;
        slot.clear();
        slot.database.store(database, Ordering::Release);
        Some(slot)
    })
}

/// Asks for maintenance of a database: [`WORK`], [`SWEEP`].
pub fn request(database: u32, wants: u32) {
    // SAFETY: set together with SHARED.
    let Some(lock) = (unsafe { LOCK }) else { return };
    let (slot, before) = loop {
        let Some(slot) = slot(database) else { return };
        let _held = lock.share();
        // Nobody had asked for anything so far, so the slot may be another database's by now.
        if slot.database.load(Ordering::Acquire) == database {
            break (slot, slot.wants.fetch_or(wants, Ordering::AcqRel));
        }
    };
    if before & wants == wants {
        return;
    }
    if slot.pid.load(Ordering::Acquire) != 0 {
        slot.wake();
    } else if let Some(counters) = counters::get() {
        counters.wake_worker();
    }
}

/// Whether the maintenance worker of a database is working on an index.
pub fn is_worked_on(database: u32, index: u32) -> bool {
    slots().any(|slot| {
        slot.database.load(Ordering::Acquire) == database
            && slot.index.load(Ordering::Relaxed) == index
    })
}

/// Frees the slots of databases that are gone; `databases` are those that are there.
pub fn forget_others(databases: &[u32]) {
    // SAFETY: set together with SHARED.
    let Some(lock) = (unsafe { LOCK }) else { return };
    let _held = lock.exclusive();
    for slot in slots() {
        if !slot.is_taken() && !databases.contains(&slot.database.load(Ordering::Acquire)) {
            slot.clear();
            slot.database.store(0, Ordering::Release);
        }
    }
}

impl Slot {
    /// Whether somebody has asked for something that no worker has taken over.
    pub fn is_wanted(&self) -> bool {
        self.wants.load(Ordering::Acquire) != 0
    }

    /// Whether a worker runs or is about to.
    pub fn is_taken(&self) -> bool {
        let registered = self.registered.load(Ordering::Acquire);
        self.pid.load(Ordering::Acquire) != 0 || registered != 0 && now() - registered < START_LIMIT
    }

    /// Whether a worker is to be started now.
    pub fn is_due(&self) -> bool {
        self.is_ready() && !self.is_taken()
    }

    /// Whether somebody has asked for something whose time has come.
    pub fn is_ready(&self) -> bool {
        self.is_wanted() && self.not_before.load(Ordering::Acquire) <= now()
    }

    /// Notes that a worker has been registered.
    pub fn expect_worker(&self) {
        self.registered.store(now(), Ordering::Release);
    }

    /// Worker: it is there.
    pub fn enter(&self) {
        // SAFETY: the main thread of this process.
        unsafe {
            self.latch.store(pg_sys::MyLatch, Ordering::Release);
            self.pid.store(pg_sys::MyProcPid, Ordering::Release);
        }
        self.registered.store(0, Ordering::Release);
    }

    /// Worker: it could not connect. The database may be gone: nothing is tried again unless
    /// somebody asks, and not at once.
    pub fn turn_away(&self) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed);
        self.not_before.store(now() + pause(failures), Ordering::Release);
        self.take();
        self.under_way.store(0, Ordering::Relaxed);
        self.leave();
    }

    /// Worker: it was ended before it could connect. What was asked for is for the next one.
    pub fn send_away(&self) {
        self.postpone(0, TERMINATED_PAUSE);
        self.leave();
    }

    /// Worker: it goes. What it leaves undone is for the next one.
    pub fn leave(&self) {
        self.rest();
        match self.under_way.swap(0, Ordering::AcqRel) {
            0 => {}
            undone => self.postpone(undone, TERMINATED_PAUSE),
        }
        self.registered.store(0, Ordering::Release);
        self.pid.store(0, Ordering::Release);
        if let Some(counters) = counters::get() {
            counters.wake_worker();
        }
    }

    /// Worker: it works on an index.
    pub fn work_on(&self, index: u32) {
        self.index.store(index, Ordering::Relaxed);
    }

    /// Worker: how far it is.
    pub fn report(&self, phase: i64, done: u64, total: u64) {
        self.phase.store(phase, Ordering::Relaxed);
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// Counts flushes and merges, whoever did them.
    pub fn count(&self, flushes: u32, merges: u32) {
        self.flushes.fetch_add(flushes.into(), Ordering::Relaxed);
        self.merges.fetch_add(merges.into(), Ordering::Relaxed);
    }

    /// Worker: it works on nothing.
    pub fn rest(&self) {
        self.index.store(0, Ordering::Relaxed);
        self.phase.store(0, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        self.total.store(0, Ordering::Relaxed);
    }

    /// Worker: takes over what has been asked for.
    pub fn take(&self) -> u32 {
        let wants = self.wants.swap(0, Ordering::AcqRel);
        self.under_way.store(wants, Ordering::Release);
        wants
    }

    /// Worker: a pass has gone well.
    pub fn succeed(&self) {
        self.under_way.store(0, Ordering::Release);
        self.failures.store(0, Ordering::Relaxed);
        self.not_before.store(0, Ordering::Release);
    }

    /// Worker: `wants` could not be done; it is to be tried again after a pause that grows with
    /// every failure in a row.
    pub fn fail(&self, wants: u32, message: &str) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed);
        self.errors.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the lock is set together with the slots and makes this the only access.
        unsafe {
            if let Some(lock) = LOCK {
                let _held = lock.exclusive();
                (*self.last_error.get()).set(message);
            }
        }
        self.postpone(wants, pause(failures));
    }

    /// `wants` is to be done, but not before so many microseconds have passed.
    pub fn postpone(&self, wants: u32, microseconds: i64) {
        self.under_way.store(0, Ordering::Release);
        self.not_before.store(now() + microseconds, Ordering::Release);
        self.wants.fetch_or(wants, Ordering::AcqRel);
    }

    /// Text of the latest failure; empty when there was none.
    pub fn last_error(&self) -> String {
        // SAFETY: as in `fail`; the shared lock keeps writers out.
        unsafe {
            let Some(lock) = LOCK else { return String::new() };
            let _held = lock.share();
            (*self.last_error.get()).get()
        }
    }

    fn wake(&self) {
        let latch = self.latch.load(Ordering::Acquire);
        if !latch.is_null() {
            // SAFETY: latches are part of PostgreSQL's shared process array and stay valid; at
            // worst another process is woken for nothing.
            unsafe { pg_sys::SetLatch(latch) };
        }
    }

    /// Forgets a database. The caller holds the lock.
    fn clear(&self) {
        self.rest();
        self.wants.store(0, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        self.under_way.store(0, Ordering::Relaxed);
        self.not_before.store(0, Ordering::Relaxed);
        self.registered.store(0, Ordering::Relaxed);
        for count in [&self.flushes, &self.merges, &self.sweeps, &self.rounds, &self.errors] {
            count.store(0, Ordering::Relaxed);
        }
        // SAFETY: the caller holds the lock that guards the text.
        unsafe { (*self.last_error.get()).set("") };
    }
}

/// The pause after so many failures before, in microseconds.
fn pause(failures: u32) -> i64 {
    (1_000_000 << failures.min(16)).min(LONGEST_PAUSE)
}

/// Microseconds on PostgreSQL's clock.
fn now() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}
