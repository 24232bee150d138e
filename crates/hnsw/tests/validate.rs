//! A graph that validation accepts can be walked; one it does not is named precisely.

mod common;

use common::{Exact, ExactScorer, built, cube, params};
use hnsw::{Control, Graph, GraphError, GraphView, NONE, Searcher, order, validate};
use proptest::prelude::*;

fn graph() -> Graph {
    let rows = cube(400, 3, 1);
    built(rows.len(), &params(4, 16), &Exact(&rows), 1)
}

fn error_of(change: impl FnOnce(&mut Graph)) -> GraphError {
    let mut graph = graph();
    change(&mut graph);
    validate(&graph.view(), 400).expect_err("the graph is broken")
}

#[test]
fn each_contradiction_is_found() {
    assert_eq!(validate(&graph().view(), 400), Ok(()));
    let element = |array, index, value| GraphError::Element { array, index, value };
    let upper = graph().upper_nodes.len();
    let lists = graph().upper_neighbors.len();

    assert_eq!(
        validate(&graph().view(), 401),
        Err(GraphError::Length { array: "neighbors", expected: 3208, actual: 3200 })
    );
    assert_eq!(error_of(|g| g.neighbors[17] = 400), element("neighbors", 17, 400));
    assert_eq!(
        error_of(|g| {
            g.neighbors[16] = NONE;
            g.neighbors[17] = 3;
        }),
        element("neighbors", 17, 3)
    );
    assert_eq!(error_of(|g| g.upper_nodes[2] = 400), element("upper_nodes", 2, 400));
    assert_eq!(error_of(|g| g.upper_offsets[0] = 1), element("upper_offsets", 0, 1));
    assert_eq!(error_of(|g| g.upper_offsets[3] = 0), element("upper_offsets", 3, 0));
    assert!(matches!(
        error_of(|g| {
            g.upper_offsets.pop();
        }),
        GraphError::Length { array: "upper_offsets", .. }
    ));
    assert!(matches!(
        error_of(|g| {
            g.upper_neighbors.pop();
        }),
        GraphError::Length { array: "upper_neighbors", .. }
    ));
    let last = lists - 4;
    assert_eq!(
        error_of(|g| g.upper_neighbors[last] = upper as u32),
        element("upper_neighbors", last, upper as u32)
    );
    assert_eq!(error_of(|g| g.entry = upper as u32), GraphError::Entry { entry: upper as u32 });
    assert_eq!(error_of(|g| g.m = 0), GraphError::Width { m: 0 });
}

#[test]
fn a_neighbour_must_be_on_the_level() {
    let graph = graph();
    let levels = |node: usize| graph.upper_offsets[node + 1] - graph.upper_offsets[node];
    let low = (0..graph.upper_nodes.len()).find(|node| levels(*node) == 1).expect("a low node");
    // The second list of the entry point is on level 2.
    let list = graph.upper_offsets[graph.entry as usize] as usize + 1;
    let error = error_of(|graph| graph.upper_neighbors[list * graph.m] = low as u32);
    assert!(matches!(error, GraphError::Element { array: "upper_neighbors", .. }), "{error}");
}

#[test]
fn the_entry_point_must_be_on_the_highest_level() {
    let graph = graph();
    let levels =
        |node: u32| graph.upper_offsets[node as usize + 1] - graph.upper_offsets[node as usize];
    let top = levels(graph.entry);
    let low = (0..graph.upper_nodes.len() as u32).find(|node| levels(*node) < top).expect("one");
    assert_eq!(error_of(|graph| graph.entry = low), GraphError::Entry { entry: low });
}

/// Walks everything there is to walk.
fn exercise(view: &GraphView<'_>) {
    let rows: Vec<Vec<f32>> = cube(view.rows().max(1), 2, 5);
    let mut scorer = ExactScorer { rows: &rows, query: &[0.5; 2] };
    let mut searcher = Searcher::new();
    searcher.start(view, &mut scorer, 5);
    for _ in 0..view.rows() {
        searcher.resume(view, &mut scorer, 7);
    }
    assert!(searcher.exhausted());
    assert_eq!(order(view, 8, &Control::new()).expect("not stopped").len(), view.rows());
}

/// A number that is often a valid index and sometimes not.
fn index() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0u32..12, 2 => Just(NONE), 1 => any::<u32>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arrays_of_anything_are_refused_or_walked(
        m in 0usize..4,
        rows in 0usize..12,
        neighbors in prop::collection::vec(index(), 0..80),
        upper_nodes in prop::collection::vec(index(), 0..4),
        upper_offsets in prop::collection::vec(0u32..6, 0..5),
        upper_neighbors in prop::collection::vec(index(), 0..16),
        entry in index(),
        fit: bool,
    ) {
        let mut graph =
            Graph { m, neighbors, upper_nodes, upper_offsets, upper_neighbors, entry };
        if fit {
            // Mostly right, so that walks happen.
            graph.neighbors.resize(rows * 2 * m, NONE);
            graph.upper_offsets = (0..=graph.upper_nodes.len() as u32).collect();
            graph.upper_neighbors.resize(graph.upper_nodes.len() * m, NONE);
        }
        if validate(&graph.view(), rows).is_ok() {
            exercise(&graph.view());
        }
    }

    #[test]
    fn a_flipped_element_is_refused_or_walked(
        array in 0usize..5,
        at: prop::sample::Index,
        value in prop_oneof![any::<u32>(), 0u32..60],
    ) {
        let rows = cube(60, 2, 1);
        let mut graph = built(rows.len(), &params(2, 8), &Exact(&rows), 1);
        let elements = match array {
            0 => &mut graph.neighbors,
            1 => &mut graph.upper_nodes,
            2 => &mut graph.upper_offsets,
            3 => &mut graph.upper_neighbors,
            _ => {
                graph.entry = value;
                &mut Vec::new()
            }
        };
        if !elements.is_empty() {
            let at = at.index(elements.len());
            elements[at] = value;
        }
        if validate(&graph.view(), 60).is_ok() {
            exercise(&graph.view());
        }
    }
}
