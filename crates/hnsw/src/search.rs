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
        let rows = graph.rows();
        self.discarded.clear();
        self.walk.pool.reset(ef);
        self.walk.visited.reset(rows);
        if rows == 0 {
            return;
        }
        let start = descend(graph, scorer);
        let discarded = &mut self.discarded;
        let mut dropped = |candidate| discarded.push(candidate);
        self.walk.seed(scorer, start, &mut dropped);
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

impl Base<'_> {
    #[inline(always)]
    fn list(&self, row: u32) -> &[u32] {
        let width = 2 * self.0.m;
        &self.0.neighbors[row as usize * width..][..width]
    }
}

impl Layer for Base<'_> {
    #[inline(always)]
    fn for_each(&self, row: u32, mut visit: impl FnMut(u32)) {
        for neighbor in self.list(row) {
            if *neighbor == NONE {
                break;
            }
            visit(*neighbor);
        }
    }

    #[inline(always)]
    fn prefetch(&self, row: u32) {
        prefetch::read(self.list(row));
    }
}

/// The row that the graph's entry point stands for.
pub(crate) fn entry_row(graph: &GraphView<'_>) -> u32 {
    match graph.upper_nodes.get(graph.entry as usize) {
        Some(row) => *row,
        None => graph.entry,
    }
}

/// Walks greedily from the entry point down to level 0 (HNSW paper, algorithm 5 with one
/// candidate); returns the row to start from there.
fn descend(graph: &GraphView<'_>, scorer: &mut impl Scorer) -> u32 {
    let upper = graph.upper_nodes.len();
    if upper == 0 {
        return graph.entry;
    }
    let mut node = graph.entry as usize;
    let mut rows = [0; LIST];
    let mut scores = [0.0; LIST];
    let mut best = score_one(scorer, graph.upper_nodes[node]);
    let top = graph.upper_offsets[node + 1] - graph.upper_offsets[node];
    for level in (1..=top).rev() {
        loop {
            let list = (graph.upper_offsets[node] + level - 1) as usize;
            let list = &graph.upper_neighbors[list * graph.m..][..graph.m];
            let before = node;
            for part in list.chunks(LIST) {
                let used = part.iter().take_while(|neighbor| **neighbor != NONE).count();
                for (row, neighbor) in rows.iter_mut().zip(&part[..used]) {
                    *row = graph.upper_nodes[*neighbor as usize];
                    scorer.prefetch(*row);
                }
                scorer.scores(&rows[..used], &mut scores[..used]);
                for (neighbor, score) in part.iter().zip(&scores[..used]) {
                    if *score < best {
                        (node, best) = (*neighbor as usize, *score);
                    }
                }
            }
            if node == before {
                break;
            }
        }
    }
    graph.upper_nodes[node]
}

/// Neighbours of an upper list scored at a time.
const LIST: usize = 32;

fn score_one(scorer: &mut impl Scorer, row: u32) -> f32 {
    let mut score = [0.0];
    scorer.scores(&[row], &mut score);
    if score[0].is_nan() { f32::INFINITY } else { score[0] }
}
