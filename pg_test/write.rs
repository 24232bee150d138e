//! Rows written after the build.

use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use super::super::support::*;
    use pgrx::prelude::*;

    #[pg_test]
    fn inserted_rows_of_any_size_are_found_at_once() {
        // 2036 dimensions are the most that fit into one page, 2037 take two.
        for dimensions in [1, 3, 384, 2036, 2037, 4100, 16_000] {
            create(&Table { dimensions, rows: 12 });
            run("CREATE INDEX ix ON items USING s3vector (embedding)");
            insert(&Table { dimensions, rows: 15 }, 100);
            let info = |column: &str| {
                get::<i64>(&format!("SELECT {column} FROM s3vector_index_info('ix')"))
            };
            assert_eq!((info("entries"), info("delta_entries")), (12, 15));
            use_index(true);
            for id in [0, 5, 100, 107, 114] {
                let sql = format!(
                    "SELECT id FROM items ORDER BY embedding <->
                     (SELECT embedding FROM items WHERE id = {id}) LIMIT 1"
                );
                assert_eq!(ids(&sql), [id], "{dimensions} dimensions");
            }
            run("SET LOCAL enable_sort = on");
            assert_eq!(
                ids("SELECT id FROM items ORDER BY embedding <->
                 (SELECT embedding FROM items WHERE id = 5)")
                .len(),
                27
            );
            run("DROP TABLE items");
        }
    }

    #[pg_test]
    fn an_updated_row_is_found_at_its_new_place_only() {
        create(&Table { dimensions: 5, rows: 100 });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        run("UPDATE items SET embedding = '[50,50,50,50,50]' WHERE id = 42");
        use_index(true);
        let far = "SELECT id FROM items ORDER BY embedding <-> '[51,51,51,51,51]' LIMIT 1";
        assert_eq!(ids(far), [42]);
        let all = ids("SELECT id FROM items ORDER BY embedding <-> '[0,0,0,0,0]'");
        assert_eq!(all.iter().filter(|&&id| id == 42).count(), 1);
    }

    #[pg_test]
    fn recall_holds_with_half_of_the_rows_written_later() {
        create(&Table { dimensions: 32, rows: 1000 });
        run("CREATE INDEX ix ON items USING s3vector (embedding vector_cosine_ops)");
        insert(&Table { dimensions: 32, rows: 1000 }, 5000);
        let recall = recall("<=>", 10);
        assert!(recall >= 0.97, "{recall}");
    }

    #[pg_test]
    fn a_rolled_back_insert_is_not_found() {
        create(&Table { dimensions: 4, rows: 10 });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        run("DO $$ BEGIN
                 BEGIN
                     INSERT INTO items VALUES (77, '[9,9,9,9]');
                     RAISE EXCEPTION 'no';
                 EXCEPTION WHEN raise_exception THEN NULL;
                 END;
             END $$");
        use_index(true);
        let all = ids("SELECT id FROM items ORDER BY embedding <-> '[9,9,9,9]'");
        assert_eq!(all.len(), 10);
        assert!(!all.contains(&77));
    }
}
