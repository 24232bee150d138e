//! The executor's start, which more than one part of the access method wants to know of.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::{demand, pending};

static mut PREVIOUS_START: pg_sys::ExecutorStart_hook_type = None;

/// Hooks the executor. Called once, from `_PG_init`.
pub fn register() {
    // SAFETY: called on the main thread while the library is loaded.
    unsafe {
        PREVIOUS_START = pg_sys::ExecutorStart_hook;
        pg_sys::ExecutorStart_hook = Some(executor_start);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: i32) {
    // SAFETY: PostgreSQL passes a valid query; its plan state is complete once started.
    unsafe {
        pending::before(query);
        match PREVIOUS_START {
            Some(previous) => previous(query, flags),
            None => pg_sys::standard_ExecutorStart(query, flags),
        }
        demand::note(query);
    }
}
