//! Pins: what keeps a slot of the registry to its segment while a backend waits for the graph or maps it.
//!
//! A backend pins one slot at a time. A pin ends with the value that stands for it, also while an error
//! unwinds; a process that ends on the spot (FATAL) does not unwind, but aborts its transaction.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::Ordering;

use pgrx::pg_sys::{self, XactEvent};
use pgrx::prelude::*;

use super::{Access, shared};
use crate::shared::counters;

thread_local! {
    /// The slot that this process has pinned.
    static PINNED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Hooks the ends of transactions. Called once, from `_PG_init`.
pub fn register() {
    // SAFETY: called on the main thread while the library is loaded.
    unsafe { pg_sys::RegisterXactCallback(Some(transaction_ends), null_mut()) };
}

/// A pinned slot.
pub struct Pin(usize);

impl Pin {
    /// Pins a slot. Whoever frees slots holds the lock exclusively and sees all pins.
    pub fn new(_locked: &Access, slot: usize) -> Self {
        unpin();
        shared().slots[slot].pins.fetch_add(1, Ordering::AcqRel);
        PINNED.set(Some(slot));
        Self(slot)
    }

    /// Its number.
    pub fn slot(&self) -> usize {
        self.0
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if PINNED.get() == Some(self.0) {
            unpin();
        }
    }
}

/// Takes back this process's pin, if there is one. The storage worker drops what only pins
/// have kept.
fn unpin() {
    if let Some(slot) = PINNED.take() {
        shared().slots[slot].pins.fetch_sub(1, Ordering::AcqRel);
        if let Some(counters) = counters::get() {
            counters.wake_worker();
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn transaction_ends(event: XactEvent::Type, _argument: *mut c_void) {
    if matches!(event, XactEvent::XACT_EVENT_ABORT | XactEvent::XACT_EVENT_PARALLEL_ABORT) {
        unpin();
    }
}
