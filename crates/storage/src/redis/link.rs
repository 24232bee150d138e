//! The way to Redis: connections that are made, lost and made anew behind everybody's back.
//!
//! ```text
//!   get, set ──► connections, if there are any ──► Redis
//!      │ failures                 ▲
//!      ▼                          │ makes them, after the breaker's pause, and has one
//!   breaker ── opens, or lost ──► keeper (a task)   question answered before they are used
//! ```

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::{RedisError, RedisResult};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::config::Target;
use super::connection::{CONNECT_TIMEOUT, Connection};
use super::{OnState, RedisState};
use crate::{Attempt, Breaker, Metrics, Operation};

/// Failures one after the other before Redis is given a rest.
const FAILURES: u32 = 3;
/// The first rest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest rest.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Longest time a write may take; nobody waits for it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// A key that nobody writes, to see whether reads are answered, and in time.
const PROBE: &[u8] = b"s3vector1:probe";
/// Probes of a new connection of which one must be answered in time.
const PROBES: u32 = 3;
/// Longest piece of somebody's message to repeat, in characters.
const LONGEST_MESSAGE: usize = 300;

/// The way to one Redis server or cluster.
pub(super) struct Link {
    target: Target,
    timeout: Duration,
    breaker: Breaker,
    metrics: &'static Metrics,
    on_state: Option<OnState>,
    state: Mutex<Option<RedisState>>,
    connections: Mutex<Option<Arc<Connections>>>,
    lost: Notify,
}

/// Two of them, so that a read does not queue behind what is being written.
pub(super) struct Connections {
    reads: Connection,
    writes: Connection,
}

/// What a read came to.
pub(super) enum Answer {
    /// What Redis has, in the order asked for.
    Values(Vec<Option<Vec<u8>>>),
    /// Redis failed, or was late.
    Failed,
    /// Redis was not asked.
    NotAsked,
}

impl Link {
    pub(super) fn new(
        target: Target,
        timeout: Duration,
        metrics: &'static Metrics,
        on_state: Option<OnState>,
    ) -> Self {
        metrics.redis_state.store(RedisState::Down as u64, Ordering::Relaxed);
        Self {
            target,
            timeout,
            breaker: Breaker::new(FAILURES, FIRST_PAUSE, LONGEST_PAUSE),
            metrics,
            on_state,
            state: Mutex::new(None),
            connections: Mutex::new(None),
            lost: Notify::new(),
        }
    }

    /// Where Redis is, without credentials.
    pub(super) fn shown(&self) -> &str {
        &self.target.shown
    }

    /// The values of `keys`, which are pieces of so many bytes together.
    pub(super) async fn get(&self, keys: &[Vec<u8>], bytes: u64) -> Answer {
        let Some((connections, attempt)) = self.leave() else {
            return Answer::NotAsked;
        };
        let patience = self.timeout.saturating_mul(u32::try_from(bytes >> 20).unwrap_or(99).max(1));
        let started = Instant::now();
        let outcome = within(patience, connections.reads.get(keys)).await;
        let length = |values: &Vec<Option<Vec<u8>>>| {
            values.iter().flatten().map(|value| value.len() as u64).sum()
        };
        let counted = outcome.as_ref().map(length).map_err(drop);
        self.metrics.count(Operation::RedisRead, started.elapsed(), counted);
        match outcome {
            Ok(values) => {
                attempt.succeeded();
                Answer::Values(values)
            }
            Err(failure) => {
                self.failed(attempt, &connections, &failure);
                Answer::Failed
            }
        }
    }

    /// Writes values, if Redis is there; `true` if it has taken them.
    pub(super) async fn set(&self, values: &[(Vec<u8>, Vec<u8>)], ttl: Duration) -> bool {
        let Some((connections, attempt)) = self.leave() else {
            return false;
        };
        let started = Instant::now();
        let outcome = within(WRITE_TIMEOUT, connections.writes.set(values, ttl)).await;
        let counted = match &outcome {
            Ok(()) => Ok(values.iter().map(|(_, value)| value.len() as u64).sum()),
            Err(_) => Err(()),
        };
        self.metrics.count(Operation::RedisWrite, started.elapsed(), counted);
        match &outcome {
            Ok(()) => attempt.succeeded(),
            // Redis is there but does not take it: memory full, a replica, no permission. That
            // says nothing about reads.
            Err(Failure::Error(error)) if !is_lost(error) => {}
            Err(failure) => self.failed(attempt, &connections, failure),
        }
        outcome.is_ok()
    }

