//! Distances by the operator itself.

use distance::Payload;

use super::Scan;
use crate::index::fetch::Cached;
use crate::index::heap::HeapVectors;
use crate::index::operator::Operator;
use crate::index::rerank::{Settled, Source};
use crate::index::vector::Vector;

impl Scan {
    /// Refines the rows that rerank wants to be.
    pub(super) fn refine(&mut self) {
        let rough = self.rerank.rough().to_vec();
        let exact = self.refined(&rough);
        self.rerank.add_refined(exact);
        self.statistics.publish();
    }

    /// Has the operator compute the distances of rows: of the stored vector where it lies in the payload
    /// cache and is the row itself, else of the table's. Without rows that the snapshot does not see.
    pub(super) fn refined(&mut self, rough: &[Source]) -> Vec<Settled> {
        let (Some(query), Some(scan)) = (&self.query, self.scan) else { return Vec::new() };
        // SAFETY: the scan is the one under way.
        let mut operator = unsafe { Operator::of(scan.as_ptr(), query) };
        let mut exact = Vec::with_capacity(rough.len());
        self.statistics.refined += rough.len() as u32;
        let mut elsewhere = Vec::new();
        for (number, &source) in rough.iter().enumerate() {
            if number % 1024 == 0 {
                pgrx::check_for_interrupts!();
            }
            let cached = match source {
                Source::Row(id) if !self.rounded => {
                    let place = Cached::of(&self.segments[id.segment as usize], id.row);
                    place.decode(Payload::Float32, &mut self.scratch, operator.row_mut())
                }
                _ => false,
            };
            if cached {
                exact.push(Settled::exact(operator.value(), source));
            } else {
                elsewhere.push(source);
            }
        }
        if !elsewhere.is_empty() {
            self.refine_by_table(&elsewhere, &mut operator, &mut exact);
        }
        exact
    }

    /// Adds the rows that the snapshot sees to `exact`, by the table's own vectors.
    fn refine_by_table(
        &mut self,
        rough: &[Source],
        operator: &mut Operator,
        exact: &mut Vec<Settled>,
    ) {
        let Some(scan) = self.scan else { return };
        // SAFETY: the scan is the one under way.
        let Some(mut table) = (unsafe { HeapVectors::open(scan.as_ptr()) }) else {
            pgrx::error!("an s3vector scan needs its table to put rows in order");
        };
        // All tids have been handed out: the list is free. Each row has those up to its end.
        let (mut tids, mut ends) =
            (std::mem::take(&mut self.tids), Vec::with_capacity(rough.len()));
        tids.clear();
        self.next_tid = 0;
        for &source in rough {
            let first = tids.len();
            match source {
                Source::Tid(tid) => tids.push(tid),
                Source::Row(id) => self.segments[id.segment as usize].live_tids(id.row, &mut tids),
            }
            match source {
                // Equal halves need not be equal vectors.
                Source::Row(id) if self.rounded => {
                    let tid = |number: usize| Source::Tid(tids[number]);
                    ends.extend((first..tids.len()).map(|number| (tid(number), number + 1)));
                    if self.sweep.is_none() {
                        self.walked.push(id);
                    }
                }
                _ => ends.push((source, tids.len())),
            }
        }
        // SAFETY: as above.
        unsafe { self.pages.ask(scan.as_ptr(), &tids) };
        let mut first = 0;
        for (source, end) in ends {
            pgrx::check_for_interrupts!();
            // SAFETY: the index is on values of type vector.
            let value = |vector: &Vector| unsafe { operator.value_of(vector.datum()) };
            // A row that the snapshot does not see is none.
            let value = table.read(&tids[first..end], value);
            exact.extend(value.map(|value| Settled::exact(value, source)));
            first = end;
        }
        tids.clear();
        self.tids = tids;
    }
}
