//! Whether an index can go on writing to the store: its folders say what the next flush expects.

use pgrx::pg_sys;

use super::findings::{Findings, Part};
use super::store;
use crate::identity;
use crate::objects::place::{self, Expected};
use crate::pages::owner::Owner;
use crate::pages::{consistent, manifest};

/// What follows from each finding.
const REFUSED: &str = "flushes and merges are refused";

/// Looks at the folders as a flush does. What is wrong with one that the index has left meanwhile counts
/// for nothing: its owner may have deleted it.
pub fn check(index: pg_sys::Relation, found: &mut Findings) {
    let here = match writer(index) {
        Ok(here) => here,
        Err(problem) => {
            found.add(Part::Owner, None, identity::FILE, format!("{problem}: {REFUSED}"));
            None
        }
    };
    let expected = expected(index, here);
    let seen = store::run(async |store| Ok(place::look(&**store, &expected).await?));
    if seen.unexpected.is_empty() {
        return;
    }
    let expected = self::expected(index, here);
    for folder in seen.unexpected.iter().filter(|unexpected| expected.names(unexpected.folder)) {
        let problem = format!("the object {}: {REFUSED}", folder.problem());
        found.add(Part::Owner, None, folder.key(), problem);
    }
}

/// Who would write the index here and now; nobody during recovery.
///
/// # Errors
/// Why that is not known, in words.
fn writer(index: pg_sys::Relation) -> Result<Option<Owner>, String> {
    // SAFETY: reads the server's state.
    if unsafe { pg_sys::RecoveryInProgress() } {
        return Ok(None);
    }
    Owner::here(index).map(Some).map_err(|failure| failure.message)
}

fn expected(index: pg_sys::Relation, here: Option<Owner>) -> Expected {
    consistent(index, |meta| Ok(Expected::of(meta, &manifest::read(index, meta)?, here)))
}
