//! What in the store nobody needs, and its removal.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, SystemTime};

use ::storage::{ObjectMeta, StorageError, Store};
use bytes::Bytes;
use uuid::Uuid;

use super::claims::{self, Claim, OWNER, READERS};
use crate::pages::owner::Owner;

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
    /// What is to be done about it.
    verdict: Verdict,
}

/// What is to be done about something that nobody needs.
#[derive(Clone, Debug)]
enum Verdict {
    /// Nothing now.
    Wait,
    /// Write this mark.
    Mark(String),
    /// Delete these objects.
    Delete(Vec<String>),
}

/// What a look through the store has come to: to be carried out at leisure.
#[derive(Clone, Default)]
pub struct Plan {
    findings: Vec<Finding>,
    /// Marks on what is used after all.
    unmark: Vec<String>,
    /// Folders of this cluster that bear no token yet, with who is to be named as their owner.
    claims: Vec<(Uuid, Owner)>,
    /// Folders of others, with who reads which segments of them.
    readers: Vec<(Uuid, Owner, BTreeSet<Uuid>)>,
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
        if !owner.is_of_cluster(&self.here) {
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

/// Goes through folders and judges what nobody needs. Changes nothing; what has been judged to be
/// unused never comes back, so that [`carry_out`] needs no locks.
///
/// # Errors
/// Those of the store.
pub async fn look_through(
    store: &dyn Store,
    folders: &[Uuid],
    facts: &Facts,
) -> Result<Plan, StorageError> {
    let mut plan = Plan::default();
    for &folder in folders {
        let named = facts.named(folder);
        let owner = match claims::read(store, folder).await? {
            Claim::Of(owner) => owner,
            Claim::Damaged(_) => {
                show(store, facts, folder, "damaged owner.json", &mut plan).await?;
                continue;
            }
            // Any folder can have such a name. One that an index writes or reads is one of ours.
            Claim::Missing => {
                if !named.is_empty() || facts.indexes.iter().any(|i| i.index_uuid == folder) {
                    show(store, facts, folder, "missing owner.json", &mut plan).await?;
                }
                continue;
            }
        };
        if owner.has_no_token() && owner.is_of_cluster(&facts.here) && !facts.dry_run {
            // Somebody else may take it for its own as well. Judged from the next time on: until then
            // that one finds out, and says what it reads.
            plan.claims.push((folder, Owner { token: facts.here.token, ..owner }));
            continue;
        }
        let gone = match facts.standing(folder, owner) {
            Standing::Busy => continue,
            Standing::Foreign => {
                foreign(store, facts, folder, &named, &mut plan).await?;
                continue;
            }
            Standing::Live => None,
            Standing::Dropped => Some("dropped index"),
            Standing::Orphaned => Some("dropped database"),
        };
        own(store, facts, folder, named, gone, &mut plan).await?;
    }
    Ok(plan)
}

/// Says what this database reads of others' folders, marks what nobody needs, and deletes what has
/// been marked for long enough.
///
/// # Errors
/// Those of the store; what has been done until then stays done.
pub async fn carry_out(store: &dyn Store, plan: Plan) -> Result<Vec<Finding>, StorageError> {
    let Plan { mut findings, unmark, claims, readers } = plan;
    store.delete(&unmark).await?;
    for (folder, owner) in claims {
        claims::write(store, folder, owner).await?;
    }
    for (folder, reader, segments) in readers {
        claims::register_reader(store, folder, reader, segments).await?;
    }
    for finding in &mut findings {
        match std::mem::replace(&mut finding.verdict, Verdict::Wait) {
            Verdict::Wait => {}
            Verdict::Mark(key) => {
                store.put(&key, Bytes::from_static(finding.reason.as_bytes())).await?;
                finding.since = Some(SystemTime::now());
            }
            Verdict::Delete(keys) => {
                delete(store, keys).await?;
                finding.deleted = true;
            }
        }
    }
    Ok(findings)
}

impl Plan {
    /// What was found; nothing has been done about it.
    pub fn into_findings(self) -> Vec<Finding> {
        self.findings
    }
}

/// A folder's name. Only the form that this library writes counts.
fn parse(name: &str) -> Option<Uuid> {
    Uuid::try_parse(name).ok().filter(|uuid| uuid.to_string() == name)
}

/// A folder that another owner wrote: it is to be told what is still read, or shown if nothing is.
async fn foreign(
    store: &dyn Store,
    facts: &Facts,
    folder: Uuid,
    named: &BTreeSet<Uuid>,
    plan: &mut Plan,
) -> Result<(), StorageError> {
    if named.is_empty() {
        show(store, facts, folder, "foreign", plan).await?;
    }
    for index in &facts.indexes {
        let read = index.segments.iter().filter(|(index, _)| *index == folder);
        let segments: BTreeSet<Uuid> = read.map(|(_, segment)| *segment).collect();
        if !segments.is_empty() {
            plan.readers.push((folder, index.identity, segments));
        }
    }
    Ok(())
}

/// A folder that is left alone: a dry run shows it.
async fn show(
    store: &dyn Store,
    facts: &Facts,
    folder: Uuid,
    reason: &'static str,
    plan: &mut Plan,
) -> Result<(), StorageError> {
    if facts.dry_run {
        let objects = store.list(&format!("{folder}/")).await?;
        plan.findings.push(Finding::of(folder.to_string(), reason, &objects));
    }
    Ok(())
}

/// A folder of this database's own: what nobody names in it is unused; all of it when `gone` says
/// why and nobody names anything in it.
async fn own(
    store: &dyn Store,
    facts: &Facts,
    folder: Uuid,
    named: BTreeSet<Uuid>,
    gone: Option<&'static str>,
    plan: &mut Plan,
) -> Result<(), StorageError> {
    let objects = store.list(&format!("{folder}/")).await?;
    let mut needed = claims::read_elsewhere(store, folder, &objects, facts.grace).await?;
    needed.extend(named);
    if let Some(reason) = gone.filter(|_| needed.is_empty()) {
        let prefix = folder.to_string();
        plan.findings.push(judge(facts, prefix, reason, &objects));
        return Ok(());
    }
    plan.unmark.extend(mark_of(&folder.to_string(), &objects).map(|mark| mark.key.clone()));
    for (segment, objects) in by_segment(folder, objects) {
        let prefix = format!("{folder}/{segment}");
        if needed.contains(&segment) {
            plan.unmark.extend(mark_of(&prefix, &objects).map(|mark| mark.key.clone()));
        } else {
            plan.findings.push(judge(facts, prefix, "unused segment", &objects));
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

/// The mark on what lies below `prefix`, if there is one.
fn mark_of<'a>(prefix: &str, objects: &'a [ObjectMeta]) -> Option<&'a ObjectMeta> {
    let key = format!("{prefix}/{RETIRED}");
    objects.iter().find(|object| object.key == key)
}

/// Something nobody needs is to be marked, or deleted when it has been marked for long enough.
fn judge(facts: &Facts, prefix: String, reason: &'static str, objects: &[ObjectMeta]) -> Finding {
    let mark = mark_of(&prefix, objects);
    let mut finding = Finding::of(prefix, reason, objects);
    finding.since = mark.map(|mark| mark.modified);
    if mark.map_or(facts.grace.is_zero(), |mark| claims::age(mark) >= facts.grace) {
        let keys = objects.iter().map(|object| object.key.clone()).collect();
        finding.verdict = Verdict::Delete(keys);
    } else if mark.is_none() {
        finding.verdict = Verdict::Mark(format!("{}/{RETIRED}", finding.prefix));
    }
    finding
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
/// with another token, written by this database or by one that no longer exists. Returns them.
///
/// # Errors
/// Those of the store.
pub async fn adopt(store: &dyn Store, facts: &Facts) -> Result<Vec<Uuid>, StorageError> {
    let mut adopted = Vec::new();
    for folder in folders(store).await? {
        let Claim::Of(owner) = claims::read(store, folder).await? else { continue };
        let predecessor = owner.system_identifier == facts.here.system_identifier
            && owner.timeline <= facts.here.timeline
            && !owner.is_of_cluster(&facts.here);
        let ours =
            owner.database == facts.here.database || !facts.databases.contains(&owner.database);
        if predecessor && ours {
            let live = facts.indexes.iter().find(|index| index.index_uuid == folder);
            let relation = live.map_or(owner.relation, |index| index.identity.relation);
            claims::write(store, folder, Owner { relation, ..facts.here }).await?;
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
            verdict: Verdict::Wait,
        }
    }
}
