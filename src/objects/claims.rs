//! Who owns a folder of the store, and which copies still read it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use ::storage::{ErrorKind, ObjectMeta, StorageError, Store};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::pages::owner::Owner;

/// Name of the object that tells a folder's owner.
pub const OWNER: &str = "owner.json";
/// Folder of the objects that tell who reads.
pub const READERS: &str = "readers";

/// What a folder's [`OWNER`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// There is none: the folder is not in the store, or nobody's.
    Missing,
    /// It is not what this library writes; why, in words.
    Damaged(String),
    /// Whose the folder is.
    Of(Owner),
}

/// What `owner.json` holds. 64-bit numbers are text: JSON readers would round them.
#[derive(Serialize, Deserialize)]
struct StoredOwner {
    #[serde(with = "text")]
    system_identifier: u64,
    timeline: u32,
    #[serde(with = "text")]
    directory: u64,
    /// Nil in what was written before there were tokens.
    #[serde(default)]
    token: Uuid,
    database: u32,
    relation: u32,
}

/// What an object in `readers` holds.
#[derive(Serialize, Deserialize)]
struct StoredReader {
    owner: StoredOwner,
    segments: BTreeSet<Uuid>,
}

impl From<Owner> for StoredOwner {
    fn from(owner: Owner) -> Self {
        Self {
            system_identifier: owner.system_identifier,
            timeline: owner.timeline,
            directory: owner.directory,
            token: owner.token,
            database: owner.database,
            relation: owner.relation,
        }
    }
}

impl From<StoredOwner> for Owner {
    fn from(stored: StoredOwner) -> Self {
        Self {
            system_identifier: stored.system_identifier,
            timeline: stored.timeline,
            directory: stored.directory,
            token: stored.token,
            database: stored.database,
            relation: stored.relation,
        }
    }
}

/// Numbers as text.
mod text {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(number: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(number)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Says that `owner` writes below the folder of `index`.
///
/// # Errors
/// Those of the store.
pub async fn write(store: &dyn Store, index: Uuid, owner: Owner) -> Result<(), StorageError> {
    let body = serde_json::to_vec_pretty(&StoredOwner::from(owner)).unwrap_or_default();
    store.put(&format!("{index}/{OWNER}"), Bytes::from(body)).await
}

/// What the folder of `index` says about who writes there.
///
/// # Errors
/// Those of the store that tell nothing about the object.
pub async fn read(store: &dyn Store, index: Uuid) -> Result<Claim, StorageError> {
    let body = match store.get(&format!("{index}/{OWNER}")).await {
        Ok(body) => body,
        Err(error) => match error.kind() {
            ErrorKind::NotFound => return Ok(Claim::Missing),
            ErrorKind::Corrupt => return Ok(Claim::Damaged(error.detail())),
            _ => return Err(error),
        },
    };
    Ok(match serde_json::from_slice::<StoredOwner>(&body) {
        Ok(stored) => Claim::Of(stored.into()),
        Err(error) => Claim::Damaged(error.to_string()),
    })
}

/// Says that a copy, which `reader` writes, still reads `segments` of a folder that is not its own.
///
/// # Errors
/// Those of the store.
pub async fn register_reader(
    store: &dyn Store,
    index: Uuid,
    reader: Owner,
    segments: BTreeSet<Uuid>,
) -> Result<(), StorageError> {
    let Owner { system_identifier, timeline, token, database, relation, .. } = reader;
    let key = format!(
        "{index}/{READERS}/{system_identifier}-{timeline}-{token}-{database}-{relation}.json"
    );
    let body = StoredReader { owner: reader.into(), segments };
    let body = serde_json::to_vec_pretty(&body).unwrap_or_default();
    store.put(&key, Bytes::from(body)).await
}

/// The segments that copies have said they read within the last `grace`, of the folder whose
/// `objects` are given.
///
/// # Errors
/// Those of the store.
pub async fn read_elsewhere(
    store: &dyn Store,
    index: Uuid,
    objects: &[ObjectMeta],
    grace: Duration,
) -> Result<BTreeSet<Uuid>, StorageError> {
    let folder = format!("{index}/{READERS}/");
    let mut segments = BTreeSet::new();
    for object in objects.iter().filter(|object| object.key.starts_with(&folder)) {
        if age(object) >= grace {
            continue;
        }
        let body = match store.get(&object.key).await {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            outcome => outcome?,
        };
        if let Ok(reader) = serde_json::from_slice::<StoredReader>(&body) {
            segments.extend(reader.segments);
        }
    }
    Ok(segments)
}

/// How long ago an object was written; nothing when its time lies ahead of this machine's.
pub fn age(object: &ObjectMeta) -> Duration {
    SystemTime::now().duration_since(object.modified).unwrap_or_default()
}
