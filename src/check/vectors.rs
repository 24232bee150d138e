//! Stored vectors, read from the store in the order in which they lie there.

use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;
use std::sync::Arc;

use segment::{Fault, Reader, ResidentView};

use super::moment::Entry;
use super::store;
use crate::errors::Failure;
use crate::pages::manifest::SegmentEntry;
use crate::pages::tombstones::Bitmap;

/// The fingerprint of a vector that is not to be compared.
pub const UNKNOWN: u64 = 0;

/// A number that equal bytes have in common, and that others have once in 2^64. Never [`UNKNOWN`].
pub fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish().max(1)
}

/// What to read of a segment.
pub struct Plan<'a> {
    /// The segment.
    pub segment: SegmentEntry,
    /// Its graph.
    pub view: &'a ResidentView<'a>,
    /// Its entries that have been removed.
    pub dead: &'a Bitmap,
    /// The rows wanted.
    pub tids: Range<u64>,
}

/// Something that could not be read.
#[derive(Clone, Debug)]
pub struct Unread {
    /// The segment.
    pub segment: SegmentEntry,
    /// What is wrong.
    pub fault: Fault,
}

/// Adds the live entries of a segment whose rows are wanted; those whose vectors cannot be read
/// without fingerprints.
pub fn read(plan: &Plan<'_>, entries: &mut Vec<Entry>, unread: &mut Vec<Unread>) {
    let faults = store::run(async |store| {
        let mut faults = Vec::new();
        let mut tell = |fault: Fault| faults.push(fault);
        let prefix = plan.segment.prefix();
        let reader = match Reader::open(Arc::clone(store), &prefix).await {
            Ok(reader) => reader,
            Err(error) => {
                tell(Fault::of(error)?);
                add(plan, 0..plan.view.rows(), UNKNOWN_PRINT, entries);
                return Ok(faults);
            }
        };
        let attributes = *reader.attributes();
        let (row_bytes, chunk_rows) = (attributes.row_bytes(), attributes.chunk_rows as usize);
        let mut next = 0;
        let mut visit = |chunk: u32, bytes: &bytes::Bytes| {
            let first = chunk as usize * chunk_rows;
            add(plan, next..first, UNKNOWN_PRINT, entries);
            next = first;
            for vector in bytes.chunks_exact(row_bytes) {
                add(plan, next..next + 1, || fingerprint(vector), entries);
                next += 1;
            }
        };
        reader.verify_vectors(&mut tell, &mut visit).await?;
        add(plan, next..plan.view.rows(), UNKNOWN_PRINT, entries);
        Ok::<_, Failure>(faults)
    });
    let segment = plan.segment;
    unread.extend(faults.into_iter().map(|fault| Unread { segment, fault }));
}

const UNKNOWN_PRINT: fn() -> u64 = || UNKNOWN;

/// Adds the live entries of some rows of a segment; `print` is asked where there is one.
fn add(plan: &Plan<'_>, rows: Range<usize>, print: impl Fn() -> u64, entries: &mut Vec<Entry>) {
    for row in rows {
        let tids = plan.view.tids(row);
        let Some(first) = plan.view.tid_offsets().get(row) else { return };
        let live = tids
            .iter()
            .enumerate()
            .filter(|(at, tid)| plan.tids.contains(tid) && !plan.dead.get(*first as usize + at));
        let mut known = None;
        for (_, tid) in live {
            let print = *known.get_or_insert_with(&print);
            entries.push(Entry { tid: *tid, print });
        }
    }
}
