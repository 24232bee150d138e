//! What in the store nobody needs, and its removal.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, SystemTime};

use ::storage::{ObjectMeta, StorageError, Store};
use bytes::Bytes;
use uuid::Uuid;

use super::claims::{self, OWNER, READERS};
use crate::pages::meta::Owner;

/// Name of the mark on what was first seen unused at the time the mark was written.
const RETIRED: &str = "retired";

/// What the database knows, as of a moment at which it holds the locks that keep it true.
pub struct Facts {
    /// Whose sweep this is; `relation` has no meaning.
    pub here: Owner,
    /// Every database of the cluster.
    pub databases: HashSet<u32>,
    /// Every index of this database that could be looked into.
    pub indexes: Vec<LiveIndex>,
    /// Relation files that could not: being built, dropped or worked on. Their folders stay.
    pub busy: HashSet<u32>,
    /// How long a mark is respected.
    pub grace: Duration,
    /// Whether to change nothing.
    pub dry_run: bool,
}

/// An index of this database.
pub struct LiveIndex {
    /// Its folder.
    pub index_uuid: Uuid,
    /// Who it is.
    pub identity: Owner,
    /// Its segments, with the folders they lie in.
    pub segments: Vec<(Uuid, Uuid)>,
}

/// Something nobody needs.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Where it lies: an index's folder, or a segment's.
    pub prefix: String,
    /// Why nobody needs it.
    pub reason: &'static str,
    /// How many objects it is.
    pub objects: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// When it was first seen to be unused.
    pub since: Option<SystemTime>,
    /// Whether it has been deleted now.
    pub deleted: bool,
    /// What is to be deleted now.
    expired: Vec<String>,
}

/// How a folder stands to this database.
enum Standing {
    /// An index of this database writes there.
    Live,
    /// It cannot be told now.
    Busy,
    /// This database wrote it, for an index that is gone.
    Dropped,
    /// A database of this cluster wrote it that is gone.
    Orphaned,
    /// Somebody else's.
    Foreign,
}

impl Facts {
    fn standing(&self, folder: Uuid, owner: Owner) -> Standing {
        if !owner.is_same_cluster(&self.here) {
            Standing::Foreign
        } else if !self.databases.contains(&owner.database) {
            Standing::Orphaned
        } else if owner.database != self.here.database {
            Standing::Foreign
        } else if self.busy.contains(&owner.relation) {
            Standing::Busy
        } else if self.indexes.iter().any(|index| index.index_uuid == folder) {
            Standing::Live
        } else {
            Standing::Dropped
        }
    }

    /// The segments of a folder that indexes of this database name.
    fn named(&self, folder: Uuid) -> BTreeSet<Uuid> {
        let all = self.indexes.iter().flat_map(|index| &index.segments);
        all.filter(|(index, _)| *index == folder).map(|(_, segment)| *segment).collect()
    }
}

/// The folders there are in the store. To be asked for before [`Facts`]: an index that is created
/// later then has none of these.
///
/// # Errors
/// Those of the store.
pub async fn folders(store: &dyn Store) -> Result<Vec<Uuid>, StorageError> {
    Ok(store.folders().await?.iter().filter_map(|name| parse(name)).collect())
}

/// Goes through folders: finds what nobody needs and marks it, and says what this database reads of
/// others' folders. Deletes nothing: see [`delete_expired`].
///
/// # Errors
/// Those of the store; what has been done until then stays done.
pub async fn look_through(
    store: &dyn Store,
    folders: &[Uuid],
    facts: &Facts,
) -> Result<Vec<Finding>, StorageError> {
    let mut findings = Vec::new();
    for &folder in folders {
        let Some(owner) = claims::read(store, folder).await? else { continue };
        let named = facts.named(folder);
        let gone = match facts.standing(folder, owner) {
            Standing::Busy => continue,
            Standing::Foreign => {
                findings.extend(foreign(store, facts, folder, &named).await?);
                continue;
            }
            Standing::Live => None,
            Standing::Dropped => Some("dropped index"),
            Standing::Orphaned => Some("dropped database"),
        };
        own(store, facts, folder, named, gone, &mut findings).await?;
    }
    Ok(findings)
}

/// Deletes what has been unused for long enough.
///
/// # Errors
/// Those of the store; what has been deleted until then stays deleted.
pub async fn delete_expired(
    store: &dyn Store,
    mut findings: Vec<Finding>,
) -> Result<Vec<Finding>, StorageError> {
    for finding in &mut findings {
        let expired = std::mem::take(&mut finding.expired);
        finding.deleted = !expired.is_empty();
        delete(store, expired).await?;
    }
    Ok(findings)
}

/// A folder's name. Only the form that this library writes counts.
fn parse(name: &str) -> Option<Uuid> {
    Uuid::try_parse(name).ok().filter(|uuid| uuid.to_string() == name)
}

/// A folder that another owner wrote: tell it what is still read, or show it.
async fn foreign(
    store: &dyn Store,
    facts: &Facts,
    folder: Uuid,
    named: &BTreeSet<Uuid>,
) -> Result<Option<Finding>, StorageError> {
    if facts.dry_run {
        if !named.is_empty() {
            return Ok(None);
        }
        let objects = store.list(&format!("{folder}/")).await?;
        return Ok(Some(Finding::of(folder.to_string(), "foreign", &objects)));
    }
    for index in &facts.indexes {
        let own = index.segments.iter().filter(|(index, _)| *index == folder);
        let segments: BTreeSet<Uuid> = own.map(|(_, segment)| *segment).collect();
        if !segments.is_empty() {
            claims::register_reader(store, folder, index.identity, segments).await?;
        }
    }
    Ok(None)
}

