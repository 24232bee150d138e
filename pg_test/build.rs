//! CREATE INDEX over all kinds of tables.

use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use super::super::support::*;
    use pgrx::prelude::*;

    fn built(operator_class: &str, options: &str) {
        run(&format!(
            "CREATE INDEX ix ON items USING s3vector (embedding {operator_class}) {options}"
        ));
    }

    #[pg_test]
    fn every_metric_finds_the_nearest() {
        create(&Table { dimensions: 32, rows: 2000 });
        for (class, operator) in
            [("vector_l2_ops", "<->"), ("vector_ip_ops", "<#>"), ("vector_cosine_ops", "<=>")]
        {
            built(class, "");
            let recall = recall(operator, 10);
            assert!(recall >= 0.95, "{class}: {recall}");
            run("DROP INDEX ix");
        }
    }

    #[pg_test]
    fn every_width_of_code_finds_the_nearest() {
        create(&Table { dimensions: 96, rows: 1500 });
        for bits in [1, 2, 4, 8] {
            built("", &format!("WITH (bits = {bits})"));
            assert_eq!(get::<i32>("SELECT bits FROM s3vector_index_info('ix')"), bits);
            let recall = recall("<->", 10);
            assert!(recall >= 0.93, "{bits} bits: {recall}");
            run("DROP INDEX ix");
        }
    }

    #[pg_test]
    fn few_dimensions_and_many() {
        for (dimensions, rows) in [(1, 500), (2, 2000), (3, 2000), (2500, 100), (16_000, 20)] {
            create(&Table { dimensions, rows });
            built("", "");
            let recall = recall("<->", 10);
            assert!(recall >= 0.97, "{dimensions} dimensions: {recall}");
            run("DROP TABLE items");
        }
    }

    #[pg_test]
    fn an_empty_table_and_one_row() {
        run("CREATE TABLE items (id bigint, embedding vector(3))");
        built("", "");
        use_index(true);
        let all = "SELECT id FROM items ORDER BY embedding <-> '[1,2,3]'";
        assert!(ids(all).is_empty());
        run("INSERT INTO items VALUES (7, '[1,1,1]')");
        assert_eq!(ids(all), [7]);
        run("REINDEX INDEX ix");
        assert_eq!(ids(all), [7]);
        assert_eq!(get::<i64>("SELECT rows FROM s3vector_index_info('ix')"), 1);
    }

    #[pg_test]
    fn nulls_are_left_out_and_zero_vectors_under_cosine() {
        run("CREATE TABLE items (id bigint, embedding vector(2))");
        run("INSERT INTO items VALUES (1, '[1,0]'), (2, NULL), (3, '[0,0]'), (4, '[0,1]')");
        built("vector_cosine_ops", "");
        run("INSERT INTO items VALUES (5, NULL), (6, '[0,0]'), (7, '[1,1]')");
        use_index(true);
        assert_eq!(ids("SELECT id FROM items ORDER BY embedding <=> '[1,0.1]'"), [1, 7, 4]);
        run("DROP INDEX ix");
        built("vector_l2_ops", "");
        assert_eq!(
            ids("SELECT id FROM items ORDER BY embedding <-> '[0.1,0.2]'").len(),
            5,
            "a zero vector is a vector like any other under the other metrics"
        );
    }

    #[pg_test]
    fn many_equal_vectors_share_a_row_and_do_not_hurt() {
        create(&Table { dimensions: 16, rows: 300 });
        run("INSERT INTO items SELECT id + 1000 * n, embedding
             FROM items, generate_series(1, 50) n");
        built("", "");
        assert_eq!(get::<i64>("SELECT rows FROM s3vector_index_info('ix')"), 300);
        assert_eq!(get::<i64>("SELECT entries FROM s3vector_index_info('ix')"), 300 * 51);
        use_index(true);
        // The nearest vector's 51 rows come first, then those of the next one.
        let nearest = ids("SELECT id % 1000 FROM items ORDER BY embedding <->
             (SELECT embedding FROM items WHERE id = 5) LIMIT 102");
        assert!(nearest[..51].iter().all(|&id| id == 5), "{nearest:?}");
        assert!(nearest[51..].iter().all(|&id| id == nearest[51] && id != 5));
    }

    #[pg_test]
    fn tight_clusters_of_almost_equal_vectors() {
        run("CREATE TABLE items (id bigint PRIMARY KEY, embedding vector(24))");
        run("SELECT setseed(0.5)");
        run("INSERT INTO items SELECT i, (SELECT array_agg(sin((i % 30 + 1) * d)
                 + random() * 1e-4 ORDER BY d) FROM generate_series(1, 24) d WHERE i = i)::vector
             FROM generate_series(0, 2999) i");
        run("CREATE FUNCTION plan(text) RETURNS SETOF text LANGUAGE plpgsql AS
             $f$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) ' || $1; END $f$");
        built("", "");
        let recall = recall("<->", 10);
        assert!(recall >= 0.9, "{recall}");
    }

    #[pg_test]
    fn partial_and_expression_indexes() {
        create(&Table { dimensions: 8, rows: 400 });
        run("CREATE INDEX part ON items USING s3vector (embedding) WHERE id % 2 = 0");
        run("CREATE INDEX expr ON items USING s3vector
             ((subvector(embedding, 1, 4)::vector(4)) vector_ip_ops)");
        run("INSERT INTO items SELECT id + 1000, embedding FROM items WHERE id < 100");
        use_index(true);
        let part = "SELECT id FROM items WHERE id % 2 = 0
                    ORDER BY embedding <-> (SELECT embedding FROM items WHERE id = 6) LIMIT 2";
        assert!(plan(part).contains("using part"));
        let mut nearest = ids(part);
        nearest.sort_unstable();
        assert_eq!(nearest, [6, 1006]);
        let expr = "SELECT id FROM items
                    ORDER BY subvector(embedding, 1, 4)::vector(4) <#> '[1,2,3,4]' LIMIT 5";
        assert!(plan(expr).contains("using expr"));
        // Copies are equally far: they may come in any order.
        let originals = |ids: Vec<i64>| ids.iter().map(|id| id % 1000).collect::<Vec<_>>();
        let by_index = originals(ids(expr));
        use_index(false);
        assert_eq!(by_index, originals(ids(expr)));
    }

    #[pg_test]
    fn partitioned_tables() {
        run("CREATE TABLE items (id bigint, embedding vector(4)) PARTITION BY RANGE (id)");
        run("CREATE TABLE low PARTITION OF items FOR VALUES FROM (0) TO (100)");
        built("", "");
        run("CREATE TABLE high PARTITION OF items FOR VALUES FROM (100) TO (200)");
        run("INSERT INTO items SELECT i, ARRAY[i, 1, 2, 3]::vector FROM generate_series(0, 199) i");
        run("REINDEX INDEX low_embedding_idx");
        use_index(true);
        run("SET LOCAL enable_sort = on");
        let nearest = ids("SELECT id FROM items ORDER BY embedding <-> '[99.6,1,2,3]' LIMIT 4");
        assert_eq!(nearest, [100, 99, 101, 98]);
    }

    #[pg_test]
    fn a_table_larger_than_the_memory_becomes_several_segments() {
        create(&Table { dimensions: 64, rows: 12_000 });
        run("SET LOCAL maintenance_work_mem = '1MB'");
        built("", "");
        assert!(get::<i32>("SELECT segments FROM s3vector_index_info('ix')") > 1);
        let recall = recall("<->", 10);
        assert!(recall >= 0.95, "{recall}");
    }
}
