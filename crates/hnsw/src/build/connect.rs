//! Making sure that every row can be reached.

use super::{Control, grow::Growing};
use crate::{
    BuildDistances, Graph, NONE, NodeScorer,
    search::{Base, entry_row},
    walk::{Layer, Walk},
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
    spread(&Base(&graph.view()), &mut reached, &mut stack, entry);
    let mut spliced = vec![false; rows];
    let mut walk = Walk::default();
    let mut scorer = None;
    for row in 0..rows as u32 {
        if reached[row as usize] {
            continue;
        }
        let scorer = scorer.get_or_insert_with(|| distances.node());
        scorer.aim(row);
        walk.pool.reset(AROUND);
        walk.visited.reset(rows);
        walk.seed(scorer, entry, &mut |_| ());
        walk.run(&Base(&graph.view()), scorer, |_| (), || control.is_stopped());
        // A walk that was stopped leaves candidates marked as pending.
        if control.is_stopped() {
            return false;
        }
        link(graph, &mut spliced, walk.pool.entries().iter().map(|near| near.row), row);
        spread(&Base(&graph.view()), &mut reached, &mut stack, row);
    }
    true
}

/// Adds to the rows `again`, which are to be inserted again, those rows of `growing` that stay but
/// that no way leads to: on the highest level none from the entry, on the others none from the
/// rows of the level above.
pub(super) fn stranded(growing: &Growing, stays: &[bool], mut again: Vec<bool>) -> Vec<bool> {
    let top = growing.level(growing.entry);
    let mut reached = vec![false; growing.rows()];
    let mut stack = Vec::new();
    for level in (0..=top).rev() {
        reached.fill(false);
        let layer = growing.layer(level);
        let mut reach = |row| spread(&layer, &mut reached, &mut stack, row);
        reach(growing.entry);
        let stays = |row: &u32| stays[*row as usize];
        let upper = growing.levels.nodes.iter().copied().filter(stays);
        upper.clone().filter(|row| growing.level(*row) > level).for_each(&mut reach);
        let mut check = |row: u32| again[row as usize] |= !reached[row as usize];
        match level {
            0 => (0..growing.rows() as u32).filter(stays).for_each(&mut check),
            _ => upper.filter(|row| growing.level(*row) >= level).for_each(&mut check),
        }
    }
    again
}

/// Marks all rows of `layer` that can be reached from `from`.
fn spread(layer: &impl Layer, reached: &mut [bool], stack: &mut Vec<u32>, from: u32) {
    if !std::mem::replace(&mut reached[from as usize], true) {
        stack.push(from);
    }
    while let Some(row) = stack.pop() {
        layer.for_each(row, |neighbor| {
            if !std::mem::replace(&mut reached[neighbor as usize], true) {
                stack.push(neighbor);
            }
        });
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
