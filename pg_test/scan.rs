//! What a scan returns, and in which order.

use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use super::super::support::*;
    use pgrx::prelude::*;

    fn indexed(rows: usize) {
        create(&Table { dimensions: 24, rows });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        use_index(true);
    }

    const QUERY: &str = "(SELECT embedding FROM items WHERE id = 3)";

    #[pg_test]
    fn rows_come_once_and_in_order_of_distance() {
        indexed(3000);
        insert(&Table { dimensions: 24, rows: 200 }, 50_000);
        let sql = format!("SELECT id FROM items ORDER BY embedding <-> {QUERY}");
        let all = ids(&sql);
        let mut unique = all.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), all.len(), "no row twice");
        assert!(all.len() as f64 >= 0.97 * 3200.0, "{} of 3200 rows", all.len());
        let sorted = get::<bool>(&format!(
            "SELECT bool_and(d >= before - 1e-6 OR before IS NULL) FROM (
                 SELECT d, lag(d) OVER () AS before FROM (
                     SELECT embedding <-> {QUERY} AS d FROM items
                     ORDER BY embedding <-> {QUERY}) x) y"
        ));
        assert!(sorted);
    }

    #[pg_test]
    fn a_limit_above_ef_search_is_met() {
        indexed(2000);
        run("SET LOCAL s3vector.ef_search = 10");
        for limit in [10, 11, 100, 500] {
            let sql = format!("SELECT id FROM items ORDER BY embedding <-> {QUERY} LIMIT {limit}");
            use_index(true);
            let answer = ids(&sql);
            use_index(false);
            let exact = ids(&sql);
            assert_eq!(answer.len(), limit);
            let hits = answer.iter().filter(|id| exact.contains(id)).count();
            assert!(hits as f64 >= 0.9 * limit as f64, "LIMIT {limit}: {hits}");
        }
    }

    #[pg_test]
    fn asking_for_pages_ahead_changes_no_answer() {
        indexed(3000);
        for limit in [1, 10, 200] {
            let sql = format!("SELECT id FROM items ORDER BY embedding <-> {QUERY} LIMIT {limit}");
            run("SET LOCAL effective_io_concurrency = 16");
            let ahead = ids(&sql);
            run("SET LOCAL effective_io_concurrency = 0");
            assert_eq!(ids(&sql), ahead, "LIMIT {limit}");
            use_index(false);
            let exact = ids(&sql);
            use_index(true);
            let hits = ahead.iter().filter(|id| exact.contains(id)).count();
            assert!(hits as f64 >= 0.95 * limit as f64, "LIMIT {limit}: {hits}");
        }
    }

    #[pg_test]
    fn a_filter_still_gets_as_many_rows_as_wanted() {
        indexed(3000);
        let sql = format!(
            "SELECT id FROM items WHERE id % 100 = 7 ORDER BY embedding <-> {QUERY} LIMIT 10"
        );
        let answer = ids(&sql);
        assert_eq!(answer.len(), 10);
        use_index(false);
        let exact = ids(&sql);
        let hits = answer.iter().filter(|id| exact.contains(id)).count();
        assert!(hits >= 9, "{hits} of 10");
    }

    #[pg_test]
    fn a_null_query_returns_rows_in_any_order() {
        indexed(50);
        run("INSERT INTO items SELECT 999, embedding FROM items WHERE id = 1");
        assert_eq!(ids("SELECT id FROM items ORDER BY embedding <-> NULL").len(), 51);
        assert_eq!(ids("SELECT id FROM items ORDER BY embedding <-> NULL LIMIT 5").len(), 5);
    }

    #[pg_test]
    fn a_query_without_direction_under_cosine() {
        create(&Table { dimensions: 3, rows: 20 });
        run("CREATE INDEX ix ON items USING s3vector (embedding vector_cosine_ops)");
        use_index(true);
        assert_eq!(ids("SELECT id FROM items ORDER BY embedding <=> '[0,0,0]'").len(), 20);
    }

    #[pg_test]
    fn rescans_in_a_lateral_join_and_a_nested_loop() {
        indexed(1000);
        let sql = "SELECT q.id * 100000 + n.id FROM (SELECT * FROM items WHERE id < 15) q,
                   LATERAL (SELECT id FROM items ORDER BY embedding <-> q.embedding LIMIT 3) n
                   ORDER BY 1";
        use_index(true);
        run("SET LOCAL enable_sort = on");
        assert!(plan(sql).contains("Index Scan using ix"), "{}", plan(sql));
        let answer = ids(sql);
        use_index(false);
        let exact = ids(sql);
        assert_eq!(answer.len(), 45);
        let hits = answer.iter().filter(|id| exact.contains(id)).count();
        assert!(hits >= 43, "{hits} of 45");
    }

    #[pg_test]
    fn a_cursor_goes_on_where_it_stopped() {
        indexed(500);
        let sql = format!("SELECT id FROM items ORDER BY embedding <-> {QUERY}");
        let whole = ids(&format!("{sql} LIMIT 60"));
        let parts = Spi::connect(|client| {
            let mut cursor = client.open_cursor(&sql, &[]);
            let mut ids = Vec::new();
            for _ in 0..6 {
                for row in cursor.fetch(10).expect("fetch") {
                    ids.push(row.get::<i64>(1).expect("id").expect("not null"));
                }
            }
            ids
        });
        assert_eq!(parts, whole);
    }

    #[pg_test]
    fn prepared_statements_with_query_and_limit_as_parameters() {
        indexed(500);
        run("SET LOCAL plan_cache_mode = force_generic_plan");
        run("PREPARE nearest (vector, bigint) AS
             SELECT id FROM items ORDER BY embedding <-> $1 LIMIT $2");
        for limit in [1, 7, 40] {
            let sql = format!("SELECT id FROM items ORDER BY embedding <-> {QUERY} LIMIT {limit}");
            let vector = get::<String>("SELECT embedding::text FROM items WHERE id = 3");
            let prepared = Spi::connect_mut(|client| {
                client
                    .update(&format!("EXECUTE nearest ('{vector}', {limit})"), None, &[])
                    .expect("execute")
                    .map(|row| row.get::<i64>(1).expect("id").expect("not null"))
                    .collect::<Vec<_>>()
            });
            assert_eq!(prepared, ids(&sql));
        }
    }

    #[pg_test]
    fn a_cold_query_fetches_in_one_wave_and_a_warm_one_not_at_all() {
        indexed(2000);
        let sql = format!("SELECT id FROM items ORDER BY embedding <-> {QUERY} LIMIT 10");
        let count =
            |column: &str| get::<i32>(&format!("SELECT {column} FROM s3vector_last_scan()"));
        let cold = ids(&sql);
        assert_eq!(count("waves"), 1);
        assert!(count("reranked") >= 10 && count("requests") >= 1);
        let bytes = get::<i64>("SELECT bytes FROM s3vector_last_scan()");
        assert!(bytes > 0);
        // The worker hands chunks to the cache right behind the answer.
        run("SELECT pg_sleep(0.2)");
        assert_eq!(ids(&sql), cold);
        assert_eq!((count("waves"), count("requests")), (0, 0));
        assert_eq!(count("cache_hits"), count("reranked"));
    }

    #[pg_test]
    fn relaxed_rerank_finds_the_same_rows_with_fewer_fetches_and_off_fetches_nothing() {
        indexed(3000);
        let sql = |id: usize| {
            format!(
                "SELECT id FROM items ORDER BY embedding <-> (SELECT embedding FROM items \
                 WHERE id = {id}) LIMIT 10"
            )
        };
        let count =
            |column: &str| get::<i32>(&format!("SELECT {column} FROM s3vector_last_scan()"));
        let (mut strict, mut relaxed, mut right) = (0, 0, 0);
        for id in 1..=20 {
            run("SET LOCAL s3vector.rerank = strict");
            let exact = ids(&sql(id));
            strict += count("reranked");
            run("SET LOCAL s3vector.rerank = relaxed");
            let mut answer = ids(&sql(id));
            relaxed += count("reranked");
            let mut sorted = exact.clone();
            sorted.sort_unstable();
            answer.sort_unstable();
            assert_eq!(answer, sorted, "relaxed: the same rows");
            run("SET LOCAL s3vector.rerank = off");
            let estimated = ids(&sql(id));
            assert_eq!((count("reranked"), count("waves")), (0, 0));
            assert_eq!(estimated.len(), 10);
            right += estimated.iter().filter(|id| exact.contains(id)).count();
        }
        assert!(relaxed < strict, "{relaxed} rows fetched, strictly {strict}");
        // Eight bits a dimension, the default below 64 dimensions, estimate well.
        assert!(right >= 190, "{right} of 200 rows by estimates");
    }

    #[pg_test]
    fn relaxed_rows_of_a_half_precision_payload_compete_fairly_with_new_ones() {
        create(&Table { dimensions: 24, rows: 1500 });
        run("CREATE INDEX ix ON items USING s3vector (embedding) WITH (payload = 'float16')");
        // Rows of which only lower bounds were known would come before these.
        insert(&Table { dimensions: 24, rows: 500 }, 50_000);
        use_index(true);
        let mut right = 0;
        for id in 1..=20 {
            let sql = format!(
                "SELECT id FROM items ORDER BY embedding <-> (SELECT embedding FROM items \
                 WHERE id = {id}) LIMIT 10"
            );
            run("SET LOCAL s3vector.rerank = strict");
            let exact = ids(&sql);
            run("SET LOCAL s3vector.rerank = relaxed");
            right += ids(&sql).iter().filter(|id| exact.contains(id)).count();
        }
        assert!(right >= 198, "{right} of 200 rows");
    }

    #[pg_test]
    fn every_row_comes_once_whatever_the_rerank() {
        create(&Table { dimensions: 24, rows: 1500 });
        run("CREATE INDEX ix ON items USING s3vector (embedding) WITH (payload = 'float16')");
        insert(&Table { dimensions: 24, rows: 100 }, 50_000);
        use_index(true);
        for mode in ["strict", "relaxed", "off"] {
            run(&format!("SET LOCAL s3vector.rerank = {mode}"));
            let mut all = ids(&format!("SELECT id FROM items ORDER BY embedding <-> {QUERY}"));
            let found = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), found, "{mode}: no row twice");
            assert_eq!(found, 1600, "{mode}");
        }
    }

    #[pg_test(error = "invalid value for parameter \"s3vector.rerank\": \"sometimes\"")]
    fn an_unknown_rerank_is_refused() {
        run("SET s3vector.rerank = sometimes");
    }

    #[pg_test]
    fn an_emptied_cache_is_filled_anew() {
        indexed(500);
        let sql = format!("SELECT id FROM items ORDER BY embedding <-> {QUERY} LIMIT 10");
        let count =
            |column: &str| get::<i32>(&format!("SELECT {column} FROM s3vector_last_scan()"));
        let first = ids(&sql);
        run("SELECT pg_sleep(0.2), s3vector_drop_cache()");
        assert_eq!(ids(&sql), first);
        assert_eq!(count("cache_hits"), 0);
        assert!(count("chunks_fetched") > 0);
        assert_eq!(get::<i32>("SELECT loaded_segments FROM s3vector_stat_indexes"), 1);
        assert!(get::<bool>("SELECT resident_bytes > 0 FROM s3vector_stat_indexes"));
    }
}
