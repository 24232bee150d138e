//! Why a graph is not built.

use std::fmt;

use super::BuildParams;

/// Why there is no graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// [`Control::stop`](super::Control::stop) was called.
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
    /// The graph to be extended has lists of another width.
    BaseWidth {
        /// The graph's `m`.
        base: usize,
        /// The `m` asked for.
        m: usize,
    },
    /// Not every row of the graph to be extended has been given a place.
    PlaceLength {
        /// Rows of the graph to be extended.
        expected: usize,
        /// Places given.
        actual: usize,
    },
    /// A place beyond the rows of the new graph.
    PlaceRange {
        /// The row of the graph to be extended.
        base_row: usize,
        /// The place given to it.
        row: u32,
        /// Rows of the new graph.
        rows: usize,
    },
    /// A place given to two rows.
    PlaceTwice {
        /// The second row of the graph to be extended.
        base_row: usize,
        /// The place given to it.
        row: u32,
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
            Self::BaseWidth { base, m } => {
                write!(f, "a graph with m = {base} cannot be extended to one with m = {m}")
            }
            Self::PlaceLength { expected, actual } => {
                write!(f, "a graph of {expected} rows cannot be extended with {actual} places")
            }
            Self::PlaceRange { base_row, row, rows } => {
                write!(f, "row {base_row} cannot become row {row} of a graph of {rows} rows")
            }
            Self::PlaceTwice { base_row, row } => {
                write!(f, "row {base_row} cannot become row {row}, which another row becomes")
            }
        }
    }
}

impl std::error::Error for BuildError {}
