//! Making sure that every row can be reached.

use super::Control;
use crate::{
    BuildDistances, Graph, NONE, NodeScorer,
    search::{Base, entry_row},
    walk::Walk,
};

/// Reachable rows looked for around an unreachable one.
const AROUND: usize = 32;

/// Changes level 0 of `graph` so that a path leads from the entry point to every row; whether
/// it came to an end before the build was stopped.
///
/// Selection drops links, and a row may lose the last that led to it. Such a row `u` is linked
/// from a near row `r` that can be reached: in a free place, or in the place of the last
/// neighbour `w`, which then becomes a neighbour of `u`. So nothing that could be reached is lost:
/// the way to `w` now passes `u`, and no way passed `u` before.
pub(super) fn connect<D: BuildDistances>(
    graph: &mut Graph,
    distances: &D,
    control: &Control,
) -> bool {
    let rows = graph.rows();
    if rows == 0 {
        return true;
    }
    let mut reached = vec![false; rows];
    let entry = entry_row(&graph.view());
    let mut stack = Vec::new();
    spread(graph, &mut reached, &mut stack, entry);
    let mut spliced = vec![false; rows];
    let mut walk = Walk::default();
    let mut scorer = None;
    for row in 0..rows as u32 {
        if reached[row as usize] {
            continue;
        }
        if control.is_stopped() {
            return false;
        }
        let scorer = scorer.get_or_insert_with(|| distances.node());
        scorer.aim(row);
        walk.pool.reset(AROUND);
        walk.visited.reset(rows);
        walk.seed(scorer, entry, &mut |_| ());
        walk.run(&Base(&graph.view()), scorer, |_| (), || control.is_stopped());
        link(graph, &mut spliced, walk.pool.entries().iter().map(|near| near.row), row);
        spread(graph, &mut reached, &mut stack, row);
    }
    true
}

/// Marks all rows that can be reached from `from`.
fn spread(graph: &Graph, reached: &mut [bool], stack: &mut Vec<u32>, from: u32) {
    reached[from as usize] = true;
    stack.push(from);
    while let Some(row) = stack.pop() {
        for neighbor in &graph.neighbors[row as usize * 2 * graph.m..][..2 * graph.m] {
            if *neighbor == NONE {
                break;
            }
            if !reached[*neighbor as usize] {
                reached[*neighbor as usize] = true;
                stack.push(*neighbor);
            }
        }
    }
}

/// Links `row` from one of the rows `near`, nearest first: from one with a free place, else from
/// one that has not given up a place before, else from the nearest.
fn link(
    graph: &mut Graph,
    spliced: &mut [bool],
    near: impl Iterator<Item = u32> + Clone,
    row: u32,
) {
    let width = 2 * graph.m;
    let list = |row: u32| row as usize * width..(row as usize + 1) * width;
    let last = |row: u32| (row as usize + 1) * width - 1;
    if let Some(from) = near.clone().find(|from| graph.neighbors[last(*from)] == NONE) {
        let list = &mut graph.neighbors[list(from)];
        if let Some(free) = list.iter_mut().find(|neighbor| **neighbor == NONE) {
            *free = row;
        }
        return;
    }
    let fresh = near.clone().find(|from| !spliced[*from as usize]);
    let Some(from) = fresh.or_else(|| near.clone().next()) else { return };
    spliced[from as usize] = true;
    let displaced = std::mem::replace(&mut graph.neighbors[last(from)], row);
    let own = &mut graph.neighbors[list(row)];
    let place = own.iter().position(|neighbor| *neighbor == NONE).unwrap_or(width - 1);
    if !own.contains(&displaced) {
        own[place] = displaced;
    }
}
