//! The delta: rows written since the last segment, as they are, in a list of pages.
//!
//! An entry is eight bytes of heap tid and flags, then the vector as float32. Entries that fit
//! into a page never span two. A larger one (more than 2,036 dimensions) starts a page of its own
//! and goes on in continuation pages; all of them are written before one record links them into
//! the list, so that a reader meets a whole entry or none.

use std::ops::ControlFlow;

use pgrx::pg_sys;

use super::meta::Meta;
use super::page::{BODY, Damage, INVALID_BLOCK, Kind, META_BLOCK};
use super::space::{Chain, allocate, allocate_many};
use super::wal::{Change, Fork, Locked, MAIN};
use crate::faults::fault_point;

/// Set in an entry's first word once vacuum has removed its tuple.
const DEAD: u64 = 1 << 63;
/// The part of an entry's first word that is the tid: block << 16 | offset.
const TID: u64 = (1 << 48) - 1;
const HEAD: usize = size_of::<u64>();
/// Pages that a batch fills.
const BATCH_PAGES: usize = 8;

/// Writes the first, empty delta page and returns its number.
pub fn create(index: pg_sys::Relation, fork: Fork) -> pg_sys::BlockNumber {
    let buffer = Locked::extend(index, fork);
    let mut change = Change::start(index);
    change.create(&buffer, Kind::Delta);
    change.finish();
    buffer.block()
}

/// Rows on their way into the delta, as they will lie in its pages.
#[derive(Debug)]
pub struct Batch {
    entry_bytes: usize,
    bytes: Vec<u8>,
}

impl Batch {
    /// Room for rows of so many dimensions; `None` when one takes more than a page.
    pub fn new(dimensions: usize) -> Option<Self> {
        let entry_bytes = entry_bytes(dimensions);
        (entry_bytes <= BODY).then_some(Self { entry_bytes, bytes: Vec::new() })
    }

    /// Adds a row.
    pub fn push(&mut self, tid: u64, vector: &[f32]) {
        self.bytes.extend_from_slice(&tid.to_le_bytes());
        self.bytes.extend_from_slice(as_bytes(vector));
    }

    /// Whether it is time to [append](append) them.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_PAGES * self.page_bytes()
    }

    /// Forgets the rows.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of the rows that a page takes.
    fn page_bytes(&self) -> usize {
        self.whole_rows(BODY)
    }

    /// Bytes of the whole rows among so many bytes.
    fn whole_rows(&self, bytes: usize) -> usize {
        bytes / self.entry_bytes * self.entry_bytes
    }
}

/// Appends the rows of a batch and takes them out of it. Durable with the inserting transaction: the
/// records precede its commit. After an error what has not been appended is still there.
///
/// `tail` is where the last row went, as far as the caller knows; it is set to where these went.
/// Returns the pages of the delta when the rows needed new ones.
pub fn append(
    index: pg_sys::Relation,
    tail: &mut pg_sys::BlockNumber,
    batch: &mut Batch,
) -> Option<u32> {
    let buffer = lock_tail(index, tail);
    let fitting = batch.whole_rows(buffer.page().room()).min(batch.bytes.len());
    if fitting > 0 {
        let mut change = Change::start(index);
        change.edit(&buffer).grow(fitting).copy_from_slice(&batch.bytes[..fitting]);
        change.finish();
        batch.bytes.drain(..fitting);
    }
    if batch.bytes.is_empty() {
        return None;
    }
    let pages = if batch.bytes.len() <= batch.page_bytes() {
        append_page(index, &buffer, tail, &batch.bytes)
    } else {
        drop(buffer);
        append_pages(index, tail, batch)
    };
    batch.bytes.clear();
    Some(pages)
}

/// Locks the page that the next row goes to. That it is the tail is checked under its lock: it
/// cannot cease to be the tail without it.
fn lock_tail(index: pg_sys::Relation, tail: &mut pg_sys::BlockNumber) -> Locked {
    loop {
        let buffer = Locked::exclusive(index, MAIN, *tail);
        let current = Meta::read(index).delta_tail;
        if current == *tail {
            return buffer;
        }
        *tail = current;
    }
}

