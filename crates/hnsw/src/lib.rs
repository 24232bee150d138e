//! HNSW build and search.
mod build;
mod graph;
mod order;
mod pool;
mod scorer;
mod search;
mod validate;
mod visited;
mod walk;

pub use build::{BuildError, BuildParams, Control, build};
pub use graph::{Graph, GraphView, NONE};
pub use order::order;
pub use pool::Candidate;
pub use scorer::{BuildDistances, NodeScorer, Scorer};
pub use search::Searcher;
pub use validate::{GraphError, validate};
