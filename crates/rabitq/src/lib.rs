//! RaBitQ: short codes for vectors, and distance estimates with error bounds.
//!
//! The crate promises that an estimate comes with an interval that holds the exact distance
//! almost always (for a row taken at random some 94 of 100 times, two-sided, whatever the data; among
//! candidates chosen for their low estimates 96 at four bits, fewer at one or two), so that a search can
//! walk on codes in memory and fetch only the few vectors whose intervals still overlap. What it
//! stores (codes, factors, the rotation's seed) means the same on every machine, for ever.
//!
//! ```text
//!                seed ──► Rotation                     centroid
//!                             │                            │
//!   vector ──────────────► Quantizer::encode ──► code + 3 factors a row
//!                             │                            │
//!   query ───────────────► Query (8 bits) ──► estimate ◄───┤
//!                             └─────────────► Bounds ◄─────┤
//!   another row's code ──► NodeQuery ───────► estimate ◄───┘   (the graph is built on these)
//! ```
//!
//! - [`rotation`](Rotation): a random rotation in `O(D log D)`, remembered by its seed; on
//!   `hadamard` and [`random`](SplitMix64).
//! - [`layout`](Bits): how a code lies in memory.
//! - [`quantizer`](Quantizer): from vectors to codes; `rescale` finds the best code.
//! - `estimator`: the arithmetic from integer inner products to ranking values.
//! - [`codes`](Codes): where the codes of many rows lie; [`sketch`](fn@sketch): coarse ones made of fine
//!   ones.
//! - [`query`](Query), [`node`](NodeQuery): what is compared with codes.
//! - [`bounds`](Bounds): how far an estimate can be off.
//! - `sweep`: bounds of all rows, one after the other, that hold for all but one in a million.
//! - `kernels`: integer inner products, one instruction set a file; `wide` runs ordinary loops
//!   with the widest vectors of the machine.
//!
//! Papers: Gao and Long, *RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error
//! Bound for Approximate Nearest Neighbor Search*, SIGMOD 2024; Gao et al., *Practical and
//! Asymptotically Optimal Quantization of High-Dimensional Vectors in Euclidean Space for
//! Approximate Nearest Neighbor Search*, SIGMOD 2025.

mod bounds;
mod codes;
mod estimator;
mod hadamard;
mod kernels;
mod layout;
mod node;
mod quantizer;
mod query;
mod random;
mod rescale;
mod rotation;
mod sketch;
mod sweep;
mod wide;

pub use bounds::{Bounds, EPSILON};
pub use codes::Codes;
pub use layout::{BLOCK, Bits};
pub use node::NodeQuery;
pub use quantizer::{FACTORS, Quantizer, Scratch, code_bytes};
pub use query::Query;
pub use random::SplitMix64;
pub use rotation::Rotation;
pub use sketch::{sketch, sketch_bytes};
pub use sweep::SURE;
