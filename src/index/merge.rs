//! Merging: several segments become one.
//!
//! The rows are read from storage, those that vacuum has emptied are left out, equal vectors of
//! different segments become one row. The largest segment's graph is where the new one starts from.
//! Codes get a new centroid, rows a new order. What vacuum removes meanwhile are the new segment's
//! first tombstones.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use ::storage::{StorageConfig, Store};
use hnsw::NONE;
use pgrx::pg_sys;
use segment::{Reader, ResidentView};

use super::assemble::Base;
use super::collect::Collector;
use super::control::{Control, until_stopped};
use super::flush::dead_among;
use super::maintain::{Report, warm};
use super::writer::Writer;
use crate::errors::{Failure, FailureKind};
use crate::faults::fault_point;
use crate::pages::manifest::{self, Replacement, SegmentEntry};
use crate::pages::meta::Meta;
use crate::pages::tombstones::{self, Bitmap};
use crate::pages::wal::Publication;
use crate::settings;
use crate::shared::graphs::Graph;
use crate::shared::{registry, storage_metrics};
use crate::threads;

/// Bytes of vectors fetched at a time.
const BATCH_BYTES: usize = 8 << 20;

/// Every so many generations a graph is built anew: where a third of the rows is exchanged at each merge, recall
/// at `ef` 100 was .996 to 1.000 after 20 of them, and always 1.000 in a fresh graph.
const FRESH_EVERY: u32 = 8;

/// A segment that goes into the merge.
struct Source {
    /// Its place in the manifest.
    number: usize,
    entry: SegmentEntry,
    graph: Rc<Graph>,
    /// What vacuum had removed when the merge began.
    gone: Bitmap,
}

/// What the thread that reads needs of a source.
struct Plan<'a> {
    prefix: String,
    view: &'a ResidentView<'a>,
    gone: &'a Bitmap,
}

/// Merges the segments that `chosen` names by number in the manifest. The caller holds the lock
/// that only one maintainer of the index can have.
pub fn merge(
    index: pg_sys::Relation,
    chosen: &[usize],
    report: &mut Report,
    watch: &mut dyn FnMut(&Control),
) {
    let meta = Meta::read(index);
    let all = manifest::read(index, &meta).unwrap_or_else(|damage| damage.raise());
    // First of all, because this tells whether there is a store to read from and to write to.
    let mut writer = Writer::open(index, &meta, watch);
    let mut before = read_tombstones(index, &meta, &all);
    let mut sources: Vec<Source> = chosen
        .iter()
        .map(|&number| Source::open(number, all[number], std::mem::take(&mut before[number])))
        .collect();
    // The largest comes first: its rows are the first of the new segment, as its graph asks for.
    sources.sort_by_key(|source| std::cmp::Reverse(source.entry.rows));

    let mut collector = Collector::new(&meta.parameters, settings::merge_memory());
    collector.expect(sources.iter().map(|source| source.entry.rows as usize).sum());
    let plans: Vec<Plan<'_>> = sources.iter().map(Source::plan).collect();
    let place = writer.run(|storage, control| read_all(&plans, storage, &mut collector, control));
    fault_point("merge.read");

    let rows = collector.take();
    let mut tids = Vec::new();
    if !rows.is_empty() {
        let graph = sources[0].graph.view().graph();
        let generation = sources.iter().map(|source| source.entry.generation).max().unwrap_or(0);
        let generation = generation + 1;
        let fresh = generation.is_multiple_of(FRESH_EVERY);
        let base = (!fresh).then_some(Base { graph, place: &place });
        tids = writer.write(&rows, base, generation);
    }
    fault_point("merge.segment_written");
    warm(writer.written());

    let publication = Publication::begin(index);
    let mut now = read_tombstones(index, &meta, &all);
    let removed = sources.iter().flat_map(|source| source.removed_since(&now[source.number]));
    let removed: HashSet<u64> = removed.collect();
    let stay: Vec<usize> = (0..all.len()).filter(|number| !chosen.contains(number)).collect();
    let mut segments: Vec<SegmentEntry> = stay.iter().map(|&number| all[number]).collect();
    let mut bitmaps: Vec<Bitmap> =
        stay.iter().map(|&number| std::mem::take(&mut now[number])).collect();
    for entry in writer.written() {
        segments.push(*entry);
        bitmaps.push(dead_among(&tids, |tid| removed.contains(&tid)));
    }
    fault_point("merge.before_swap");
    Replacement {
        segments: &segments,
        tombstones: &bitmaps,
        flushed: None,
        index_uuid: writer.index_uuid(),
        owner: writer.owner(),
    }
    .publish(index);
    drop(publication);
    report.rows_merged += tids.len() as u64;
    report.segments_replaced += sources.len() as u32;
    report.count_written(writer.written());
    writer.finish();
    fault_point("merge.swapped");
    for source in &sources {
        registry::forget(source.entry.segment_uuid);
    }
}

