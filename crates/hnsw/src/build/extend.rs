//! Growing a graph out of another one.

use std::{
    cmp::Reverse,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    BuildError, BuildParams, Control, build,
    carry::Carrier,
    connect::stranded,
    grow::{self, Growing, in_chunks},
    insert::Inserter,
    levels::{self, Levels},
};
use crate::{BuildDistances, Graph, GraphView, NONE};

/// Percentage of the base's rows that may be gone for the base to be of use.
///
/// Processor time of growing a graph to that of building it, by the percentage gone at random
/// from a base of 18,000 rows to which 2,000 are added, 64 dimensions, 4-bit codes, `m = 16`,
/// `ef_construction = 64`: 0.18 for 0, 0.39 for 10, 0.48 for 30, 0.61 for 50, 0.70 for 60, 0.95 for
/// 70, 1.10 for 80. Mending so much also begins to cost recall: on data without clusters, 1.6
/// percentage points at 70, none at 50.
const GONE: usize = 60;

/// Grows a graph: keeps what `base`, a graph that [`validate`](fn@crate::validate) accepts, knows
/// about the rows that stay, and inserts the others.
///
/// Row `i` of `base` becomes row `place[i]` of the new graph, or is gone when that is [`NONE`].
/// Numbers are arbitrary; rows that no place names are new. `distances` are over the rows of the
/// new graph, and need not be those that `base` was built with.
///
/// Rows that stay keep their level and their neighbours. Where neighbours are gone, what they led
/// to takes their place, and rows that this leaves poorly connected are inserted again. Then new
/// rows are inserted as [`build`] inserts them; their levels come from the seed and their number,
/// so merge after merge is best given another seed. Without a base worth keeping, the graph is
/// built anew. In any case every row can be reached from the entry point on level 0, one thread
/// makes the same graph every time, and `control` counts up to `rows`.
///
/// Takes what [`build`] takes and 3 bytes a row, beside `base` and `place`.
///
/// # Errors
/// When the build is stopped through `control`, the parameters are out of range, `base` has
/// another `m`, or `place` has another length than `base` has rows, or names a row twice or one
/// that the new graph does not have.
///
/// # Panics
/// When the arrays of `base` contradict each other.
pub fn extend<D: BuildDistances>(
    base: &GraphView<'_>,
    place: &[u32],
    rows: usize,
    params: &BuildParams,
    distances: &D,
    threads: &rayon::ThreadPool,
    control: &Control,
) -> Result<Graph, BuildError> {
    grow::check(rows, params)?;
    if base.m != params.m {
        return Err(BuildError::BaseWidth { base: base.m, m: params.m });
    }
    let stays = staying(base, place, rows)?;
    let upper = upper_rows(base, place);
    let kept = stays.iter().filter(|stays| **stays).count();
    if !worth_keeping(base, kept, upper.len()) {
        return build(rows, params, distances, threads, control);
    }
    let mut growing = Growing::new(rows, params, all_levels(&stays, &upper, params));
    // The highest row that stays; new ones are not linked yet.
    let highest = upper.iter().max_by_key(|upper| (upper.level, Reverse(upper.row)));
    let first = || stays.iter().position(|stays| *stays).unwrap_or(0) as u32;
    growing.entry = highest.map_or_else(first, |upper| upper.row);

    let again = carry(&growing, base, place, &upper, distances, threads, control)?;
    let again = if kept < base.rows() { stranded(&growing, &stays, again) } else { again };
    growing.insert(|row| again[row as usize], distances, threads, control, |_| ())?;
    let top = growing.levels.entry_row();
    if growing.level(top) > growing.level(growing.entry) {
        // All others on its level must find it.
        Inserter::new(&growing, distances, control).insert(top);
        growing.entry = top;
    }
    let new = |row| !stays[row as usize];
    growing.insert(new, distances, threads, control, |rows| control.add_done(rows))?;
    growing.finish(distances, control)
}

