//! What every built graph is: valid, reachable in all rows, the same again from one thread; and
//! a build can be watched and stopped.

mod common;

use std::time::Duration;

use common::{Codes, Exact, assert_sound, built, clustered, cube, params};
use distance::Metric;
use hnsw::{BuildError, BuildParams, Control, Graph, NONE, build, order};
use proptest::prelude::*;
use rabitq::Bits;

#[test]
fn no_rows_and_few_rows_make_a_graph() {
    for count in [0, 1, 2, 16, 17, 32, 33, 100] {
        let rows = cube(count, 4, 1);
        for threads in [1, 4] {
            assert_sound(&built(count, &params(16, 64), &Exact(&rows), threads), count);
        }
    }
}

#[test]
fn every_row_can_be_reached() {
    let scattered = cube(3000, 8, 1);
    let tied = clustered(3000, 8, 5, 0.0, 1);
    let lumps = clustered(3000, 8, 60, 1e-5, 1);
    let line = cube(3000, 1, 1);
    for rows in [&scattered, &tied, &lumps, &line] {
        // The narrow graph loses links all the time.
        for (m, ef) in [(2, 4), (4, 10), (16, 64)] {
            for threads in [1, 4] {
                assert_sound(&built(rows.len(), &params(m, ef), &Exact(rows), threads), rows.len());
            }
        }
        let codes = Codes::new(rows, Bits::One, Metric::L2);
        assert_sound(&built(rows.len(), &params(4, 16), &codes, 2), rows.len());
    }
}

#[test]
fn one_thread_builds_the_same_graph_again() {
    let rows = cube(2000, 6, 1);
    let graph = built(rows.len(), &params(8, 40), &Exact(&rows), 1);
    assert_eq!(graph, built(rows.len(), &params(8, 40), &Exact(&rows), 1));
    let other = BuildParams { seed: 2, ..params(8, 40) };
    assert_ne!(graph, built(rows.len(), &other, &Exact(&rows), 1));
}

#[test]
fn a_build_can_be_watched_and_stopped() {
    let rows = cube(200_000, 8, 1);
    let threads = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");
    let control = Control::new();
    std::thread::scope(|scope| {
        let build =
            scope.spawn(|| build(rows.len(), &params(16, 200), &Exact(&rows), &threads, &control));
        while control.done() == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        control.stop();
        assert_eq!(build.join().expect("no panic"), Err(BuildError::Cancelled));
    });
    assert!(control.done() < rows.len());
}

#[test]
fn progress_ends_at_all_rows() {
    let rows = cube(500, 4, 1);
    let threads = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");
    let control = Control::new();
    build(rows.len(), &params(4, 16), &Exact(&rows), &threads, &control).expect("nobody stops it");
    assert_eq!(control.done(), 500);
}

#[test]
fn impossible_parameters_are_refused() {
    let rows = cube(10, 2, 1);
    let threads = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("threads");
    for params in [params(1, 64), params(0, 64), params(16, 0)] {
        let result = build(rows.len(), &params, &Exact(&rows), &threads, &Control::new());
        assert_eq!(result, Err(BuildError::Parameters { params }));
    }
    let result = build(1 << 31, &params(16, 64), &Exact(&rows), &threads, &Control::new());
    assert_eq!(result, Err(BuildError::TooManyRows { rows: 1 << 31 }));
}

#[test]
fn choosing_an_order_can_be_stopped() {
    let rows = clustered(100, 8, 10, 0.1, 1);
    let graph = built(rows.len(), &params(8, 40), &Exact(&rows), 1);
    let control = Control::new();
    control.stop();
    assert_eq!(order(&graph.view(), 256, &control), Err(BuildError::Cancelled));
}

#[test]
fn an_order_is_a_permutation_that_keeps_neighbours_together() {
    let rows = clustered(4000, 8, 200, 0.1, 1);
    let graph = built(rows.len(), &params(8, 40), &Exact(&rows), 2);
    let order = order(&graph.view(), 256, &Control::new()).expect("not stopped");
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert!(sorted.iter().enumerate().all(|(i, row)| i as u32 == *row));

    let reordered = graph.reorder(&order);
    assert_sound(&reordered, rows.len());
    for (new, old) in order.iter().enumerate() {
        let list = |graph: &Graph, row: usize| graph.neighbors[row * 16..][..16].to_vec();
        let renamed: Vec<u32> = list(&reordered, new)
            .iter()
            .map(|row| if *row == NONE { NONE } else { order[*row as usize] })
            .collect();
        assert_eq!(renamed, list(&graph, *old as usize));
    }
    // Of all links, the part that stays within 256 rows.
    let local = |graph: &Graph| {
        let links = graph.neighbors.iter().enumerate().filter(|(_, row)| **row != NONE);
        let near = links.clone().filter(|(i, row)| (i / 16).abs_diff(**row as usize) < 256).count();
        near as f64 / links.count() as f64
    };
    println!("{} {}", local(&graph), local(&reordered));
    assert!(local(&reordered) > 0.7 && local(&graph) < 0.3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_rows_make_a_sound_graph(
        points in prop::collection::vec((0u8..12, 0u8..12), 0..300),
        m in 2usize..9,
        ef in 1usize..40,
        seed: u64,
        threads in 1usize..4,
    ) {
        // A coarse grid: many ties, many equal rows.
        let rows: Vec<Vec<f32>> =
            points.iter().map(|(x, y)| vec![f32::from(*x), f32::from(*y)]).collect();
        let params = BuildParams { m, ef_construction: ef, seed };
        let graph = built(rows.len(), &params, &Exact(&rows), threads);
        assert_sound(&graph, rows.len());
        let order = order(&graph.view(), 16, &Control::new()).expect("not stopped");
        assert_sound(&graph.reorder(&order), rows.len());
    }
}
