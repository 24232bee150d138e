//! A tier in front of a store that keeps pieces in Redis, for all servers that share it.
//!
//! Redis is never needed, and waited for only a moment: what it has not, or not in time, comes from
//! the store. Segments are immutable and have names of their own, so what Redis has is never out of
//! date, and what it forgets is no loss.
//!
//! ```text
//!   get_pieces ──► MGET, within 5 ms ──► pieces that Redis has
//!                      │ the others                      ▲
//!                      ▼                                 │ SET … EX, behind the answer
//!                  inner store ──► pieces ───────────────┘
//! ```

mod config;
mod connection;
mod link;
mod value;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

pub use config::RedisConfig;
use link::{Answer, Link};

use crate::store::{Layer, Result};
use crate::{Batch, Cost, Metrics, Piece, Store};

/// Most bytes of pieces that are on their way to Redis at once; what comes on top is not written.
const MOST_FILLING: usize = 32 << 20;
/// Bytes of pieces after which a write is not made any larger, but followed by another.
const FILL: usize = 4 << 20;

/// Whether Redis is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum RedisState {
    /// It answers.
    Up = 1,
    /// It does not, and is being given a rest.
    Down = 2,
}

/// Is told when the state has changed, in a sentence without secrets; not for long, and from any
/// thread of the runtime.
pub type OnState = Arc<dyn Fn(RedisState, &str) + Send + Sync>;

/// A [`Store`] whose [`get_pieces`](Store::get_pieces) asks Redis first.
///
/// All its connections and tasks belong to the runtime that first uses it, and end when it is
/// dropped.
pub struct Redis<S> {
    inner: S,
    link: Arc<Link>,
    filling: Arc<Filling>,
    ttl: Duration,
    sound: Option<fn(&[u8]) -> bool>,
    /// Dropped with this, which ends what was spawned.
    alive: watch::Sender<()>,
    keeper: std::sync::Once,
}

impl<S: Store> Redis<S> {
    /// Puts the Redis that `config` names before `inner`. Connections are made in the background,
    /// at once or, without a runtime, with the first use; until then Redis has nothing.
    ///
    /// [`Metrics::redis_state`] says whether Redis answers from now on; it is left as it is when
    /// this is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the configuration cannot be right. The
    /// message never repeats credentials.
    pub fn new(
        inner: S,
        config: &RedisConfig,
        metrics: &'static Metrics,
        on_state: Option<OnState>,
    ) -> Result<Self> {
        let link = Link::new(config.target()?, config.timeout, metrics, on_state);
        let redis = Self {
            inner,
            link: Arc::new(link),
            filling: Arc::new(Filling { bytes: AtomicUsize::new(0), metrics }),
            ttl: config.ttl,
            sound: None,
            alive: watch::Sender::new(()),
            keeper: std::sync::Once::new(),
        };
        redis.start();
        Ok(redis)
    }
}

impl<S> Redis<S> {
    /// Has only what is written to Redis that `sound` approves of, and takes only that from it: a
    /// body that was damaged on its way from the store must not stay in Redis.
    #[must_use]
    pub fn with_check(mut self, sound: fn(&[u8]) -> bool) -> Self {
        self.sound = Some(sound);
        self
    }

    /// Where Redis is, without credentials.
    pub fn address(&self) -> &str {
        self.link.shown()
    }

    /// Starts the task that makes connections, as soon as there is a runtime.
    fn start(&self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        self.keeper.call_once(|| {
            let link = Arc::clone(&self.link);
            runtime.spawn(while_alive(self.alive.subscribe(), async move { link.keep().await }));
        });
    }

    fn is_sound(&self, body: &[u8]) -> bool {
        self.sound.is_none_or(|sound| sound(body))
    }

    /// What Redis has of `pieces`, in their order; and whether to give it what it has not.
    async fn look_up(&self, pieces: &[Piece]) -> (Vec<Option<Bytes>>, bool) {
        let keys: Vec<_> = pieces.iter().map(value::key).collect();
        let length = |piece: &Piece| piece.range.end - piece.range.start;
        let found = match self.link.get(&keys, pieces.iter().map(length).sum()).await {
            Answer::Values(values) => values,
            // It may have all of them; and if it is slow, writing does not make it faster.
            Answer::Failed => {
                self.count(0, pieces.len());
                return (vec![None; pieces.len()], false);
            }
            Answer::NotAsked => return (vec![None; pieces.len()], true),
        };
        let decode = |((value, key), piece): ((Option<Vec<u8>>, &Vec<u8>), &Piece)| {
            value::decode(key, value?, length(piece)).filter(|body| self.is_sound(body))
        };
        let bodies: Vec<_> = found.into_iter().zip(&keys).zip(pieces).map(decode).collect();
        let hits = bodies.iter().flatten().count();
        self.count(hits, pieces.len() - hits);
        (bodies, true)
    }

