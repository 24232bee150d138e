//! Random tables: columns of vectors, an index on each, and a past.

use fastrand::Rng;

use crate::column::Column;

/// Rows of the small table that others are joined with.
pub const SIDE_ROWS: usize = 12;

/// A table, and what its queries need to know of it.
#[derive(Clone, Debug)]
pub struct World {
    /// The table's name.
    pub table: String,
    /// One or two.
    pub columns: Vec<Column>,
    /// Rows it has once it is made, about.
    pub rows: usize,
    /// Whether it is partitioned.
    pub partitioned: bool,
    /// Whether others write while it is asked.
    pub busy: bool,
    /// Whether the graphs of its indexes do not fit into memory together.
    pub crowded: bool,
    /// Whether it has a past: segments, removed rows, rows not flushed.
    pub aged: bool,
    /// Whether a sweep over it needs more memory than the least there is.
    pub large: bool,
    unlogged: bool,
    /// Whether a trigger asks the index while rows are inserted.
    trigger: bool,
    seed: u64,
}

impl World {
    /// Table number `number` of a run: what must be met often enough comes in turns, the rest at random.
    pub fn draw(number: usize, rng: &mut Rng) -> Self {
        let crowded = number % 5 == 4;
        let large = number.is_multiple_of(2);
        let partitioned = number % 6 == 1;
        let dimensions = |rng: &mut Rng| match (crowded, large) {
            (true, _) => rng.usize(100..128),
            (_, true) => [1, 2, 3, 8, 16, 24, 40][rng.usize(..7)],
            _ => [1, 3, 12, 32, 64, 100, 128, 200, 700][rng.usize(..9)],
        };
        let first = dimensions(rng);
        let mut columns = vec![Column::draw(rng, "e", first)];
        if crowded || rng.u32(..3) == 0 {
            let second = dimensions(rng);
            columns.push(Column::draw(rng, "f", second));
        }
        if large {
            // A sweep is one of distinct vectors.
            columns[0].make_distinct();
        }
        if crowded {
            for column in &mut columns {
                // 250 bytes a row: one index fits into a megabyte, two do not.
                column.options = "bits = '8', m = 16".to_owned();
                column.partial = None;
            }
        }
        let rows = match (crowded, large, first > 200) {
            (true, ..) => 4000,
            (_, true, _) => 5500,
            (_, _, true) => 500,
            _ => rng.usize(500..2500),
        };
        Self {
            table: format!("t{number}"),
            columns,
            rows,
            partitioned,
            busy: number % 3 == 2,
            crowded,
            // Built at once, a graph would not fit where it is crowded.
            aged: crowded || number % 4 != 3,
            large: large || crowded,
            unlogged: !partitioned && rng.u32(..8) == 0,
            trigger: rng.u32(..5) == 0,
            seed: rng.u64(1..1_000_000),
        }
    }

    /// The statements that make the table, its indexes and what is beside it.
    pub fn create(&self) -> Vec<String> {
        let Self { table, columns, seed, .. } = self;
        let vectors: Vec<String> = columns.iter().map(Column::declared).collect();
        let vectors = vectors.join(", ");
        let kind = if self.unlogged { "UNLOGGED TABLE" } else { "TABLE" };
        let partitioned = if self.partitioned { "PARTITION BY HASH (id)" } else { "" };
        let mut all = vec![format!(
            "CREATE {kind} {table} (id int PRIMARY KEY, grp int, fine int, near float8, note text, {vectors}) {partitioned}"
        )];
        if self.partitioned {
            let values = |part| format!("FOR VALUES WITH (MODULUS 3, REMAINDER {part})");
            all.push(format!("CREATE TABLE {table}_p0 PARTITION OF {table} {}", values(0)));
            all.push(format!("CREATE TABLE {table}_p1 PARTITION OF {table} {}", values(1)));
            // Its columns have other numbers than its parent's.
            all.push(format!(
                "CREATE TABLE {table}_p2 ({vectors}, gone int, note text, near float8, fine int, grp int, id int NOT NULL)"
            ));
            all.push(format!("ALTER TABLE {table}_p2 DROP COLUMN gone"));
            all.push(format!("ALTER TABLE {table} ATTACH PARTITION {table}_p2 {}", values(2)));
        }
        let built = if self.aged { self.rows * 6 / 10 } else { self.rows };
        all.push(self.insert(1, built));
        all.extend(columns.iter().map(|column| column.create_index(table)));
        all.extend(columns.iter().map(|column| self.create_function(column)));
        if self.trigger {
            let column = columns[0].name;
            all.push(format!(
                "CREATE FUNCTION {table}_look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 PERFORM count(*) FROM {table}_near_{column}(NEW.{column}, 3); RETURN NEW; END $$"
            ));
            all.push(format!(
                "CREATE TRIGGER look BEFORE INSERT ON {table} FOR EACH ROW WHEN (NEW.fine = 1) \
                 EXECUTE FUNCTION {table}_look()"
            ));
        }
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

    /// A function that asks the index of a column for the nearest rows.
    fn create_function(&self, column: &Column) -> String {
        let Self { table, .. } = self;
        let (name, distance) = (column.name, column.distance("q"));
        format!(
            "CREATE FUNCTION {table}_near_{name}(q vector, most bigint) RETURNS TABLE (id int, d float8) \
             LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY SELECT t.id, {distance} FROM {table} t \
             WHERE {} ORDER BY {distance} LIMIT most; END $$",
            column.indexed()
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
        let values: Vec<String> = columns
            .iter()
            .map(|column| format!("{} AS {}", column.value("id"), column.name))
            .collect();
        let Column { name, shape, dimensions, .. } = &columns[0];
        format!(
            "INSERT INTO {table} SELECT id, floor(10 * fuzz_unit({seed} + 3, id)), \
             floor(100 * fuzz_unit({seed} + 4, id)), v.{name} <-> fuzz_vector('{shape}', {dimensions}, 1), \
             CASE WHEN fuzz_unit({seed} + 5, id) < 0.5 THEN 'note ' || id % 7 END, v.* \
             FROM generate_series({first}, {last}) id CROSS JOIN LATERAL (SELECT {} OFFSET 0) v",
            values.join(", ")
        )
    }

    /// Inserts the rows `first` to `last`, or gives those that are there other vectors.
    pub fn upsert(&self, first: usize, last: usize) -> String {
        let column = &self.columns[first % self.columns.len()];
        let (name, value) = (column.name, column.value("excluded.id + 77"));
        format!("{} ON CONFLICT (id) DO UPDATE SET {name} = {value}", self.insert(first, last))
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

    /// Makes the table or its indexes anew.
    pub fn rebuild(&self, rng: &mut Rng) -> String {
        let Self { table, .. } = self;
        match rng.u32(..4) {
            0 => format!("VACUUM FULL {table}"),
            1 => format!("CLUSTER {table} USING {table}_pkey"),
            2 => format!("REINDEX TABLE {table}"),
            _ => format!("REINDEX TABLE CONCURRENTLY {table}"),
        }
    }

    /// A query for the names of its indexes.
    pub fn indexes(&self) -> String {
        let pattern = if self.partitioned { r"_p\d" } else { "" };
        format!(
            "SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid \
             JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam \
             WHERE a.amname = 's3vector' AND t.relname ~ '^{}{pattern}$' ORDER BY 1",
            self.table
        )
    }
}
