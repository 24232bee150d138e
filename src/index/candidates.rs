//! One segment in a scan: its graph in shared memory, the search on it, and which of its entries
//! vacuum has removed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use distance::{HALF_ERROR, HALF_LEAST, Payload, prefetch};
use hnsw::Searcher;
use pgrx::pg_sys;
use rabitq::{Bounds, Query};
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

/// Most candidates that a searcher kept for the next scan has found: a wider walk's memory is given
/// back.
const IDLE_CANDIDATES: usize = 1000;

/// Standard deviations between an estimate and the lower bound of a walk's candidate where rows come
/// in several waves: a row in a thousand is beyond, far fewer than a walk misses.
const WAVES: f64 = 3.0;

/// Segments whose tombstones this process keeps a copy of.
const MAX_TOMBSTONES: usize = 1024;

thread_local! {
    static SEARCHERS: RefCell<Vec<Searcher>> = const { RefCell::new(Vec::new()) };
    static TOMBSTONES: RefCell<HashMap<Uuid, Tombstones>> = RefCell::default();
}

/// How far below its estimate the distance of a walk's candidate may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confidence {
    /// As far as one wave allows for.
    OneWave,
    /// [`WAVES`] standard deviations.
    Waves,
    /// As sure as the bounds of a sweep.
    Sure,
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
        }
    }

    /// Prepares the search for a query.
    pub fn aim(&mut self, query: &[f32]) {
        let mut query = self.graph.quantizer().query(query);
        // Merges make codes of what is stored.
        if self.view().payload() == Payload::Float16 {
            let least = (self.view().dimensions() as f64).sqrt() * HALF_LEAST;
            query.allow_rounding(HALF_ERROR, least);
        }
        self.query = Some(query);
    }

    /// The folder of the index and the segment.
    pub fn name(&self) -> (Uuid, Uuid) {
        (self.index_uuid, self.segment_uuid)
    }

    /// The arrays in memory.
    pub fn view(&self) -> &ResidentView<'_> {
        self.graph.view()
    }

    /// Rows of the segment, dead ones among them.
    pub fn rows(&self) -> usize {
        self.view().rows()
    }

    /// Walks over the graph for up to `ef` candidates; `number` is the segment's in the scan.
    pub fn walk(&mut self, number: u32, ef: usize, confidence: Confidence) -> Vec<Candidate> {
        let Some(query) = &self.query else { return Vec::new() };
        let view = self.graph.view();
        let (graph, rows) = (view.graph(), view.codes());
        let mut scorer = QueryScorer { query, rows };
        let ef = ef.min(view.rows());
        let mut found: Vec<Candidate> = Vec::with_capacity(ef);
        let mut way = SketchScorer { query, nodes: view.sketches() };
        self.searcher.start_by(&graph, &mut way, &mut scorer, ef);
        let mut taken = 0;
        loop {
            let new = &self.searcher.candidates()[taken..];
            taken += new.len();
            for candidate in new.iter().filter(|candidate| self.is_live(candidate.row)) {
                let (code, factors) = (rows.code(candidate.row), rows.factors(candidate.row));
                let bounds = query.bounds_around(candidate.score, code, factors);
                let lower = match confidence {
                    Confidence::OneWave => bounds.lower,
                    Confidence::Waves => {
                        query.bounds_within(WAVES, candidate.score, code, factors).lower
                    }
                    Confidence::Sure => {
                        query.distance_at(query.sure_lower_bound(candidate.score, code, factors))
                    }
                };
                let id = RowId { segment: number, row: candidate.row };
                let Bounds { estimate, upper, .. } = bounds;
                found.push(Candidate { id, estimate, lower, upper });
            }
            // Rows vacuum has emptied are no candidates: walk on for as many live ones. A scan counts
            // on all that are near being among them.
            if found.len() >= ef || self.searcher.exhausted() {
                return found;
            }
            let missing = (ef - found.len()).max(ef / 4);
            self.searcher.resume(&graph, &mut scorer, missing);
        }
    }

    /// Writes lower bounds of the ranking values of the rows from `first` on; sure ones.
    pub fn lower_bounds(&self, first: u32, out: &mut [f32]) {
        match &self.query {
            Some(query) => query.sure_lower_bounds(&self.view().codes(), first, out),
            None => out.fill(f32::NEG_INFINITY),
        }
    }

    /// The distance that a ranking value stands for.
    pub fn distance_at(&self, ranking: f32) -> f64 {
        self.query.as_ref().map_or(f64::NEG_INFINITY, |query| query.distance_at(ranking))
    }

    /// The row as a candidate whose ranking value is at least `bound`, estimated if `measure` says so;
    /// none when vacuum has removed it.
    pub fn candidate(&self, id: RowId, bound: f32, measure: bool) -> Option<Candidate> {
        let query = self.query.as_ref().filter(|_| self.is_live(id.row))?;
        let lower = query.distance_at(bound);
        if !measure {
            return Some(Candidate { id, estimate: lower, lower, upper: f64::INFINITY });
        }
        let codes = self.view().codes();
        let Bounds { estimate, upper, .. } =
            query.bounds(codes.code(id.row), codes.factors(id.row));
        Some(Candidate { id, estimate, lower, upper })
    }

    /// Asks for the code of a row.
    pub fn prefetch_code(&self, row: u32) {
        self.view().codes().prefetch(row);
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

    /// Whether vacuum has left something of a row.
    pub fn is_live(&self, row: u32) -> bool {
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
            if idle.len() < IDLE_SEARCHERS && searcher.candidates().len() <= IDLE_CANDIDATES {
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
