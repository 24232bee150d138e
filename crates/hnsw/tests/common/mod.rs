//! Vectors drawn from a seed, exact and coded distances over them, and graphs built on either.

#![allow(dead_code, reason = "each test binary uses its own part")]

use distance::{Aligned, ExactQuery, Metric, l2_squared};
use hnsw::{
    BuildDistances, BuildParams, Control, Graph, NONE, NodeScorer, Scorer, Searcher, build,
    validate,
};
use rabitq::{
    Bits, FACTORS, NodeQuery, Quantizer, Query, Scratch, SplitMix64, sketch, sketch_bytes,
};

/// A number in `0.0..1.0`.
pub fn uniform(random: &mut SplitMix64) -> f32 {
    (random.next_u64() >> 40) as f32 / (1u64 << 24) as f32
}

/// `count` vectors uniform in the unit cube.
pub fn cube(count: usize, dimensions: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut random = SplitMix64::new(seed);
    (0..count).map(|_| (0..dimensions).map(|_| uniform(&mut random)).collect()).collect()
}

/// `count` vectors around `clusters` centres in the unit cube, each `spread` wide; centres
/// depend on `dimensions` alone.
pub fn clustered(
    count: usize,
    dimensions: usize,
    clusters: usize,
    spread: f32,
    seed: u64,
) -> Vec<Vec<f32>> {
    let centres = cube(clusters, dimensions, dimensions as u64);
    let mut random = SplitMix64::new(seed);
    (0..count)
        .map(|i| {
            let centre = &centres[i % clusters];
            centre.iter().map(|c| c + (uniform(&mut random) - 0.5) * spread).collect()
        })
        .collect()
}

/// Squared Euclidean distances, exactly.
pub struct Exact<'a>(pub &'a [Vec<f32>]);

/// Exact distances from a query or a row.
pub struct ExactScorer<'a> {
    pub rows: &'a [Vec<f32>],
    pub query: &'a [f32],
}

impl Scorer for ExactScorer<'_> {
    fn scores(&mut self, rows: &[u32], out: &mut [f32]) {
        for (row, out) in rows.iter().zip(out) {
            *out = l2_squared(self.query, &self.rows[*row as usize]);
        }
    }
}

impl NodeScorer for ExactScorer<'_> {
    fn aim(&mut self, row: u32) {
        self.query = &self.rows[row as usize];
    }
}

impl BuildDistances for Exact<'_> {
    type Node<'b>
        = ExactScorer<'b>
    where
        Self: 'b;

    fn node(&self) -> ExactScorer<'_> {
        ExactScorer { rows: self.0, query: &[] }
    }
}

/// Rows as RaBitQ codes.
pub struct Codes {
    pub quantizer: Quantizer,
    pub codes: Aligned<u8>,
    pub factors: Aligned<f32>,
}

impl Codes {
    pub fn new(rows: &[Vec<f32>], bits: Bits, metric: Metric) -> Self {
        let dimensions = rows[0].len();
        let mut centroid = vec![0.0; dimensions];
        for row in rows {
            let norm = match metric {
                Metric::Cosine => row.iter().map(|x| x * x).sum::<f32>().sqrt(),
                _ => 1.0,
            };
            for (sum, x) in centroid.iter_mut().zip(row) {
                *sum += x / norm / rows.len() as f32;
            }
        }
        let quantizer = Quantizer::new(dimensions, bits, metric, 3, centroid);
        let bytes = quantizer.code_bytes();
        let (mut codes, mut factors) =
            (Aligned::filled(0, rows.len() * bytes), Aligned::filled(0.0, rows.len() * FACTORS));
        let mut scratch = Scratch::default();
        for (i, row) in rows.iter().enumerate() {
            let code = &mut codes[i * bytes..][..bytes];
            quantizer.encode(row, code, &mut factors[i * FACTORS..][..FACTORS], &mut scratch);
        }
        Self { quantizer, codes, factors }
    }

    pub fn all(&self) -> rabitq::Codes<'_> {
        rabitq::Codes::arrays(&self.codes, self.quantizer.code_bytes(), &self.factors)
    }

    /// The sketches of `rows`, codes and factors.
    pub fn sketches(&self, rows: &[u32]) -> (Vec<u8>, Vec<f32>) {
        let bits = self.quantizer.bits();
        let bytes = sketch_bytes(bits, self.quantizer.code_bytes());
        let (mut codes, mut factors) =
            (vec![0; rows.len() * bytes], vec![0.0; rows.len() * FACTORS]);
        let targets = codes.chunks_exact_mut(bytes).zip(factors.chunks_exact_mut(FACTORS));
        for (row, (code, to)) in rows.iter().zip(targets) {
            sketch(bits, self.all().code(*row), self.all().factors(*row), code, to);
        }
        (codes, factors)
    }

    pub fn query(&self, query: &[f32]) -> CodeQuery<'_> {
        CodeQuery { query: self.quantizer.query(query), rows: self }
    }
}

