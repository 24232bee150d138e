//! Sweeping: what the database knows about the store, and what follows from it.
//!
//! Every index that can be looked into is locked against maintenance until everything is judged, so
//! that no segment is being written that would be taken for an unused one. Indexes that others lock, build
//! or drop are busy: their folders stay as they are.

use std::collections::HashSet;

use pgrx::pg_sys;

use super::catalog;
use super::control::{Control, until_stopped};
use super::maintain::MAINTENANCE_LOCK;
use crate::errors::Failure;
use crate::faults::fault_point;
use crate::objects::inventory::{self, Facts, Finding, LiveIndex};
use crate::pages::meta::Meta;
use crate::pages::owner::Owner;
use crate::pages::{consistent, manifest};
use crate::settings;
use crate::shared::{maintenance, registry, storage_metrics};
use crate::threads::{self, run_interruptible};
use ::storage::{StorageError, Store};

/// Indexes held open, with their locks, while the store is looked through.
pub struct Held(Vec<pg_sys::Relation>);

impl Held {
    /// Whether somebody waits for one of them.
    pub fn is_wanted(&self) -> bool {
        // SAFETY: open relations, locked by `facts`.
        self.0
            .iter()
            .any(|&index| unsafe { pg_sys::LockHasWaitersRelation(index, MAINTENANCE_LOCK) })
    }

    /// Closes them and lets others maintain them.
    fn release(self) {
        for index in self.0 {
            // SAFETY: opened and locked by `facts`, released once.
            unsafe { pg_sys::index_close(index, MAINTENANCE_LOCK) };
        }
    }
}

/// What this database knows.
fn facts(dry_run: bool) -> (Facts, Held) {
    let here = Owner::of_database().unwrap_or_else(|failure| failure.raise());
    let mut indexes = Vec::new();
    let mut busy = HashSet::new();
    let mut held = Held(Vec::new());
    for listed in catalog::indexes() {
        match look_into(&listed, here) {
            Some((index, live)) => {
                held.0.push(index);
                indexes.push(live);
            }
            None => {
                busy.insert(listed.relation);
            }
        }
    }
    let databases = catalog::databases().into_iter().map(|(oid, _)| oid).collect();
    let grace = settings::gc_grace();
    (Facts { here, databases, indexes, busy, grace, dry_run }, held)
}

/// Locks and reads an index; `None` when others have the better of it, or there is nothing to read
/// yet.
fn look_into(listed: &catalog::Listed, here: Owner) -> Option<(pg_sys::Relation, LiveIndex)> {
    // SAFETY: in a transaction. Whatever cannot be locked at once is not waited for.
    unsafe {
        // The pages of another session's temporary table are in that session's memory.
        if listed.temporary {
            return None;
        }
        if !pg_sys::ConditionalLockRelationOid(listed.oid, MAINTENANCE_LOCK) {
            if !maintenance::is_worked_on(pg_sys::MyDatabaseId.to_u32(), listed.oid.to_u32()) {
                return None;
            }
            // The worker gives way.
            pg_sys::LockRelationOid(listed.oid, MAINTENANCE_LOCK);
        }
        let index = catalog::open_locked(listed.oid, MAINTENANCE_LOCK)?;
        if (*index).rd_locator.relNumber.to_u32() != listed.relation {
            pg_sys::index_close(index, MAINTENANCE_LOCK);
            return None;
        }
        let live = consistent(index, |meta: &Meta| {
            let segments = manifest::read(index, meta)?;
            Ok(LiveIndex {
                index_uuid: meta.index_uuid,
                identity: Owner { relation: listed.relation, ..here },
                segments: segments.iter().map(|s| (s.index_uuid, s.segment_uuid)).collect(),
            })
        });
        Some((index, live))
    }
}

/// What a sweep is doing.
pub enum Stage<'a> {
    /// It looks, and holds indexes.
    Looking(&'a Held),
    /// It marks and deletes, and holds nothing.
    Acting,
}

/// Looks through the store and, unless it is a dry run, marks what is unused and deletes what has been
/// for long enough; raises what goes wrong. `watch` is called every now and then.
pub fn sweep(dry_run: bool, watch: &mut dyn FnMut(Stage<'_>)) -> Vec<Finding> {
    let folders = on_a_thread(&mut || (), inventory::folders);
    let (facts, held) = facts(dry_run);
    // SAFETY: in a transaction. No snapshot is needed from here on, and one would keep vacuum from
    // its work.
    unsafe { pg_sys::InvalidateCatalogSnapshot() };
    let plan = on_a_thread(&mut || watch(Stage::Looking(&held)), async |store| {
        inventory::look_through(store, &folders, &facts).await
    });
    held.release();
    if dry_run {
        return plan.into_findings();
    }
    fault_point("sweep.judged");
    let findings = on_a_thread(&mut || watch(Stage::Acting), async |store| {
        inventory::carry_out(store, plan.clone()).await
    });
    fault_point("sweep.deleted");
    forget_graphs(&findings);
    findings
}

/// Drops the graphs of what has been deleted: memory is for those that are read, and after a restart
/// they could not be loaded again.
fn forget_graphs(findings: &[Finding]) {
    let deleted = || findings.iter().filter(|finding| finding.deleted);
    for entry in registry::entries() {
        let prefix = format!("{}/{}", entry.index_uuid, entry.segment_uuid);
        if deleted().any(|finding| prefix.starts_with(&finding.prefix)) {
            registry::forget(entry.segment_uuid);
        }
    }
}

/// Takes predecessors' folders over; raises what goes wrong.
pub fn adopt() -> Vec<uuid::Uuid> {
    let (facts, held) = facts(false);
    let adopted = on_a_thread(&mut || (), async |store| inventory::adopt(store, &facts).await);
    for (&index, live) in held.0.iter().zip(&facts.indexes) {
        if adopted.contains(&live.index_uuid) {
            // It goes on writing where its predecessor wrote.
            Meta::update(index, |meta| meta.owner = live.identity);
        }
    }
    held.release();
    adopted
}

fn on_a_thread<T: Send>(
    watch: &mut dyn FnMut(),
    work: impl AsyncFn(&dyn Store) -> Result<T, StorageError> + Sync,
) -> T {
    let control = Control::default();
    let storage = settings::storage();
    let job = || -> Result<T, Failure> {
        let store = ::storage::open(&storage, storage_metrics::get())?;
        let runtime = threads::runtime("s3vector sweep", 1)?;
        let outcome = runtime.block_on(until_stopped(&control, work(&*store)));
        runtime.shutdown_background();
        outcome
    };
    run_interruptible(&|| control.stop(), job, watch).unwrap_or_else(|failure| failure.raise())
}