impl Source {
    fn open(number: usize, entry: SegmentEntry, gone: Bitmap) -> Self {
        let graph = Graph::obtain(entry.index_uuid, entry.segment_uuid);
        Self { number, entry, graph, gone }
    }

    fn plan(&self) -> Plan<'_> {
        Plan { prefix: self.entry.prefix(), view: self.graph.view(), gone: &self.gone }
    }

    /// The tids that vacuum has removed since the merge began.
    fn removed_since(&self, now: &Bitmap) -> Vec<u64> {
        let tids = self.graph.view().all_tids().iter().enumerate();
        let new = tids.filter(|(entry, _)| now.get(*entry) && !self.gone.get(*entry));
        new.map(|(_, &tid)| tid).collect()
    }
}

fn read_tombstones(index: pg_sys::Relation, meta: &Meta, segments: &[SegmentEntry]) -> Vec<Bitmap> {
    tombstones::read(index, meta, segments).unwrap_or_else(|damage| damage.raise())
}

/// Reads the live rows of all sources into `collector`, in their order. Returns the number that
/// each row of the first source has got, or [`NONE`].
fn read_all(
    plans: &[Plan<'_>],
    storage: &StorageConfig,
    collector: &mut Collector,
    control: &Control,
) -> Result<Vec<u32>, Failure> {
    let store = ::storage::open(storage, storage_metrics::get())?;
    let runtime = threads::runtime("s3vector merge", 2)?;
    let mut place = Vec::new();
    let outcome = runtime.block_on(until_stopped(control, async {
        let mut next = 0;
        for (number, plan) in plans.iter().enumerate() {
            let rows = read_rows(plan, &store, collector, &mut next).await?;
            if number == 0 {
                place = rows;
            }
        }
        Ok::<_, Failure>(())
    }));
    runtime.shutdown_background();
    outcome.map(|()| place)
}

/// Reads one source; `next` is the number of the next row.
async fn read_rows(
    plan: &Plan<'_>,
    store: &Arc<dyn Store>,
    collector: &mut Collector,
    next: &mut u32,
) -> Result<Vec<u32>, Failure> {
    let reader = Reader::open(Arc::clone(store), &plan.prefix).await?;
    let attributes = *reader.attributes();
    let (row_bytes, chunk_rows) = (attributes.row_bytes(), attributes.chunk_rows as usize);
    let live: Vec<Vec<u64>> = (0..plan.view.rows()).map(|row| plan.live_tids(row)).collect();
    // A chunk is fetched when one of its rows lives.
    let chunks: Vec<u32> = (0u32..)
        .zip(live.chunks(chunk_rows))
        .filter(|(_, rows)| rows.iter().any(|tids| !tids.is_empty()))
        .map(|(chunk, _)| chunk)
        .collect();
    let mut place = vec![NONE; live.len()];
    let mut vector = vec![0f32; attributes.dimensions as usize];
    for batch in chunks.chunks((BATCH_BYTES / attributes.chunk_bytes().max(1)).max(1)) {
        for (chunk, bytes) in reader.fetch_chunks(batch).await?.chunks {
            let first = chunk as usize * chunk_rows;
            for (row, tids) in (first..).zip(live.iter().skip(first).take(chunk_rows)) {
                if tids.is_empty() {
                    continue;
                }
                let at = (row - first) * row_bytes;
                let bytes = bytes.get(at..at + row_bytes).ok_or_else(|| {
                    Failure::new(FailureKind::Corrupt, "a fetched chunk is too short")
                })?;
                attributes.payload.decode(bytes, &mut vector);
                collector.push_row(tids.iter().copied(), &vector)?;
                place[row] = *next;
                *next += 1;
            }
        }
    }
    Ok(place)
}

impl Plan<'_> {
    fn live_tids(&self, row: usize) -> Vec<u64> {
        let first = self.view.tid_offsets()[row] as usize;
        let all = self.view.tids(row).iter().enumerate();
        all.filter(|(at, _)| !self.gone.get(first + at)).map(|(_, &tid)| tid).collect()
    }
}
