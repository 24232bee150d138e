//! Searches: resumed to the end they return every row once, and they can be reused at will.

mod common;

use std::collections::HashSet;

use common::{Exact, ExactScorer, built, clustered, cube, params};
use hnsw::{Graph, Scorer, Searcher};
use proptest::prelude::*;

fn is_sorted(scores: &[hnsw::Candidate]) -> bool {
    scores.is_sorted_by(|a, b| a.score <= b.score)
}

#[test]
fn candidates_are_sorted_and_at_most_ef() {
    let rows = cube(2000, 8, 1);
    let graph = built(rows.len(), &params(8, 40), &Exact(&rows), 2);
    let mut searcher = Searcher::new();
    for ef in [0, 1, 7, 50, 5000] {
        let mut scorer = ExactScorer { rows: &rows, query: &[0.5; 8] };
        searcher.start(&graph.view(), &mut scorer, ef);
        assert_eq!(searcher.candidates().len(), ef.min(rows.len()));
        assert!(is_sorted(searcher.candidates()));
        assert_eq!(searcher.exhausted(), ef > rows.len());
    }
}

#[test]
fn an_empty_graph_has_no_candidates() {
    let graph = built(0, &params(8, 40), &Exact(&[]), 1);
    let mut searcher = Searcher::new();
    let mut scorer = ExactScorer { rows: &[], query: &[] };
    searcher.start(&graph.view(), &mut scorer, 10);
    searcher.resume(&graph.view(), &mut scorer, 10);
    assert!(searcher.candidates().is_empty() && searcher.exhausted());
}

#[test]
fn a_resumed_search_returns_every_row_once() {
    for rows in [cube(3000, 8, 1), clustered(3000, 8, 10, 1e-5, 1), cube(3000, 1, 1)] {
        let graph = built(rows.len(), &params(4, 20), &Exact(&rows), 2);
        let mut scorer = ExactScorer { rows: &rows, query: &rows[77] };
        let mut searcher = Searcher::new();
        searcher.start(&graph.view(), &mut scorer, 10);
        let mut more = 10;
        while !searcher.exhausted() {
            let before = searcher.candidates().len();
            searcher.resume(&graph.view(), &mut scorer, more);
            let new = &searcher.candidates()[before..];
            assert!(new.len() <= more && !new.is_empty() && is_sorted(new));
            more *= 2;
        }
        let distinct: HashSet<u32> = searcher.candidates().iter().map(|found| found.row).collect();
        assert_eq!(searcher.candidates().len(), rows.len());
        assert_eq!(distinct.len(), rows.len());
    }
}

#[test]
fn resuming_finds_the_next_best_rows() {
    let rows = cube(5000, 6, 1);
    let graph = built(rows.len(), &params(16, 64), &Exact(&rows), 2);
    let query = [0.4; 6];
    let mut scorer = ExactScorer { rows: &rows, query: &query };
    let mut searcher = Searcher::new();
    searcher.start(&graph.view(), &mut scorer, 50);
    for _ in 0..5 {
        searcher.resume(&graph.view(), &mut scorer, 50);
    }
    assert_eq!(searcher.candidates().len(), 300);
    let mut nearest: Vec<u32> = (0..rows.len() as u32).collect();
    let mut scores = vec![0.0; rows.len()];
    scorer.scores(&nearest.clone(), &mut scores);
    nearest.sort_by(|a, b| scores[*a as usize].total_cmp(&scores[*b as usize]));
    let found: HashSet<u32> = searcher.candidates().iter().map(|found| found.row).collect();
    let recall = nearest[..200].iter().filter(|row| found.contains(row)).count();
    assert!(recall >= 196, "{recall} of 200");
}

#[test]
fn a_searcher_moves_between_graphs() {
    let (large, small) = (cube(3000, 4, 1), cube(20, 4, 2));
    let graph = |rows: &[Vec<f32>]| built(rows.len(), &params(8, 40), &Exact(rows), 1);
    let (large_graph, small_graph) = (graph(&large), graph(&small));
    let mut searcher = Searcher::new();
    let mut search = |graph: &Graph, rows: &[Vec<f32>]| {
        searcher.start(&graph.view(), &mut ExactScorer { rows, query: &[0.5; 4] }, 30);
        searcher.candidates().to_vec()
    };
    let first = (search(&large_graph, &large), search(&small_graph, &small));
    for _ in 0..3 {
        assert_eq!((search(&large_graph, &large), search(&small_graph, &small)), first);
    }
}

/// Scores that are as bad as scores can be.
struct Wild(Vec<f32>);

impl Scorer for Wild {
    fn scores(&mut self, rows: &[u32], out: &mut [f32]) {
        for (row, out) in rows.iter().zip(out) {
            *out = self.0[*row as usize % self.0.len()];
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn infinities_and_nan_are_survived(
        wild in prop::collection::vec(any::<f32>(), 1..50),
        ef in 0usize..60,
        more in 1usize..60,
    ) {
        let rows = cube(200, 3, 1);
        let graph = built(rows.len(), &params(4, 16), &Exact(&rows), 1);
        let mut scorer = Wild(wild);
        let mut searcher = Searcher::new();
        searcher.start(&graph.view(), &mut scorer, ef);
        while !searcher.exhausted() {
            searcher.resume(&graph.view(), &mut scorer, more);
        }
        let distinct: HashSet<u32> = searcher.candidates().iter().map(|found| found.row).collect();
        prop_assert_eq!(distinct.len(), 200);
        prop_assert_eq!(searcher.candidates().len(), 200);
    }
}
