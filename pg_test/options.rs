//! Storage parameters and settings.

use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use super::super::support::*;
    use pgrx::prelude::*;

    #[pg_test]
    fn payloads_and_compressions_answer_alike() {
        create(&Table { dimensions: 20, rows: 800 });
        for payload in ["float32", "float16"] {
            for compression in ["none", "zstd", "lz4"] {
                run(&format!(
                    "CREATE INDEX ix ON items USING s3vector (embedding)
                     WITH (payload = {payload}, compression = {compression}, m = 12,
                           ef_construction = 80, chunk_rows = 8, shard_rows = 64)"
                ));
                let info = |column: &str| {
                    get::<String>(&format!("SELECT {column}::text FROM s3vector_index_info('ix')"))
                };
                assert_eq!(info("payload"), payload);
                assert_eq!(info("compression"), compression);
                let options = [("m", "12"), ("ef_construction", "80"), ("shard_rows", "64")];
                for (option, value) in options {
                    assert_eq!(info(option), value);
                }
                let recall = recall("<->", 10);
                assert!(recall >= 0.97, "{payload} {compression}: {recall}");
                run("DROP INDEX ix");
            }
        }
    }

    #[pg_test]
    fn half_precision_still_gives_the_exact_order() {
        create(&Table { dimensions: 6, rows: 1500 });
        for (class, operator) in
            [("vector_l2_ops", "<->"), ("vector_ip_ops", "<#>"), ("vector_cosine_ops", "<=>")]
        {
            run(&format!(
                "CREATE INDEX ix ON items USING s3vector (embedding {class})
                 WITH (payload = float16)"
            ));
            insert(&Table { dimensions: 6, rows: 100 }, 100_000);
            use_index(true);
            let sorted = get::<bool>(&format!(
                "SELECT bool_and(d >= before OR before IS NULL) FROM (
                     SELECT d, lag(d) OVER () AS before FROM (
                         SELECT embedding {operator} '[1,2,3,1,2,3]' AS d FROM items
                         ORDER BY embedding {operator} '[1,2,3,1,2,3]' LIMIT 300) x) y"
            ));
            assert!(sorted, "{operator}");
            let recall = recall(operator, 10);
            assert!(recall >= 0.97, "{operator}: {recall}");
            run("DROP INDEX ix");
            run("DELETE FROM items WHERE id >= 100000");
        }
    }

    #[pg_test]
    fn secrets_are_not_shown() {
        for name in ["s3vector.s3_access_key_id", "s3vector.s3_secret_access_key"] {
            assert_eq!(get::<String>(&format!("SELECT current_setting('{name}')")), "");
            let listed = format!("SELECT count(*) FROM pg_settings WHERE name = '{name}'");
            assert_eq!(get::<i64>(&listed), 0);
        }
    }
}
