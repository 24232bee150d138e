//! The manifest: the list of an index's segments.

use pgrx::pg_sys;
use uuid::Uuid;

use super::delta::Frozen;
use super::meta::Meta;
use super::owner::Owner;
use super::page::{BODY, Damage, INVALID_BLOCK, Kind, META_BLOCK};
use super::space::{Chain, allocate};
use super::tombstones::{self, Bitmap};
use super::wal::{Change, Locked, MAIN};

/// One segment of the index.
#[derive(Clone, Copy, Debug)]
pub struct SegmentEntry {
    /// Folder of the index that wrote the segment: differs from the own one after a clone.
    pub index_uuid: Uuid,
    /// The segment's folder below it.
    pub segment_uuid: Uuid,
    /// Distinct vectors.
    pub rows: u64,
    /// Heap tuples: equal vectors share a row.
    pub entries: u64,
    /// Bytes of the segment's objects.
    pub storage_bytes: u64,
    /// Bytes of the segment in shared memory.
    pub resident_bytes: u64,
    /// How often the rows have been rewritten by merges.
    pub generation: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Stored {
    index_uuid: [u8; 16],
    segment_uuid: [u8; 16],
    rows: u64,
    entries: u64,
    storage_bytes: u64,
    resident_bytes: u64,
    generation: u32,
    reserved: [u8; 28],
}

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = size_of::<Stored>();

/// Entries of a full page.
pub const PER_PAGE: usize = BODY / ENTRY_BYTES;

/// Pages that a manifest of `segments` takes.
pub fn pages(segments: usize) -> usize {
    segments.div_ceil(PER_PAGE)
}

impl SegmentEntry {
    /// The segment's folder relative to the storage URL.
    pub fn prefix(&self) -> String {
        format!("{}/{}", self.index_uuid, self.segment_uuid)
    }

    fn stored(&self) -> Stored {
        Stored {
            index_uuid: self.index_uuid.into_bytes(),
            segment_uuid: self.segment_uuid.into_bytes(),
            rows: self.rows,
            entries: self.entries,
            storage_bytes: self.storage_bytes,
            resident_bytes: self.resident_bytes,
            generation: self.generation,
            reserved: [0; 28],
        }
    }

    fn from_stored(s: &Stored) -> Self {
        Self {
            index_uuid: Uuid::from_bytes(s.index_uuid),
            segment_uuid: Uuid::from_bytes(s.segment_uuid),
            rows: s.rows,
            entries: s.entries,
            storage_bytes: s.storage_bytes,
            resident_bytes: s.resident_bytes,
            generation: s.generation,
        }
    }
}

/// The segments of an index, in the order they were written.
///
/// # Errors
/// A page that is no page of the manifest.
pub fn read(index: pg_sys::Relation, meta: &Meta) -> Result<Vec<SegmentEntry>, Damage> {
    let mut entries = Vec::new();
    let mut block = meta.manifest_head;
    while block != INVALID_BLOCK {
        let buffer = Locked::share(index, block);
        let page = buffer.expect(Kind::Manifest)?;
        entries.extend(page.body().chunks_exact(size_of::<Stored>()).map(|bytes| {
            // SAFETY: the chunk has the size of `Stored`, for which every bit pattern is valid.
            SegmentEntry::from_stored(&unsafe { bytes.as_ptr().cast::<Stored>().read_unaligned() })
        }));
        block = page.next();
    }
    Ok(entries)
}

/// Writes a new manifest into pages that `new_page` gives, and returns the first one, which
/// nothing names yet: the caller publishes it through the meta page.
pub fn write(
    index: pg_sys::Relation,
    mut new_page: impl FnMut() -> Locked,
    segments: &[SegmentEntry],
) -> pg_sys::BlockNumber {
    let mut next = INVALID_BLOCK;
    // Back to front, so that every page is complete with its link when it is written.
    for part in segments.chunks(PER_PAGE).rev() {
        let buffer = new_page();
        let mut change = Change::start(index);
        let mut page = change.create(&buffer, Kind::Manifest);
        page.set_next(next);
        for entry in part {
            let bytes = page.grow(size_of::<Stored>());
            // SAFETY: `grow` returned that many bytes; `Stored` is plain data without padding.
            unsafe { bytes.as_mut_ptr().cast::<Stored>().write_unaligned(entry.stored()) };
        }
        change.finish();
        next = buffer.block();
    }
    next
}

/// A change of an index's segments that one WAL record makes.
pub struct Replacement<'a> {
    /// The segments from now on.
    pub segments: &'a [SegmentEntry],
    /// Their tombstones.
    pub tombstones: &'a [Bitmap],
    /// The delta that has become part of them.
    pub flushed: Option<Frozen>,
    /// Folder and owner of what is written from now on.
    pub index_uuid: Uuid,
    /// See `index_uuid`.
    pub owner: Owner,
}

impl Replacement<'_> {
    /// Publishes. The caller is the only one who does, and keeps vacuum away
    /// ([`Publication`](super::wal::Publication)).
    pub fn publish(self, index: pg_sys::Relation) {
        let old = Meta::read(index);
        let manifest = write(index, || allocate(index), self.segments);
        let tombstones = tombstones::write(index, || allocate(index), self.tombstones);
        let lists = [old.manifest_head, old.tombstone_head];
        let retired: Vec<Chain> = lists
            .into_iter()
            .filter(|&head| head != INVALID_BLOCK)
            .map(|head| Chain::measure(index, head))
            .chain(self.flushed.map(|frozen| frozen.chain))
            .collect();
        // At most three lists, so at most four pages: what one record can change.
        let ends: Vec<Locked> =
            retired.iter().map(|chain| Locked::exclusive(index, MAIN, chain.last)).collect();
        let meta = Locked::exclusive(index, MAIN, META_BLOCK);
        let mut change = Change::start(index);
        let free = Meta::of(&meta).free_head;
        for (number, end) in ends.iter().enumerate() {
            let next = retired.get(number + 1).map_or(free, |chain| chain.first);
            change.edit(end).set_next(next);
        }
        Meta::edit(&mut change, &meta, |meta| {
            meta.manifest_head = manifest;
            meta.tombstone_head = tombstones;
            meta.free_head = retired.first().map_or(free, |chain| chain.first);
            meta.manifest_epoch = meta.manifest_epoch.wrapping_add(1);
            if let Some(frozen) = self.flushed {
                meta.delta_head = frozen.end;
                meta.delta_pages -= frozen.pages;
            }
            if self.tombstones.iter().any(|bitmap| !bitmap.is_empty()) {
                meta.count_tombstones();
            }
            meta.index_uuid = self.index_uuid;
            meta.owner = self.owner;
            meta.segment_rows = self.segments.iter().map(|segment| segment.rows).sum();
            meta.segment_entries = self.segments.iter().map(|segment| segment.entries).sum();
        });
        change.finish();
    }
}
