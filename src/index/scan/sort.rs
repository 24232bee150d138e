//! What a scan does when memory is too small to go on sweeping: it sorts.

use pgrx::pg_sys;

use super::{MOST_AHEAD, Scan, largest_wave};
use crate::index::code_sweep::Sweep;
use crate::index::fetch::Wanted;
use crate::index::rerank::{RowId, Settled, Source};
use crate::index::sorted::Sorted;

/// Passes over the codes after which sorting all rows is cheaper, if most of them are read.
pub(super) const MANY_PASSES: u32 = 8;

impl Scan {
    /// Whether the scan has looked up so many rows that it may as well look up all of them.
    pub(super) fn reads_most(&self) -> bool {
        let rows = self.sweep.as_ref().map_or(0, Sweep::rows);
        self.strict && 2 * u64::from(self.statistics.reranked) > rows
    }

    /// Looks up all rows that have not been handed out, and sorts them. Sweeping again for what memory
    /// cannot hold costs more with each row; this does not.
    pub(super) fn sort_rest(&mut self) {
        let (Some(scan), Some(mut sweep)) = (self.scan, self.sweep.take()) else { return };
        // Nothing walks any more.
        self.sweep = Some(Sweep::default());
        self.rerank.forget_candidates().for_each(|id| sweep.give_back(id));
        // SAFETY: the scan's own memory is there as long as this state of it.
        let mut sorted = unsafe {
            let context = pg_sys::GetMemoryChunkContext(scan.as_ptr().cast());
            Sorted::begin(context, pg_sys::work_mem / 2)
        };
        let mut rough = Vec::new();
        for row in self.rerank.take_settled() {
            match row.source {
                Source::Row(id) => sweep.give_back(id),
                Source::Tid(_) if row.distance.is_exact() => sorted.put(&row),
                source => rough.push(source),
            }
        }
        self.refined(&rough).iter().for_each(|row| sorted.put(row));
        let before = self.statistics.reranked;
        let most = largest_wave();
        let mut wave = Vec::with_capacity(most);
        for number in 0..self.segments.len() {
            let rows = self.segments[number].rows() as u32;
            for row in 0..rows {
                let id = RowId { segment: number as u32, row };
                if !sweep.has_taken(id) && self.segments[number].is_live(row) {
                    wave.push(id);
                }
                if wave.len() == most || row + 1 == rows {
                    self.put_wave(&wave, &mut sorted);
                    wave.clear();
                }
            }
        }
        self.statistics.sorted_rows += u64::from(self.statistics.reranked - before);
        self.statistics.publish();
        sorted.sort();
        self.sorted = Some(sorted);
    }

    /// Adds rows of segments to a sort, with the operator's values.
    fn put_wave(&mut self, wave: &[RowId], sorted: &mut Sorted) {
        pgrx::check_for_interrupts!();
        let (Some(query), Some(scan)) = (&self.query, self.scan) else { return };
        let wanted = Wanted {
            query,
            segments: &self.segments,
            scan: scan.as_ptr(),
            by_operator: !self.rounded,
        };
        let distances = self.fetcher.distances(&wanted, wave, &mut self.statistics);
        let mut rough = Vec::new();
        for (&id, distance) in wave.iter().zip(distances) {
            match distance {
                Some(distance) if distance.is_exact() && !self.rounded => {
                    sorted.put(&Settled { distance: *distance, source: Source::Row(id) });
                }
                Some(_) => rough.push(Source::Row(id)),
                None => {}
            }
        }
        self.refined(&rough).iter().for_each(|row| sorted.put(row));
        self.statistics.publish();
    }

    /// Takes the next rows of a sort.
    pub(super) fn take_sorted(&mut self) {
        self.opened.clear();
        while self.opened.len() < MOST_AHEAD
            && let Some(row) = self.sorted.as_mut().and_then(Sorted::next)
        {
            let late = self.rerank.hand_out(&row);
            self.opened.push((row, late));
        }
        self.open();
    }
}