    /// Whether there is anything to write to.
    pub(super) fn is_up(&self) -> bool {
        self.connections().is_some()
    }

    /// Makes connections whenever there are none. Never ends.
    pub(super) async fn keep(&self) {
        loop {
            sleep(self.breaker.pause()).await;
            let Some(attempt) = self.breaker.allow() else {
                // Somebody who took the last connections just before is still trying them.
                sleep(FIRST_PAUSE).await;
                continue;
            };
            match self.connect().await {
                Ok(connections) => {
                    self.publish(attempt, connections);
                    while self.is_up() {
                        self.lost.notified().await;
                    }
                }
                Err(failure) => {
                    if attempt.failed() {
                        self.broke(&failure);
                    }
                }
            }
        }
    }

    /// Lets everybody use new connections, unless the breaker has opened while they were made.
    fn publish(&self, attempt: Attempt, connections: Connections) {
        // Whoever opens the breaker takes the connections away after that, under the same lock.
        let mut current = self.connections();
        if !attempt.is_current() {
            return;
        }
        self.tell(RedisState::Up, format!("Redis at \"{}\" answers", self.shown()));
        *current = Some(Arc::new(connections));
        // A closed breaker goes on counting: a connection that is lost with every request and made
        // again each time must open it.
        if attempt.is_trial() {
            attempt.succeeded();
        }
    }

    async fn connect(&self) -> Result<Connections, Failure> {
        let both = async {
            let open = || Connection::open(&self.target);
            let (reads, writes) = futures::try_join!(open(), open())?;
            Ok(Connections { reads, writes })
        };
        let connections = within(CONNECT_TIMEOUT, both).await?;
        let mut probes = 1;
        loop {
            match within(self.timeout, connections.reads.get(&[PROBE.to_vec()])).await {
                Ok(_) => return Ok(connections),
                Err(Failure::Late(_)) if probes < PROBES => probes += 1,
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Connections that may be used now, and leave to use them.
    fn leave(&self) -> Option<(Arc<Connections>, Attempt)> {
        let connections = self.connections().clone()?;
        let attempt = self.breaker.allow()?;
        Some((connections, attempt))
    }

    fn failed(&self, attempt: Attempt, connections: &Arc<Connections>, failure: &Failure) {
        let opened = attempt.failed();
        {
            let mut current = self.connections();
            let same = current.as_ref().is_some_and(|current| Arc::ptr_eq(current, connections));
            if opened || (same && failure.is_lost()) {
                *current = None;
                self.lost.notify_one();
            }
        }
        if opened {
            self.broke(failure);
        }
    }

    /// The breaker has opened.
    fn broke(&self, failure: &Failure) {
        self.metrics.redis_breaks.fetch_add(1, Ordering::Relaxed);
        let reason = match failure {
            Failure::Late(patience) => format!("no answer within {} ms", patience.as_millis()),
            Failure::Error(error) => {
                // The kind is there for programs; the words beside it say the same.
                let text = error.to_string().replace(&format!(" - {:?}", error.kind()), "");
                self.target.without_password(&text)
            }
        };
        let reason: String = reason.chars().take(LONGEST_MESSAGE).collect();
        self.tell(RedisState::Down, format!("Redis at \"{}\" fails: {reason}", self.shown()));
    }

    /// Passes a change on, once.
    fn tell(&self, state: RedisState, text: String) {
        let mut told = lock(&self.state);
        if *told == Some(state) {
            return;
        }
        *told = Some(state);
        self.metrics.redis_state.store(state as u64, Ordering::Relaxed);
        if let Some(on_state) = &self.on_state {
            on_state(state, &text);
        }
    }

    fn connections(&self) -> MutexGuard<'_, Option<Arc<Connections>>> {
        lock(&self.connections)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept here is whole at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why Redis was of no use.
enum Failure {
    Late(Duration),
    Error(RedisError),
}

impl Failure {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Error(error) if is_lost(error))
    }
}

/// Whether an error means that the connection is of no use any more.
fn is_lost(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error()
}

async fn within<T>(
    patience: Duration,
    work: impl Future<Output = RedisResult<T>>,
) -> Result<T, Failure> {
    match timeout(patience, work).await {
        Ok(outcome) => outcome.map_err(Failure::Error),
        Err(_) => Err(Failure::Late(patience)),
    }
}
