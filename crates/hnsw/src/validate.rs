//! Checking a graph that comes from outside before it is walked.

use std::fmt;

use crate::{GraphView, NONE, pool::PENDING};

/// Why a graph cannot be walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphError {
    /// The graph has more rows than row numbers allow (2^31 - 1).
    TooManyRows {
        /// Rows asked for.
        rows: usize,
    },
    /// `m` leaves no room for neighbours, or is beyond all lists.
    Width {
        /// The graph's `m`.
        m: usize,
    },
    /// An array has another length than rows, `m` and the other arrays demand.
    Length {
        /// The array's name in [`GraphView`].
        array: &'static str,
        /// Elements it must have.
        expected: usize,
        /// Elements it has.
        actual: usize,
    },
    /// An element names something that does not exist, or stands after the list's end.
    Element {
        /// The array's name in [`GraphView`].
        array: &'static str,
        /// Where in the array.
        index: usize,
        /// What stands there.
        value: u32,
    },
    /// The entry point does not exist or is not on the highest level.
    Entry {
        /// The entry point.
        entry: u32,
    },
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyRows { rows } => write!(f, "a graph cannot have {rows} rows"),
            Self::Width { m } => write!(f, "a graph cannot have m = {m}"),
            Self::Length { array, expected, actual } => {
                write!(f, "\"{array}\" has {actual} elements instead of {expected}")
            }
            Self::Element { array, index, value } => {
                write!(f, "\"{array}\" has invalid value {value} at {index}")
            }
            Self::Entry { entry } => write!(f, "invalid entry point {entry}"),
        }
    }
}

impl std::error::Error for GraphError {}

/// Checks in `O(n)` that `graph` has `rows` rows and that every index in it is in range, so that
/// no walk over it can leave its arrays.
///
/// # Errors
/// The first contradiction found.
pub fn validate(graph: &GraphView<'_>, rows: usize) -> Result<(), GraphError> {
    if rows >= PENDING as usize {
        return Err(GraphError::TooManyRows { rows });
    }
    // An upper limit keeps the products below from overflowing.
    if graph.m == 0 || graph.m > u16::MAX.into() {
        return Err(GraphError::Width { m: graph.m });
    }
    let upper = graph.upper_nodes.len();
    let width = 2 * graph.m;
    if graph.neighbors.width() != width || graph.neighbors.len() != rows {
        let actual = graph.neighbors.width() * graph.neighbors.len();
        return Err(GraphError::Length { array: "neighbors", expected: rows * width, actual });
    }
    for row in 0..rows as u32 {
        let valid = |neighbor: u32| (neighbor as usize) < rows;
        list(width, |place| graph.neighbors.get(row, place), valid)
            .map_err(|wrong| wrong.at("neighbors", row as usize * width))?;
    }
    below("upper_nodes", graph.upper_nodes, rows)?;
    let count = offsets(graph)?;
    length("upper_neighbors", count * graph.m, graph.upper_neighbors)?;

    let levels = |node: usize| graph.upper_offsets[node + 1] - graph.upper_offsets[node];
    for node in 0..upper {
        let offsets = graph.upper_offsets[node]..graph.upper_offsets[node + 1];
        for (nth, number) in offsets.enumerate() {
            let start = number as usize * graph.m;
            let elements = &graph.upper_neighbors[start..][..graph.m];
            // A list may only name nodes that have a list of the same level.
            let valid = |neighbor: u32| {
                (neighbor as usize) < upper && levels(neighbor as usize) as usize > nth
            };
            list(graph.m, |place| elements[place], valid)
                .map_err(|wrong| wrong.at("upper_neighbors", start))?;
        }
    }

    let entry = graph.entry as usize;
    let top = (0..upper).map(levels).max();
    let valid = match top {
        Some(top) => entry < upper && levels(entry) == top,
        None => rows == 0 || entry < rows,
    };
    if valid { Ok(()) } else { Err(GraphError::Entry { entry: graph.entry }) }
}

fn length(array: &'static str, expected: usize, elements: &[u32]) -> Result<(), GraphError> {
    let actual = elements.len();
    if actual == expected { Ok(()) } else { Err(GraphError::Length { array, expected, actual }) }
}

fn below(array: &'static str, elements: &[u32], limit: usize) -> Result<(), GraphError> {
    match elements.iter().position(|element| *element as usize >= limit) {
        Some(index) => Err(GraphError::Element { array, index, value: elements[index] }),
        None => Ok(()),
    }
}

/// What does not belong into a list.
struct Wrong {
    place: usize,
    value: u32,
}

impl Wrong {
    /// The error about it, for a list that begins at `start` of `array`.
    fn at(self, array: &'static str, start: usize) -> GraphError {
        GraphError::Element { array, index: start + self.place, value: self.value }
    }
}

/// Checks a list of `width` elements: valid ones, then nothing but [`NONE`].
fn list(
    width: usize,
    element: impl Fn(usize) -> u32,
    valid: impl Fn(u32) -> bool,
) -> Result<(), Wrong> {
    let used = (0..width).take_while(|place| element(*place) != NONE).count();
    let wrong = (0..width).find(|place| match *place < used {
        true => !valid(element(*place)),
        false => element(*place) != NONE,
    });
    match wrong {
        Some(place) => Err(Wrong { place, value: element(place) }),
        None => Ok(()),
    }
}

/// Checks that the offsets start at zero and rise; returns how many lists they count.
fn offsets(graph: &GraphView<'_>) -> Result<usize, GraphError> {
    let array = "upper_offsets";
    let offsets = graph.upper_offsets;
    if graph.upper_nodes.is_empty() && offsets.is_empty() {
        return Ok(0);
    }
    length(array, graph.upper_nodes.len() + 1, offsets)?;
    if offsets[0] != 0 {
        return Err(GraphError::Element { array, index: 0, value: offsets[0] });
    }
    // Every upper node has at least one level.
    match offsets.windows(2).position(|pair| pair[0] >= pair[1]) {
        Some(at) => Err(GraphError::Element { array, index: at + 1, value: offsets[at + 1] }),
        None => Ok(offsets[offsets.len() - 1] as usize),
    }
}
