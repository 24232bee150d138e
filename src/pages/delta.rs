//! The delta: rows written since the last segment, as they are, in a list of pages.
//!
//! An entry is eight bytes of heap tid and flags, then the vector as float32. Entries that fit
//! into a page never span two. A larger one (more than 2,036 dimensions) starts a page of its own
//! and goes on in continuation pages; all of them are written before one record links them into
//! the list, so that a reader meets a whole entry or none.

use std::ops::ControlFlow;

use pgrx::pg_sys;

use super::meta::Meta;
use super::page::{BODY, INVALID_BLOCK, Kind, META_BLOCK, Page};
use super::wal::{Change, Fork, Locked, MAIN};

/// Set in an entry's first word once vacuum has removed its tuple.
const DEAD: u64 = 1 << 63;
/// The part of an entry's first word that is the tid: block << 16 | offset.
const TID: u64 = (1 << 48) - 1;
const HEAD: usize = size_of::<u64>();

/// Writes the first, empty delta page and returns its number.
pub fn create(index: pg_sys::Relation, fork: Fork) -> pg_sys::BlockNumber {
    let buffer = Locked::extend(index, fork);
    let mut change = Change::start(index);
    change.create(&buffer, Kind::Delta);
    change.finish();
    buffer.block()
}

/// Appends a row. Durable with the inserting transaction: the record precedes its commit.
pub fn append(index: pg_sys::Relation, tid: u64, vector: &[f32]) {
    loop {
        let tail = Meta::read(index).delta_tail;
        let buffer = Locked::exclusive(index, MAIN, tail);
        // Somebody may have added a page since the meta page was read.
        if buffer.page().next() != INVALID_BLOCK {
            continue;
        }
        let size = HEAD + size_of_val(vector);
        if size > BODY {
            append_spanning(index, &buffer, tid, vector);
        } else if buffer.page().room() >= size {
            let mut change = Change::start(index);
            write_entry(&mut change.edit(&buffer), tid, vector);
            change.finish();
        } else {
            append_page(index, &buffer, tid, vector);
        }
        return;
    }
}

/// Appends a row that opens a new page: new page, link and meta page change together.
fn append_page(index: pg_sys::Relation, tail: &Locked, tid: u64, vector: &[f32]) {
    let new = Locked::extend(index, MAIN);
    let meta = Locked::exclusive(index, MAIN, META_BLOCK);
    let mut change = Change::start(index);
    write_entry(&mut change.create(&new, Kind::Delta), tid, vector);
    link(&mut change, tail, &meta, new.block(), new.block());
    change.finish();
}

/// Appends a row that takes several pages of its own.
fn append_spanning(index: pg_sys::Relation, tail: &Locked, tid: u64, vector: &[f32]) {
    let bytes = as_bytes(vector);
    let (first, rest) = bytes.split_at(BODY - HEAD);
    let mut next = INVALID_BLOCK;
    let mut last = None;
    for part in rest.chunks(BODY).rev() {
        let buffer = Locked::extend(index, MAIN);
        let mut change = Change::start(index);
        let mut page = change.create(&buffer, Kind::DeltaContinuation);
        page.set_next(next);
        page.grow(part.len()).copy_from_slice(part);
        change.finish();
        next = buffer.block();
        last.get_or_insert(next);
    }
    let head = Locked::extend(index, MAIN);
    let mut change = Change::start(index);
    let mut page = change.create(&head, Kind::Delta);
    page.grow(HEAD).copy_from_slice(&tid.to_le_bytes());
    page.grow(first.len()).copy_from_slice(first);
    page.set_next(next);
    change.finish();

    let meta = Locked::exclusive(index, MAIN, META_BLOCK);
    let mut change = Change::start(index);
    link(&mut change, tail, &meta, head.block(), last.unwrap_or(head.block()));
    change.finish();
}

/// Makes `first` follow the old tail and `last` the new tail.
fn link(
    change: &mut Change,
    tail: &Locked,
    meta: &Locked,
    first: pg_sys::BlockNumber,
    last: pg_sys::BlockNumber,
) {
    change.edit(tail).set_next(first);
    Meta::edit(change, meta, |meta| meta.delta_tail = last);
}

fn write_entry(page: &mut Page, tid: u64, vector: &[f32]) {
    let entry = page.grow(HEAD + size_of_val(vector));
    entry[..HEAD].copy_from_slice(&tid.to_le_bytes());
    entry[HEAD..].copy_from_slice(as_bytes(vector));
}

/// Calls `visit` with the tid and the vector's bytes (float32) of every live row.
///
/// Rows that fit into a page are handed out from the buffer under its share lock: `visit` must be
/// quick and must not call PostgreSQL.
pub fn for_each(
    index: pg_sys::Relation,
    meta: &Meta,
    mut visit: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
) {
    let vector_bytes = meta.parameters.dimensions * size_of::<f32>();
    let mut spanning = Vec::new();
    let mut block = meta.delta_head;
    while block != INVALID_BLOCK {
        pgrx::check_for_interrupts!();
        let buffer = Locked::share(index, block);
        let page = buffer.expect(Kind::Delta);
        block = page.next();
        if HEAD + vector_bytes <= BODY {
            // The lock is held for one page of rows.
            for entry in page.body().chunks_exact(HEAD + vector_bytes) {
                if visit_entry(entry, &mut visit).is_break() {
                    return;
                }
            }
        } else if page.body().len() >= HEAD {
            spanning.clear();
            spanning.extend_from_slice(page.body());
            drop(buffer);
            block = read_continuation(index, block, HEAD + vector_bytes, &mut spanning);
            if visit_entry(&spanning, &mut visit).is_break() {
                return;
            }
        }
    }
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
) -> pg_sys::BlockNumber {
    while entry.len() < size {
        let buffer = Locked::share(index, block);
        let page = buffer.expect(Kind::DeltaContinuation);
        entry.extend_from_slice(page.body());
        block = page.next();
    }
    block
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
    let entry_bytes = HEAD + meta.parameters.dimensions * size_of::<f32>();
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
fn as_bytes(vector: &[f32]) -> &[u8] {
    // SAFETY: any f32 is four valid bytes.
    unsafe { std::slice::from_raw_parts(vector.as_ptr().cast(), size_of_val(vector)) }
}
