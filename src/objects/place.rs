//! Whether the store is where an index has written before: a mistaken `s3vector.storage_url` must not
//! scatter its segments.

use std::collections::BTreeSet;

use ::storage::Store;
use uuid::Uuid;

use super::claims::{self, OWNER};
use crate::errors::{Failure, FailureKind};
use crate::pages::owner::Owner;

/// What an index expects of the store before it writes a segment.
pub struct Expected {
    /// The index's name, for messages.
    pub index: String,
    /// Who is about to write.
    pub here: Owner,
    /// The index's own folder and its owner as the index knows it; `None` when it has none that is
    /// this database's.
    pub own: Option<(Uuid, Owner)>,
    /// The folders that its segments lie in.
    pub read: BTreeSet<Uuid>,
}

/// Looks whether all folders are there. Returns whether the index's own is its own: if not, it takes a
/// new one.
///
/// # Errors
/// A folder that is not there, or is somebody else's; those of the store.
pub async fn look(store: &dyn Store, expected: &Expected) -> Result<bool, Failure> {
    let own = match expected.own {
        None => None,
        Some((folder, known)) => match claims::read(store, folder).await? {
            Some(owner) if owner.is_of_database(&expected.here) => Some(folder),
            // Without a token it could be another's: who has claimed the folder since then has it.
            _ if known.has_no_token() => None,
            Some(owner) => return Err(foreign(store, expected, folder, owner)),
            None => return Err(missing(store, expected, folder)),
        },
    };
    for &folder in expected.read.iter().filter(|&&folder| Some(folder) != own) {
        if claims::read(store, folder).await?.is_none() {
            return Err(missing(store, expected, folder));
        }
    }
    Ok(own.is_some())
}

fn missing(store: &dyn Store, expected: &Expected, folder: Uuid) -> Failure {
    let index = &expected.index;
    Failure::new(FailureKind::Missing, format!("a folder of index \"{index}\" is not in the store"))
        .detail(format!(
            "There is no \"{folder}/{OWNER}\" in \"{}\". Nothing has been written.",
            store.url()
        ))
        .hint(
            "If s3vector.storage_url names the wrong place, set it right and reload the \
             configuration. If what was there is lost, REINDEX rebuilds the index from its table.",
        )
}

fn foreign(store: &dyn Store, expected: &Expected, folder: Uuid, owner: Owner) -> Failure {
    let index = &expected.index;
    let Owner { system_identifier, timeline, token, database, .. } = owner;
    Failure::new(
        FailureKind::Foreign,
        format!("the folder of index \"{index}\" belongs to another database"),
    )
    .detail(format!(
        "\"{folder}/{OWNER}\" in \"{}\" names system identifier {system_identifier}, timeline \
         {timeline}, token {token}, database {database}. Nothing has been written.",
        store.url()
    ))
    .hint(
        "If s3vector.storage_url names the wrong place, set it right and reload the configuration. \
         If the other one is gone for good, s3vector_adopt() may take over what it wrote. Otherwise \
         REINDEX gives the index a folder of its own.",
    )
}