/// Estimates from a query.
pub struct CodeQuery<'a> {
    query: Query,
    rows: &'a Codes,
}

impl Scorer for CodeQuery<'_> {
    fn scores(&mut self, rows: &[u32], out: &mut [f32]) {
        self.query.estimates(&self.rows.all(), rows, out);
    }

    fn prefetch(&self, row: u32) {
        self.rows.all().prefetch(row);
    }
}

/// Estimates from a row.
pub struct CodeNode<'a> {
    node: NodeQuery,
    rows: &'a Codes,
}

impl Scorer for CodeNode<'_> {
    fn scores(&mut self, rows: &[u32], out: &mut [f32]) {
        self.node.estimates(&self.rows.all(), rows, out);
    }

    fn prefetch(&self, row: u32) {
        self.rows.all().prefetch(row);
    }
}

impl NodeScorer for CodeNode<'_> {
    fn aim(&mut self, row: u32) {
        let (row, bytes) = (row as usize, self.rows.quantizer.code_bytes());
        let code = &self.rows.codes[row * bytes..][..bytes];
        self.node.aim(code, &self.rows.factors[row * FACTORS..][..FACTORS]);
    }
}

impl BuildDistances for Codes {
    type Node<'b>
        = CodeNode<'b>
    where
        Self: 'b;

    fn node(&self) -> CodeNode<'_> {
        CodeNode { node: self.quantizer.node_query(), rows: self }
    }
}

/// Parameters as users have them.
pub fn params(m: usize, ef_construction: usize) -> BuildParams {
    BuildParams { m, ef_construction, seed: 1 }
}

/// The graph over `rows` rows, built by `threads` threads.
pub fn built(
    rows: usize,
    params: &BuildParams,
    distances: &impl BuildDistances,
    threads: usize,
) -> Graph {
    let threads = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    build(rows, params, distances, &threads, &Control::new()).expect("nobody stops it")
}

/// Of the `k` nearest rows to each query, the part among the `ef` candidates of a search; a row
/// as near as the `k`th counts.
pub fn recall(
    graph: &Graph,
    rows: &[Vec<f32>],
    queries: &[Vec<f32>],
    metric: Metric,
    k: usize,
    ef: usize,
    codes: Option<&Codes>,
) -> f64 {
    let mut searcher = Searcher::new();
    let k = k.min(rows.len());
    let mut found = 0;
    for query in queries {
        let exact = ExactQuery::new(metric, query.clone());
        let mut distances: Vec<f64> = rows.iter().map(|row| exact.distance(row)).collect();
        match codes {
            Some(codes) => searcher.start(&graph.view(), &mut codes.query(query), ef),
            None => searcher.start(&graph.view(), &mut ExactScorer { rows, query }, ef),
        }
        let candidates = searcher.candidates();
        let mut reranked: Vec<f64> =
            candidates.iter().map(|candidate| distances[candidate.row as usize]).collect();
        distances.sort_by(f64::total_cmp);
        reranked.sort_by(f64::total_cmp);
        found += reranked.iter().take(k).filter(|distance| **distance <= distances[k - 1]).count();
    }
    found as f64 / (queries.len() * k) as f64
}

/// Rows that cannot be reached from the entry point on level 0.
fn unreachable(graph: &Graph) -> usize {
    let rows = graph.rows();
    if rows == 0 {
        return 0;
    }
    let entry = match graph.upper_nodes.get(graph.entry as usize) {
        Some(row) => *row,
        None => graph.entry,
    };
    let mut reached = vec![false; rows];
    reached[entry as usize] = true;
    let mut stack = vec![entry];
    while let Some(row) = stack.pop() {
        for neighbor in &graph.neighbors[row as usize * 2 * graph.m..][..2 * graph.m] {
            if *neighbor != NONE && !std::mem::replace(&mut reached[*neighbor as usize], true) {
                stack.push(*neighbor);
            }
        }
    }
    reached.iter().filter(|reached| !**reached).count()
}

/// No list names its owner or a row twice.
fn assert_lists_are_sets(graph: &Graph) {
    for (row, list) in graph.neighbors.chunks(2 * graph.m).enumerate() {
        let mut list: Vec<u32> = list.iter().copied().filter(|row| *row != NONE).collect();
        assert!(!list.contains(&(row as u32)), "row {row} is its own neighbour");
        list.sort_unstable();
        assert!(list.windows(2).all(|pair| pair[0] != pair[1]), "row {row} has a neighbour twice");
    }
}

/// What every graph is that the crate makes: valid, reachable in all rows, its lists sets.
pub fn assert_sound(graph: &Graph, rows: usize) {
    assert_eq!(graph.rows(), rows);
    assert_eq!(validate(&graph.view(), rows), Ok(()));
    assert_eq!(unreachable(graph), 0);
    assert_lists_are_sets(graph);
}
