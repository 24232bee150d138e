//! The one interface to object storage.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

use crate::StorageError;
use crate::pieces::{self, Batch, Piece};

/// The result of a storage operation.
pub type Result<T> = std::result::Result<T, StorageError>;

/// An object as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Name, relative to the store.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// When it was last written, by the store's clock.
    pub modified: SystemTime,
}

/// The operations of a [`Store`], for decorators that count or break them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Store::get`]
    Get,
    /// [`Store::get_range`]
    GetRange,
    /// [`Store::size`]
    Size,
    /// [`Store::put`]
    Put,
    /// [`Store::list`] and [`Store::folders`]
    List,
    /// [`Store::delete`]
    Delete,
    /// Pieces asked of Redis, all of a read in one round trip.
    RedisRead,
    /// Pieces given to Redis, all of a read in one round trip.
    RedisWrite,
}

impl Operation {
    /// Every kind.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Get,
        Self::GetRange,
        Self::Size,
        Self::Put,
        Self::List,
        Self::Delete,
        Self::RedisRead,
        Self::RedisWrite,
    ];
    /// How many kinds there are.
    pub const COUNT: usize = 8;
}

/// A flat store of named, immutable objects.
///
/// Keys are relative paths (see [`validate_key`](crate::validate_key)). Every call needs a tokio
/// runtime with its timer and I/O on. Dropping a call's future gives the operation up; a `put`
/// given up leaves the key as it was.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// The whole object.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if it does not exist; else whatever the store
    /// reports.
    async fn get(&self, key: &str) -> Result<Bytes>;

    /// The bytes `range` of the object: exactly that many.
    ///
    /// # Errors
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if the object ends before the range does.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes>;

    /// Many pieces of objects together: one wave of requests, near pieces of an object in one.
    ///
    /// The answer has the pieces in the order asked for, each exactly as long as its range, and
    /// says what they cost. A tier that caches pieces answers those it has without a request.
    ///
    /// # Errors
    /// As [`get_range`](Self::get_range), of the first request that fails.
    async fn get_pieces(&self, pieces: &[Piece]) -> Result<Batch> {
        pieces::read_together(pieces, self.concurrency(), |key, range| async move {
            Ok((self.get_range(&key, range).await?, 1))
        })
        .await
    }

    /// Most requests of one operation that are sensibly under way at once.
    fn concurrency(&self) -> usize {
        pieces::CONCURRENCY
    }

    /// The size of the object in bytes.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    async fn size(&self, key: &str) -> Result<u64>;

    /// Writes an object. Readers see all of it or none; it is durable when this returns.
    ///
    /// # Errors
    /// Whatever the store reports; the key is then as it was, or holds the new object.
    async fn put(&self, key: &str, body: Bytes) -> Result<()>;

    /// Every object whose key begins with `prefix`, in no particular order.
    ///
    /// Temporary files of interrupted writes are listed too, so that a sweep finds them.
    ///
    /// # Errors
    /// Whatever the store reports. No match is an empty list.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>>;

    /// The first parts of all keys that have several, each once: the folders at the store's top.
    ///
    /// # Errors
    /// Whatever the store reports.
    async fn folders(&self) -> Result<Vec<String>>;

    /// Deletes objects. One that does not exist counts as deleted.
    ///
    /// # Errors
    /// Whatever the store reports about the first object it could not delete; others may be gone.
    async fn delete(&self, keys: &[String]) -> Result<()>;

    /// Waits for the cleaning up of operations that were given up: aborted uploads.
    ///
    /// Call it after dropping `put` futures and before shutting the runtime down.
    async fn settle(&self) {}

    /// Where the store is, without credentials.
    fn url(&self) -> String;
}

/// A store in front of another that reads pieces in a way of its own and passes everything else on.
#[async_trait]
pub(crate) trait Layer: Send + Sync + fmt::Debug {
    /// What it is in front of.
    type Inner: Store + ?Sized;

    /// The store that everything else is passed on to.
    fn inner(&self) -> &Self::Inner;

    /// See [`Store::get_pieces`].
    async fn read_pieces(&self, pieces: &[Piece]) -> Result<Batch>;
}

#[async_trait]
impl<L: Layer> Store for L {
    async fn get(&self, key: &str) -> Result<Bytes> {
        self.inner().get(key).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        self.inner().get_range(key, range).await
    }

    async fn get_pieces(&self, pieces: &[Piece]) -> Result<Batch> {
        self.read_pieces(pieces).await
    }

    fn concurrency(&self) -> usize {
        self.inner().concurrency()
    }

    async fn size(&self, key: &str) -> Result<u64> {
        self.inner().size(key).await
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        self.inner().put(key, body).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>> {
        self.inner().list(prefix).await
    }

    async fn folders(&self) -> Result<Vec<String>> {
        self.inner().folders().await
    }

    async fn delete(&self, keys: &[String]) -> Result<()> {
        self.inner().delete(keys).await
    }

    async fn settle(&self) {
        self.inner().settle().await;
    }

    fn url(&self) -> String {
        self.inner().url()
    }
}

#[async_trait]
impl<S: Store + ?Sized> Layer for Arc<S> {
    type Inner = S;

    fn inner(&self) -> &S {
        self
    }

    async fn read_pieces(&self, pieces: &[Piece]) -> Result<Batch> {
        self.inner().get_pieces(pieces).await
    }
}
