//! The manifest: the list of an index's segments.

use pgrx::pg_sys;
use uuid::Uuid;

use super::meta::Meta;
use super::page::{BODY, INVALID_BLOCK, Kind};
use super::wal::{Change, Fork, Locked};

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
    /// First tombstone page.
    pub tombstones: pg_sys::BlockNumber,
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
    tombstones: u32,
    reserved: [u8; 24],
}

const PER_PAGE: usize = BODY / size_of::<Stored>();

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
            tombstones: self.tombstones,
            reserved: [0; 24],
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
            tombstones: s.tombstones,
        }
    }
}

/// The segments of an index, in the order they were written.
pub fn read(index: pg_sys::Relation, meta: &Meta) -> Vec<SegmentEntry> {
    let mut entries = Vec::new();
    let mut block = meta.manifest_head;
    while block != INVALID_BLOCK {
        let buffer = Locked::share(index, block);
        let page = buffer.expect(Kind::Manifest);
        entries.extend(page.body().chunks_exact(size_of::<Stored>()).map(|bytes| {
            // SAFETY: the chunk has the size of `Stored`, for which every bit pattern is valid.
            SegmentEntry::from_stored(&unsafe { bytes.as_ptr().cast::<Stored>().read_unaligned() })
        }));
        block = page.next();
    }
    entries
}

/// Writes a new manifest and returns its first page, which nothing names yet: the caller
/// publishes it through the meta page.
pub fn write(
    index: pg_sys::Relation,
    fork: Fork,
    segments: &[SegmentEntry],
) -> pg_sys::BlockNumber {
    let mut next = INVALID_BLOCK;
    // Back to front, so that every page is complete with its link when it is written.
    for part in segments.chunks(PER_PAGE).rev() {
        let buffer = Locked::extend(index, fork);
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
