//! Whether the store is where an index has written before: a mistaken `s3vector.storage_url` must not
//! scatter its segments.

use std::collections::BTreeSet;

use ::storage::{StorageError, Store};
use uuid::Uuid;

use super::claims::{self, Claim, OWNER};
use crate::errors::{Failure, FailureKind};
use crate::pages::manifest::SegmentEntry;
use crate::pages::meta::Meta;
use crate::pages::owner::Owner;

/// What an index expects of the store before it writes a segment.
#[derive(Clone, Debug)]
pub struct Expected {
    own: Option<Own>,
    /// The folders that its segments lie in.
    read: BTreeSet<Uuid>,
}

/// The index's own folder.
#[derive(Clone, Copy, Debug)]
struct Own {
    folder: Uuid,
    /// Its owner as the index knows it.
    known: Owner,
    /// Who is about to write.
    here: Owner,
}

impl Expected {
    /// What the index with this meta page and these segments expects. `here` is who is about to
    /// write; `None` when that is nobody, as on a standby: there a folder counts only as one that is read.
    pub fn of(meta: &Meta, segments: &[SegmentEntry], here: Option<Owner>) -> Self {
        let own = here.filter(|here| meta.owner.is(here)).map(|here| Own {
            folder: meta.index_uuid,
            known: meta.owner,
            here,
        });
        Self { own, read: segments.iter().map(|segment| segment.index_uuid).collect() }
    }

    /// Whether it is about this folder.
    pub fn names(&self, folder: Uuid) -> bool {
        self.read.contains(&folder) || self.own.is_some_and(|own| own.folder == folder)
    }
}

/// What a look at the store has come to.
#[derive(Debug, Default)]
pub struct Seen {
    /// Whether the index's own folder is its own: if not, it takes a new one.
    pub is_own: bool,
    /// Folders that are not as expected: the index does not write as long as there are any.
    pub unexpected: Vec<Unexpected>,
}

/// A folder that is not as an index expects it.
#[derive(Debug)]
pub struct Unexpected {
    /// The folder.
    pub folder: Uuid,
    /// What it says; an owner is one that it must not have.
    claim: Claim,
}

/// Looks at all folders.
///
/// # Errors
/// Those of the store.
pub async fn look(store: &dyn Store, expected: &Expected) -> Result<Seen, StorageError> {
    let mut seen = Seen::default();
    let mut known = None;
    if let Some(own) = expected.own {
        match claims::read(store, own.folder).await? {
            Claim::Of(owner) if owner.is_of_database(&own.here) => {
                seen.is_own = true;
                known = Some(own.folder);
            }
            // Without a token it could be another's: who has claimed the folder since then has it.
            _ if own.known.has_no_token() => {}
            claim => {
                seen.unexpected.push(Unexpected { folder: own.folder, claim });
                known = Some(own.folder);
            }
        }
    }
    for &folder in expected.read.iter().filter(|&&folder| Some(folder) != known) {
        match claims::read(store, folder).await? {
            // Whoever that is: it is only read.
            Claim::Of(_) => {}
            claim => seen.unexpected.push(Unexpected { folder, claim }),
        }
    }
    Ok(seen)
}

impl Unexpected {
    /// The name of the object that says it.
    pub fn key(&self) -> String {
        format!("{}/{OWNER}", self.folder)
    }

    /// What is wrong with the object, in words that go on after its name.
    pub fn problem(&self) -> String {
        match &self.claim {
            Claim::Missing => "does not exist".to_owned(),
            Claim::Damaged(why) => format!("is damaged: {}", why.trim_end_matches('.')),
            Claim::Of(Owner { system_identifier, timeline, token, database, .. }) => format!(
                "names system identifier {system_identifier}, timeline {timeline}, token {token}, \
                 database {database}"
            ),
        }
    }

    /// Why the index named `index` does not write to the store at `url`.
    pub fn failure(&self, index: &str, url: &str) -> Failure {
        const PLACE: &str = "If s3vector.storage_url names the wrong place, set it right and reload the \
                             configuration.";
        let object = format!("\"{}\" in \"{url}\"", self.key());
        let (kind, message, detail, hint) = match self.claim {
            Claim::Missing => (
                FailureKind::Missing,
                format!("could not find the owner of a folder of index \"{index}\""),
                format!("There is no {object}."),
                format!(
                    "{PLACE} If what was there is lost, REINDEX rebuilds the index from its table."
                ),
            ),
            Claim::Damaged(_) => (
                FailureKind::Corrupt,
                format!("could not read the owner of a folder of index \"{index}\""),
                format!("{object} {}.", self.problem()),
                "Bring the object back from a copy of the store. If there is none, REINDEX rebuilds \
                 the index from its table in a folder of its own."
                    .to_owned(),
            ),
            Claim::Of(_) => (
                FailureKind::Foreign,
                format!("the folder of index \"{index}\" belongs to another database"),
                format!("{object} {}.", self.problem()),
                format!(
                    "{PLACE} If the other one is gone for good, s3vector_adopt() may take over what \
                     it wrote. Otherwise REINDEX gives the index a folder of its own."
                ),
            ),
        };
        let detail = format!("{detail} Nothing has been written.");
        Failure::new(kind, message).detail(detail).hint(hint)
    }
}
