//! When the planner uses the index.

use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use super::super::support::*;
    use pgrx::prelude::*;

    #[pg_test]
    fn chosen_by_cost_for_a_limit_and_for_nothing_else() {
        create(&Table { dimensions: 48, rows: 10_000 });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        run("ANALYZE items");
        let query = "(SELECT embedding FROM items WHERE id = 77)";
        for limit in [1, 10, 100] {
            let sql = format!("SELECT id FROM items ORDER BY embedding <-> {query} LIMIT {limit}");
            assert!(plan(&sql).contains("Index Scan using ix"), "LIMIT {limit}: {}", plan(&sql));
        }
        for sql in [
            "SELECT count(*) FROM items".to_owned(),
            "SELECT id FROM items ORDER BY id LIMIT 10".to_owned(),
            format!("SELECT id FROM items WHERE embedding <-> {query} < 1"),
            format!("SELECT id FROM items ORDER BY embedding <#> {query} LIMIT 10"),
            format!("SELECT id FROM items ORDER BY embedding <-> {query} DESC LIMIT 10"),
            format!("SELECT id FROM items ORDER BY embedding <-> {query}"),
        ] {
            assert!(!plan(&sql).contains("using ix"), "{sql}: {}", plan(&sql));
        }
    }

    #[pg_test]
    fn not_used_without_order_even_when_all_else_is_off() {
        create(&Table { dimensions: 4, rows: 100 });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        run("SET LOCAL enable_seqscan = off");
        assert!(!plan("SELECT embedding FROM items").contains("using ix"));
        assert_eq!(get::<i64>("SELECT count(embedding) FROM items"), 100);
    }

    /// A grid, where many rows are equally far from a point: tables with an index on each of two
    /// columns, with a partial index, and of partitions.
    fn create_grids() {
        define_plan();
        run("CREATE TABLE grid (id int PRIMARY KEY, e vector(2) NOT NULL, f vector(2) NOT NULL);
             INSERT INTO grid SELECT x * 18 + y, ARRAY[x, y]::vector, ARRAY[(x * 7 + y) % 5, y % 3]::vector
             FROM generate_series(0, 17) x, generate_series(0, 17) y;
             CREATE TABLE parts (LIKE grid) PARTITION BY RANGE (id);
             CREATE TABLE part_1 PARTITION OF parts FOR VALUES FROM (0) TO (150);
             CREATE TABLE part_2 PARTITION OF parts FOR VALUES FROM (150) TO (1000);
             INSERT INTO parts SELECT * FROM grid");
    }

    fn index_grids() {
        run("CREATE INDEX grid_e ON grid USING s3vector (e);
             CREATE INDEX grid_f ON grid USING s3vector (f);
             CREATE INDEX grid_some ON grid USING s3vector (e) WHERE id > 20;
             CREATE INDEX parts_e ON parts USING s3vector (e);
             ANALYZE grid; ANALYZE parts");
    }

    /// Queries that order by more than one distance, or by none. What ties leave open is not selected.
    fn queries_of_many_orders() -> Vec<String> {
        let (a, b) = ("e <-> '[8,8]'", "e <-> '[3,9]'");
        let mut queries = Vec::new();
        for table in ["grid", "grid WHERE id > 20", "parts"] {
            for order in [
                format!("{a}, {b}"),
                format!("{a}, {b}, id"),
                format!("{a}, {a}"),
                format!("{a}, {a}, {b}, {a}"),
                format!("{a}, id"),
                format!("{b}, f <-> '[1,1]'"),
                format!("f <-> '[1,1]', {b}, {a}"),
                format!("{a}, e <=> '[3,9]'"),
                format!("{a} DESC, {b}"),
                format!("{a}, {b} DESC"),
                format!("id, {a}"),
            ] {
                for limit in ["", "LIMIT 10 OFFSET 7"] {
                    // The keys by which rows are ordered, as text.
                    let keys = order.replace(" DESC", "");
                    queries.push(format!(
                        "SELECT ROW({keys})::text FROM {table} ORDER BY {order} {limit}"
                    ));
                }
            }
            queries.push(format!("SELECT count(*)::text FROM {table}"));
            queries.push(format!("SELECT sum(id)::text FROM {table}"));
            queries.push(format!("SELECT row_number() OVER (ORDER BY {a}, {b}, id) || ' ' || id FROM {table} ORDER BY id"));
            queries.push(format!(
                "SELECT DISTINCT ON ({a}) ROW({a}, {b})::text FROM {table} ORDER BY {a}, {b}"
            ));
            queries.push(format!(
                "SELECT o.id || ' ' || n.key FROM (SELECT * FROM grid WHERE id % 50 = 7) o CROSS JOIN LATERAL
                 (SELECT ROW(e <-> o.e, {b})::text AS key FROM {table} ORDER BY e <-> o.e, {b} LIMIT 3) n ORDER BY 1"
            ));
        }
        queries
    }

    fn texts(sql: &str) -> Vec<String> {
        get(&format!("SELECT array_agg(t) FROM ({sql}) AS x(t)"))
    }

    #[pg_test]
    fn queries_by_several_orders_are_right_whatever_is_disabled() {
        create_grids();
        let queries = queries_of_many_orders();
        let truth: Vec<Vec<String>> = queries.iter().map(|sql| texts(sql)).collect();
        index_grids();
        const SWITCHES: [&str; 4] = ["seqscan", "sort", "incremental_sort", "indexscan"];
        for choice in 0..1 << SWITCHES.len() {
            for (number, switch) in SWITCHES.iter().enumerate() {
                run(&format!("SET LOCAL enable_{switch} = {}", choice >> number & 1 == 0));
            }
            for (sql, truth) in queries.iter().zip(&truth) {
                assert_eq!(&texts(sql), truth, "{choice:b}: {sql}: {}", plan(sql));
            }
        }
    }

    #[pg_test]
    fn the_first_of_several_orders_is_the_indexs() {
        create(&Table { dimensions: 48, rows: 10_000 });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        run("ANALYZE items");
        let distance =
            |id: i32| format!("embedding <-> (SELECT embedding FROM items WHERE id = {id})");
        let (a, b) = (distance(77), distance(78));
        for order in [
            format!("{a}, {b}"),
            format!("{a}, id"),
            format!("{a}, {b}, id"),
            format!("{a}, {b} DESC"),
        ] {
            let plan = plan(&format!("SELECT id FROM items ORDER BY {order} LIMIT 10"));
            assert!(plan.contains("Incremental Sort"), "{order}: {plan}");
            assert!(plan.contains("Index Scan using ix"), "{order}: {plan}");
        }
        let same = plan(&format!("SELECT id FROM items ORDER BY {a}, {a} LIMIT 10"));
        assert!(same.contains("Index Scan using ix") && !same.contains("Sort"), "{same}");
    }
}
