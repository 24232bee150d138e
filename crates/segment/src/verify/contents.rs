//! What the arrays of a segment hold, in the store or in memory, as checksums.

use crate::arrays::{self, COUNT};
use crate::attributes::SegmentAttributes;
use crate::resident::ResidentView;

/// Rows of a block in memory looked at between two questions whether to stop.
const STRIDE: usize = 1 << 14;

/// The content of the arrays beside `vectors` as checksums, by which what is stored and what is in
/// memory can be compared. None of an array that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents(pub(super) [Option<u32>; COUNT]);

impl Contents {
    /// What a block in memory holds. `None` when `stop` has said so.
    pub fn of(view: &ResidentView<'_>, stop: &dyn Fn() -> bool) -> Option<Self> {
        let (codes, graph) = (view.codes(), view.graph());
        let mut sums = [0u32; 3];
        let mut list = Vec::with_capacity(graph.neighbors.width() * size_of::<u32>());
        for row in 0..view.rows() as u32 {
            if (row as usize).is_multiple_of(STRIDE) && stop() {
                return None;
            }
            list.clear();
            for place in 0..graph.neighbors.width() {
                list.extend_from_slice(&graph.neighbors.get(row, place).to_le_bytes());
            }
            let parts = [codes.code(row), bytemuck::cast_slice(codes.factors(row)), &list];
            for (sum, part) in sums.iter_mut().zip(parts) {
                *sum = crc32c::crc32c_append(*sum, part);
            }
        }
        let [codes, factors, neighbors] = sums.map(Some);
        let sum = |bytes: &[u8]| Some(crc32c::crc32c(bytes));
        let integers = |integers: &[u32]| sum(bytemuck::cast_slice(integers));
        Some(Self([
            codes,
            factors,
            neighbors,
            integers(graph.upper_nodes),
            integers(graph.upper_offsets),
            integers(graph.upper_neighbors),
            sum(bytemuck::cast_slice(view.all_tids())),
            integers(view.tid_offsets()),
            sum(bytemuck::cast_slice(view.centroid())),
        ]))
    }

    /// Names of the arrays of which both know the content, and not the same.
    pub fn differing(&self, other: &Self, attributes: &SegmentAttributes) -> Vec<&'static str> {
        let specs = arrays::arrays(attributes);
        let both = specs.iter().zip(self.0.iter().zip(&other.0));
        both.filter(|(_, pair)| matches!(pair, (Some(one), Some(other)) if one != other))
            .map(|(spec, _)| spec.name)
            .collect()
    }

    /// Whether all arrays could be read.
    pub fn is_whole(&self) -> bool {
        self.0.iter().all(Option::is_some)
    }
}
