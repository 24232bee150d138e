//! Packing: gives the pages that nothing uses back to the file system.
//!
//! Everything that is reachable from the meta page moves to the front, one page a WAL record, and
//! the rest of the file is cut off. What a crash has left unlinked goes with it. Nobody else may use
//! the relation meanwhile, on replicas neither: the caller holds an access exclusive lock, which
//! PostgreSQL replays.

use pgrx::pg_sys;

use super::meta::Meta;
use super::page::{INVALID_BLOCK, META_BLOCK};
use super::wal::{Change, Locked, MAIN};
use super::{manifest, tombstones};
use crate::faults::fault_point;

/// What names a page.
#[derive(Clone, Copy)]
enum Referrer {
    /// The meta page itself: nothing does.
    Nobody,
    /// The head of the manifest.
    ManifestHead,
    /// The head of the tombstones.
    TombstoneHead,
    /// The head of the delta.
    DeltaHead,
    /// The page before it in its list, by its number in [`Live::pages`].
    Previous(usize),
}

/// A page in use.
struct Used {
    block: pg_sys::BlockNumber,
    referrer: Referrer,
    is_delta_tail: bool,
}

/// Every page in use.
struct Live {
    pages: Vec<Used>,
}

impl Live {
    fn find(index: pg_sys::Relation) -> Self {
        let meta = Meta::read(index);
        let mut live = Self { pages: Vec::new() };
        live.push(META_BLOCK, Referrer::Nobody);
        live.chain(index, meta.manifest_head, Referrer::ManifestHead);
        live.chain(index, meta.tombstone_head, Referrer::TombstoneHead);
        live.chain(index, meta.delta_head, Referrer::DeltaHead);
        if let Some(tail) = live.pages.iter_mut().find(|page| page.block == meta.delta_tail) {
            tail.is_delta_tail = true;
        }
        live
    }

    fn push(&mut self, block: pg_sys::BlockNumber, referrer: Referrer) {
        self.pages.push(Used { block, referrer, is_delta_tail: false });
    }

    /// Adds a list.
    fn chain(&mut self, index: pg_sys::Relation, mut block: pg_sys::BlockNumber, head: Referrer) {
        let mut referrer = head;
        while block != INVALID_BLOCK {
            pgrx::check_for_interrupts!();
            self.push(block, referrer);
            referrer = Referrer::Previous(self.pages.len() - 1);
            block = Locked::share(index, block).page().next();
        }
    }

    /// Moves the page `number` to the block `to`, which nothing uses.
    fn relocate(&mut self, index: pg_sys::Relation, number: usize, to: pg_sys::BlockNumber) {
        let Used { block, referrer, is_delta_tail } = self.pages[number];
        let source = Locked::share(index, block);
        let target = Locked::exclusive(index, MAIN, to);
        let previous = match referrer {
            Referrer::Previous(page) => {
                Some(Locked::exclusive(index, MAIN, self.pages[page].block))
            }
            _ => None,
        };
        let meta = Locked::exclusive(index, MAIN, META_BLOCK);
        let mut change = Change::start(index);
        change.copy(&target, &source);
        if let Some(previous) = &previous {
            change.edit(previous).set_next(to);
        }
        Meta::edit(&mut change, &meta, |meta| {
            meta.manifest_epoch = meta.manifest_epoch.wrapping_add(1);
            match referrer {
                Referrer::ManifestHead => meta.manifest_head = to,
                Referrer::TombstoneHead => meta.tombstone_head = to,
                Referrer::DeltaHead => meta.delta_head = to,
                _ => {}
            }
            if is_delta_tail {
                meta.delta_tail = to;
            }
        });
        change.finish();
        self.pages[number].block = to;
    }
}

/// Whether packing would make the relation noticeably smaller, as far as can be told without a
/// lock.
pub fn is_worthwhile(index: pg_sys::Relation, blocks: pg_sys::BlockNumber) -> bool {
    let live = super::consistent(index, |meta| {
        let segments = manifest::read(index, meta)?;
        let lists = manifest::pages(segments.len()) + tombstones::pages(&segments);
        Ok(1 + lists + meta.delta_pages as usize)
    });
    blocks as usize * 10 > live * 11
}

/// Packs the relation. The caller holds an access exclusive lock on it, and nobody else in this
/// transaction has it open for a scan.
pub fn pack(index: pg_sys::Relation) {
    // The list of free pages is about to be overwritten.
    Meta::update(index, |meta| meta.free_head = INVALID_BLOCK);
    let mut live = Live::find(index);
    let size = live.pages.len();
    let mut used = vec![false; size];
    for page in &live.pages {
        if let Some(slot) = used.get_mut(page.block as usize) {
            *slot = true;
        }
    }
    let holes: Vec<usize> = (0..size).filter(|&block| !used[block]).collect();
    let behind: Vec<usize> =
        (0..size).filter(|&number| live.pages[number].block as usize >= size).collect();
    for (number, hole) in behind.into_iter().zip(holes) {
        pgrx::check_for_interrupts!();
        live.relocate(index, number, hole as pg_sys::BlockNumber);
        fault_point("repack.moved");
    }
    fault_point("repack.before_truncate");
    // SAFETY: `index` is an open relation, locked against everybody else, and no buffer of it is
    // pinned here.
    unsafe { pg_sys::RelationTruncate(index, size as pg_sys::BlockNumber) };
}
