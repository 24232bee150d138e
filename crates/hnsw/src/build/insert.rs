//! Inserting one row: what a build thread does.

use super::{Control, grow::Growing, links::Link, select::Selection};
use crate::{BuildDistances, Candidate, NodeScorer, walk::Walk};

/// Candidates kept on levels above the row's own. With one, as in the HNSW paper, some rows are
/// linked into a wrong cluster where clusters are far apart: over 20,000 rows in 32 of them recall@10 at
/// `ef` 100 was .999, with four .9998.
const ABOVE: usize = 4;

/// A build thread: its scorers and buffers.
pub(super) struct Inserter<'a, D: BuildDistances + 'a> {
    growing: &'a Growing,
    control: &'a Control,
    /// Aimed at the row being inserted.
    row: D::Node<'a>,
    /// Aimed at one candidate after another.
    candidate: D::Node<'a>,
    walk: Walk,
    selection: Selection,
    /// Rows the next level's search starts from.
    from: Vec<u32>,
    /// What was found on the levels that the row is on, down to the current one. Where rows come
    /// in tight clusters larger than `ef_construction`, only what was found above leads out.
    found: Vec<Candidate>,
    chosen: Vec<Link>,
}

impl<'a, D: BuildDistances> Inserter<'a, D> {
    pub(super) fn new(growing: &'a Growing, distances: &'a D, control: &'a Control) -> Self {
        Self {
            growing,
            control,
            row: distances.node(),
            candidate: distances.node(),
            walk: Walk::default(),
            selection: Selection::default(),
            from: Vec::new(),
            found: Vec::new(),
            chosen: Vec::new(),
        }
    }

    /// Inserts `row` (HNSW paper, algorithm 1). Leaves it half done when the build is stopped.
    pub(super) fn insert(&mut self, row: u32) {
        let entry = self.growing.entry;
        if row == entry {
            return;
        }
        self.row.aim(row);
        let top = self.growing.level(entry);
        let level = self.growing.level(row).min(top);
        self.from.clear();
        self.from.push(entry);
        for above in (level + 1..=top).rev() {
            self.search(row, above, ABOVE);
            // A walk that was stopped leaves candidates marked as pending.
            if self.control.is_stopped() {
                return;
            }
            self.from.clear();
            self.from.extend(self.walk.pool.entries().iter().map(|found| found.row));
        }
        self.found.clear();
        for level in (0..=level).rev() {
            self.search(row, level, self.growing.params.ef_construction);
            if self.control.is_stopped() {
                return;
            }
            self.merge();
            self.connect(row, level);
        }
    }

    /// Searches `level` for the best `ef`, from what was found on the level above.
    fn search(&mut self, row: u32, level: u32, ef: usize) {
        self.walk.pool.reset(ef);
        self.walk.visited.reset(self.growing.rows());
        // Another thread may have linked this very row already.
        self.walk.visited.insert(row);
        for start in &self.from {
            self.walk.seed(&mut self.row, *start, &mut |_| ());
        }
        let control = self.control;
        let layer = self.growing.layer(level);
        self.walk.run(&layer, &mut self.row, |_| (), || control.is_stopped());
    }

    /// Adds what the pool holds to what was found, sorted, each row once.
    fn merge(&mut self) {
        self.found.extend_from_slice(self.walk.pool.entries());
        self.found.sort_unstable_by(Candidate::order);
        self.found.dedup_by_key(|candidate| candidate.row);
        self.from.clear();
        self.from.extend(self.found.iter().map(|found| found.row));
    }

    /// Links `row` with the best of what was found on `level`, both ways.
    fn connect(&mut self, row: u32, level: u32) {
        let params = &self.growing.params;
        let layer = self.growing.layer(level);
        self.selection.select(&mut self.candidate, &self.found, params.m);
        self.chosen.clear();
        self.chosen.extend_from_slice(&self.selection.links);

        let list = layer.list(row);
        {
            let _guard = layer.links.lock(list);
            layer.links.read(list, &mut self.selection.links);
            if self.selection.links.is_empty() {
                layer.links.write(list, &self.chosen);
            } else {
                // Rows inserted meanwhile found this one and linked to it.
                for link in &self.chosen {
                    self.candidate.aim(link.row);
                    self.selection.add(&mut self.candidate, *link, layer.links.width());
                }
                layer.links.write(list, &self.selection.links);
            }
        }
        layer.answer(row, &self.chosen, &mut self.row, &mut self.selection);
    }
}
