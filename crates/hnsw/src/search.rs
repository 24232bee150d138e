//! Searching a finished graph.

use distance::prefetch;

use crate::{
    Candidate, GraphView, NONE, Scorer,
    walk::{Layer, Walk},
};

/// A search and the memory it needs, reused from query to query: nothing is allocated once it
/// is warm.
///
/// The searcher borrows neither graph nor scorer between calls; a search that is resumed must be
/// given the same ones again.
#[derive(Clone, Debug, Default)]
pub struct Searcher {
    walk: Walk,
    /// Rows that were scored and found no place among the candidates so far. Those not expanded
    /// yet are marked as in the pool.
    discarded: Vec<Candidate>,
    /// Where the walk on the next level starts: upper nodes, at last rows.
    from: Vec<u32>,
    /// Rows of upper nodes that are scored together.
    scored: Vec<u32>,
}

/// Candidates kept on upper levels by a search for `ef`. One, as in the HNSW paper, gets stuck where
/// rows come in clusters far apart: of 1,000 queries for 20,000 rows in 32 clusters, 54 found nothing at
/// `ef` 10 and 15 at 40, where four candidates leave 4 and 1, for 3 to 10 % more distances.
fn upper_beam(ef: usize) -> usize {
    (ef / 12).clamp(4, 8)
}

impl Searcher {
    /// A searcher that has allocated nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Searches `graph` with a beam of `ef` candidates; afterwards
    /// [`candidates`](Self::candidates) are the best rows found, at most `ef`.
    ///
    /// # Panics
    /// When the graph's arrays contradict each other; see [`validate`](crate::validate).
    pub fn start(&mut self, graph: &GraphView<'_>, scorer: &mut impl Scorer, ef: usize) {
        let mut scored = std::mem::take(&mut self.scored);
        let mut nodes =
            Nodes { scorer: &mut *scorer, rows: graph.upper_nodes, scored: &mut scored };
        self.descend(graph, &mut nodes, ef);
        self.scored = scored;
        self.spread(graph, scorer, ef);
    }

    /// [`start`](Self::start) with another scorer for the upper levels, `upper`, which is given upper
    /// nodes, not rows. It may be coarser: it only leads the way to where the search begins.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_by(
        &mut self,
        graph: &GraphView<'_>,
        upper: &mut impl Scorer,
        scorer: &mut impl Scorer,
        ef: usize,
    ) {
        self.descend(graph, upper, ef);
        self.spread(graph, scorer, ef);
    }

    /// Walks from the entry point through the upper levels; leaves the rows to go on from.
    // Inlined into what calls it, the walk is slower.
    #[inline(never)]
    fn descend(&mut self, graph: &GraphView<'_>, nodes: &mut impl Scorer, ef: usize) {
        let upper = graph.upper_nodes.len();
        self.from.clear();
        self.from.push(graph.entry);
        if upper == 0 {
            return;
        }
        let entry = graph.entry as usize;
        let top = graph.upper_offsets[entry + 1] - graph.upper_offsets[entry];
        for level in (1..=top).rev() {
            self.walk.pool.reset(upper_beam(ef));
            self.walk.visited.reset(upper);
            for node in &self.from {
                self.walk.seed(nodes, *node, &mut |_| ());
            }
            self.walk.run(&Upper { graph, level }, nodes, |_| (), || false);
            self.from.clear();
            self.from.extend(self.walk.pool.entries().iter().map(|found| found.row));
        }
        for node in &mut self.from {
            *node = graph.upper_nodes[*node as usize];
        }
    }

    /// Walks over level 0 from where the descent has led.
    #[inline(never)]
    fn spread(&mut self, graph: &GraphView<'_>, scorer: &mut impl Scorer, ef: usize) {
        let rows = graph.rows();
        self.discarded.clear();
        self.walk.pool.reset(ef);
        if rows == 0 {
            return;
        }
        self.walk.visited.reset(rows);
        let discarded = &mut self.discarded;
        let mut dropped = |candidate| discarded.push(candidate);
        self.from.iter().for_each(|start| scorer.prefetch(*start));
        for start in &self.from {
            self.walk.seed(scorer, *start, &mut dropped);
        }
        self.walk.run(&Base(graph), scorer, &mut dropped, || false);
        // All rows can be reached from the entry point, but not necessarily from where the
        // descent led; a search resumed to the end must return them all.
        self.walk.seed(scorer, entry_row(graph), &mut dropped);
        self.walk.run(&Base(graph), scorer, &mut dropped, || false);
    }

    /// Goes on where the search stopped and appends the next best rows to the candidates, at
    /// most `more`, each row at most once in all. They are sorted among themselves, and may be
    /// nearer than earlier ones that the beam missed.
    ///
    /// # Panics
    /// When `graph` is not the one the search was started on.
    pub fn resume(&mut self, graph: &GraphView<'_>, scorer: &mut impl Scorer, more: usize) {
        self.walk.pool.open(more.min(graph.rows()));
        let best = more.min(self.discarded.len());
        if best > 0 {
            self.discarded.select_nth_unstable_by(best - 1, |a, b| a.score.total_cmp(&b.score));
        }
        for candidate in self.discarded.drain(..best) {
            // The window is empty and as large as all these.
            self.walk.pool.insert(candidate);
        }
        let discarded = &mut self.discarded;
        self.walk.run(&Base(graph), scorer, |candidate| discarded.push(candidate), || false);
    }

    /// What the search has found so far: first the candidates of [`start`](Self::start), sorted
    /// ascending, then those of each [`resume`](Self::resume).
    pub fn candidates(&self) -> &[Candidate] {
        self.walk.pool.entries()
    }

    /// Whether every row that can be reached is among the candidates: resuming finds no more.
    pub fn exhausted(&self) -> bool {
        self.discarded.is_empty()
    }
}

