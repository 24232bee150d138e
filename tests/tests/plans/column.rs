//! Columns of vectors, an index on each.

use fastrand::Rng;
use harness::Metric;

/// How vectors can lie in space.
const SHAPES: [&str; 5] = ["uniform", "clusters", "grid", "tenths", "rays"];

/// A column of vectors and its index.
#[derive(Clone, Debug)]
pub struct Column {
    /// `e` or `f`.
    pub name: &'static str,
    /// Elements of a vector.
    pub dimensions: usize,
    /// What the index is ordered by.
    pub metric: Metric,
    /// How vectors lie in space, see `prelude.sql`.
    pub shape: &'static str,
    /// Rows after each other that are equal.
    pub copies: usize,
    /// Whether the column has no dimensions and the index is one of an expression.
    pub cast: bool,
    /// The condition of a partial index.
    pub partial: Option<&'static str>,
    /// The index's options.
    pub options: String,
    seed: u64,
}

impl Column {
    /// A column called `name`.
    pub fn draw(rng: &mut Rng, name: &'static str, dimensions: usize) -> Self {
        let metrics = [Metric::L2, Metric::InnerProduct, Metric::Cosine];
        let metric = metrics[rng.usize(..3)];
        let mut options = Vec::new();
        if let Some(bits) = [None, None, Some(1), Some(2), Some(4), Some(8)][rng.usize(..6)] {
            options.push(format!("bits = '{bits}'"));
        }
        if rng.u32(..3) == 0 {
            options.push("payload = 'float16'".to_owned());
        }
        if rng.u32(..3) == 0 {
            options.push(format!("m = {}", rng.usize(4..24)));
        }
        if rng.u32(..4) == 0 {
            options.push("compression = 'zstd'".to_owned());
        }
        Self {
            name,
            dimensions,
            metric,
            shape: SHAPES[rng.usize(..SHAPES.len())],
            copies: if rng.u32(..3) == 0 { 5 } else { 1 },
            cast: rng.u32(..6) == 0,
            partial: (rng.u32(..6) == 0).then_some("grp <> 3"),
            options: options.join(", "),
            seed: rng.u64(1..1_000_000),
        }
    }

    /// Has hardly any vector come twice.
    pub fn make_distinct(&mut self) {
        self.copies = 1;
        if ["grid", "tenths"].contains(&self.shape) && self.dimensions < 8 {
            self.shape = "uniform";
        }
    }

    /// The indexed expression, of a table called `t`.
    pub fn expression(&self) -> String {
        let Self { name, dimensions, .. } = self;
        if self.cast { format!("(t.{name}::vector({dimensions}))") } else { format!("t.{name}") }
    }

    /// The distance from `query`.
    pub fn distance(&self, query: &str) -> String {
        format!("{} {} {query}", self.expression(), self.metric.operator())
    }

    /// The condition of a partial index on a table called `t`, `true` for none.
    pub fn condition(&self) -> String {
        self.partial.map_or_else(|| "true".to_owned(), |condition| format!("t.{condition}"))
    }

    /// Which rows of the table the index has: no NULL, nothing without direction under cosine.
    pub fn indexed(&self) -> String {
        let condition = self.condition();
        match self.metric {
            Metric::Cosine => format!("vector_norm(t.{}) > 0 AND {condition}", self.name),
            _ => format!("t.{} IS NOT NULL AND {condition}", self.name),
        }
    }

    /// The column with its type.
    pub fn declared(&self) -> String {
        match self.cast {
            true => format!("{} vector", self.name),
            false => format!("{} vector({})", self.name, self.dimensions),
        }
    }

    /// The statement that makes the index `<table>_<column>_index`.
    pub fn create_index(&self, table: &str) -> String {
        let Self { name, dimensions, metric, options, .. } = self;
        let indexed = match self.cast {
            true => format!("({name}::vector({dimensions}))"),
            false => (*name).to_owned(),
        };
        let with = if options.is_empty() { String::new() } else { format!("WITH ({options})") };
        let condition = self.partial.map(|text| format!("WHERE {text}")).unwrap_or_default();
        format!(
            "CREATE INDEX {table}_{name}_index ON {table} USING s3vector ({indexed} {}) {with} {condition}",
            metric.opclass()
        )
    }

    /// The vector of row `id`, an expression of SQL.
    pub fn value(&self, id: &str) -> String {
        let Self { shape, dimensions, copies, seed, .. } = self;
        format!("fuzz_row('{shape}', {dimensions}, {copies}, {seed}, {id})")
    }

    /// Something to look for, like the rows of the table.
    pub fn query(&self, rng: &mut Rng) -> String {
        let Self { shape, dimensions, .. } = self;
        let number = rng.u64(1..1_000_000);
        match rng.u32(..20) {
            0 if rng.bool() => "fuzz_nothing()".to_owned(),
            0 => format!("array_fill(0, ARRAY[{dimensions}])::vector"),
            // A row's own vector. What the planner knows to be NULL it would never ask an index for.
            1..5 => {
                let own = self.value(&(number % 400).to_string());
                format!("coalesce({own}, fuzz_vector('{shape}', {dimensions}, 1))")
            }
            // Somewhere else.
            5 => format!("fuzz_vector('uniform', {dimensions}, {number})"),
            _ => format!("fuzz_vector('{shape}', {dimensions}, {number})"),
        }
    }
}
