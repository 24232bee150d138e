//! What EXPLAIN tells about scans.

use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use super::super::support::*;
    use pgrx::Json;
    use pgrx::prelude::*;
    use serde_json::Value;

    const ROWS: usize = 2000;

    fn indexed() {
        create(&Table { dimensions: 24, rows: ROWS });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        use_index(true);
    }

    fn nearest(limit: usize) -> String {
        format!("SELECT id FROM items ORDER BY embedding <-> '{}' LIMIT {limit}", vector(3))
    }

    fn vector(id: usize) -> String {
        get(&format!("SELECT embedding::text FROM items WHERE id = {id}"))
    }

    /// The lines of a plan that was run.
    fn analyzed(options: &str, sql: &str) -> Vec<String> {
        lines(&format!("EXPLAIN (ANALYZE, COSTS OFF, BUFFERS OFF, SUMMARY OFF{options}) {sql}"))
    }

    fn lines(sql: &str) -> Vec<String> {
        Spi::connect_mut(|client| {
            let rows = client.update(sql, None, &[]).unwrap_or_else(|error| panic!("{error}"));
            rows.map(|row| row.get::<String>(1).expect("text").expect("not null")).collect()
        })
    }

    /// The scan of `ix` in a plan that was run.
    fn node(options: &str, sql: &str) -> Value {
        let sql = format!("EXPLAIN (ANALYZE, FORMAT JSON{options}) {sql}");
        let plan = Spi::connect_mut(|client| {
            let rows = client.update(&sql, None, &[]).unwrap_or_else(|error| panic!("{error}"));
            rows.first().get_one::<Json>().expect("JSON").expect("not null").0
        });
        find(&plan).unwrap_or_else(|| panic!("no scan of ix: {plan:#}")).clone()
    }

    fn find(plan: &Value) -> Option<&Value> {
        match plan {
            Value::Object(node) if node.get("Index Name") == Some(&"ix".into()) => Some(plan),
            Value::Object(node) => node.values().find_map(find),
            Value::Array(nodes) => nodes.iter().find_map(find),
            _ => None,
        }
    }

    fn number(node: &Value, label: &str) -> u64 {
        node[label].as_u64().unwrap_or_else(|| panic!("{label}: {node:#}"))
    }

    /// What follows `label` in the one line that has it.
    fn said<'a>(lines: &'a [String], label: &str) -> Option<&'a str> {
        let mut found = lines.iter().filter_map(|line| line.trim().strip_prefix(label));
        let said = found.next()?;
        assert!(found.next().is_none(), "{label} twice: {lines:#?}");
        said.strip_prefix(": ")
    }

    /// Runs a query until the worker has put everything it fetches into the cache.
    fn warm(sql: &str) {
        for _ in 0..100 {
            run(sql);
            if get::<i32>("SELECT waves FROM s3vector_last_scan()") == 0 {
                return;
            }
            run("SELECT pg_sleep(0.05)");
        }
        panic!("still fetching: {sql}");
    }

    #[pg_test]
    fn a_cold_query_and_a_warm_one() {
        indexed();
        let cold = analyzed("", &nearest(10));
        assert_eq!(said(&cold, "Segments Searched"), Some("1"), "{cold:#?}");
        assert_eq!(said(&cold, "Candidates"), Some("100"));
        assert_eq!(said(&cold, "Delta Rows"), None);
        let reranked = get::<i32>("SELECT reranked FROM s3vector_last_scan()");
        let told = format!("{reranked} (0 in cache, {reranked} fetched)");
        assert_eq!(said(&cold, "Rows Reranked"), Some(told.as_str()));
        assert!(said(&cold, "Chunks Fetched").is_some());
        let storage = said(&cold, "Storage").expect("something was fetched");
        assert!(storage.contains("range request") && storage.contains(" kB, 1 wave, "));
        assert!(storage.ends_with(" ms"), "{storage}");
        // As deep as what PostgreSQL itself says about the node.
        let depth = |label: &str| cold.iter().find_map(|line| line.find(label));
        assert_eq!(depth("Segments Searched"), depth("Order By"));

        warm(&nearest(10));
        let warm = analyzed("", &nearest(10));
        let told = format!("{reranked} ({reranked} in cache)");
        assert_eq!(said(&warm, "Rows Reranked"), Some(told.as_str()));
        assert_eq!((said(&warm, "Chunks Fetched"), said(&warm, "Storage")), (None, None));
    }

    #[pg_test]
    fn rows_of_the_delta_are_told_and_times_only_when_asked_for() {
        indexed();
        insert(&Table { dimensions: 24, rows: 7 }, 50_000);
        let lines = analyzed(", TIMING OFF", &nearest(10));
        assert_eq!(said(&lines, "Delta Rows"), Some("7"));
        assert!(said(&lines, "Storage").is_some_and(|storage| storage.ends_with(" 1 wave")));
        assert_eq!(node(", TIMING OFF", &nearest(10))["Fetch Time"], Value::Null);
    }

    #[pg_test]
    fn json_has_every_property_of_the_scan() {
        indexed();
        let node = node("", &nearest(10));
        for (label, column) in [
            ("Segments Searched", "segments"),
            ("Candidates", "candidates"),
            ("Delta Rows", "delta_rows"),
            ("Rows Reranked", "reranked"),
            ("Rows In Cache", "cache_hits"),
            ("Rows From Table", "heap_rows"),
            ("Rows Refined", "refined"),
            ("Rows Sorted", "sorted_rows"),
            ("Graph Walks", "walks"),
            ("Code Sweeps", "sweeps"),
            ("Rows Swept", "swept_rows"),
            ("Rows Late", "late"),
            ("Chunks Fetched", "chunks_fetched"),
            ("Chunks From Redis", "redis_chunks"),
            ("Range Requests", "requests"),
            ("Hedges", "hedges"),
            ("Storage Bytes", "bytes"),
            ("Waves", "waves"),
        ] {
            let counted = get::<i64>(&format!("SELECT {column}::bigint FROM s3vector_last_scan()"));
            assert_eq!(number(&node, label), counted as u64, "{label}");
        }
        assert!(number(&node, "Storage Bytes") > 0);
        for label in ["Search Time", "Fetch Time"] {
            assert!(node[label].as_f64().is_some_and(|time| time > 0.0), "{label}: {node:#}");
        }
    }

    #[pg_test]
    fn a_scan_to_the_end_tells_its_sweep() {
        indexed();
        let all = nearest(10).replace(" LIMIT 10", "");
        let lines = analyzed("", &all);
        let rows = get::<i64>("SELECT swept_rows FROM s3vector_last_scan()");
        assert_eq!(said(&lines, "Code Sweeps"), Some(format!("1 ({rows} rows)").as_str()));
        assert_eq!((said(&lines, "Graph Walks"), said(&lines, "Rows Late")), (None, None));
        assert_eq!(get::<i64>("SELECT count(*) FROM items"), rows);
        let lines = analyzed("", &nearest(10));
        assert_eq!(said(&lines, "Graph Walks"), Some("1"), "{lines:#?}");
        assert_eq!(said(&lines, "Code Sweeps"), None);
    }

    #[pg_test]
    fn every_format_is_well_formed() {
        indexed();
        let xml = format!("EXPLAIN (ANALYZE, FORMAT XML) {}", nearest(3));
        run(&format!(
            "DO $$ DECLARE plan text; BEGIN EXECUTE $x${xml}$x$ INTO plan;
             IF plan NOT LIKE '%<Segments-Searched>1</Segments-Searched>%' THEN
                 RAISE 'XML: %', plan;
             END IF; END $$"
        ));
        let yaml = lines(&format!("EXPLAIN (ANALYZE, FORMAT YAML) {}", nearest(3)));
        assert!(yaml[0].lines().any(|line| line.trim() == "Segments Searched: 1"), "{yaml:#?}");
    }

    #[pg_test]
    fn loops_are_added_up() {
        indexed();
        let sql = "SELECT q.id, n.id FROM (SELECT * FROM items WHERE id < 15) q,
                   LATERAL (SELECT id FROM items ORDER BY embedding <-> q.embedding LIMIT 3) n";
        let node = node("", sql);
        assert_eq!(number(&node, "Actual Loops"), 15);
        assert_eq!(number(&node, "Segments Searched"), 15);
        assert_eq!(number(&node, "Candidates"), 15 * 100);
        assert!(number(&node, "Rows Reranked") >= 15 * 3);
        // The last loop alone is what `s3vector_last_scan()` tells.
        assert_eq!(get::<i32>("SELECT candidates FROM s3vector_last_scan()"), 100);
    }

    #[pg_test]
    fn a_scan_in_a_subplan() {
        indexed();
        let sql = "SELECT q.id, (SELECT id FROM items ORDER BY embedding <-> q.embedding LIMIT 1)
                   FROM items q WHERE q.id < 5";
        let node = node("", sql);
        assert_eq!(number(&node, "Segments Searched"), 5);
        let lines = analyzed("", sql);
        assert_eq!(said(&lines, "Segments Searched"), Some("5"), "{lines:#?}");
    }

    #[pg_test]
    fn a_scan_that_never_ran_says_nothing() {
        indexed();
        let sql = format!("SELECT * FROM ({}) x WHERE (SELECT false)", nearest(3));
        let lines = analyzed("", &sql);
        assert!(lines.iter().any(|line| line.contains("using ix")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.contains("never executed")), "{lines:#?}");
        assert_eq!(said(&lines, "Segments Searched"), None);
    }

    #[pg_test]
    fn nothing_is_said_without_analyze() {
        indexed();
        let lines = lines(&format!("EXPLAIN (VERBOSE) {}", nearest(3)));
        assert!(lines.iter().any(|line| line.contains("using ix")), "{lines:#?}");
        for label in ["Segments Searched", "Candidates", "Rows Reranked"] {
            assert_eq!(said(&lines, label), None);
        }
    }

    #[pg_test]
    fn other_indexes_are_left_alone() {
        indexed();
        let lines = analyzed("", "SELECT id FROM items WHERE id = 7");
        assert!(lines.iter().any(|line| line.contains("items_pkey")), "{lines:#?}");
        assert_eq!(said(&lines, "Segments Searched"), None);
        assert_eq!(said(&lines, "Candidates"), None);
    }

    #[pg_test]
    fn a_prepared_statement() {
        indexed();
        run("SET LOCAL plan_cache_mode = force_generic_plan");
        run("PREPARE nearest (vector, bigint) AS
             SELECT id FROM items ORDER BY embedding <-> $1 LIMIT $2");
        for _ in 0..2 {
            let lines = analyzed("", &format!("EXECUTE nearest ('{}', 5)", vector(4)));
            assert_eq!(said(&lines, "Segments Searched"), Some("1"), "{lines:#?}");
            assert_eq!(said(&lines, "Candidates"), Some("100"));
        }
    }

    #[pg_test]
    fn a_cursor_under_way_does_not_mix_in() {
        indexed();
        let all = format!("SELECT id FROM items ORDER BY embedding <-> '{}'", vector(9));
        run(&format!("DECLARE open CURSOR FOR {all}"));
        run("FETCH 300 FROM open");
        let lines = analyzed("", &nearest(5));
        assert_eq!(said(&lines, "Candidates"), Some("100"), "{lines:#?}");
        let whole = node("", &format!("DECLARE whole CURSOR FOR {all}"));
        assert!(number(&whole, "Candidates") as f64 >= 0.97 * ROWS as f64, "{whole:#}");
    }
}
