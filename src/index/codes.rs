//! RaBitQ codes as the graph's distances: the place where the two crates meet.

use hnsw::{BuildDistances, NodeScorer, Scorer};
use rabitq::{Bits, Codes, NodeQuery, Quantizer, Query};

/// The graph is never built on fewer bits: below, recall suffers (`docs/benchmarks.md`).
pub const BUILD_BITS: Bits = Bits::Four;

/// A query's estimates, for searching.
pub struct QueryScorer<'a> {
    /// The prepared query.
    pub query: &'a Query,
    /// What it is compared with.
    pub rows: Codes<'a>,
}

impl Scorer for QueryScorer<'_> {
    #[inline]
    fn scores(&mut self, rows: &[u32], out: &mut [f32]) {
        self.query.estimates(&self.rows, rows, out);
    }

    #[inline]
    fn prefetch(&self, row: u32) {
        self.rows.prefetch(row);
    }
}

/// A query's coarse estimates, for the way down the graph's upper levels.
pub struct SketchScorer<'a> {
    /// The prepared query.
    pub query: &'a Query,
    /// The sketches of the upper nodes.
    pub nodes: Codes<'a>,
}

impl Scorer for SketchScorer<'_> {
    #[inline]
    fn scores(&mut self, nodes: &[u32], out: &mut [f32]) {
        self.query.coarse_estimates(&self.nodes, nodes, out);
    }

    #[inline]
    fn prefetch(&self, node: u32) {
        self.nodes.prefetch(node);
    }
}

/// The rows' estimates among each other, for building.
pub struct CodeDistances<'a> {
    /// Made the codes.
    pub quantizer: &'a Quantizer,
    /// What the graph is built over.
    pub rows: Codes<'a>,
}

impl BuildDistances for CodeDistances<'_> {
    type Node<'b>
        = CodeScorer<'b>
    where
        Self: 'b;

    fn node(&self) -> CodeScorer<'_> {
        CodeScorer { node: self.quantizer.node_query(), rows: self.rows }
    }
}

/// One row's estimates, turned to row after row.
pub struct CodeScorer<'a> {
    node: NodeQuery,
    rows: Codes<'a>,
}

impl Scorer for CodeScorer<'_> {
    #[inline]
    fn scores(&mut self, rows: &[u32], out: &mut [f32]) {
        self.node.estimates(&self.rows, rows, out);
    }

    #[inline]
    fn prefetch(&self, row: u32) {
        self.rows.prefetch(row);
    }
}

impl NodeScorer for CodeScorer<'_> {
    fn aim(&mut self, row: u32) {
        self.node.aim(self.rows.code(row), self.rows.factors(row));
    }
}
