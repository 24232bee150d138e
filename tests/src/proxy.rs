//! An HTTP proxy in front of an S3 server that makes it slow, or fail.
//!
//! ```text
//!   PostgreSQL ── keep-alive ──▶ Proxy ── keep-alive ──▶ Garage      (a connection for each)
//!                                 │  latency, faults
//!                                 └─ counts, log of requests
//! ```
//!
//! It passes on method, path, query, host and headers as they are, so that signatures hold. It
//! runs in threads of the test's process; all of it can be changed while requests are under way.

mod fault;
pub(crate) mod gate;
mod serve;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::garage::Garage;
use gate::Gate;

pub use fault::{Effect, Fault};

/// A proxy, gone when dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    gate: Gate,
}

/// What a proxy has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that came.
    pub requests: u64,
    /// Of those, GETs: objects, parts of objects, and lists.
    pub gets: u64,
    /// Bytes that the server's answers to GETs hold.
    pub bytes: u64,
    /// Requests that a fault hit.
    pub faults: u64,
    /// Connections open now.
    pub connections: usize,
}

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// For example `GET`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The `Range` header.
    pub range: Option<String>,
    /// What fault hit it.
    pub effect: Option<Effect>,
}

/// What the threads of a proxy share with its owner.
struct Shared {
    upstream: SocketAddr,
    /// Microseconds.
    latency: AtomicU64,
    bytes: AtomicU64,
    faults: Mutex<Vec<Fault>>,
    log: Mutex<Log>,
    /// How often stalled requests were let go.
    releases: watch::Sender<u64>,
}

#[derive(Default)]
struct Log {
    counts: Counts,
    seen: Vec<Seen>,
    /// The last requests that could not be passed on, and why.
    lost: VecDeque<String>,
}

/// How many of them are remembered.
const LOST: usize = 20;

impl Proxy {
    /// Starts one in front of the server at `upstream`: `http://`, an IP address, and a port.
    pub fn start(upstream: &str) -> Self {
        let address = upstream.strip_prefix("http://").unwrap_or(upstream);
        let shared = Arc::new(Shared {
            upstream: address.parse().unwrap_or_else(|_| panic!("{upstream} is not an address")),
            latency: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            faults: Mutex::default(),
            log: Mutex::default(),
            releases: watch::Sender::new(0),
        });
        let served = Arc::clone(&shared);
        let gate = Gate::open(move |wire| serve::connection(Arc::clone(&served), wire));
        Self { shared, gate }
    }

    /// The URL that clients use instead of the server's.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.gate.address())
    }

    /// Settings that make a cluster store vectors in `garage`, which this proxy is in front of.
    pub fn settings(&self, garage: &Garage) -> Vec<(&'static str, String)> {
        let mut settings = garage.settings();
        for (name, value) in &mut settings {
            if *name == "s3vector.s3_endpoint" {
                *value = self.endpoint();
            }
        }
        settings
    }

    /// Makes every answer take so much longer. Requests in parallel wait in parallel.
    pub fn set_latency(&self, latency: Duration) {
        let micros = latency.as_micros().try_into().expect("not for ever");
        self.shared.latency.store(micros, Ordering::Relaxed);
    }

    /// Adds a fault. Of several that match a request the first that hits it counts.
    pub fn inject(&self, fault: Fault) {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// Takes back all faults; requests that are being stalled go on.
    pub fn heal(&self) {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.shared.releases.send_modify(|count| *count += 1);
    }

    /// Ends all connections and refuses new ones, as if the server had been killed.
    pub fn pause(&self) {
        self.gate.close();
    }

    /// Accepts connections again.
    pub fn resume(&self) {
        self.gate.reopen();
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        let counts = self.shared.log.lock().unwrap_or_else(PoisonError::into_inner).counts;
        Counts {
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            connections: self.gate.connections(),
            ..counts
        }
    }

    /// The requests since the start, or since this was last asked, in the order they came.
    pub fn take_log(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.log.lock().unwrap_or_else(PoisonError::into_inner).seen)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let log = self.shared.log.lock().unwrap_or_else(PoisonError::into_inner);
        if std::thread::panicking() && !log.lost.is_empty() {
            eprintln!("---- what the proxy could not pass on ----\n{:#?}\n----", log.lost);
        }
    }
}

impl Shared {
    fn strike(&self, method: &str, path: &str, range: &str) -> Option<Effect> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.iter_mut().find_map(|fault| fault.strike(method, path, range))
    }

    fn note(&self, seen: Seen) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.counts.requests += 1;
        log.counts.gets += u64::from(seen.method == "GET");
        log.counts.faults += u64::from(seen.effect.is_some());
        log.seen.push(seen);
    }

    fn lost(&self, what: String) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.lost.len() == LOST {
            log.lost.pop_front();
        }
        log.lost.push_back(what);
    }

    /// Returns when stalled requests are let go.
    async fn released(&self) {
        // Both ends of the channel are in `self`, so it is never closed.
        let _ = self.releases.subscribe().changed().await;
    }
}

#[cfg(test)]
mod tests;
