//! Tombstones: one bit for every entry (heap tuple) of every segment, set by vacuum.
//!
//! The bits of all segments form one list of pages, in the order of the manifest, each segment's
//! starting with a new word. A publication writes the list anew, beside the manifest that it belongs
//! to: an eighth of a byte an entry, and an index of many small segments takes no more pages than a
//! fresh one.
//!
//! The pages are the truth, on the primary and on replicas alike. A backend keeps a copy of a
//! segment's bits and reads the pages again only after the meta page's `tombstone_epoch` has
//! moved, which vacuum makes happen before it returns (invariant 2).

use pgrx::pg_sys;

use super::manifest::SegmentEntry;
use super::meta::Meta;
use super::page::{BODY, Damage, INVALID_BLOCK, Kind};
use super::wal::{Change, Locked, MAIN};

const WORD_BITS: usize = u64::BITS as usize;
const WORDS_PER_PAGE: usize = BODY / size_of::<u64>();
const BITS_PER_PAGE: usize = WORDS_PER_PAGE * WORD_BITS;

/// Set bits of a segment.
#[derive(Clone, Debug, Default)]
pub struct Bitmap {
    words: Vec<u64>,
    entries: u64,
}

impl Bitmap {
    /// No bits set, room for `entries`.
    pub fn new(entries: u64) -> Self {
        Self { words: vec![0; words(entries)], entries }
    }

    /// Whether an entry is dead.
    pub fn get(&self, entry: usize) -> bool {
        self.words.get(entry / WORD_BITS).is_some_and(|word| word >> (entry % WORD_BITS) & 1 == 1)
    }

    /// Marks an entry dead.
    pub fn set(&mut self, entry: usize) {
        self.words[entry / WORD_BITS] |= 1 << (entry % WORD_BITS);
    }

    /// Entries marked dead: never more than there are entries, whatever bits are set beyond them.
    pub fn count(&self) -> u64 {
        let all: u64 = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
        all - self.beyond()
    }

    /// Bits that are set and belong to no entry.
    pub fn beyond(&self) -> u64 {
        let bits = self.entries % WORD_BITS as u64;
        let last = self.words.last().filter(|_| bits > 0);
        last.map_or(0, |word| u64::from((word >> bits).count_ones()))
    }

    /// Whether no entry is dead.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }
}

fn words(entries: u64) -> usize {
    (entries as usize).div_ceil(WORD_BITS)
}

/// Pages that the bits of `segments` take.
pub fn pages(segments: &[SegmentEntry]) -> usize {
    page_words(segments).len()
}

/// Words that each of those pages has.
pub fn page_words(segments: &[SegmentEntry]) -> Vec<usize> {
    let words: usize = segments.iter().map(|segment| words(segment.entries)).sum();
    let starts = (0..words).step_by(WORDS_PER_PAGE);
    starts.map(|start| (words - start).min(WORDS_PER_PAGE)).collect()
}

/// Writes bits into pages that `new_page` gives, and returns the first one, which nothing names yet.
pub fn write(
    index: pg_sys::Relation,
    mut new_page: impl FnMut() -> Locked,
    bitmaps: &[Bitmap],
) -> pg_sys::BlockNumber {
    let words: Vec<u64> = bitmaps.iter().flat_map(|bitmap| &bitmap.words).copied().collect();
    let mut next = INVALID_BLOCK;
    // Back to front, so that every page is complete with its link when it is written.
    for part in words.chunks(WORDS_PER_PAGE).rev() {
        let buffer = new_page();
        let mut change = Change::start(index);
        let mut page = change.create(&buffer, Kind::Tombstones);
        page.set_next(next);
        let body = page.grow(size_of_val(part));
        for (eight, word) in body.as_chunks_mut().0.iter_mut().zip(part) {
            *eight = word.to_le_bytes();
        }
        change.finish();
        next = buffer.block();
    }
    next
}

/// The bits of every segment, in the order of the manifest.
///
/// # Errors
/// A page that is no page of tombstones.
pub fn read(
    index: pg_sys::Relation,
    meta: &Meta,
    segments: &[SegmentEntry],
) -> Result<Vec<Bitmap>, Damage> {
    let mut all = Vec::new();
    let mut block = meta.tombstone_head;
    while block != INVALID_BLOCK {
        let buffer = Locked::share(index, block);
        let page = buffer.expect(Kind::Tombstones)?;
        all.extend(page.body().as_chunks().0.iter().map(|eight| u64::from_le_bytes(*eight)));
        block = page.next();
    }
    let mut rest = all.into_iter();
    let bitmaps = segments.iter().map(|segment| {
        let mut words: Vec<u64> = rest.by_ref().take(words(segment.entries)).collect();
        // A list that is too short belongs to another manifest; `consistent` finds out.
        words.resize(self::words(segment.entries), 0);
        Bitmap { words, entries: segment.entries }
    });
    Ok(bitmaps.collect())
}

/// Marks entries of one segment dead, `number` being its place in the manifest and `dead` its
/// entries, ascending; one WAL record a page. Bits already set stay set.
pub fn set(
    index: pg_sys::Relation,
    meta: &Meta,
    segments: &[SegmentEntry],
    number: usize,
    dead: &[u32],
) {
    let before: usize = segments[..number].iter().map(|segment| words(segment.entries)).sum();
    let first = before * WORD_BITS;
    let mut block = meta.tombstone_head;
    let mut page_first = 0;
    let mut rest = dead;
    while block != INVALID_BLOCK && !rest.is_empty() {
        let buffer = Locked::exclusive(index, MAIN, block);
        let next = match buffer.expect(Kind::Tombstones) {
            Ok(page) => page.next(),
            Err(damage) => damage.raise(),
        };
        let end = page_first + BITS_PER_PAGE;
        let (here, later) =
            rest.split_at(rest.partition_point(|&entry| first + (entry as usize) < end));
        if !here.is_empty() {
            let mut change = Change::start(index);
            let mut page = change.edit(&buffer);
            let body = page.body_mut();
            for &entry in here {
                let bit = first + entry as usize - page_first;
                body[bit / 8] |= 1 << (bit % 8);
            }
            change.finish();
        }
        (block, page_first, rest) = (next, end, later);
    }
}

/// Tells readers that tombstones have changed. Call after [`set`], before vacuum returns.
pub fn publish(index: pg_sys::Relation) {
    Meta::update(index, Meta::count_tombstones);
}