/// A folder of this database's own: what nobody names in it is unused; all of it when `gone` says
/// why and nobody names anything in it.
async fn own(
    store: &dyn Store,
    facts: &Facts,
    folder: Uuid,
    named: BTreeSet<Uuid>,
    gone: Option<&'static str>,
    findings: &mut Vec<Finding>,
) -> Result<(), StorageError> {
    let objects = store.list(&format!("{folder}/")).await?;
    let mut needed = claims::read_elsewhere(store, folder, &objects, facts.grace).await?;
    needed.extend(named);
    if let Some(reason) = gone.filter(|_| needed.is_empty()) {
        let prefix = folder.to_string();
        findings.push(retire(store, facts, prefix, reason, &objects).await?);
        return Ok(());
    }
    unmark(store, facts, &folder.to_string(), &objects).await?;
    for (segment, objects) in by_segment(folder, objects) {
        let prefix = format!("{folder}/{segment}");
        if needed.contains(&segment) {
            unmark(store, facts, &prefix, &objects).await?;
        } else {
            findings.push(retire(store, facts, prefix, "unused segment", &objects).await?);
        }
    }
    Ok(())
}

/// The objects of each segment below a folder.
fn by_segment(folder: Uuid, objects: Vec<ObjectMeta>) -> BTreeMap<Uuid, Vec<ObjectMeta>> {
    let folder = format!("{folder}/");
    let mut segments: BTreeMap<Uuid, Vec<ObjectMeta>> = BTreeMap::new();
    for object in objects {
        let part = object.key.strip_prefix(&folder).and_then(|rest| rest.split_once('/'));
        if let Some(segment) = part.and_then(|(segment, _)| parse(segment)) {
            segments.entry(segment).or_default().push(object);
        }
    }
    segments
}

/// Takes a mark away from what is used after all.
async fn unmark(
    store: &dyn Store,
    facts: &Facts,
    prefix: &str,
    objects: &[ObjectMeta],
) -> Result<(), StorageError> {
    let mark = format!("{prefix}/{RETIRED}");
    if !facts.dry_run && objects.iter().any(|object| object.key == mark) {
        store.delete(&[mark]).await?;
    }
    Ok(())
}

/// Marks what nobody needs, unless it has been marked for long enough: then it is to be deleted.
async fn retire(
    store: &dyn Store,
    facts: &Facts,
    prefix: String,
    reason: &'static str,
    objects: &[ObjectMeta],
) -> Result<Finding, StorageError> {
    let key = format!("{prefix}/{RETIRED}");
    let mark = objects.iter().find(|object| object.key == key);
    let mut finding = Finding::of(prefix, reason, objects);
    finding.since = mark.map(|mark| mark.modified);
    if facts.dry_run {
        return Ok(finding);
    }
    if mark.map_or(facts.grace.is_zero(), |mark| claims::age(mark) >= facts.grace) {
        finding.expired = objects.iter().map(|object| object.key.clone()).collect();
    } else if mark.is_none() {
        store.put(&key, Bytes::from_static(reason.as_bytes())).await?;
        finding.since = Some(SystemTime::now());
    }
    Ok(finding)
}

/// Deletes objects in an order that leaves, whenever it is interrupted, nothing that looks whole:
/// first what makes a segment one, last what makes a folder ours and tells that it is unused.
async fn delete(store: &dyn Store, keys: Vec<String>) -> Result<(), StorageError> {
    let mut stages: [Vec<String>; 3] = Default::default();
    for key in keys {
        let parts: Vec<&str> = key.split('/').collect();
        let stage = match parts.as_slice() {
            [_, _, "zarr.json"] => 0,
            [_, OWNER | RETIRED] | [_, READERS, _] | [_, _, RETIRED] => 2,
            _ => 1,
        };
        stages[stage].push(key);
    }
    for keys in stages {
        store.delete(&keys).await?;
    }
    Ok(())
}

/// Makes the folders of predecessors this database's own: of the same cluster on an older timeline or
/// in another data directory, written by this database or by one that no longer exists. Returns them.
///
/// # Errors
/// Those of the store.
pub async fn adopt(store: &dyn Store, facts: &Facts) -> Result<Vec<Uuid>, StorageError> {
    let mut adopted = Vec::new();
    for folder in folders(store).await? {
        let Some(owner) = claims::read(store, folder).await? else { continue };
        let predecessor = owner.system_identifier == facts.here.system_identifier
            && owner.timeline <= facts.here.timeline
            && !owner.is_same_cluster(&facts.here);
        let ours =
            owner.database == facts.here.database || !facts.databases.contains(&owner.database);
        if predecessor && ours {
            let owner = Owner { relation: owner.relation, ..facts.here };
            claims::write(store, folder, owner).await?;
            adopted.push(folder);
        }
    }
    Ok(adopted)
}

impl Finding {
    fn of(prefix: String, reason: &'static str, objects: &[ObjectMeta]) -> Self {
        Self {
            prefix,
            reason,
            objects: objects.len() as u64,
            bytes: objects.iter().map(|object| object.size).sum(),
            since: None,
            deleted: false,
            expired: Vec::new(),
        }
    }
}
