//! Tombstones: one bit for every entry (heap tuple) of a segment, set by vacuum.
//!
//! The pages are the truth, on the primary and on replicas alike. A backend keeps a copy of a
//! segment's bits and reads the pages again only after the meta page's `tombstone_epoch` has
//! moved, which vacuum makes happen before it returns (invariant 2).

use pgrx::pg_sys;

use super::meta::Meta;
use super::page::{BODY, INVALID_BLOCK, Kind};
use super::wal::{Change, Fork, Locked, MAIN};

const BITS_PER_PAGE: usize = BODY * 8;

/// Set bits of a segment, `entries` long.
#[derive(Clone, Debug, Default)]
pub struct Bitmap {
    words: Vec<u64>,
}

impl Bitmap {
    /// No bits set, room for `entries`.
    pub fn new(entries: usize) -> Self {
        Self { words: vec![0; entries.div_ceil(64)] }
    }

    /// Whether an entry is dead.
    pub fn get(&self, entry: usize) -> bool {
        self.words.get(entry / 64).is_some_and(|word| word >> (entry % 64) & 1 == 1)
    }

    /// Entries marked dead.
    pub fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Whether no entry is dead.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }
}

/// Allocates pages for the bits of a segment of `entries` and returns the first one.
pub fn create(index: pg_sys::Relation, fork: Fork, entries: u64) -> pg_sys::BlockNumber {
    let mut next = INVALID_BLOCK;
    let mut left = entries as usize;
    let pages = left.div_ceil(BITS_PER_PAGE).max(1);
    for page_number in (0..pages).rev() {
        let bits = left - page_number * BITS_PER_PAGE;
        left -= bits;
        let buffer = Locked::extend(index, fork);
        let mut change = Change::start(index);
        let mut page = change.create(&buffer, Kind::Tombstones);
        page.set_next(next);
        page.grow(bits.div_ceil(8));
        change.finish();
        next = buffer.block();
    }
    next
}

/// The bits of a segment of `entries` whose pages start at `head`.
pub fn read(index: pg_sys::Relation, head: pg_sys::BlockNumber, entries: u64) -> Bitmap {
    let mut bitmap = Bitmap::new(entries as usize);
    let mut block = head;
    let mut word = 0;
    while block != INVALID_BLOCK {
        let buffer = Locked::share(index, block);
        let page = buffer.expect(Kind::Tombstones);
        for bytes in page.body().chunks(8) {
            let mut eight = [0u8; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            if let Some(slot) = bitmap.words.get_mut(word) {
                *slot = u64::from_le_bytes(eight);
            }
            word += 1;
        }
        block = page.next();
    }
    bitmap
}

/// Sets the bits of `dead` (ascending entry numbers) in the pages starting at `head`, one WAL
/// record a page. Bits already set stay set.
pub fn set(index: pg_sys::Relation, head: pg_sys::BlockNumber, dead: &[u32]) {
    let mut block = head;
    let mut first_entry = 0usize;
    let mut rest = dead;
    while block != INVALID_BLOCK && !rest.is_empty() {
        let buffer = Locked::exclusive(index, MAIN, block);
        let next = buffer.expect(Kind::Tombstones).next();
        let end = first_entry + BITS_PER_PAGE;
        let (here, later) = rest.split_at(rest.partition_point(|&entry| (entry as usize) < end));
        if !here.is_empty() {
            let mut change = Change::start(index);
            let mut page = change.edit(&buffer);
            let body = page.body_mut();
            for &entry in here {
                let bit = entry as usize - first_entry;
                body[bit / 8] |= 1 << (bit % 8);
            }
            change.finish();
        }
        (block, first_entry, rest) = (next, end, later);
    }
}

/// Tells readers that tombstones have changed. Call after [`set`], before vacuum returns.
pub fn publish(index: pg_sys::Relation) {
    Meta::update(index, |meta| {
        // 0 means "there are none": skip it when the counter wraps.
        meta.tombstone_epoch = meta.tombstone_epoch.checked_add(1).unwrap_or(1);
    });
}
