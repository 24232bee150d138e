//! What stands on the order of rows: the operator's values never fall, and equal ones stand together.

use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use super::super::support::*;
    use pgrx::prelude::*;

    /// Vectors whose distances are equal, or all but equal, in many places.
    const DATA: [(&str, &str); 3] = [
        (
            "vector(3)",
            "SELECT array[x / 10.0, y / 10.0, z / 10.0]::vector
             FROM generate_series(1, 9) x, generate_series(1, 9) y, generate_series(1, 9) z",
        ),
        // Bits.
        (
            "vector(40)",
            "SELECT (SELECT array_agg((hashint4(i * 40 + d) & 1024) / 1024 ORDER BY d)
                     FROM generate_series(1, 40) d)::vector
             FROM generate_series(1, 700) i",
        ),
        // Multiples: under cosine all of a direction are at one distance, but for rounding.
        (
            "vector(24)",
            "SELECT (SELECT array_agg(sin(i % 30 * d + 1)::real * (1 + i / 30 / 7.0) ORDER BY d)
                     FROM generate_series(1, 24) d)::vector
             FROM generate_series(1, 700) i",
        ),
    ];

    const QUERIES: [&str; 3] = [
        "(SELECT e FROM items WHERE id = 17)",
        "(SELECT e FROM items WHERE id = 333)",
        "(SELECT l2_normalize(a.e + b.e) FROM items a, items b WHERE (a.id, b.id) = (5, 260))",
    ];

    /// Statements whose answers are wrong where distances that are given for sorted are not.
    const STATEMENTS: [&str; 6] = [
        "SELECT e OP QUERY AS d, count(*) FROM items GROUP BY 1 ORDER BY 1",
        "SELECT DISTINCT e OP QUERY AS d FROM items ORDER BY 1",
        "SELECT id, rank() OVER (ORDER BY e OP QUERY), dense_rank() OVER (ORDER BY e OP QUERY)
         FROM items ORDER BY id",
        "SELECT e OP QUERY AS d, id FROM items ORDER BY 1, 2",
        "SELECT id FROM items ORDER BY e OP QUERY, id LIMIT 60",
        "SELECT count(*), sum(a.id * b.id) FROM
         (SELECT e OP QUERY AS d, id FROM items ORDER BY e OP QUERY) a JOIN
         (SELECT e OP QUERY AS d, id FROM items ORDER BY e OP QUERY) b USING (d)",
    ];

    fn answer(sql: &str) -> Vec<String> {
        get(&format!("SELECT coalesce(array_agg(x::text), '{{}}') FROM ({sql}) x"))
    }

    fn compare(sql: &str) {
        use_index(false);
        let exact = answer(sql);
        use_index(true);
        let plan = plan(sql);
        assert!(plan.contains("Index Scan using ix"), "{sql}: {plan}");
        assert_eq!(answer(sql), exact, "{sql}: {plan}");
    }

    fn all_statements(operator: &str, class: &str, options: &str) {
        // Which rows are found is another matter.
        run("SET LOCAL s3vector.ef_search = 1000");
        for (kind, rows) in DATA {
            run("DROP TABLE IF EXISTS items");
            run(&format!("CREATE TABLE items (id bigserial PRIMARY KEY, e {kind})"));
            define_plan();
            run(&format!("INSERT INTO items (e) SELECT * FROM ({rows}) r LIMIT 550"));
            run(&format!("CREATE INDEX ix ON items USING s3vector (e {class}) WITH ({options})"));
            // The rest are in the delta.
            run(&format!("INSERT INTO items (e) SELECT * FROM ({rows}) r OFFSET 550"));
            run("SET LOCAL enable_hashjoin = off");
            run("SET LOCAL enable_nestloop = off");
            run("SET LOCAL enable_hashagg = off");
            for query in QUERIES {
                for sql in STATEMENTS {
                    compare(&sql.replace("OP", operator).replace("QUERY", query));
                }
                // Ties at the end of what LIMIT reads come all or not at all.
                for count in [1, 10, 37] {
                    compare(&format!(
                        "SELECT id FROM (SELECT id FROM items ORDER BY e {operator} {query}
                         FETCH FIRST {count} ROWS WITH TIES) t ORDER BY id + 0"
                    ));
                }
            }
            let late = get::<i32>("SELECT late FROM s3vector_last_scan()");
            assert_eq!(late, 0);
        }
    }

    #[pg_test]
    fn distances_that_are_almost_equal_are_in_order() {
        all_statements("<->", "vector_l2_ops", "bits = '4'");
    }

    #[pg_test]
    fn inner_products_that_are_almost_equal_are_in_order() {
        all_statements("<#>", "vector_ip_ops", "bits = '8'");
    }

    #[pg_test]
    fn cosines_that_are_almost_equal_are_in_order() {
        all_statements("<=>", "vector_cosine_ops", "bits = '1'");
    }

    #[pg_test]
    fn almost_equal_distances_are_in_order_with_little_memory() {
        run("SET LOCAL work_mem = 64");
        all_statements("<->", "vector_l2_ops", "bits = '1'");
    }

    #[pg_test]
    fn almost_equal_distances_are_in_order_where_vectors_are_stored_rounded() {
        all_statements("<->", "vector_l2_ops", "payload = 'float16'");
        all_statements("<=>", "vector_cosine_ops", "payload = 'float16'");
    }
}
