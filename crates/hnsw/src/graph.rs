//! The finished graph as flat arrays: what a segment stores and what a search reads.

use crate::Lists;

/// Fills the unused tail of a neighbour list.
pub const NONE: u32 = u32::MAX;

/// A graph somebody else owns: slices into a [`Graph`], a mapped file or shared memory.
///
/// Upper levels are sparse: about one row in `m` has any. Such rows are numbered densely as
/// *upper nodes*; upper lists name upper nodes, so that a descent never looks anything up.
#[derive(Clone, Copy, Debug)]
pub struct GraphView<'a> {
    /// Width of an upper neighbour list; a level-0 list is `2 * m` wide.
    pub m: usize,
    /// Level-0 lists, `rows × 2m`: row numbers, nearest first, [`NONE`] fills the tail.
    pub neighbors: Lists<'a>,
    /// Row number of each upper node, `upper`.
    pub upper_nodes: &'a [u32],
    /// Where an upper node's lists start, in lists, `upper + 1` (empty when there are no upper
    /// nodes). Node `u` has levels `1..=offsets[u + 1] - offsets[u]`.
    pub upper_offsets: &'a [u32],
    /// Upper lists, `lists × m`: upper node numbers, [`NONE`] fills the tail. The list of node
    /// `u` at level `l` is number `upper_offsets[u] + l - 1`.
    pub upper_neighbors: &'a [u32],
    /// Where a search starts: an upper node of the highest level, or, when there are no upper
    /// nodes, a row. Unused when the graph has no rows.
    pub entry: u32,
}

/// A graph that owns its arrays. See [`GraphView`] for their meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    /// Width of an upper neighbour list.
    pub m: usize,
    /// Level-0 lists, `rows × 2m`.
    pub neighbors: Vec<u32>,
    /// Row number of each upper node.
    pub upper_nodes: Vec<u32>,
    /// Where an upper node's lists start, in lists.
    pub upper_offsets: Vec<u32>,
    /// Upper lists, `lists × m`.
    pub upper_neighbors: Vec<u32>,
    /// Where a search starts.
    pub entry: u32,
}

impl Graph {
    /// Rows (level-0 nodes) of the graph.
    pub fn rows(&self) -> usize {
        self.view().rows()
    }

    /// The graph as slices.
    pub fn view(&self) -> GraphView<'_> {
        GraphView {
            m: self.m,
            neighbors: Lists::words(&self.neighbors, 2 * self.m),
            upper_nodes: &self.upper_nodes,
            upper_offsets: &self.upper_offsets,
            upper_neighbors: &self.upper_neighbors,
            entry: self.entry,
        }
    }
}

impl GraphView<'_> {
    /// Rows (level-0 nodes) of the graph.
    pub fn rows(&self) -> usize {
        self.neighbors.len()
    }
}
