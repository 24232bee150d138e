//! Maintenance must not keep a database from being dropped.
//!
//! PostgreSQL refuses to drop a database that others are connected to, after waiting five seconds
//! for them. It tells object access hooks before, so that the worker can be sent away in time; nothing
//! is lost by that, whatever the worker was doing.

use std::ffi::c_void;
use std::sync::atomic::Ordering;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::shared::maintenance;

static mut PREVIOUS: pg_sys::object_access_hook_type = None;

mod ffi {
    unsafe extern "C" {
        /// `kill(2)`.
        pub(super) fn kill(process: i32, signal: i32) -> i32;
    }
}

/// Hooks the dropping of databases. Called once, from `_PG_init`.
pub fn register() {
    // SAFETY: called on the main thread while the library is loaded.
    unsafe {
        PREVIOUS = pg_sys::object_access_hook;
        pg_sys::object_access_hook = Some(object_accessed);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn object_accessed(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub_object: i32,
    argument: *mut c_void,
) {
    // SAFETY: the hook before this one, called as this one was.
    unsafe {
        if let Some(previous) = PREVIOUS {
            previous(access, class, object, sub_object, argument);
        }
    }
    if access == pg_sys::ObjectAccessType::OAT_DROP && class == pg_sys::DatabaseRelationId {
        dismiss(object.to_u32());
    }
}

/// Ends the maintenance worker of a database, if there is one.
fn dismiss(database: u32) {
    for slot in maintenance::slots() {
        let pid = slot.pid.load(Ordering::Acquire);
        if slot.database.load(Ordering::Acquire) == database && pid != 0 {
            // SAFETY: the process is one of this server's own: a slot's pid is taken back before its
            // process ends. SIGTERM asks a worker to end.
            unsafe { ffi::kill(pid, pg_sys::SIGTERM as i32) };
        }
    }
}
