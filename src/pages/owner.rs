//! Who writes an index's folder of the store.

use pgrx::pg_sys;
use uuid::Uuid;

use crate::errors::Failure;
use crate::identity;

/// Who wrote a folder of the store. A copy of the relation, in another database, on another
/// cluster or on another timeline of the same one, sees an owner that is not itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The cluster.
    pub system_identifier: u64,
    /// Its timeline: changes when a standby is promoted or a backup restored.
    pub timeline: u32,
    /// The inode number of its data directory: changes when files are copied, but may be the same on
    /// another volume.
    pub directory: u64,
    /// The random token of its data directory; nil in what was written before there were tokens.
    pub token: Uuid,
    /// The database.
    pub database: u32,
    /// The relation file.
    pub relation: u32,
}

impl Owner {
    /// Stands for an owner while nothing has been written.
    pub const NOBODY: Self = Self {
        system_identifier: 0,
        timeline: 0,
        directory: 0,
        token: Uuid::nil(),
        database: 0,
        relation: 0,
    };

    /// Who would write `index` here and now. Not during recovery.
    ///
    /// # Errors
    /// When it is not known which data directory this is.
    pub fn here(index: pg_sys::Relation) -> Result<Self, Failure> {
        // SAFETY: `index` is an open relation.
        let relation = unsafe { (*index).rd_locator.relNumber.to_u32() };
        Ok(Self { relation, ..Self::of_database()? })
    }

    /// This database, with no relation in particular. Not during recovery.
    ///
    /// # Errors
    /// When it is not known which data directory this is.
    pub fn of_database() -> Result<Self, Failure> {
        let identity = identity::get()?;
        // SAFETY: set for every process with a database.
        let (system_identifier, timeline, database) = unsafe {
            (
                pg_sys::GetSystemIdentifier(),
                pg_sys::GetWALInsertionTimeLine(),
                pg_sys::MyDatabaseId.to_u32(),
            )
        };
        let (directory, token) = (identity.directory, identity.token);
        Ok(Self { system_identifier, timeline, directory, token, database, relation: 0 })
    }

    /// Whether nothing has been written yet.
    pub fn is_nobody(&self) -> bool {
        *self == Self::NOBODY
    }

    /// Whether this is from before there were tokens.
    pub fn has_no_token(&self) -> bool {
        self.token.is_nil()
    }

    /// Whether this owner, which was read somewhere, is of the cluster `here`: no clone, no ancestor,
    /// no descendant. Without a token the inode number decides.
    pub fn is_of_cluster(&self, here: &Self) -> bool {
        let place = |owner: &Self| (owner.system_identifier, owner.timeline, owner.directory);
        place(self) == place(here) && (self.has_no_token() || self.token == here.token)
    }

    /// Whether this owner, which was read somewhere, is of the database `here`.
    pub fn is_of_database(&self, here: &Self) -> bool {
        self.is_of_cluster(here) && self.database == here.database
    }

    /// Whether this owner, which was read somewhere, is `here`.
    pub fn is(&self, here: &Self) -> bool {
        self.is_of_database(here) && self.relation == here.relation
    }
}
