//! Tables of seeded vectors, and answers compared with exact ones.

use pgrx::prelude::*;

/// A column definition and how to fill it.
pub struct Table {
    /// Elements of a vector.
    pub dimensions: usize,
    /// Rows.
    pub rows: usize,
}

/// Makes the table `items (id, embedding)`: vectors in loose clusters, the same every time.
pub fn create(table: &Table) {
    let dimensions = table.dimensions;
    run(&format!("CREATE TABLE items (id bigint PRIMARY KEY, embedding vector({dimensions}))"));
    define_plan();
    insert(table, 0);
}

/// Adds rows with ids from `first` on, from the same distribution.
pub fn insert(table: &Table, first: usize) {
    let Table { dimensions, rows } = table;
    run(&format!("SELECT setseed({})", 0.25 + first as f64 / 1e7));
    run(&format!(
        "INSERT INTO items
         SELECT i, (SELECT array_agg(sin((i % 20) * d) + random() - 0.5 ORDER BY d)
                    FROM generate_series(1, {dimensions}) d WHERE i = i)::vector
         FROM generate_series({first}, {first} + {rows} - 1) i"
    ));
}

/// Runs a statement.
pub fn run(sql: &str) {
    if let Err(error) = Spi::run(sql) {
        panic!("{sql}: {error}");
    }
}

/// The single value of a query.
pub fn get<T: FromDatum + IntoDatum>(sql: &str) -> T {
    match Spi::get_one::<T>(sql) {
        Ok(Some(value)) => value,
        other => panic!("{sql}: {:?}", other.err()),
    }
}

/// The bigints of a query's first column.
pub fn ids(sql: &str) -> Vec<i64> {
    get::<Vec<i64>>(&format!("SELECT coalesce(array_agg(x.a), '{{}}') FROM ({sql}) AS x(a)"))
}

/// Makes the planner use indexes (or not) from here on.
pub fn use_index(yes: bool) {
    run(&format!("SET LOCAL enable_seqscan = {}", !yes));
    run(&format!("SET LOCAL enable_indexscan = {yes}"));
    run(&format!("SET LOCAL enable_sort = {}", !yes));
}

/// How many of the `k` nearest rows the index finds, over queries near rows of the table.
pub fn recall(operator: &str, k: usize) -> f64 {
    let (mut found, mut wanted) = (0, 0);
    for query in 0..20 {
        let sql = format!(
            "SELECT id FROM items ORDER BY embedding {operator} (SELECT embedding FROM items
             ORDER BY id OFFSET {query} * 7 % (SELECT count(*) FROM items) LIMIT 1) LIMIT {k}"
        );
        use_index(false);
        let exact = ids(&sql);
        use_index(true);
        let plan = plan(&sql);
        assert!(plan.contains("Index Scan using"), "{plan}");
        let answer = ids(&sql);
        wanted += exact.len();
        found += answer.iter().filter(|id| exact.contains(id)).count();
    }
    found as f64 / wanted as f64
}

/// The plan of a statement, on one line.
pub fn plan(sql: &str) -> String {
    get(&format!("SELECT string_agg(line, ' ') FROM plan($plan${sql}$plan$) line"))
}

/// Defines `plan(sql)`: the lines of a statement's plan.
pub fn define_plan() {
    run("CREATE OR REPLACE FUNCTION plan(sql text) RETURNS SETOF text LANGUAGE plpgsql AS
         $f$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || sql; END $f$");
}
