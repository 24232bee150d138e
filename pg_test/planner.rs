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
}
