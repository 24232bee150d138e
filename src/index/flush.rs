//! Compaction: the delta becomes a segment.
//!
//! The delta is frozen up to its tail and goes on behind it, so that inserts and scans notice
//! nothing. What is live in the frozen part is written as one segment, or several when memory asks
//! for it, and one WAL record then puts them in the place of those pages. What vacuum has removed
//! meanwhile are the segment's first tombstones.

use std::collections::HashSet;
use std::ops::ControlFlow;

use distance::Payload;
use pgrx::pg_sys;

use super::collect::Collector;
use super::control::Control;
use super::maintain::{Report, warm};
use super::writer::Writer;
use crate::faults::fault_point;
use crate::pages::manifest::{self, Replacement};
use crate::pages::meta::Meta;
use crate::pages::page::Damage;
use crate::pages::tombstones::Bitmap;
use crate::pages::wal::Publication;
use crate::pages::{delta, tombstones};
use crate::settings;

/// Turns everything that is in the delta now into segments. The caller holds the lock that only
/// one maintainer of the index can have.
pub fn flush(index: pg_sys::Relation, report: &mut Report, watch: &mut dyn FnMut(&Control)) {
    if delta::is_empty(index) {
        return;
    }
    // First of all, because this tells whether there is a store to write to.
    let mut writer = Writer::open(index, &Meta::read(index), watch);
    let Some(frozen) = delta::freeze(index) else { return };
    fault_point("flush.frozen");
    let meta = Meta::read(index);
    // A graph must fit into the memory that queries have for graphs; building it takes twice as much.
    let budget = settings::merge_memory().min(settings::graph_memory() as usize);
    let mut collector = Collector::new(&meta.parameters, budget);
    let mut tids = Vec::new();
    let mut page_rows: Vec<(u64, Vec<f32>)> = Vec::new();
    let mut spanning = Vec::new();
    let mut block = meta.delta_head;
    while block != frozen.end {
        pgrx::check_for_interrupts!();
        // Copied first: nothing may be spilled or written while the page is locked.
        let next = delta::for_each_from(index, &meta, block, &mut spanning, &mut |tid, bytes| {
            let mut vector = vec![0f32; meta.parameters.dimensions];
            Payload::Float32.decode(bytes, &mut vector);
            page_rows.push((tid, vector));
            ControlFlow::Continue(())
        });
        block = match next {
            Ok(ControlFlow::Continue(next)) => next,
            Ok(ControlFlow::Break(())) => break,
            Err(damage) => damage.raise(),
        };
        for (tid, vector) in page_rows.drain(..) {
            if collector.is_full() {
                tids.push(writer.write(&collector.take(), None, 0));
            }
            collector.push(tid, &vector);
        }
    }
    if !collector.is_empty() {
        tids.push(writer.write(&collector.take(), None, 0));
    }
    fault_point("flush.segment_written");
    warm(writer.written());

    let mut segments = manifest::read(index, &meta).unwrap_or_else(|damage: Damage| damage.raise());
    let publication = Publication::begin(index);
    let live = delta::live_tids(index, &meta, frozen.end).unwrap_or_else(|damage| damage.raise());
    let live: HashSet<u64> = live.into_iter().collect();
    let mut bitmaps =
        tombstones::read(index, &meta, &segments).unwrap_or_else(|damage| damage.raise());
    for (entry, tids) in writer.written().iter().zip(&tids) {
        segments.push(*entry);
        bitmaps.push(dead_among(tids, |tid| !live.contains(&tid)));
    }
    fault_point("flush.before_swap");
    Replacement {
        segments: &segments,
        tombstones: &bitmaps,
        flushed: Some(frozen),
        index_uuid: writer.index_uuid(),
        owner: writer.owner(),
    }
    .publish(index);
    drop(publication);
    report.rows_flushed += tids.iter().map(Vec::len).sum::<usize>() as u64;
    report.count_written(writer.written());
    writer.finish();
    fault_point("flush.swapped");
}

/// The tombstones of a new segment with these tids.
pub fn dead_among(tids: &[u64], mut is_dead: impl FnMut(u64) -> bool) -> Bitmap {
    let mut bitmap = Bitmap::new(tids.len() as u64);
    for (entry, _) in tids.iter().enumerate().filter(|(_, tid)| is_dead(**tid)) {
        bitmap.set(entry);
    }
    bitmap
}
