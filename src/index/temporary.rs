//! Objects of temporary tables: nobody else ever reads them, so they go with the session.

use std::cell::RefCell;

use pgrx::pg_sys;
use pgrx::prelude::*;
use uuid::Uuid;

use super::assemble;
use crate::settings;

thread_local! {
    static FOLDERS: RefCell<Vec<Uuid>> = const { RefCell::new(Vec::new()) };
}

/// Notes a folder to be deleted when this session ends. A sweep gets what a crash leaves.
pub fn remember(index_uuid: Uuid) {
    FOLDERS.with_borrow_mut(|folders| {
        if folders.is_empty() {
            // SAFETY: the callback lives as long as the library; registered once while there is
            // something to delete.
            unsafe { pg_sys::before_shmem_exit(Some(delete_all), pg_sys::Datum::from(0)) };
        }
        if !folders.contains(&index_uuid) {
            folders.push(index_uuid);
        }
    });
}

#[pg_guard]
unsafe extern "C-unwind" fn delete_all(_code: i32, _argument: pg_sys::Datum) {
    let folders = FOLDERS.take();
    if !folders.is_empty() {
        let prefixes = folders.iter().map(Uuid::to_string).collect();
        assemble::remove(&settings::storage(), prefixes);
    }
}
