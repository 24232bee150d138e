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

/// What `owner.json` holds. 64-bit numbers are text: JSON readers would round them.
#[derive(Serialize, Deserialize)]
struct StoredOwner {
    system_identifier: String,
    timeline: u32,
    directory: String,
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
            system_identifier: owner.system_identifier.to_string(),
            timeline: owner.timeline,
            directory: owner.directory.to_string(),
            token: owner.token,
            database: owner.database,
            relation: owner.relation,
        }
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

/// Who writes below the folder of `index`; `None` when it is no folder of ours, or nobody's.
///
/// # Errors
/// Those of the store.
pub async fn read(store: &dyn Store, index: Uuid) -> Result<Option<Owner>, StorageError> {
    let body = match store.get(&format!("{index}/{OWNER}")).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        outcome => outcome?,
    };
    let Ok(stored) = serde_json::from_slice::<StoredOwner>(&body) else { return Ok(None) };
    let numbers = (stored.system_identifier.parse(), stored.directory.parse());
    let (Ok(system_identifier), Ok(directory)) = numbers else { return Ok(None) };
    let StoredOwner { timeline, token, database, relation, .. } = stored;
    Ok(Some(Owner { system_identifier, timeline, directory, token, database, relation }))
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
