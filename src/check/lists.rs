//! The pages of an index and the lists they form.
//!
//! Every list is read from the meta page on, in one moment of the index: if a publication comes in
//! between, all is read again. Inserts go on meanwhile. They let the delta grow at its end and take
//! pages from the front of the free list, so what has been read before stays true, and the free
//! list comes last. Pages in no list are what a crash has left, and no fault.

use pgrx::pg_sys;

use super::delta::DeltaPages;
use super::findings::{Finding, Findings, Part};
use crate::pages::meta::Meta;
use crate::pages::page::{INVALID_BLOCK, Kind, META_BLOCK};
use crate::pages::wal::{Locked, MAIN};
use crate::pages::{consistent, manifest, tombstones};

/// How often the free list is read again when pages are taken from it meanwhile.
const FREE_ATTEMPTS: usize = 8;

/// Checks all lists. Returns whether the index can be read: that they are lists of pages of their
/// kind.
pub fn check(index: pg_sys::Relation, found: &mut Findings) -> bool {
    if blocks(index) == 0 {
        found.add(Part::Pages, None, "block 0", "the index has no pages");
        return false;
    }
    if let Err(problem) = expect(&Locked::share(index, META_BLOCK), &[Kind::Meta]) {
        found.add(Part::Pages, None, "block 0", problem);
        return false;
    }
    let (readable, findings) = consistent(index, |meta| {
        let mut lists = Lists::new(index);
        lists.check(meta);
        Ok((lists.readable, lists.found))
    });
    found.append(findings);
    readable
}

/// What the relation's file has.
fn blocks(index: pg_sys::Relation) -> pg_sys::BlockNumber {
    // SAFETY: `index` is an open relation.
    unsafe { pg_sys::RelationGetNumberOfBlocksInFork(index, MAIN) }
}

/// Whether a page is of one of `kinds`.
///
/// # Errors
/// What it is, in words.
fn expect(buffer: &Locked, kinds: &[Kind]) -> Result<(), String> {
    let (page, block) = (buffer.page(), buffer.block());
    if kinds.iter().any(|kind| page.expect(*kind, block).is_ok()) {
        return Ok(());
    }
    let names: Vec<String> = kinds.iter().map(|kind| format!("{kind:?}")).collect();
    Err(format!("not a {} page of this format", names.join(" or ")))
}

/// Lists on the way.
struct Lists {
    index: pg_sys::Relation,
    blocks: pg_sys::BlockNumber,
    /// The list each block was met in.
    met: Vec<Option<&'static str>>,
    readable: bool,
    found: Vec<Finding>,
}

impl Lists {
    fn new(index: pg_sys::Relation) -> Self {
        let mut lists =
            Self { index, blocks: 0, met: Vec::new(), readable: true, found: Vec::new() };
        lists.grow();
        lists.met[META_BLOCK as usize] = Some("meta page");
        lists
    }

    /// Takes note of the relation's size, which inserts may have changed.
    fn grow(&mut self) {
        self.blocks = blocks(self.index);
        self.met.resize(self.blocks as usize, None);
    }

    fn add(&mut self, part: Part, place: impl Into<String>, problem: impl Into<String>) {
        let (place, problem) = (place.into(), problem.into());
        self.found.push(Finding { part, segment: None, place, problem });
    }

    fn check(&mut self, meta: &Meta) {
        self.manifest(meta);
        self.tombstones(meta);
        self.delta(meta);
        if self.readable {
            self.counters(meta);
        }
        self.free();
    }

    /// Visits the pages of a list, each a page of one of `kinds`; a list that cannot be followed to
    /// its end is told of. Returns its blocks.
    fn follow(
        &mut self,
        name: &'static str,
        kinds: &[Kind],
        head: pg_sys::BlockNumber,
        mut visit: impl FnMut(&mut Self, pg_sys::BlockNumber, Kind, Vec<u8>),
    ) -> Vec<pg_sys::BlockNumber> {
        let (mut list, mut block) = (Vec::new(), head);
        while block != INVALID_BLOCK {
            pgrx::check_for_interrupts!();
            if let Err(problem) = self.meet(name, block) {
                let before = list.last().map_or("the meta page".into(), |b| format!("block {b}"));
                self.add(Part::Pages, before, problem);
                self.readable = false;
                break;
            }
            let buffer = Locked::share(self.index, block);
            if let Err(problem) = expect(&buffer, kinds) {
                drop(buffer);
                self.add(
                    Part::Pages,
                    format!("block {block}"),
                    format!("in the {name} list: {problem}"),
                );
                self.readable = false;
                break;
            }
            let page = buffer.page();
            let (next, body) = (page.next(), page.body().to_vec());
            let kind = page.kind().unwrap_or(kinds[0]);
            drop(buffer);
            list.push(block);
            visit(self, block, kind, body);
            block = next;
        }
        list
    }