    fn count(&self, hits: usize, misses: usize) {
        self.filling.metrics.redis_hits.fetch_add(hits as u64, Ordering::Relaxed);
        self.filling.metrics.redis_misses.fetch_add(misses as u64, Ordering::Relaxed);
    }

    /// Gives pieces to Redis, in a task of its own.
    fn fill(&self, pieces: impl Iterator<Item = (Piece, Bytes)>) {
        if !self.link.is_up() {
            return;
        }
        let whole = |(piece, body): &(Piece, Bytes)| {
            body.len() as u64 == piece.range.end - piece.range.start && self.is_sound(body)
        };
        let pieces: Vec<_> = pieces.filter(whole).collect();
        let bytes = pieces.iter().map(|(_, body)| body.len()).sum();
        let Some(room) = Room::take(&self.filling, bytes) else {
            return;
        };
        let (link, ttl) = (Arc::clone(&self.link), self.ttl);
        let work = async move {
            let mut rest = pieces.into_iter().peekable();
            while rest.peek().is_some() {
                let (mut values, mut plain) = (Vec::new(), 0);
                while let Some((piece, body)) = rest.next_if(|_| plain < FILL) {
                    let key = value::key(&piece);
                    if let Some(value) = value::encode(&key, &body) {
                        plain += body.len();
                        values.push((key, value));
                    }
                    // Compressing a lot must not keep this thread from others.
                    tokio::task::yield_now().await;
                }
                if !link.set(&values, ttl).await {
                    break;
                }
                room.filling.metrics.redis_plain_bytes.fetch_add(plain as u64, Ordering::Relaxed);
            }
        };
        tokio::spawn(while_alive(self.alive.subscribe(), work));
    }
}

/// Does `work` as long as somebody holds the other end of `alive`.
async fn while_alive(mut alive: watch::Receiver<()>, work: impl Future<Output = ()>) {
    tokio::select! {
        _ = alive.changed() => {}
        () = work => {}
    }
}

/// Pieces on their way to Redis.
#[derive(Debug)]
struct Filling {
    bytes: AtomicUsize,
    metrics: &'static Metrics,
}

/// A part of [`MOST_FILLING`], given back when dropped.
struct Room {
    filling: Arc<Filling>,
    bytes: usize,
}

impl Room {
    fn take(filling: &Arc<Filling>, bytes: usize) -> Option<Self> {
        let more = |now: usize| now.checked_add(bytes).filter(|sum| *sum <= MOST_FILLING);
        let update = filling.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        (bytes > 0 && update.is_ok()).then(|| Self { filling: Arc::clone(filling), bytes })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.filling.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl<S: fmt::Debug> fmt::Debug for Redis<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("inner", &self.inner)
            .field("address", &self.address())
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl<S: Store> Layer for Redis<S> {
    type Inner = S;

    fn inner(&self) -> &S {
        &self.inner
    }

    async fn read_pieces(&self, pieces: &[Piece]) -> Result<Batch> {
        if pieces.is_empty() {
            return Ok(Batch::default());
        }
        self.start();
        let (mut bodies, fill) = self.look_up(pieces).await;
        let mut cost = Cost::default();
        for body in bodies.iter().flatten() {
            cost.redis_hits += 1;
            cost.redis_bytes += body.len() as u64;
        }
        let missing: Vec<usize> = (0..pieces.len()).filter(|&at| bodies[at].is_none()).collect();
        if !missing.is_empty() {
            let wanted: Vec<_> = missing.iter().map(|&at| pieces[at].clone()).collect();
            let batch = self.inner.get_pieces(&wanted).await?;
            cost += batch.cost;
            for (&at, body) in missing.iter().zip(&batch.pieces) {
                bodies[at] = Some(body.clone());
            }
            if fill {
                self.fill(wanted.into_iter().zip(batch.pieces));
            }
        }
        // A store that answers with fewer pieces than asked for: the reader notices.
        let pieces = bodies.into_iter().map(Option::unwrap_or_default).collect();
        Ok(Batch { pieces, cost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_much_is_on_its_way_to_redis_at_once() {
        let filling = Arc::new(Filling { bytes: AtomicUsize::new(0), metrics: Metrics::leak() });
        let most = Room::take(&filling, MOST_FILLING - 5).expect("there is room");
        let rest = Room::take(&filling, 5).expect("there is room");
        assert!(Room::take(&filling, 1).is_none());
        drop(rest);
        assert!(Room::take(&filling, 6).is_none() && Room::take(&filling, usize::MAX).is_none());
        drop(most);
        assert!(Room::take(&filling, MOST_FILLING).is_some());
        assert!(Room::take(&filling, 0).is_none(), "nothing to write");
        assert_eq!(filling.bytes.load(Ordering::Relaxed), 0);
    }
}
