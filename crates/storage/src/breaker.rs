//! Gives something that fails a rest, instead of letting everybody find out by waiting.
//!
//! ```text
//!            N failures one after the other
//!   closed ─────────────────────────────────► open ◄─────────┐
//!     ▲                                         │ the pause  │ it fails: a longer pause
//!     │ it succeeds                             ▼ is over    │
//!     └──────────────────────────────── one attempt ─────────┘
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Decides whether something that may fail is to be tried. Clones share their state.
#[derive(Clone, Debug)]
pub struct Breaker {
    failures: u32,
    first_pause: Duration,
    longest_pause: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// How long the last pause was; `None` when the next one is the first again.
    pause: Option<Duration>,
    /// Grows with every opening, so that attempts from before it are known.
    round: u64,
}

#[derive(Debug)]
enum Phase {
    Closed {
        /// Failures since the last success.
        failures: u32,
        /// When an attempt had closed it; `None` if it was never open.
        since: Option<Instant>,
    },
    Open {
        until: Instant,
    },
    /// One attempt is under way that decides.
    Trial,
}

impl Breaker {
    /// A closed breaker that opens after `failures` failures one after the other. The first pause
    /// is `first_pause` long; each further one is twice as long, up to `longest_pause`, until
    /// something succeeds that comes at least a pause after the breaker closed. So something that
    /// answers only just after every pause gets longer ones all the same.
    ///
    /// Pauses are shortened by up to a half, at random: servers that lost the same thing at the
    /// same moment do not come back to it all at once.
    pub fn new(failures: u32, first_pause: Duration, longest_pause: Duration) -> Self {
        let phase = Phase::Closed { failures: 0, since: None };
        let state = Mutex::new(State { phase, pause: None, round: 0 });
        Self { failures: failures.max(1), first_pause, longest_pause, state: Arc::new(state) }
    }

    /// Leave to try, or `None` while there is a rest. Never waits.
    pub fn allow(&self) -> Option<Attempt> {
        self.allow_at(Instant::now())
    }

    /// How long the rest still is; zero if there is none, or if an attempt is due or under way.
    pub fn pause(&self) -> Duration {
        self.pause_at(Instant::now())
    }

    /// Something succeeded without having asked for leave, which is as good as an attempt.
    pub fn answered(&self) {
        self.succeed_at(Instant::now());
    }

    fn allow_at(&self, now: Instant) -> Option<Attempt> {
        let mut state = self.state();
        let trial = match state.phase {
            Phase::Closed { .. } => false,
            Phase::Open { until } if now >= until => {
                state.phase = Phase::Trial;
                true
            }
            Phase::Open { .. } | Phase::Trial => return None,
        };
        Some(Attempt { breaker: self.clone(), round: state.round, trial, decided: false })
    }

    fn pause_at(&self, now: Instant) -> Duration {
        match self.state().phase {
            Phase::Open { until } => until.saturating_duration_since(now),
            Phase::Closed { .. } | Phase::Trial => Duration::ZERO,
        }
    }

    fn succeed_at(&self, now: Instant) {
        let mut state = self.state();
        match &mut state.phase {
            Phase::Closed { failures, since } => {
                *failures = 0;
                let since = *since;
                // Closed long enough to forget what was.
                let pause = state.pause.unwrap_or_default();
                if since.is_some_and(|since| now.saturating_duration_since(since) >= pause) {
                    state.pause = None;
                }
            }
            Phase::Open { .. } | Phase::Trial => {
                state.phase = Phase::Closed { failures: 0, since: Some(now) };
            }
        }
    }