/// Appends rows that open a new page: new page, link and meta page change together.
fn append_page(
    index: pg_sys::Relation,
    old: &Locked,
    tail: &mut pg_sys::BlockNumber,
    rows: &[u8],
) -> u32 {
    let new = allocate(index);
    let mut change = Change::start(index);
    change.create(&new, Kind::Delta).grow(rows.len()).copy_from_slice(rows);
    *tail = new.block();
    link(index, change, old, Chain { first: *tail, last: *tail }, 1)
}

/// Appends rows that take several pages. These are written while nobody is kept from anything, and
/// linked by one record when they are all there.
fn append_pages(index: pg_sys::Relation, tail: &mut pg_sys::BlockNumber, batch: &Batch) -> u32 {
    let parts = batch.bytes.chunks(batch.page_bytes());
    let pages = allocate_many(index, parts.len());
    let blocks: Vec<pg_sys::BlockNumber> = pages.iter().map(Locked::block).collect();
    let next = blocks.iter().copied().skip(1).chain([INVALID_BLOCK]);
    let mut contents = parts.zip(next);
    for pages in pages.chunks(Change::PAGES) {
        let mut change = Change::start(index);
        for (page, (part, next)) in pages.iter().zip(&mut contents) {
            let mut page = change.create(page, Kind::Delta);
            page.grow(part.len()).copy_from_slice(part);
            page.set_next(next);
        }
        change.finish();
    }
    drop(pages);
    fault_point("insert.pages_written");

    let new = Chain { first: blocks[0], last: blocks[blocks.len() - 1] };
    let old = lock_tail(index, tail);
    *tail = new.last;
    link(index, Change::start(index), &old, new, blocks.len() as u32)
}

/// Appends a row that takes more than a page, as [`append`] does.
pub fn append_spanning(
    index: pg_sys::Relation,
    tail: &mut pg_sys::BlockNumber,
    tid: u64,
    vector: &[f32],
) -> u32 {
    let old = lock_tail(index, tail);
    let bytes = as_bytes(vector);
    let (first, rest) = bytes.split_at(BODY - HEAD);
    let mut next = INVALID_BLOCK;
    let mut last = None;
    let mut added = 1;
    for part in rest.chunks(BODY).rev() {
        let buffer = allocate(index);
        let mut change = Change::start(index);
        let mut page = change.create(&buffer, Kind::DeltaContinuation);
        page.set_next(next);
        page.grow(part.len()).copy_from_slice(part);
        change.finish();
        next = buffer.block();
        last.get_or_insert(next);
        added += 1;
    }
    let head = allocate(index);
    let mut change = Change::start(index);
    let mut page = change.create(&head, Kind::Delta);
    page.grow(HEAD).copy_from_slice(&tid.to_le_bytes());
    page.grow(first.len()).copy_from_slice(first);
    page.set_next(next);
    change.finish();
    fault_point("insert.spanning_written");

    let new = Chain { first: head.block(), last: last.unwrap_or(head.block()) };
    *tail = new.last;
    link(index, Change::start(index), &old, new, added)
}

/// Makes `new`, which are `added` pages, follow the old tail, as the last part of `change`; returns the
/// pages of the delta.
fn link(index: pg_sys::Relation, mut change: Change, old: &Locked, new: Chain, added: u32) -> u32 {
    let meta = Locked::exclusive(index, MAIN, META_BLOCK);
    change.edit(old).set_next(new.first);
    let mut pages = 0;
    Meta::edit(&mut change, &meta, |meta| {
        meta.delta_tail = new.last;
        meta.delta_pages += added;
        pages = meta.delta_pages;
    });
    change.finish();
    pages
}

/// A part of the delta that no row is added to any more: what a flush turns into a segment.
#[derive(Clone, Copy, Debug)]
pub struct Frozen {
    /// Its pages.
    pub chain: Chain,
    /// How many they are.
    pub pages: u32,
    /// The page after them, where the delta goes on.
    pub end: pg_sys::BlockNumber,
}

