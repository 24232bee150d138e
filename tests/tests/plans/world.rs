//! Tables: random columns of vectors, an index on each, and a past.

use fastrand::Rng;
use harness::Metric;

/// Directions for a row's vector.
const SHAPES: [&str; 4] = ["uniform", "clusters", "grid", "rays"];

/// Rows of the small table that others are joined with.
pub const SIDE_ROWS: usize = 12;

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
    condition: Option<&'static str>,
    options: String,
    seed: u64,
}

impl Column {
    fn draw(rng: &mut Rng, name: &'static str, dimensions: usize) -> Self {
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
            shape: SHAPES[rng.usize(..4)],
            copies: if rng.u32(..3) == 0 { 5 } else { 1 },
            cast: rng.u32(..6) == 0,
            condition: (rng.u32(..6) == 0).then_some("grp <> 3"),
            options: options.join(", "),
            seed: rng.u64(1..1_000_000),
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
        self.condition.map_or_else(|| "true".to_owned(), |condition| format!("t.{condition}"))
    }

    /// Which rows of the table the index has: no NULL, nothing without direction under cosine.
    pub fn indexed(&self) -> String {
        let condition = self.condition();
        match self.metric {
            Metric::Cosine => format!("vector_norm(t.{}) > 0 AND {condition}", self.name),
            _ => format!("t.{} IS NOT NULL AND {condition}", self.name),
        }
    }

    /// The vector of row `id`, an expression of SQL.
    fn value(&self, id: &str) -> String {
        let Self { shape, dimensions, copies, seed, .. } = self;
        format!("fuzz_row('{shape}', {dimensions}, {copies}, {seed}, {id})")
    }

    /// Something to look for, like the rows of the table.
    pub fn query(&self, rng: &mut Rng) -> String {
        let Self { shape, dimensions, copies, seed, .. } = self;
        let number = rng.u64(1..1_000_000);
        match rng.u32(..20) {
            0 if rng.bool() => "fuzz_nothing()".to_owned(),
            0 => format!("array_fill(0, ARRAY[{dimensions}])::vector"),
            // A row's own vector.
            1..5 => format!("fuzz_row('{shape}', {dimensions}, {copies}, {seed}, {})", number % 400),
            // Somewhere else.
            5 => format!("fuzz_vector('uniform', {dimensions}, {number})"),
            _ => format!("fuzz_vector('{shape}', {dimensions}, {number})"),
        }
    }
}

/// A table, and what its queries need to know of it.
#[derive(Clone, Debug)]
pub struct World {
    /// The table's name.
    pub table: String,
    /// One or two.
    pub columns: Vec<Column>,
    /// Rows it has once it is made, about.
    pub rows: usize,
    /// 0: it is none of several.
    pub partitions: usize,
    /// Whether others write while it is asked.
    pub busy: bool,
    /// Whether the graphs of its indexes do not fit into memory together.
    pub crowded: bool,
    /// Whether it has a past: segments, removed rows, rows not flushed.
    pub aged: bool,
    seed: u64,
}

impl World {
    /// Table number `number` of a run: what must be met often enough comes in turns, the rest at random.
    pub fn draw(number: usize, rng: &mut Rng) -> Self {
        let crowded = number % 5 == 4;
        let large = number.is_multiple_of(2);
        let rows = match (crowded, large) {
            (true, _) => 4000,
            (_, true) => 5500,
            _ => rng.usize(500..2500),
        };
        let dimensions = |rng: &mut Rng| match (crowded, large) {
            (true, _) => rng.usize(100..128),
            (_, true) => [1, 2, 3, 8, 16, 24, 40][rng.usize(..7)],
            _ => [1, 3, 12, 32, 64, 100, 128, 200][rng.usize(..8)],
        };
        let first = dimensions(rng);
        let mut columns = vec![Column::draw(rng, "e", first)];
        if crowded || rng.u32(..3) == 0 {
            let second = dimensions(rng);
            columns.push(Column::draw(rng, "f", second));
        }
        for column in &mut columns {
            if crowded {
                // 250 bytes a row: one index fits into a megabyte, two do not.
                column.options = "bits = '8', m = 16".to_owned();
                column.condition = None;
            }
        }
        Self {
            table: format!("t{number}"),
            columns,
            rows,
            partitions: if number % 6 == 1 { 3 } else { 0 },
            busy: number % 3 == 2,
            crowded,
            aged: number % 4 != 3,
            seed: rng.u64(1..1_000_000),
        }
    }

