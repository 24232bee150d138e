//! Slow reads are made twice (Dean and Barroso, "The Tail at Scale", CACM 2013).
//!
//! Of many requests to object storage a few take ten times as long as the rest, and a query waits
//! for the slowest of its wave. So a request that is slower than all but a few of those before it is
//! made again, and the first answer counts. A budget keeps that from adding load where it does harm:
//! hedges are a small share of all requests even when every one is slow, and there are none while
//! the store asks for fewer requests.

use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{Either, select};
use tokio::time::Instant;

use crate::store::{Layer, Result};
use crate::{Batch, Metrics, Piece, Store, pieces};

/// Latencies remembered for each class of sizes.
const WINDOW: usize = 256;
/// Latencies that must be known before anything is hedged.
const ENOUGH: usize = 32;
/// The share of requests that are to be slower than the threshold.
const SLOW_SHARE: f64 = 0.05;
/// Hedges each request earns; so at most this share is added to the load.
const EARNED: f64 = 0.05;
/// Hedges that can be saved up.
const SAVED: f64 = 8.0;
/// No request is made twice before this: what is faster needs no help.
const SHORTEST: Duration = Duration::from_millis(5);
/// How long there are no hedges after the store has asked for fewer requests.
const RESPECT: Duration = Duration::from_secs(10);
/// Largest reads of each class but the last, in bytes: how long a large one takes says nothing
/// about small ones.
const CLASSES: [u64; 2] = [128 << 10, 1 << 20];

/// A [`Store`] whose slow reads of pieces are hedged.
#[derive(Debug)]
pub struct Hedged<S> {
    inner: S,
    metrics: &'static Metrics,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    classes: [Window; CLASSES.len() + 1],
    /// Hedges that may be made now.
    budget: f64,
    /// `Metrics::throttled` when last looked at.
    throttled: u64,
    quiet_until: Option<Instant>,
}

/// The latest latencies of a class, and what is slow among them.
#[derive(Clone, Debug, Default)]
struct Window {
    latencies: Vec<Duration>,
    next: usize,
    slow: Option<Duration>,
}

impl Window {
    fn add(&mut self, latency: Duration) {
        if self.latencies.len() < WINDOW {
            self.latencies.push(latency);
        } else {
            self.latencies[self.next] = latency;
        }
        self.next = (self.next + 1) % WINDOW;
        // The threshold moves slowly: no need to look at all latencies each time.
        if self.latencies.len() >= ENOUGH && self.next.is_multiple_of(8) {
            let mut sorted = self.latencies.clone();
            let at = ((1.0 - SLOW_SHARE) * (sorted.len() - 1) as f64).ceil() as usize;
            self.slow = Some((*sorted.select_nth_unstable(at).1).max(SHORTEST));
        }
    }
}

impl<S: Store> Hedged<S> {
    /// Hedges reads of pieces from `inner`.
    pub fn new(inner: S, metrics: &'static Metrics) -> Self {
        let state = State {
            classes: std::array::from_fn(|_| Window::default()),
            budget: 1.0,
            throttled: metrics.throttled.load(Ordering::Relaxed),
            quiet_until: None,
        };
        Self { inner, metrics, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Only counts and times: whole at every moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request in, and says how long to wait for it before it is made again.
    fn begin(&self, class: usize) -> Option<Duration> {
        let mut state = self.state();
        state.budget = (state.budget + EARNED).min(SAVED);
        let throttled = self.metrics.throttled.load(Ordering::Relaxed);
        if throttled != state.throttled {
            state.throttled = throttled;
            state.quiet_until = Some(Instant::now() + RESPECT);
        }
        if state.quiet_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        state.classes[class].slow
    }

    /// Takes a hedge from the budget, if there is one.
    fn may_hedge(&self) -> bool {
        let mut state = self.state();
        let may = state.budget >= 1.0;
        if may {
            state.budget -= 1.0;
        }
        may
    }

    /// One range, and how many requests it took.
    async fn read(&self, key: &str, range: Range<u64>) -> Result<(Bytes, u32)> {
        let length = range.end - range.start;
        let class = CLASSES.iter().position(|&most| length <= most).unwrap_or(CLASSES.len());
        let patience = self.begin(class);
        let started = Instant::now();
        let mut first = pin!(self.inner.get_range(key, range.clone()));
        let early = match patience {
            None => Some(first.as_mut().await),
            Some(patience) => tokio::time::timeout(patience, first.as_mut()).await.ok(),
        };
        let (outcome, requests) = match early {
            Some(outcome) => (outcome, 1),
            None if !self.may_hedge() => (first.await, 1),
            None => {
                self.metrics.hedges.fetch_add(1, Ordering::Relaxed);
                let second = pin!(self.inner.get_range(key, range));
                let outcome = match select(first, second).await {
                    // A request that failed does not end the race.
                    Either::Left((Err(_), second)) => second.await,
                    Either::Left((outcome, _)) => outcome,
                    Either::Right((Err(_), first)) => first.await,
                    Either::Right((outcome, _)) => {
                        self.metrics.hedges_won.fetch_add(1, Ordering::Relaxed);
                        outcome
                    }
                };
                (outcome, 2)
            }
        };
        if outcome.is_ok() {
            // Since the first request, even if the second answered: the first took longer yet.
            self.state().classes[class].add(started.elapsed());
        }
        Ok((outcome?, requests))
    }
}

#[async_trait]
impl<S: Store> Layer for Hedged<S> {
    type Inner = S;

    fn inner(&self) -> &S {
        &self.inner
    }

    async fn read_pieces(&self, wanted: &[Piece]) -> Result<Batch> {
        pieces::read_together(wanted, self.concurrency(), |key, range| async move {
            self.read(&key, range).await
        })
        .await
    }
}
