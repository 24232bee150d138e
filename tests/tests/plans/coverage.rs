//! What a run has met, and whether that is enough.

use std::collections::BTreeMap;

use crate::compare::Figures;
use crate::plan::Scan;
use crate::queries::Query;

/// How often each of the mechanisms must be met by [`ENOUGH_FOR`] queries.
const QUOTA: usize = 20;

/// Queries of a run that must meet everything.
pub const ENOUGH_FOR: usize = 300;

/// What is counted.
#[derive(Debug, Default)]
pub struct Coverage {
    /// Tables.
    pub tables: usize,
    /// Of those, tables with three segments or more, tombstones and a delta.
    pub aged: usize,
    /// Queries that an index has answered.
    pub by_index: usize,
    /// Queries in all.
    pub queries: usize,
    /// Queries that walked through a graph.
    walks: usize,
    /// Queries that swept over the codes.
    sweeps: usize,
    /// Queries of which one scan walked, and swept when that was not enough.
    walks_that_went_on: usize,
    /// Queries of which one scan swept more than once.
    second_sweeps: usize,
    /// Queries whose cursor was open when segments were merged.
    merges: usize,
    /// Queries after which a graph was gone that had been in memory.
    evictions: usize,
    /// Rows returned in exact order, and of those the ones that came late.
    ordered: (usize, usize),
    /// Rows within a limit that were found, and that should have been.
    recall: (usize, usize),
    /// Queries by form and by way.
    forms: BTreeMap<String, usize>,
}

/// What happened while a query was asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    /// Whether segments were merged.
    pub merged: bool,
    /// Whether a graph was dropped for lack of memory.
    pub evicted: bool,
}

impl Coverage {
    /// Counts a query that was answered as it should be.
    pub fn count(&mut self, query: &Query, scans: &[Scan], beside: Beside, figures: Figures) {
        self.queries += 1;
        self.by_index += usize::from(!scans.is_empty());
        let any = |what: fn(&Scan) -> bool| usize::from(scans.iter().any(what));
        self.walks += any(|scan| scan.walks > 0);
        self.sweeps += any(|scan| scan.sweeps > 0);
        self.walks_that_went_on += any(|scan| scan.walks > 0 && scan.sweeps > 0);
        self.second_sweeps += any(Scan::swept_twice);
        self.merges += usize::from(beside.merged);
        self.evictions += usize::from(beside.evicted);
        if query.strict && query.expected.ordered {
            self.ordered.0 += figures.rows;
            self.ordered.1 += figures.late;
        }
        if query.strict && query.thorough && !scans.is_empty() {
            self.recall.0 += figures.found;
            self.recall.1 += figures.wanted;
        }
        let way = format!("{:?}", query.way);
        let way = way.split('(').next().unwrap_or_default().to_owned();
        for kind in [format!("form {:?}", query.form), format!("way {way}")] {
            *self.forms.entry(kind).or_default() += 1;
        }
    }

    /// The share of the rows within limits that were found.
    pub fn recall(&self) -> f64 {
        share(self.recall.0, self.recall.1)
    }

    /// Says what a run of enough queries has met too rarely.
    pub fn lacking(&self) -> Vec<String> {
        let mut lacking = Vec::new();
        for (what, times) in [
            ("walks", self.walks),
            ("sweeps", self.sweeps),
            ("walks that went on", self.walks_that_went_on),
            ("second sweeps", self.second_sweeps),
            ("merges under a scan", self.merges),
            ("evictions", self.evictions),
        ] {
            if times < QUOTA {
                lacking.push(format!("{what}: {times} of {QUOTA}"));
            }
        }
        if self.aged * 2 < self.tables {
            lacking.push(format!("tables with a past: {} of {}", self.aged, self.tables));
        }
        lacking
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}