    /// The statements that make the table, its indexes and the small table beside it.
    pub fn create(&self) -> Vec<String> {
        let Self { table, columns, seed, .. } = self;
        let declared = |column: &Column| match column.cast {
            true => format!("{} vector", column.name),
            false => format!("{} vector({})", column.name, column.dimensions),
        };
        let vectors: Vec<String> = columns.iter().map(declared).collect();
        let partitioned = if self.partitions > 0 { "PARTITION BY HASH (id)" } else { "" };
        let mut all = vec![format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, grp int, fine int, near float8, note text, {}) {partitioned}",
            vectors.join(", ")
        )];
        all.extend((0..self.partitions).map(|part| {
            format!(
                "CREATE TABLE {table}_p{part} PARTITION OF {table} \
                 FOR VALUES WITH (MODULUS {}, REMAINDER {part})",
                self.partitions
            )
        }));
        let built = if self.aged { self.rows * 6 / 10 } else { self.rows };
        all.push(self.insert(1, built));
        all.extend(columns.iter().map(|column| self.create_index(column)));
        let probes: Vec<String> = columns
            .iter()
            .map(|column| format!("{} AS {}", column.value("id * 31"), column.name))
            .collect();
        all.push(format!(
            "CREATE TABLE {table}_side AS SELECT id, floor(10 * fuzz_unit({seed} + 9, id))::int AS grp, {} \
             FROM generate_series(1, {SIDE_ROWS}) id",
            probes.join(", ")
        ));
        all
    }

    fn create_index(&self, column: &Column) -> String {
        let Self { table, .. } = self;
        let Column { name, dimensions, metric, options, .. } = column;
        let indexed =
            if column.cast { format!("({name}::vector({dimensions}))") } else { (*name).to_owned() };
        let with = if options.is_empty() { String::new() } else { format!("WITH ({options})") };
        let condition = column.condition.map(|text| format!("WHERE {text}")).unwrap_or_default();
        format!(
            "CREATE INDEX {table}_{name}_index ON {table} USING s3vector ({indexed} {}) {with} {condition}",
            metric.opclass()
        )
    }

    /// The statements that give its indexes a past: segments of several sizes, removed rows, rows that
    /// no segment has.
    pub fn past(&self, indexes: &[String]) -> Vec<String> {
        let Self { table, rows, .. } = self;
        let mut all = Vec::new();
        if self.aged {
            // Each less than half of what was before, so that a flush does not merge them.
            let mut first = rows * 6 / 10 + 1;
            for last in [rows * 85 / 100, rows * 95 / 100] {
                all.push(self.insert(first, last));
                all.extend(indexes.iter().map(|index| format!("SELECT s3vector_flush('{index}')")));
                first = last + 1;
            }
            all.push(self.delete("id % 18 = 3"));
            all.push(self.vacuum());
            all.push(self.insert(first, *rows));
            all.push(self.update(1, "fine = 0"));
        }
        all.push(format!("ANALYZE {table}"));
        all
    }

    /// Inserts the rows `first` to `last`.
    pub fn insert(&self, first: usize, last: usize) -> String {
        let Self { table, columns, seed, .. } = self;
        let values: Vec<String> =
            columns.iter().map(|column| format!("{} AS {}", column.value("id"), column.name)).collect();
        let names: Vec<String> = columns.iter().map(|column| format!("v.{}", column.name)).collect();
        let Column { name, shape, dimensions, .. } = &columns[0];
        format!(
            "INSERT INTO {table} SELECT id, floor(10 * fuzz_unit({seed} + 3, id)), \
             floor(100 * fuzz_unit({seed} + 4, id)), v.{name} <-> fuzz_vector('{shape}', {dimensions}, 1), \
             CASE WHEN fuzz_unit({seed} + 5, id) < 0.5 THEN 'note ' || id % 7 END, {} \
             FROM generate_series({first}, {last}) id CROSS JOIN LATERAL (SELECT {} OFFSET 0) v",
            names.join(", "),
            values.join(", ")
        )
    }

    /// Gives the rows with `condition` other vectors.
    pub fn update(&self, version: usize, condition: &str) -> String {
        let column = &self.columns[version % self.columns.len()];
        let value = column.value(&format!("id + {version} * 1000003"));
        format!("UPDATE {} SET {} = {value} WHERE {condition}", self.table, column.name)
    }

    /// Removes the rows with `condition`.
    pub fn delete(&self, condition: &str) -> String {
        format!("DELETE FROM {} WHERE {condition}", self.table)
    }

    /// Removes what is dead from table and indexes.
    pub fn vacuum(&self) -> String {
        // Cutting the table off would wait for whoever reads it.
        format!("VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) {}", self.table)
    }

    /// A query for the names of its indexes.
    pub fn indexes(&self) -> String {
        format!(
            "SELECT c.oid::regclass FROM pg_class c JOIN pg_am a ON a.oid = c.relam JOIN pg_index i ON i.indexrelid = c.oid \
             WHERE a.amname = 's3vector' AND c.relkind = 'i' \
             AND (i.indrelid = '{0}'::regclass OR i.indrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = '{0}'::regclass)) \
             ORDER BY 1",
            self.table
        )
    }
}
