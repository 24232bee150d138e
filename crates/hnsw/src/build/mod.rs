//! Building the graph.

mod connect;
mod control;
mod insert;
mod levels;
mod links;
mod select;

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};

pub use control::Control;
use insert::{Growing, Inserter};
use levels::Levels;
use links::Links;

use crate::{BuildDistances, Graph, NONE, pool::PENDING};

/// How a graph is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildParams {
    /// Width of an upper neighbour list, half that of a level-0 list. At least 2.
    pub m: usize,
    /// Candidates a row's neighbours are chosen from. At least 1; useful from `m` up.
    pub ef_construction: usize,
    /// Decides which rows have upper levels.
    pub seed: u64,
}

/// Why there is no graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// [`Control::stop`] was called.
    Cancelled,
    /// More rows than a graph can number (2^31 - 1).
    TooManyRows {
        /// Rows asked for.
        rows: usize,
    },
    /// `m` below 2 or `ef_construction` zero.
    Parameters {
        /// The parameters.
        params: BuildParams,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => write!(f, "the build was cancelled"),
            Self::TooManyRows { rows } => write!(f, "a graph cannot have {rows} rows"),
            Self::Parameters { params } => write!(
                f,
                "a graph cannot be built with m = {} and ef_construction = {}",
                params.m, params.ef_construction
            ),
        }
    }
}

impl std::error::Error for BuildError {}

/// Rows a thread takes at a time.
const CHUNK: usize = 16;

/// Builds the graph over rows `0..rows` with all threads of `threads`.
///
/// Rows with upper levels come first, then the others, each kind in row order: a random sample of
/// all the data is in place before its details, so the order of the rows does not matter. Every
/// row can be reached from the entry point on level 0. One thread builds the same graph every
/// time; several build one that depends on timing.
///
/// Takes `16 m` bytes a row beside the finished graph's `8 m`.
///
/// # Errors
/// When the build is stopped through `control`, or the parameters are out of range.
pub fn build<D: BuildDistances>(
    rows: usize,
    params: &BuildParams,
    distances: &D,
    threads: &rayon::ThreadPool,
    control: &Control,
) -> Result<Graph, BuildError> {
    if rows >= PENDING as usize {
        return Err(BuildError::TooManyRows { rows });
    }
    if params.m < 2 || params.ef_construction == 0 {
        return Err(BuildError::Parameters { params: *params });
    }
    let levels = Levels::new(rows, params.m, params.seed);
    let mut upper_of = vec![NONE; rows];
    for (node, row) in levels.nodes.iter().enumerate() {
        upper_of[*row as usize] = node as u32;
    }
    let base = Links::new(rows, 2 * params.m);
    let upper = Links::new(levels.lists(), params.m);
    let growing = Growing { params: *params, levels, upper_of, base, upper };

    let order = insertion_order(&growing, rows);
    let next = AtomicUsize::new(0);
    threads.broadcast(|_| {
        let mut inserter = Inserter::<D>::new(&growing, distances, control);
        while !control.is_stopped() {
            let start = next.fetch_add(CHUNK, Ordering::Relaxed);
            let chunk = order.get(start..).unwrap_or_default();
            let chunk = &chunk[..chunk.len().min(CHUNK)];
            if chunk.is_empty() {
                break;
            }
            for row in chunk {
                inserter.insert(*row);
            }
            control.add_done(chunk.len());
        }
    });
    if control.is_stopped() {
        return Err(BuildError::Cancelled);
    }
    let mut graph = finish(growing);
    if connect::connect(&mut graph, distances, control) {
        Ok(graph)
    } else {
        Err(BuildError::Cancelled)
    }
}

/// Rows with upper levels, highest first, then the rest.
fn insertion_order(growing: &Growing, rows: usize) -> Vec<u32> {
    let mut order = growing.levels.nodes.clone();
    order.sort_by_key(|row| std::cmp::Reverse(growing.level(*row)));
    order.extend((0..rows as u32).filter(|row| growing.level(*row) == 0));
    order
}

/// Turns the grown lists into the graph's arrays.
fn finish(growing: Growing) -> Graph {
    let Growing { params, levels, upper_of, base, upper } = growing;
    let neighbors = base.into_rows();
    let mut upper_neighbors = upper.into_rows();
    for neighbor in &mut upper_neighbors {
        if *neighbor != NONE {
            *neighbor = upper_of[*neighbor as usize];
        }
    }
    Graph {
        m: params.m,
        neighbors,
        upper_nodes: levels.nodes,
        upper_offsets: levels.offsets,
        upper_neighbors,
        entry: levels.entry,
    }
}
