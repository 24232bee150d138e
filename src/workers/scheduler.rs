//! When maintenance workers are started: part of the storage worker's loop.

use std::time::{Duration, Instant};

use pgrx::pg_sys;

use super::maintenance as worker;
use crate::index::catalog;
use crate::settings;
use crate::shared::maintenance::{self, SWEEP, WORK};

/// How long after the start of the server the first round comes.
const FIRST_ROUND: Duration = Duration::from_secs(2);
/// How often to look for work that waits for its time.
const NAP: Duration = Duration::from_millis(500);
/// How long to wait when the postmaster has no room for another process.
const NO_ROOM: Duration = Duration::from_secs(10);

/// Starts maintenance workers when they are due.
pub struct Scheduler {
    started: Instant,
    last_round: Option<Instant>,
    not_before: Option<Instant>,
}

impl Scheduler {
    /// Nothing has been started yet.
    pub fn new() -> Self {
        Self { started: Instant::now(), last_round: None, not_before: None }
    }

    /// Starts what is due; returns how long the caller may sleep.
    pub fn work(&mut self) -> Duration {
        // SAFETY: reads the server's state.
        let recovering = unsafe { pg_sys::RecoveryInProgress() };
        let room = settings::maintenance_workers();
        if recovering || room == 0 {
            return NO_ROOM;
        }
        if self.not_before.is_some_and(|time| time > Instant::now()) {
            return NAP;
        }
        self.not_before = None;
        if self.round_is_due() && self.start(0) {
            self.last_round = Some(Instant::now());
        }
        let mut running = maintenance::slots().filter(|slot| slot.is_taken()).count();
        for slot in maintenance::slots() {
            if running < room && slot.is_due() {
                slot.expect_worker();
                if !self.start(slot.database.load(std::sync::atomic::Ordering::Acquire)) {
                    slot.leave();
                    break;
                }
                running += 1;
            }
        }
        if maintenance::slots().any(|slot| slot.is_wanted()) { NAP } else { self.until_round() }
    }

    fn start(&mut self, database: u32) -> bool {
        let started = worker::start(database);
        if !started {
            self.not_before = Some(Instant::now() + NO_ROOM);
            pgrx::warning!(
                "s3vector: could not start a maintenance worker; max_worker_processes may be too low"
            );
        }
        started
    }

    fn round_is_due(&self) -> bool {
        settings::sweep_interval().is_some() && self.until_round().is_zero()
    }

    /// How long until the next round of all databases.
    fn until_round(&self) -> Duration {
        let Some(interval) = settings::sweep_interval() else { return NO_ROOM };
        let next = match self.last_round {
            Some(last) => last + interval,
            None => self.started + FIRST_ROUND.min(interval),
        };
        next.saturating_duration_since(Instant::now()).min(NO_ROOM)
    }
}

/// Asks for a round of maintenance of every database one can connect to.
pub fn ask_for_all() {
    let databases = catalog::databases();
    let known: Vec<u32> = databases.iter().map(|(database, _)| *database).collect();
    maintenance::forget_others(&known);
    for (database, connectable) in databases {
        if connectable {
            maintenance::request(database, WORK | SWEEP);
        }
    }
}