/// Which rows of the new graph `place` names.
fn staying(base: &GraphView<'_>, place: &[u32], rows: usize) -> Result<Vec<bool>, BuildError> {
    if place.len() != base.rows() {
        return Err(BuildError::PlaceLength { expected: base.rows(), actual: place.len() });
    }
    let mut stays = vec![false; rows];
    for (base_row, row) in place.iter().copied().enumerate().filter(|(_, row)| *row != NONE) {
        match stays.get_mut(row as usize) {
            None => return Err(BuildError::PlaceRange { base_row, row, rows }),
            Some(true) => return Err(BuildError::PlaceTwice { base_row, row }),
            Some(stays) => *stays = true,
        }
    }
    Ok(stays)
}

/// An upper node of the base whose row stays.
struct Upper {
    /// Its row in the new graph.
    row: u32,
    level: u32,
    /// Its number in the base.
    node: u32,
}

/// The upper nodes that stay, by their row in the new graph, each row once.
fn upper_rows(base: &GraphView<'_>, place: &[u32]) -> Vec<Upper> {
    let levels = base.upper_offsets.windows(2).map(|pair| pair[1] - pair[0]);
    let mut upper: Vec<Upper> = (0..)
        .zip(base.upper_nodes.iter().zip(levels))
        .map(|(node, (row, level))| Upper { row: place[*row as usize], level, node })
        .filter(|upper| upper.row != NONE)
        .collect();
    upper.sort_by_key(|upper| upper.row);
    upper.dedup_by_key(|upper| upper.row);
    upper
}

/// Whether using `base` is better than building anew when `kept` of its rows stay, `upper` of them
/// with upper levels.
fn worth_keeping(base: &GraphView<'_>, kept: usize, upper: usize) -> bool {
    // A row in `m` should have upper levels. With far fewer, searches would start in the wrong
    // place, and levels of rows that stay are not drawn again.
    let levels_left = kept / base.m <= 4 * (upper + 1);
    kept > 0 && levels_left && kept * 100 >= base.rows() * (100 - GONE)
}

/// The levels of the new graph: those of the base for rows that stay, by lot for the others.
fn all_levels(stays: &[bool], upper: &[Upper], params: &BuildParams) -> Levels {
    let drawn = levels::drawn(params);
    let mut upper = upper.iter().peekable();
    Levels::new(stays.len(), |row| match stays[row as usize] {
        true => upper.next_if(|upper| upper.row == row).map_or(0, |upper| upper.level),
        false => drawn(row),
    })
}

/// Takes over the links of all rows that stay; returns which rows should be inserted again.
fn carry<D: BuildDistances>(
    growing: &Growing,
    base: &GraphView<'_>,
    place: &[u32],
    upper: &[Upper],
    distances: &D,
    threads: &rayon::ThreadPool,
    control: &Control,
) -> Result<Vec<bool>, BuildError> {
    let again: Vec<AtomicBool> = (0..growing.rows()).map(|_| AtomicBool::new(false)).collect();
    let again_at = |row: u32| &again[row as usize];
    let carrier = || Carrier::new(*base, place, growing, distances);
    in_chunks(upper.len(), threads, control, carrier, |carrier, chunk| {
        for upper in &upper[chunk] {
            for level in 1..=upper.level {
                if !carrier.carry(upper.node, level, upper.row) {
                    again_at(upper.row).store(true, Ordering::Relaxed);
                }
            }
        }
    })?;
    let staying = |node: &usize| place[*node] != NONE;
    in_chunks(place.len(), threads, control, carrier, |carrier, chunk| {
        for node in chunk.clone().filter(staying) {
            if !carrier.carry(node as u32, 0, place[node]) {
                again_at(place[node]).store(true, Ordering::Relaxed);
            }
        }
        control.add_done(chunk.filter(staying).count());
    })?;
    if place.contains(&NONE) {
        in_chunks(place.len(), threads, control, carrier, |carrier, chunk| {
            for node in chunk.filter(staying) {
                if !again_at(place[node]).load(Ordering::Relaxed) {
                    carrier.answer(place[node]);
                }
            }
        })?;
    }
    Ok(again.into_iter().map(AtomicBool::into_inner).collect())
}