/// Level 0 of a finished graph.
pub(crate) struct Base<'a>(pub(crate) &'a GraphView<'a>);

impl Layer for Base<'_> {
    #[inline(always)]
    fn for_each(&self, row: u32, visit: impl FnMut(u32)) {
        self.0.neighbors.for_each(row, visit);
    }

    #[inline(always)]
    fn prefetch(&self, row: u32) {
        self.0.neighbors.prefetch(row);
    }

    #[inline(always)]
    fn is_far(&self) -> bool {
        true
    }
}

/// The row that the graph's entry point stands for.
pub(crate) fn entry_row(graph: &GraphView<'_>) -> u32 {
    match graph.upper_nodes.get(graph.entry as usize) {
        Some(row) => *row,
        None => graph.entry,
    }
}

/// An upper level of a finished graph, by upper nodes.
struct Upper<'a> {
    graph: &'a GraphView<'a>,
    level: u32,
}

impl Upper<'_> {
    fn list(&self, node: u32) -> &[u32] {
        let list = (self.graph.upper_offsets[node as usize] + self.level - 1) as usize;
        &self.graph.upper_neighbors[list * self.graph.m..][..self.graph.m]
    }
}

impl Layer for Upper<'_> {
    #[inline(always)]
    fn for_each(&self, node: u32, mut visit: impl FnMut(u32)) {
        for neighbor in self.list(node) {
            if *neighbor == NONE {
                break;
            }
            visit(*neighbor);
        }
    }

    fn prefetch(&self, node: u32) {
        prefetch::read(self.list(node));
    }

    #[inline(always)]
    fn is_far(&self) -> bool {
        false
    }
}

/// Scores upper nodes as the rows that they stand for.
struct Nodes<'a, S> {
    scorer: &'a mut S,
    rows: &'a [u32],
    scored: &'a mut Vec<u32>,
}

impl<S: Scorer> Scorer for Nodes<'_, S> {
    fn scores(&mut self, nodes: &[u32], out: &mut [f32]) {
        self.scored.clear();
        self.scored.extend(nodes.iter().map(|node| self.rows[*node as usize]));
        self.scorer.scores(self.scored, out);
    }

    fn prefetch(&self, node: u32) {
        self.scorer.prefetch(self.rows[node as usize]);
    }
}
