//! Objects of temporary tables: nobody but their session ever reads them, so they go with it, or
//! before.

use std::cell::{Cell, RefCell};

use pgrx::pg_sys;
use pgrx::prelude::*;
use uuid::Uuid;

use super::{assemble, catalog};
use crate::pages::{consistent, manifest};
use crate::settings;
use crate::shared::registry;

/// A folder that this session has claimed for an index of a temporary table.
struct Folder {
    index_uuid: Uuid,
    index: pg_sys::Oid,
    /// The transaction that has first seen that nothing names it.
    unused_in: Option<pg_sys::LocalTransactionId>,
}

thread_local! {
    static FOLDERS: RefCell<Vec<Folder>> = const { RefCell::new(Vec::new()) };
    /// Whether they will be deleted at the end of the session.
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Notes a folder of `index` to be deleted when this session ends. A sweep gets what a crash leaves.
///
/// Those of indexes that are gone by now go first: a session may last long and make many.
pub fn remember(index: pg_sys::Relation, index_uuid: Uuid) {
    release_unused();
    if !REGISTERED.replace(true) {
        // SAFETY: the callback lives as long as the library.
        unsafe { pg_sys::before_shmem_exit(Some(delete_all), pg_sys::Datum::from(0)) };
    }
    FOLDERS.with_borrow_mut(|folders| {
        if !folders.iter().any(|folder| folder.index_uuid == index_uuid) {
            // SAFETY: `index` is an open relation.
            let index = unsafe { (*index).rd_id };
            folders.push(Folder { index_uuid, index, unused_in: None });
        }
    });
}

/// Deletes the folders that nothing names, and drops their graphs from memory. What a transaction has
/// dropped or built anew comes back when it is rolled back: only what was unused in another transaction
/// before this one is.
fn release_unused() {
    // SAFETY: this process's own entry.
    let transaction = unsafe { (*pg_sys::MyProc).vxid.lxid };
    let used: Vec<bool> = FOLDERS.with_borrow(|folders| folders.iter().map(is_used).collect());
    let unused: Vec<Folder> = FOLDERS.with_borrow_mut(|folders| {
        for (folder, used) in folders.iter_mut().zip(used) {
            folder.unused_in = (!used).then(|| folder.unused_in.unwrap_or(transaction));
        }
        folders
            .extract_if(.., |folder| folder.unused_in.is_some_and(|seen| seen != transaction))
            .collect()
    });
    for entry in registry::entries() {
        if unused.iter().any(|folder| folder.index_uuid == entry.index_uuid) {
            registry::forget(entry.segment_uuid);
        }
    }
    delete(&unused);
}

/// Whether the folder's index is there and names it.
fn is_used(folder: &Folder) -> bool {
    let lock = pg_sys::AccessShareLock as i32;
    // SAFETY: in a transaction, as whatever writes to an index is.
    unsafe {
        let Some(index) = catalog::open_at_once(folder.index, lock) else { return false };
        let named = consistent(index, |meta| {
            let segments = manifest::read(index, meta)?;
            let mut folders = segments.iter().map(|segment| segment.index_uuid);
            Ok(meta.index_uuid == folder.index_uuid
                || folders.any(|uuid| uuid == folder.index_uuid))
        });
        pg_sys::index_close(index, lock);
        named
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn delete_all(_code: i32, _argument: pg_sys::Datum) {
    delete(&FOLDERS.take());
}

fn delete(folders: &[Folder]) {
    if !folders.is_empty() {
        let prefixes = folders.iter().map(|folder| folder.index_uuid.to_string()).collect();
        assemble::remove(&settings::storage(), prefixes);
    }
}
