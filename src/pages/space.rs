//! Pages that nothing uses: where new ones come from.
//!
//! Free pages form a list that starts in the meta page. A publication puts whole lists there (what
//! the old manifest was, the delta that has become a segment) with the very record that takes them
//! out of use. Their content stays until they are used again, and readers that have met them
//! notice by the meta page's epoch.

use pgrx::pg_sys;

use super::meta::Meta;
use super::page::{INVALID_BLOCK, META_BLOCK};
use super::wal::{Change, Locked, MAIN};

/// A page to write from scratch, exclusively locked: a free one, or a new one at the end.
///
/// The caller must not hold the meta page. A page that is taken and not linked before a crash
/// stays unused until the relation is packed.
pub fn allocate(index: pg_sys::Relation) -> Locked {
    take_free(index).unwrap_or_else(|| Locked::extend(index, MAIN))
}

/// Several such pages: free ones first, the rest added to the relation together.
pub fn allocate_many(index: pg_sys::Relation, count: usize) -> Vec<Locked> {
    let mut pages = Vec::with_capacity(count);
    while pages.len() < count {
        match take_free(index) {
            Some(page) => pages.push(page),
            None => Locked::extend_by(index, MAIN, count - pages.len(), &mut pages),
        }
    }
    pages
}

fn take_free(index: pg_sys::Relation) -> Option<Locked> {
    loop {
        // Mostly there is none: look before taking the lock that everybody needs.
        let block = Meta::read(index).free_head;
        if block == INVALID_BLOCK {
            return None;
        }
        // Pages of lists are locked before the meta page, everywhere: whoever takes a free page
        // for the delta's tail, as it was a moment ago, does so too.
        let page = Locked::share(index, block);
        let meta = Locked::exclusive(index, MAIN, META_BLOCK);
        if Meta::of(&meta).free_head == block {
            let next = page.page().next();
            let mut change = Change::start(index);
            Meta::edit(&mut change, &meta, |meta| meta.free_head = next);
            change.finish();
            drop((meta, page));
            return Some(Locked::exclusive(index, MAIN, block));
        }
    }
}

/// A list of pages that goes out of use as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    /// First page.
    pub first: pg_sys::BlockNumber,
    /// Last page.
    pub last: pg_sys::BlockNumber,
}

impl Chain {
    /// The list that starts at `first`.
    pub fn measure(index: pg_sys::Relation, first: pg_sys::BlockNumber) -> Self {
        let mut last = first;
        loop {
            match Locked::share(index, last).page().next() {
                INVALID_BLOCK => return Self { first, last },
                next => last = next,
            }
        }
    }
}
