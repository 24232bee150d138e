//! HNSW: building and searching the graph that leads a query to its neighbours.
//!
//! The crate promises that every row of a built graph can be reached from the entry point, so
//! that a search resumed long enough returns each row exactly once; that a search allocates
//! nothing once it is warm; and that no graph [`validate`] has accepted makes a search fail, wherever
//! it comes from. It knows nothing of vectors or codes: distances come through a trait.
//!
//! ```text
//!   BuildDistances ──► build ──► Graph ──► order ──► Graph::reorder ──► (stored)
//!   (row × row)          ▲         │                                       │
//!                     Control      │ view              validate ◄── slices │
//!                  stop, progress  ▼                                       ▼
//!   Scorer ──────────────────► Searcher::start, resume ◄────────────── GraphView
//!   (query × row)                  │
//!                                  ▼
//!                          [Candidate], best first
//! ```
//!
//! - [`graph`](GraphView): the finished graph as flat arrays; [`lists`](Lists): its lowest level,
//!   wherever its lists lie.
//! - [`scorer`](Scorer): what the graph asks of distances.
//! - [`build`](fn@build): parallel insertion; [`Control`] watches and stops it. [`extend`] starts
//!   from another graph, whose rows may have gone or moved.
//! - [`search`](Searcher): searching, and going on where a search stopped. `walk` is the loop
//!   that search and build share, on `pool` (the best candidates) and `visited`.
//! - [`validate`](fn@validate): checking a graph that comes from outside. `inspect`: whether it is
//!   also what a build makes ([`crooked`], [`Reached`]).
//! - [`order`](fn@order): a row order that puts near rows next to each other.
//!
//! Paper: Malkov and Yashunin, *Efficient and Robust Approximate Nearest Neighbor Search Using
//! Hierarchical Navigable Small World Graphs*, IEEE TPAMI 2018.

mod build;
mod graph;
mod inspect;
mod lists;
mod order;
mod pool;
mod scorer;
mod search;
mod validate;
mod visited;
mod walk;

pub use build::{BuildError, BuildParams, Control, build, extend};
pub use graph::{Graph, GraphView, NONE};
pub use inspect::{Crooked, Reached, crooked};
pub use lists::Lists;
pub use order::order;
pub use pool::Candidate;
pub use scorer::{BuildDistances, NodeScorer, Scorer};
pub use search::Searcher;
pub use validate::{GraphError, validate};