    /// Notes that a list has come to a block.
    ///
    /// # Errors
    /// Why that cannot be.
    fn meet(&mut self, name: &'static str, block: pg_sys::BlockNumber) -> Result<(), String> {
        if block >= self.blocks {
            self.grow();
        }
        match self.met.get_mut(block as usize) {
            None => Err(format!("the {name} list goes on at block {block} of {}", self.blocks)),
            Some(Some(other)) if *other == name => {
                Err(format!("the {name} list comes back to block {block}"))
            }
            Some(Some(other)) => {
                Err(format!("the {name} list goes on at block {block} of the {other} list"))
            }
            Some(place) => {
                *place = Some(name);
                Ok(())
            }
        }
    }

    fn manifest(&mut self, meta: &Meta) {
        self.follow("manifest", &[Kind::Manifest], meta.manifest_head, |lists, block, _, body| {
            if body.is_empty() || !body.len().is_multiple_of(manifest::ENTRY_BYTES) {
                let what = format!("{} bytes are no whole entries", body.len());
                lists.add(Part::Manifest, format!("block {block}"), what);
            }
        });
    }

    fn tombstones(&mut self, meta: &Meta) {
        let mut words = Vec::new();
        let take = |_: &mut Self, _, _, body: Vec<u8>| words.push(body.len() / size_of::<u64>());
        let list = self.follow("tombstones", &[Kind::Tombstones], meta.tombstone_head, take);
        if !self.readable {
            return;
        }
        let Ok(segments) = manifest::read(self.index, meta) else { return };
        let expected = tombstones::page_words(&segments);
        if words != expected {
            let (found, expected): (usize, usize) = (words.iter().sum(), expected.iter().sum());
            let what = format!(
                "{found} words in {} pages are not the {expected} words of {} segments",
                list.len(),
                segments.len()
            );
            self.add(Part::Tombstones, "tombstones list", what);
        }
    }

    /// The delta as it was when the meta page was read; what has come since follows its end.
    fn delta(&mut self, meta: &Meta) {
        let mut pages = DeltaPages::new(&meta.parameters);
        let kinds = [Kind::Delta, Kind::DeltaContinuation];
        let list = self.follow("delta", &kinds, meta.delta_head, |lists, block, kind, body| {
            let mut add = |place: String, what: String| lists.add(Part::Pages, place, what);
            pages.visit(block, kind, &body, &mut add);
        });
        if !self.readable {
            return;
        }
        if let Some(problem) = pages.finish() {
            self.add(Part::Pages, "delta list", problem);
            self.readable = false;
        }
        let last = list.iter().position(|block| *block == meta.delta_tail);
        match last {
            None => {
                let what =
                    format!("block {}, the delta's last, is not in the list", meta.delta_tail);
                self.add(Part::Pages, "meta page", what);
            }
            Some(last) if last + 1 != meta.delta_pages as usize => {
                let what = format!(
                    "the delta has {} pages up to its last, not {}",
                    last + 1,
                    meta.delta_pages
                );
                self.add(Part::Pages, "meta page", what);
            }
            Some(_) => {}
        }
    }

    /// What the meta page and the manifest count.
    fn counters(&mut self, meta: &Meta) {
        let Ok(segments) = manifest::read(self.index, meta) else { return };
        let Ok(dead) = tombstones::read(self.index, meta, &segments) else { return };
        let sum = |of: fn(&manifest::SegmentEntry) -> u64| segments.iter().map(of).sum::<u64>();
        for (what, counted, listed) in [
            ("rows", meta.segment_rows, sum(|segment| segment.rows)),
            ("entries", meta.segment_entries, sum(|segment| segment.entries)),
        ] {
            if counted != listed {
                let problem = format!("it counts {counted} {what}, the manifest {listed}");
                self.add(Part::Manifest, "meta page", problem);
            }
        }
        for (number, (segment, dead)) in segments.iter().zip(&dead).enumerate() {
            let mut wrong = |part, problem: String| {
                let (place, segment) = (format!("entry {number}"), Some(segment.segment_uuid));
                self.found.push(Finding { part, segment, place, problem });
            };
            let known = |other: &manifest::SegmentEntry| other.segment_uuid == segment.segment_uuid;
            if segments[..number].iter().any(known) {
                wrong(Part::Manifest, "the segment is listed twice".into());
            }
            let (rows, entries) = (segment.rows, segment.entries);
            if rows == 0 || entries < rows {
                wrong(Part::Manifest, format!("{rows} rows with {entries} entries"));
            }
            if dead.beyond() > 0 {
                wrong(Part::Tombstones, format!("bits are set beyond its {entries} entries"));
            }
        }
    }

    /// The free list as it is now. From pages that somebody takes meanwhile it would lead elsewhere.
    fn free(&mut self) {
        let before = self.met.clone();
        let kinds = [Kind::Manifest, Kind::Delta, Kind::DeltaContinuation, Kind::Tombstones];
        for _ in 0..FREE_ATTEMPTS {
            let (readable, told) = (self.readable, self.found.len());
            let head = Meta::read(self.index).free_head;
            self.follow("free", &kinds, head, |_, _, _, _| ());
            // A free list that is no list costs pages, and keeps nobody from reading.
            self.readable = readable;
            if Meta::read(self.index).free_head == head {
                return;
            }
            self.found.truncate(told);
            self.met.clone_from(&before);
            self.grow();
        }
    }
}
