//! Waiting for something that happens in another process.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a test waits for what should take a moment. Generous: it only bounds a hang.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls until `probe` returns something, and returns that.
///
/// # Panics
///
/// When nothing came within [`PATIENCE`]; `what` names it.
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        sleep(Duration::from_millis(10));
    }
}

/// Polls until `probe` is true. See [`wait_for`].
pub fn wait_until(what: &str, mut probe: impl FnMut() -> bool) {
    wait_for(what, || probe().then_some(()));
}
