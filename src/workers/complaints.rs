//! Log lines about failed fetches, few enough to be read.

use std::time::{Duration, Instant};

/// The shortest time between two lines.
const PAUSE: Duration = Duration::from_secs(1);

/// While storage is down every query would write a line: what comes too soon after another is
/// counted instead.
#[derive(Default)]
pub struct Complaints {
    last: Option<Instant>,
    left_out: u64,
}

impl Complaints {
    /// Logs a failure, unless there was one a moment ago.
    pub fn log(&mut self, text: &str) {
        if self.last.is_some_and(|last| last.elapsed() < PAUSE) {
            self.left_out += 1;
            return;
        }
        self.last = Some(Instant::now());
        match std::mem::take(&mut self.left_out) {
            0 => pgrx::log!("s3vector: {text}"),
            others => pgrx::log!("s3vector: {text} (after {others} failures not logged)"),
        }
    }
}
