//! RaBitQ codes as the graph's distances: the place where the two crates meet.

use hnsw::{BuildDistances, NodeScorer, Scorer};
use rabitq::{Bits, NodeQuery, Quantizer, Query};

/// The graph is never built on fewer bits: below, recall suffers (`docs/benchmarks.md`).
pub const BUILD_BITS: Bits = Bits::Four;

/// The codes and factors of a segment's rows, `row × code byte` and `row × 3`.
#[derive(Clone, Copy)]
pub struct Codes<'a> {
    /// All rows' codes.
    pub codes: &'a [u8],
    /// All rows' factors.
    pub factors: &'a [f32],
}

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
        self.query.estimates(self.rows.codes, self.rows.factors, rows, out);
    }

    #[inline]
    fn prefetch(&self, row: u32) {
        self.query.prefetch(self.rows.codes, self.rows.factors, row);
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
        CodeScorer {
            node: self.quantizer.node_query(),
            code_bytes: self.quantizer.code_bytes(),
            rows: self.rows,
        }
    }
}

/// One row's estimates, turned to row after row.
pub struct CodeScorer<'a> {
    node: NodeQuery,
    code_bytes: usize,
    rows: Codes<'a>,
}

impl Scorer for CodeScorer<'_> {
    #[inline]
    fn scores(&mut self, rows: &[u32], out: &mut [f32]) {
        self.node.estimates(self.rows.codes, self.rows.factors, rows, out);
    }

    #[inline]
    fn prefetch(&self, row: u32) {
        self.node.prefetch(self.rows.codes, self.rows.factors, row);
    }
}

impl NodeScorer for CodeScorer<'_> {
    fn aim(&mut self, row: u32) {
        let row = row as usize;
        let code = &self.rows.codes[row * self.code_bytes..][..self.code_bytes];
        self.node.aim(code, &self.rows.factors[row * rabitq::FACTORS..][..rabitq::FACTORS]);
    }
}
