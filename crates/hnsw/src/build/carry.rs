//! Taking a row's links over from another graph, and mending them where neighbours are gone.

use super::{grow::Growing, links::Link, select::Selection};
use crate::{BuildDistances, Candidate, GraphView, NONE, NodeScorer, Scorer, visited::Visited};

/// Neighbours that are gone are looked behind for others up to this many.
///
/// Where rows vanish here and there, those next to them have enough neighbours that stay. Where a
/// whole cluster vanishes, only a way through all of it shows which clusters it led to: with 256
/// instead of one more step, recall in 60 tight clusters, half of them gone, was up to 0.4
/// percentage points higher. Nothing is scored on that way.
const FARTHEST: usize = 256;

/// A thread that takes links over: its scorers and buffers.
///
/// The *nodes* of the old graph's level 0 are its rows, those of the levels above its upper nodes.
pub(super) struct Carrier<'a, D: BuildDistances + 'a> {
    old: GraphView<'a>,
    /// The row that each row of `old` becomes, or [`NONE`].
    place: &'a [u32],
    growing: &'a Growing,
    /// Aimed at the row that gets links.
    row: D::Node<'a>,
    /// Aimed at one candidate after another.
    candidate: D::Node<'a>,
    /// Nodes met so far.
    met: Visited,
    /// Of the nodes met, those whose rows are gone.
    gone: Vec<u32>,
    /// Of the nodes met, the rows that stay, and their scores.
    rows: Vec<u32>,
    scores: Vec<f32>,
    candidates: Vec<Candidate>,
    links: Vec<Link>,
    selection: Selection,
}

impl<'a, D: BuildDistances> Carrier<'a, D> {
    pub(super) fn new(
        old: GraphView<'a>,
        place: &'a [u32],
        growing: &'a Growing,
        distances: &'a D,
    ) -> Self {
        Self {
            old,
            place,
            growing,
            row: distances.node(),
            candidate: distances.node(),
            met: Visited::default(),
            gone: Vec::new(),
            rows: Vec::new(),
            scores: Vec::new(),
            candidates: Vec::new(),
            links: Vec::new(),
            selection: Selection::default(),
        }
    }

    /// Gives `row` the links that `node` has on `level`; whether it is well connected with them.
    ///
    /// On level 0 neighbours that are gone are replaced from behind them, so that the list is as
    /// long as before: each offers its `m` nearest, and the selection has the nearest of all these
    /// beside what stays, two for each that is gone. A row is poorly connected when this cannot
    /// help much:
    /// - More than two thirds of its neighbours are gone. What is behind them then lies beyond a
    ///   hole, and only a search finds what is near on all sides. After the half of a base around
    ///   one point was gone, recall was 0.7 (beam 80) to 1.7 (beam 20) percentage points below a
    ///   fresh build's without this rule, 0.3 to 0.7 with it (6,000 rows, 5,000 wide clusters).
    /// - It has fewer links than an insertion chooses, and fewer than before.
    /// - A neighbour on an upper level is gone. Few rows are there and all ways lead through them,
    ///   so they are not mended: in 60 tight clusters, a tenth of 6,000 rows replaced five times,
    ///   mending cost 0.4 to 1.5 points more than inserting such rows again.
    pub(super) fn carry(&mut self, node: u32, level: u32, row: u32) -> bool {
        self.met.reset(self.old.rows());
        self.met.insert(node);
        self.gone.clear();
        self.rows.clear();
        self.meet(level, node, usize::MAX);
        let kept = self.rows.len();
        let had = kept + self.gone.len();
        let sound = if level == 0 { 3 * kept >= had } else { kept == had };
        if sound && kept < had {
            self.look_behind();
        }
        self.score(row, kept, 2 * (had - kept));
        self.selection.select(&mut self.candidate, &self.candidates, had.max(self.old.m));

        let layer = self.growing.layer(level);
        let list = layer.list(row);
        let _guard = layer.links.lock(list);
        layer.links.write(list, &self.selection.links);
        sound && self.selection.links.len() >= had.min(self.old.m)
    }

