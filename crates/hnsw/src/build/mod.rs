//! Building the graph.

mod carry;
mod connect;
mod control;
mod error;
mod extend;
mod grow;
mod insert;
mod levels;
mod links;
mod select;

pub use control::Control;
pub use error::BuildError;
pub use extend::extend;
use grow::Growing;
use levels::Levels;

use crate::{BuildDistances, Graph};

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
    grow::check(rows, params)?;
    let growing = Growing::new(rows, params, Levels::new(rows, levels::drawn(params)));
    growing.insert(|_| true, distances, threads, control, |rows| control.add_done(rows))?;
    growing.finish(distances, control)
}
