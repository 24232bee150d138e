//! What the graph asks of distances.

/// Scores rows against one thing: a query, or a row the graph is being built around.
///
/// A score is any number that rises with the distance; the graph only compares. Infinities are
/// fine, NaN counts as infinity.
pub trait Scorer {
    /// Writes the score of `rows[i]` to `out[i]`; both have the same length: at most `2m` of the graph
    /// in a search, in a build as many as there are candidates.
    fn scores(&mut self, rows: &[u32], out: &mut [f32]);

    /// Asks for the memory that scoring `row` will read. Called shortly before, or for nothing.
    fn prefetch(&self, row: u32) {
        let _ = row;
    }
}

impl<S: Scorer + ?Sized> Scorer for &mut S {
    fn scores(&mut self, rows: &[u32], out: &mut [f32]) {
        (**self).scores(rows, out);
    }

    fn prefetch(&self, row: u32) {
        (**self).prefetch(row);
    }
}

/// A [`Scorer`] that can be turned to another row, without allocating.
pub trait NodeScorer: Scorer {
    /// Scores against `row` from now on.
    fn aim(&mut self, row: u32);
}

/// The distances between the rows of a graph to be built.
pub trait BuildDistances: Sync {
    /// What one thread measures with.
    type Node<'a>: NodeScorer
    where
        Self: 'a;

    /// A scorer for one thread, aimed at no row yet. Called once or twice a thread.
    fn node(&self) -> Self::Node<'_>;
}
