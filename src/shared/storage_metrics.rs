//! What every process of this server has asked of storage: the counters of [`storage::Metrics`] in
//! shared memory.

use std::ptr;
use std::sync::LazyLock;

use storage::Metrics;

static mut SHARED: *const Metrics = ptr::null();

/// For a process of a server that has not preloaded the library.
static OWN: LazyLock<Metrics> = LazyLock::new(Metrics::default);

/// Bytes of shared memory needed.
pub fn size() -> usize {
    size_of::<Metrics>()
}

/// Takes the memory into use.
///
/// # Safety
/// Only in the postmaster's startup hook; `area` is [`size`] bytes, zero when new.
pub unsafe fn attach(area: *mut u8) {
    // SAFETY: by the contract; all zeroes are new counters.
    unsafe { SHARED = area.cast() };
}

/// The counters, from any thread.
pub fn get() -> &'static Metrics {
    // SAFETY: set once before processes are forked; the memory lives as long as the server.
    unsafe { SHARED.as_ref() }.unwrap_or_else(|| &OWN)
}
