//! Breaks a store by script, so that tests can see what happens then.

use std::ops::Range;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::store::Result;
use crate::{ErrorKind, ObjectMeta, Operation, StorageError, Store};

/// What a [`Fault`] does to the operation it hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The operation fails without reaching the store.
    Fail(ErrorKind),
    /// The operation starts only after this long.
    Delay(Duration),
    /// A read returns only the first so many bytes; a store that breaks its promise.
    Truncate(usize),
    /// A read returns with this bit flipped (counted from the first byte's lowest, modulo the
    /// length).
    FlipBit(u64),
}

/// One line of a script: which operations to hit, and how.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The kind of operation, or any.
    pub operation: Option<Operation>,
    /// Text the key must contain; empty for any key.
    pub key_contains: String,
    /// Matching operations to let pass first.
    pub skip: u64,
    /// Matching operations to hit after those.
    pub times: u64,
    /// What happens to them.
    pub effect: Effect,
}

impl Fault {
    /// A fault that hits every operation.
    pub fn always(effect: Effect) -> Self {
        Self { operation: None, key_contains: String::new(), skip: 0, times: u64::MAX, effect }
    }

    /// The same fault for operations of one kind only.
    #[must_use]
    pub fn on(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// The same fault for keys that contain `text` only.
    #[must_use]
    pub fn key(mut self, text: impl Into<String>) -> Self {
        self.key_contains = text.into();
        self
    }

    /// The same fault for the `n`th (from 0) matching operation only.
    #[must_use]
    pub fn nth(mut self, n: u64) -> Self {
        (self.skip, self.times) = (n, 1);
        self
    }
}

/// A [`Store`] that fails as scripted. The first fault that matches an operation and still has
/// hits left applies.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    script: Mutex<Vec<Fault>>,
}

impl<S: Store> Faulty<S> {
    /// Breaks `inner` by `script`.
    pub fn new(inner: S, script: Vec<Fault>) -> Self {
        Self { inner, script: Mutex::new(script) }
    }

    /// Replaces the script; the counting starts anew.
    pub fn set_script(&self, script: Vec<Fault>) {
        *self.lock() = script;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Fault>> {
        // A script is whole at every moment, even if a thread panicked while holding the lock.
        self.script.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The effect on this operation, counted off the script.
    fn strike(&self, operation: Operation, key: &str) -> Option<Effect> {
        for fault in self.lock().iter_mut() {
            let matches = fault.operation.is_none_or(|wanted| wanted == operation)
                && key.contains(&fault.key_contains);
            if !matches || fault.times == 0 {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.times -= 1;
            return Some(fault.effect);
        }
        None
    }

    /// Applies the effects that come before the operation; returns those that come after.
    async fn before(&self, operation: Operation, key: &str) -> Result<Option<Effect>> {
        let effect = self.strike(operation, key);
        match effect {
            Some(Effect::Fail(kind)) => {
                let error = StorageError::new(kind, "use", self.inner.url(), "injected fault");
                Err(error.with_key(key))
            }
            Some(Effect::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                Ok(None)
            }
            effect => Ok(effect),
        }
    }
}

fn damage(body: Bytes, effect: Option<Effect>) -> Bytes {
    match effect {
        Some(Effect::Truncate(length)) => body.slice(..length.min(body.len())),
        Some(Effect::FlipBit(bit)) if !body.is_empty() => {
            let bit = bit % (body.len() as u64 * 8);
            let mut damaged = body.to_vec();
            damaged[(bit / 8) as usize] ^= 1 << (bit % 8);
            damaged.into()
        }
        _ => body,
    }
}

#[async_trait]
impl<S: Store> Store for Faulty<S> {
    async fn get(&self, key: &str) -> Result<Bytes> {
        let effect = self.before(Operation::Get, key).await?;
        Ok(damage(self.inner.get(key).await?, effect))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let effect = self.before(Operation::GetRange, key).await?;
        Ok(damage(self.inner.get_range(key, range).await?, effect))
    }

    fn concurrency(&self) -> usize {
        self.inner.concurrency()
    }

    async fn size(&self, key: &str) -> Result<u64> {
        self.before(Operation::Size, key).await?;
        self.inner.size(key).await
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        self.before(Operation::Put, key).await?;
        self.inner.put(key, body).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        self.before(Operation::List, prefix).await?;
        self.inner.list(prefix).await
    }

    async fn folders(&self) -> Result<Vec<String>> {
        self.before(Operation::List, "").await?;
        self.inner.folders().await
    }

    async fn delete(&self, keys: &[String]) -> Result<()> {
        for key in keys {
            self.before(Operation::Delete, key).await?;
        }
        self.inner.delete(keys).await
    }

    async fn settle(&self) {
        self.inner.settle().await;
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}
