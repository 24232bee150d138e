//! What a built graph promises is found to be there, and found missing where it is taken away.

mod common;

use common::{Exact, built, cube, params};
use hnsw::{Crooked, Graph, NONE, Reached, crooked};

fn graph(rows: usize, m: usize) -> Graph {
    built(rows, &params(m, 32), &Exact(&cube(rows, 8, 7)), 2)
}

fn crooked_lists(graph: &Graph) -> Vec<Crooked> {
    let mut found = Vec::new();
    crooked(&graph.view(), &|| false, |list| found.push(list));
    found
}

fn missing(graph: &Graph) -> Vec<u32> {
    Reached::of(&graph.view(), &|| false).expect("nobody stops it").missing().collect()
}

/// Takes every link to `row` away, as far as level 0 is concerned.
fn cut_off(graph: &mut Graph, row: u32) {
    for list in graph.neighbors.chunks_mut(2 * graph.m) {
        let mut left: Vec<u32> = list.iter().copied().filter(|other| *other != row).collect();
        left.resize(list.len(), NONE);
        list.copy_from_slice(&left);
    }
}

#[test]
fn built_graphs_keep_their_promises() {
    for (rows, m) in [(0, 4), (1, 4), (2, 2), (63, 2), (64, 2), (65, 2), (700, 3), (5000, 16)] {
        let graph = graph(rows, m);
        assert_eq!(crooked_lists(&graph), [], "{rows} rows, m = {m}");
        assert_eq!(missing(&graph), [0; 0], "{rows} rows, m = {m}");
    }
}

#[test]
fn rows_that_no_way_leads_to_are_named() {
    let mut graph = graph(700, 4);
    let entry = graph.upper_nodes[graph.entry as usize];
    for row in [0, 127, 128, 699] {
        assert_ne!(row, entry);
        cut_off(&mut graph, row);
    }
    assert_eq!(missing(&graph), [0, 127, 128, 699]);
    // The entry point needs no link.
    cut_off(&mut graph, entry);
    assert_eq!(missing(&graph), [0, 127, 128, 699]);
}

#[test]
fn lists_with_their_own_node_or_a_neighbour_twice_are_named() {
    let mut graph = graph(700, 4);
    graph.neighbors[5 * 8] = 5;
    graph.neighbors[9 * 8 + 1] = graph.neighbors[9 * 8];
    let twice = graph.neighbors[9 * 8];
    graph.upper_neighbors[0] = 0;
    let expected = [
        Crooked { level: 0, node: 5, neighbor: 5 },
        Crooked { level: 0, node: 9, neighbor: twice },
        Crooked { level: 1, node: 0, neighbor: 0 },
    ];
    assert_eq!(crooked_lists(&graph), expected);
}

#[test]
fn it_ends_when_told() {
    let graph = graph(700, 4);
    assert!(Reached::of(&graph.view(), &|| true).is_none());
    crooked(&graph.view(), &|| true, |list| panic!("{list:?} after the end"));
}
