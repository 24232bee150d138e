//! Shared memory, present when the library is in `shared_preload_libraries`.
//!
//! ```text
//!   main area:  worker state │ registry of graphs │ maintenance (one slot a database)
//!               │ fetch slots (one a backend) │ payload cache
//!   DSM:        one segment a graph, named by the registry
//! ```
//!
//! - [`registry`]: which graphs are in memory, and the queue of those to load.
//! - [`graphs`]: this process's mappings of them.
//! - [`fetch_slots`]: how a backend asks the storage worker for rows.
//! - [`payload_cache`]: inner chunks, read in place by every backend.
//! - [`maintenance`]: who has asked for maintenance, and what its workers do.
//! - [`counters`]: what the worker has done, for the views.
//! - [`storage_metrics`]: what all processes have asked of storage.

use std::ffi::CStr;
use std::ptr;

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::errors::raise;
use crate::identity;

pub mod counters;
pub mod fetch_slots;
pub mod graphs;
pub mod lock;
pub mod maintenance;
pub mod payload_cache;
pub mod registry;
pub mod storage_metrics;
pub mod text;

static mut PREVIOUS_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREVIOUS_STARTUP: pg_sys::shmem_startup_hook_type = None;

/// Name of the lock tranche: what a wait event shows.
const TRANCHE: &CStr = c"s3vector";

/// Asks for the memory at server start, and hooks the ends of transactions that use it.
pub fn register() {
    registry::register();
    // SAFETY: called once, from the postmaster's main thread, before it forks.
    unsafe {
        PREVIOUS_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(request);
        PREVIOUS_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(startup);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn request() {
    // SAFETY: the hook runs in the postmaster at the one moment when requests are allowed.
    unsafe {
        if let Some(previous) = PREVIOUS_REQUEST {
            previous();
        }
        for size in [
            counters::size(),
            registry::size(),
            maintenance::size(),
            fetch_slots::size(),
            payload_cache::size(),
            storage_metrics::size(),
        ] {
            pg_sys::RequestAddinShmemSpace(size);
        }
        pg_sys::RequestNamedLWLockTranche(TRANCHE.as_ptr(), LOCKS);
    }
}

/// Locks: for the registry, the texts, maintenance.
const LOCKS: i32 = 3;

#[pg_guard]
unsafe extern "C-unwind" fn startup() {
    // SAFETY: the hook runs in the postmaster; children inherit the pointers set here.
    unsafe {
        if let Some(previous) = PREVIOUS_STARTUP {
            previous();
        }
        identity::learn();
        let locks = pg_sys::GetNamedLWLockTranche(TRANCHE.as_ptr());
        counters::attach(area(c"s3vector counters", counters::size()), lock::Lock::nth(locks, 1));
        registry::attach(area(c"s3vector registry", registry::size()), lock::Lock::nth(locks, 0));
        maintenance::attach(
            area(c"s3vector maintenance", maintenance::size()),
            lock::Lock::nth(locks, 2),
        );
        fetch_slots::attach(area(c"s3vector fetch slots", fetch_slots::size()));
        storage_metrics::attach(area(c"s3vector storage metrics", storage_metrics::size()));
        payload_cache::attach(area(c"s3vector payload cache", payload_cache::size()));
    }
}

/// The named piece of shared memory; zeroed when it is new.
///
/// # Safety
/// Only in the postmaster's startup hook.
unsafe fn area(name: &CStr, size: usize) -> *mut u8 {
    let mut found = false;
    // SAFETY: by the contract, and `size` was requested.
    unsafe {
        let area = pg_sys::ShmemInitStruct(name.as_ptr(), size, &mut found).cast::<u8>();
        if !found {
            // The payload cache can be gigabytes: fresh shared memory is zero already, and
            // touching it would make it resident. After a crash restart it is a new mapping.
            let head = size.min(16 << 20);
            ptr::write_bytes(area, 0, head);
        }
        area
    }
}

/// Raises an error unless the library was preloaded.
pub fn require() {
    if !registry::attached() {
        raise(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "s3vector must be loaded through shared_preload_libraries",
            "Its graphs and its cache live in shared memory, which is set up at server start.",
            "Put shared_preload_libraries = 's3vector' into postgresql.conf (after what is there \
             already, separated by a comma) and restart the server.",
        );
    }
}