    /// Counts a failure; `true` if that opened the breaker.
    fn fail_at(&self, now: Instant) -> bool {
        let mut state = self.state();
        let opens = match &mut state.phase {
            Phase::Closed { failures, .. } => {
                *failures += 1;
                if *failures < self.failures {
                    return false;
                }
                true
            }
            Phase::Trial => false,
            Phase::Open { .. } => return false,
        };
        let pause = match state.pause {
            None => self.first_pause,
            Some(last) => last.saturating_mul(2),
        }
        .min(self.longest_pause);
        state.pause = Some(pause);
        state.round += 1;
        state.phase = Phase::Open { until: now + pause.mul_f64(0.5 + 0.5 * fastrand::f64()) };
        opens
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole at every moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to try once. Dropped without a result (the caller was cancelled) it counts as nothing,
/// and another may try instead.
#[derive(Debug)]
#[must_use]
pub struct Attempt {
    breaker: Breaker,
    round: u64,
    trial: bool,
    decided: bool,
}

impl Attempt {
    /// Whether this is the one attempt that decides about the end of a rest.
    pub fn is_trial(&self) -> bool {
        self.trial
    }

    /// It succeeded: the breaker is closed.
    pub fn succeeded(self) {
        self.succeeded_at(Instant::now());
    }

    /// It failed. `true` if that opened the breaker, which was closed.
    pub fn failed(self) -> bool {
        self.failed_at(Instant::now())
    }

    fn succeeded_at(mut self, now: Instant) {
        self.decided = true;
        if self.is_current() {
            self.breaker.succeed_at(now);
        }
    }

    fn failed_at(mut self, now: Instant) -> bool {
        self.decided = true;
        self.is_current() && self.breaker.fail_at(now)
    }

    /// Whether the breaker has not opened since leave was given. What began before that says
    /// nothing about the time after.
    pub fn is_current(&self) -> bool {
        self.breaker.state().round == self.round
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.decided || !self.trial {
            return;
        }
        let mut state = self.breaker.state();
        if state.round == self.round && matches!(state.phase, Phase::Trial) {
            state.phase = Phase::Open { until: Instant::now() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_millis(1600);

    fn attempt(breaker: &Breaker, now: Instant) -> Attempt {
        breaker.allow_at(now).expect("leave to try")
    }

    /// Fails until the breaker opens, and returns the pause.
    fn open(breaker: &Breaker, now: Instant) -> Duration {
        assert!(!attempt(breaker, now).failed_at(now));
        assert!(!attempt(breaker, now).failed_at(now));
        assert!(attempt(breaker, now).failed_at(now));
        assert!(breaker.allow_at(now).is_none());
        breaker.pause_at(now)
    }

    #[test]
    fn only_failures_one_after_the_other_open_it() {
        let (breaker, now) = (Breaker::new(3, FIRST, LONGEST), Instant::now());
        for _ in 0..5 {
            assert!(!attempt(&breaker, now).failed_at(now));
            assert!(!attempt(&breaker, now).failed_at(now));
            attempt(&breaker, now).succeeded_at(now);
        }
        // Cancelled ones count as nothing, either way.
        assert!(!attempt(&breaker, now).failed_at(now));
        drop(attempt(&breaker, now));
        assert!(!attempt(&breaker, now).failed_at(now));
        drop(attempt(&breaker, now));
        assert_eq!(breaker.pause_at(now), Duration::ZERO);
        assert!(attempt(&breaker, now).failed_at(now));
        let pause = breaker.pause_at(now);
        assert!(pause >= FIRST / 2 && pause <= FIRST, "{pause:?}");
    }

    #[test]
    fn one_attempt_after_the_pause_decides() {
        let (breaker, now) = (Breaker::new(3, FIRST, LONGEST), Instant::now());
        let pause = open(&breaker, now);
        let almost = now + pause - Duration::from_millis(1);
        assert!(breaker.allow_at(almost).is_none());
        let later = now + pause;
        let trial = attempt(&breaker, later);
        assert!(trial.is_trial());
        assert!(breaker.allow_at(later).is_none(), "only one may try");
        trial.succeeded_at(later);
        assert!(!attempt(&breaker, later).is_trial());
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (breaker, mut now) = (Breaker::new(3, FIRST, LONGEST), Instant::now());
        open(&breaker, now);
        for doubled in [2, 4, 8, 16, 16, 16] {
            now += breaker.pause_at(now);
            // The breaker was open already.
            assert!(!attempt(&breaker, now).failed_at(now));
            let (pause, most) = (breaker.pause_at(now), FIRST * doubled);
            assert!(pause >= most / 2 && pause <= most, "{pause:?} of {most:?}");
        }
    }

    #[test]
    fn what_answers_only_just_after_each_pause_gets_longer_ones() {
        let (breaker, mut now) = (Breaker::new(3, FIRST, LONGEST), Instant::now());
        for doubled in [1, 2, 4, 8, 16] {
            let pause = open(&breaker, now);
            assert!(pause >= FIRST * doubled / 2, "{pause:?}");
            now += pause;
            attempt(&breaker, now).succeeded_at(now);
            attempt(&breaker, now).succeeded_at(now);
        }
        // A success long after it closed, and all is forgotten.
        now += LONGEST;
        attempt(&breaker, now).succeeded_at(now);
        assert!(open(&breaker, now) <= FIRST);
    }

    #[test]
    fn a_cancelled_attempt_leaves_the_decision_to_the_next() {
        let (breaker, now) = (Breaker::new(3, FIRST, LONGEST), Instant::now());
        let later = now + open(&breaker, now);
        let trial = attempt(&breaker, later);
        drop(trial);
        let next = attempt(&breaker, later.max(Instant::now()));
        assert!(next.is_trial());
        next.succeeded_at(later);
        assert!(breaker.allow_at(later).is_some());
    }

    #[test]
    fn attempts_from_before_the_opening_decide_nothing() {
        let (breaker, now) = (Breaker::new(3, FIRST, LONGEST), Instant::now());
        let (good, bad) = (attempt(&breaker, now), attempt(&breaker, now));
        let pause = open(&breaker, now);
        good.succeeded_at(now);
        assert!(breaker.allow_at(now).is_none());
        assert!(!bad.failed_at(now));
        assert_eq!(breaker.pause_at(now), pause);
        breaker.succeed_at(now);
        assert!(breaker.allow_at(now).is_some(), "an answer of any other kind closes it");
    }

    #[test]
    fn of_many_threads_one_may_try() {
        let breaker = Breaker::new(1, Duration::ZERO, Duration::ZERO);
        assert!(attempt(&breaker, Instant::now()).failed());
        let tries: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| breaker.allow())).collect();
            threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(tries.len(), 1);
    }
}
