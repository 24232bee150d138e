//! One segment in a scan: its graph in shared memory, the search on it, and which of its entries
//! vacuum has removed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use distance::prefetch;
use hnsw::Searcher;
use pgrx::pg_sys;
use rabitq::Query;
use segment::ResidentView;
use uuid::Uuid;

use super::codes::{QueryScorer, SketchScorer};
use super::rerank::{Candidate, RowId};
use crate::pages::manifest::SegmentEntry;
use crate::pages::meta::Meta;
use crate::pages::page::Damage;
use crate::pages::tombstones::{self, Bitmap};
use crate::shared::graphs::Graph;

/// Searchers kept for the next scan, with the memory they have allocated.
const IDLE_SEARCHERS: usize = 16;

/// Segments whose tombstones this process keeps a copy of.
const MAX_TOMBSTONES: usize = 1024;

thread_local! {
    static SEARCHERS: RefCell<Vec<Searcher>> = const { RefCell::new(Vec::new()) };
    static TOMBSTONES: RefCell<HashMap<Uuid, Tombstones>> = RefCell::default();
}

/// A segment's tombstones as of an epoch of the meta page.
struct Tombstones {
    epoch: u32,
    bitmap: Rc<Bitmap>,
}

/// A segment being searched.
pub struct Segment {
    index_uuid: Uuid,
    segment_uuid: Uuid,
    graph: Rc<Graph>,
    dead: Option<Rc<Bitmap>>,
    query: Option<Query>,
    searcher: Searcher,
    /// Candidates of the searcher that have been handed out.
    taken: usize,
    started: bool,
}

impl Segment {
    /// Opens a segment of the manifest, of whose entries vacuum has removed `dead`; waits for its
    /// graph to be loaded when it is not in memory.
    pub fn open(entry: &SegmentEntry, dead: Option<Rc<Bitmap>>) -> Self {
        Self {
            index_uuid: entry.index_uuid,
            segment_uuid: entry.segment_uuid,
            graph: Graph::obtain(entry.index_uuid, entry.segment_uuid),
            dead,
            query: None,
            searcher: SEARCHERS.with_borrow_mut(Vec::pop).unwrap_or_default(),
            taken: 0,
            started: false,
        }
    }

    /// Prepares the search for a query.
    pub fn aim(&mut self, query: &[f32]) {
        self.query = Some(self.graph.quantizer().query(query));
        self.started = false;
        self.taken = 0;
    }

    /// The folder of the index and the segment.
    pub fn name(&self) -> (Uuid, Uuid) {
        (self.index_uuid, self.segment_uuid)
    }

    /// The arrays in memory.
    pub fn view(&self) -> &ResidentView<'_> {
        self.graph.view()
    }

    /// Searches for up to `more` candidates not returned before; `number` is the segment's in
    /// the scan. None are left when the result is empty.
    pub fn search(&mut self, number: u32, more: usize) -> Vec<Candidate> {
        let Some(query) = &self.query else { return Vec::new() };
        let view = self.graph.view();
        let (graph, rows) = (view.graph(), view.codes());
        let mut scorer = QueryScorer { query, rows };
        let more = more.min(view.rows());
        let mut found = Vec::new();
        // Rows vacuum has emptied are no candidates: search on for as many live ones. A scan counts
        // on all that are near being among them.
        while found.len() < more && !(self.started && self.searcher.exhausted()) {
            if self.started {
                let missing = (more - found.len()).max(more / 4);
                self.searcher.resume(&graph, &mut scorer, missing);
            } else {
                let mut way = SketchScorer { query, nodes: view.sketches() };
                self.searcher.start_by(&graph, &mut way, &mut scorer, more);
                self.started = true;
            }
            let new = &self.searcher.candidates()[self.taken..];
            self.taken += new.len();
            found.extend(new.iter().filter(|found| self.is_live(found.row)).map(|found| {
                let (code, factors) = (rows.code(found.row), rows.factors(found.row));
                let bounds = query.bounds_around(found.score, code, factors);
                Candidate {
                    id: RowId { segment: number, row: found.row },
                    estimate: bounds.estimate,
                    lower: bounds.lower,
                    upper: bounds.upper,
                }
            }));
        }
        found
    }

    /// Asks for the memory that says where a row's tids are.
    pub fn prefetch_tid_offsets(&self, row: u32) {
        prefetch::read(&self.view().tid_offsets()[row as usize..][..2]);
    }

    /// Asks for the row's tids.
    pub fn prefetch_tids(&self, row: u32) {
        prefetch::read(self.view().tids(row as usize));
    }

    /// Adds the tids of a row that vacuum has not removed.
    pub fn live_tids(&self, row: u32, tids: &mut Vec<u64>) {
        let view = self.graph.view();
        let first = view.tid_offsets()[row as usize] as usize;
        let all = view.tids(row as usize).iter().enumerate();
        tids.extend(all.filter(|(at, _)| !self.is_dead(first + at)).map(|(_, &tid)| tid));
    }

    fn is_live(&self, row: u32) -> bool {
        self.dead.is_none() || {
            let offsets = self.graph.view().tid_offsets();
            let entries = offsets[row as usize] as usize..offsets[row as usize + 1] as usize;
            entries.into_iter().any(|entry| !self.is_dead(entry))
        }
    }

    fn is_dead(&self, entry: usize) -> bool {
        self.dead.as_ref().is_some_and(|dead| dead.get(entry))
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let searcher = std::mem::take(&mut self.searcher);
        SEARCHERS.with_borrow_mut(|idle| {
            if idle.len() < IDLE_SEARCHERS {
                idle.push(searcher);
            }
        });
    }
}

/// The removed entries of every segment, from this process's copies while they are current; `None`
/// for a segment that has none.
///
/// # Errors
/// A page that is no page of tombstones.
pub fn dead_entries(
    index: pg_sys::Relation,
    meta: &Meta,
    segments: &[SegmentEntry],
) -> Result<Vec<Option<Rc<Bitmap>>>, Damage> {
    if meta.tombstone_epoch == 0 {
        return Ok(vec![None; segments.len()]);
    }
    let known = TOMBSTONES.with_borrow(|known| {
        let current = |segment: &SegmentEntry| {
            let known = known.get(&segment.segment_uuid)?;
            (known.epoch == meta.tombstone_epoch).then(|| Rc::clone(&known.bitmap))
        };
        segments.iter().map(current).collect::<Option<Vec<_>>>()
    });
    let bitmaps = match known {
        Some(bitmaps) => bitmaps,
        None => {
            let bitmaps = tombstones::read(index, meta, segments)?.into_iter().map(Rc::new);
            let bitmaps: Vec<Rc<Bitmap>> = bitmaps.collect();
            remember(meta.tombstone_epoch, segments, &bitmaps);
            bitmaps
        }
    };
    let dead = |bitmap: Rc<Bitmap>| (!bitmap.is_empty()).then_some(bitmap);
    Ok(bitmaps.into_iter().map(dead).collect())
}

fn remember(epoch: u32, segments: &[SegmentEntry], bitmaps: &[Rc<Bitmap>]) {
    TOMBSTONES.with_borrow_mut(|known| {
        // Segments come and go: start over rather than remember them all.
        if known.len() + segments.len() > MAX_TOMBSTONES {
            known.clear();
        }
        for (segment, bitmap) in segments.iter().zip(bitmaps) {
            let copy = Tombstones { epoch, bitmap: Rc::clone(bitmap) };
            known.insert(segment.segment_uuid, copy);
        }
    });
}