/// Whether no row has been inserted since the last flush.
pub fn is_empty(index: pg_sys::Relation) -> bool {
    let meta = Meta::read(index);
    meta.delta_pages == 1 && Locked::share(index, meta.delta_tail).page().body().is_empty()
}

/// Lets the delta go on in a new page; all before it is frozen. `None` when there are no rows.
///
/// Only whoever may publish a manifest calls this. Nothing needs to be undone when nothing comes of
/// it: the delta then has a page that is not full.
pub fn freeze(index: pg_sys::Relation) -> Option<Frozen> {
    let mut block = Meta::read(index).delta_tail;
    let tail = lock_tail(index, &mut block);
    let before = Meta::read(index);
    if before.delta_pages == 1 && tail.page().body().is_empty() {
        return None;
    }
    let new = allocate(index);
    let mut change = Change::start(index);
    change.create(&new, Kind::Delta);
    let end = new.block();
    let pages = link(index, change, &tail, Chain { first: end, last: end }, 1);
    Some(Frozen { chain: Chain { first: before.delta_head, last: block }, pages: pages - 1, end })
}

/// Calls `visit` with the tid and the vector's bytes (float32) of every live row.
///
/// Rows that fit into a page are handed out from the buffer under its share lock: `visit` must be
/// quick and must not call PostgreSQL.
///
/// # Errors
/// A page that is no page of the delta.
pub fn for_each(
    index: pg_sys::Relation,
    meta: &Meta,
    mut visit: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> Result<(), Damage> {
    let mut spanning = Vec::new();
    let mut block = meta.delta_head;
    while block != INVALID_BLOCK {
        pgrx::check_for_interrupts!();
        match for_each_from(index, meta, block, &mut spanning, &mut visit)? {
            ControlFlow::Continue(next) => block = next,
            ControlFlow::Break(()) => break,
        }
    }
    Ok(())
}

/// Like [`for_each`] for the rows that begin in one page; returns the page after them. `spanning`
/// is room for a large one.
///
/// # Errors
/// A page that is no page of the delta.
pub fn for_each_from(
    index: pg_sys::Relation,
    meta: &Meta,
    block: pg_sys::BlockNumber,
    spanning: &mut Vec<u8>,
    visit: &mut impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> Result<ControlFlow<(), pg_sys::BlockNumber>, Damage> {
    let entry_bytes = entry_bytes(meta.parameters.dimensions);
    let buffer = Locked::share(index, block);
    let page = buffer.expect(Kind::Delta)?;
    let mut next = page.next();
    if entry_bytes <= BODY {
        // The lock is held for one page of rows.
        for entry in page.body().chunks_exact(entry_bytes) {
            if visit_entry(entry, visit).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    } else if page.body().len() >= HEAD {
        spanning.clear();
        spanning.extend_from_slice(page.body());
        drop(buffer);
        next = read_continuation(index, next, entry_bytes, spanning)?;
        if visit_entry(spanning, visit).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(next))
}

/// The tids of live rows up to the page `end`, without reading what else a large row consists of.
///
/// # Errors
/// A page that is no page of the delta.
pub fn live_tids(
    index: pg_sys::Relation,
    meta: &Meta,
    end: pg_sys::BlockNumber,
) -> Result<Vec<u64>, Damage> {
    let entry_bytes = entry_bytes(meta.parameters.dimensions);
    let mut tids = Vec::new();
    let mut block = meta.delta_head;
    while block != end && block != INVALID_BLOCK {
        pgrx::check_for_interrupts!();
        let buffer = Locked::share(index, block);
        let page = buffer.page();
        if page.kind() != Some(Kind::DeltaContinuation) {
            let heads = buffer.expect(Kind::Delta)?;
            let heads = heads.body().chunks(entry_bytes.min(BODY)).filter(|e| e.len() >= HEAD);
            tids.extend(heads.map(head_of).filter(|head| head & DEAD == 0).map(|head| head & TID));
        }
        block = page.next();
    }
    Ok(tids)
}

/// Bytes of an entry whose vector has so many dimensions.
pub fn entry_bytes(dimensions: usize) -> usize {
    HEAD + dimensions * size_of::<f32>()
}

/// The parts of a whole entry: its tid, none when it is dead, and the vector's bytes.
///
/// # Errors
/// The first word, when it is neither tid nor mark.
pub fn parse(entry: &[u8]) -> Result<(Option<u64>, &[u8]), u64> {
    let (head, vector) = (head_of(entry), &entry[HEAD..]);
    let tid = head & TID;
    if head & !(DEAD | TID) != 0 || tid & 0xFFFF == 0 {
        return Err(head);
    }
    Ok(((head & DEAD == 0).then_some(tid), vector))
}

fn visit_entry(
    entry: &[u8],
    visit: &mut impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let head = head_of(entry);
    if head & DEAD != 0 { ControlFlow::Continue(()) } else { visit(head & TID, &entry[HEAD..]) }
}

/// Reads on until the entry has `size` bytes; returns the block after it.
fn read_continuation(
    index: pg_sys::Relation,
    mut block: pg_sys::BlockNumber,
    size: usize,
    entry: &mut Vec<u8>,
) -> Result<pg_sys::BlockNumber, Damage> {
    while entry.len() < size {
        let expected = Kind::DeltaContinuation;
        if block == INVALID_BLOCK {
            return Err(Damage::Kind { block, expected });
        }
        let buffer = Locked::share(index, block);
        let page = buffer.expect(expected)?;
        entry.extend_from_slice(page.body());
        block = page.next();
    }
    Ok(block)
}

/// What [`remove`] saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Removal {
    /// Rows that stay.
    pub live: u64,
    /// Rows marked dead now.
    pub removed: u64,
}

/// Asks `is_dead` about every live row and marks those it names, durably.
pub fn remove(
    index: pg_sys::Relation,
    meta: &Meta,
    mut is_dead: impl FnMut(u64) -> bool,
) -> Removal {
    let entry_bytes = entry_bytes(meta.parameters.dimensions);
    let mut result = Removal::default();
    let mut block = meta.delta_head;
    while block != INVALID_BLOCK {
        // SAFETY: no lock is held here.
        unsafe { pg_sys::vacuum_delay_point(false) };
        let buffer = Locked::exclusive(index, MAIN, block);
        let page = buffer.page();
        block = page.next();
        if page.kind() == Some(Kind::DeltaContinuation) {
            continue;
        }
        // A spanning entry's page holds just that entry's beginning.
        let step = entry_bytes.min(BODY);
        let mut dead = Vec::new();
        for (number, entry) in page.body().chunks(step).enumerate() {
            let head = if entry.len() < HEAD { DEAD } else { head_of(entry) };
            if head & DEAD != 0 {
                continue;
            }
            if is_dead(head & TID) {
                dead.push(number * step);
            } else {
                result.live += 1;
            }
        }
        if !dead.is_empty() {
            result.removed += dead.len() as u64;
            let mut change = Change::start(index);
            let mut page = change.edit(&buffer);
            for at in dead {
                let head = &mut page.body_mut()[at..at + HEAD];
                let marked = head_of(head) | DEAD;
                head.copy_from_slice(&marked.to_le_bytes());
            }
            change.finish();
        }
    }
    result
}

fn head_of(entry: &[u8]) -> u64 {
    let mut head = [0u8; HEAD];
    head.copy_from_slice(&entry[..HEAD]);
    u64::from_le_bytes(head)
}

/// A vector as it is stored. PostgreSQL pages are in the machine's own byte order.
pub fn as_bytes(vector: &[f32]) -> &[u8] {
    // SAFETY: any f32 is four valid bytes.
    unsafe { std::slice::from_raw_parts(vector.as_ptr().cast(), size_of_val(vector)) }
}