    /// Adds `row` to the level-0 lists of its neighbours, as an insertion would: they may have
    /// lost some of theirs.
    pub(super) fn answer(&mut self, row: u32) {
        let layer = self.growing.layer(0);
        let list = layer.list(row);
        {
            let _guard = layer.links.lock(list);
            layer.links.read(list, &mut self.links);
        }
        self.row.aim(row);
        layer.answer(row, &self.links, &mut self.row, &mut self.selection);
    }

    /// Goes through the list of `node` on `level` and sorts new nodes into those that stay, at
    /// most `limit`, and those that are gone.
    fn meet(&mut self, level: u32, node: u32, limit: usize) {
        let before = self.rows.len();
        for place in 0..self.width(level) {
            let next = self.neighbor(level, node, place);
            if next == NONE || self.rows.len() - before == limit {
                break;
            }
            if !self.met.insert(next) {
                continue;
            }
            match self.row_of(level, next) {
                NONE => self.gone.push(next),
                row => {
                    self.row.prefetch(row);
                    self.rows.push(row);
                }
            }
        }
    }

    /// Meets the neighbours of those that are gone, and while these are too few, the neighbours
    /// of those that are gone among them, and so on.
    fn look_behind(&mut self) {
        let (kept, wanted) = (self.rows.len(), self.gone.len());
        for gone in &self.gone {
            self.old.neighbors.prefetch(*gone);
        }
        let mut at = 0;
        while at < self.gone.len()
            && (at < wanted || at < FARTHEST && self.rows.len() - kept < wanted)
        {
            self.meet(0, self.gone[at], self.old.m);
            at += 1;
        }
    }

    /// Makes candidates of the rows met, nearest first: the first `kept` of them, and of the others
    /// the `enough` nearest.
    fn score(&mut self, row: u32, kept: usize, enough: usize) {
        self.row.aim(row);
        self.scores.resize(self.rows.len(), 0.0);
        let width = 2 * self.old.m;
        for (rows, scores) in self.rows.chunks(width).zip(self.scores.chunks_mut(width)) {
            self.row.scores(rows, scores);
        }
        self.candidates.clear();
        self.candidates.extend(self.rows.iter().zip(&self.scores).map(|(row, score)| Candidate {
            row: *row,
            score: if score.is_nan() { f32::INFINITY } else { *score },
        }));
        if self.candidates.len() - kept > enough {
            self.candidates[kept..].select_nth_unstable_by(enough, Candidate::order);
            self.candidates.truncate(kept + enough);
        }
        self.candidates.sort_unstable_by(Candidate::order);
        // A graph from elsewhere may have upper nodes that stand for the same row.
        self.candidates.dedup_by_key(|candidate| candidate.row);
        self.candidates.retain(|candidate| candidate.row != row);
    }

    /// Links a list on `level` has room for.
    fn width(&self, level: u32) -> usize {
        if level == 0 { 2 * self.old.m } else { self.old.m }
    }

    /// The node at `place` of the list of `node` on `level`, or [`NONE`].
    fn neighbor(&self, level: u32, node: u32, place: usize) -> u32 {
        if level == 0 {
            return self.old.neighbors.get(node, place);
        }
        let list = self.old.upper_offsets[node as usize] + level - 1;
        self.old.upper_neighbors[list as usize * self.old.m..][..self.old.m][place]
    }

    /// The row that `node` becomes, or [`NONE`] when it is gone from `level`.
    fn row_of(&self, level: u32, node: u32) -> u32 {
        if level == 0 {
            return self.place[node as usize];
        }
        match self.place[self.old.upper_nodes[node as usize] as usize] {
            // Of two upper nodes that stand for the same row, one may be lower.
            row if row != NONE && self.growing.level(row) >= level => row,
            _ => NONE,
        }
    }
}
