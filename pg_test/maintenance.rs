//! Flushing, merging and sweeping, as far as one transaction sees them.

use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use super::super::support::*;
    use pgrx::prelude::*;

    fn info(column: &str) -> i64 {
        get(&format!("SELECT {column}::bigint FROM s3vector_index_info('ix')"))
    }

    fn flush(column: &str) -> i64 {
        get(&format!("SELECT {column}::bigint FROM s3vector_flush('ix')"))
    }

    #[pg_test]
    fn a_flush_turns_inserted_rows_into_a_segment() {
        create(&Table { dimensions: 24, rows: 500 });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        insert(&Table { dimensions: 24, rows: 300 }, 1000);
        assert_eq!((info("segments"), info("entries"), info("delta_entries")), (1, 500, 300));
        assert_eq!(flush("rows_flushed"), 300);
        assert_eq!((info("segments"), info("entries"), info("delta_entries")), (2, 800, 0));
        assert_eq!(flush("rows_flushed + segments_written"), 0);
        let recall = recall("<->", 10);
        assert!(recall >= 0.97, "{recall}");
    }

    #[pg_test]
    fn segments_are_merged_and_equal_rows_come_once_each() {
        create(&Table { dimensions: 8, rows: 60 });
        run("CREATE INDEX ix ON items USING s3vector (embedding vector_cosine_ops)");
        let mut replaced = 0;
        for round in 1..=6_usize {
            // The same vectors again and again, under other ids.
            run(&format!(
                "INSERT INTO items SELECT id + {}, embedding FROM items WHERE id < 60",
                1000 * round
            ));
            replaced += flush("segments_replaced");
        }
        assert!(replaced > 0 && info("segments") <= 4, "{replaced} replaced");
        assert_eq!((info("entries"), info("delta_entries")), (420, 0));
        use_index(true);
        run("SET LOCAL enable_sort = on");
        let mut all = ids("SELECT id FROM items ORDER BY embedding <=> '[1,0,0,0,0,0,0,0]'");
        assert_eq!(all.len(), 420);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 420);
        let generation = get::<i32>("SELECT max(generation) FROM s3vector_segments('ix')");
        assert!((1..=4).contains(&generation), "{generation}");
    }

    #[pg_test]
    fn rows_of_any_size_are_flushed() {
        for dimensions in [1, 3, 2036, 2037, 4100] {
            create(&Table { dimensions, rows: 5 });
            run("CREATE INDEX ix ON items USING s3vector (embedding)");
            insert(&Table { dimensions, rows: 12 }, 100);
            assert_eq!(flush("rows_flushed"), 12);
            use_index(true);
            for id in [0, 4, 100, 111] {
                let sql = format!(
                    "SELECT id FROM items ORDER BY embedding <->
                     (SELECT embedding FROM items WHERE id = {id}) LIMIT 1"
                );
                assert_eq!(ids(&sql), [id], "{dimensions} dimensions");
            }
            run("DROP TABLE items");
        }
    }

    #[pg_test]
    fn an_empty_index_has_nothing_to_flush() {
        create(&Table { dimensions: 4, rows: 0 });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        assert_eq!(flush("rows_flushed + segments"), 0);
        insert(&Table { dimensions: 4, rows: 3 }, 0);
        assert_eq!(flush("segments"), 1);
        use_index(true);
        assert_eq!(ids("SELECT id FROM items ORDER BY embedding <-> '[1,1,1,1]'").len(), 3);
    }

    #[pg_test]
    fn the_backlog_is_shown() {
        create(&Table { dimensions: 300, rows: 10 });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        insert(&Table { dimensions: 300, rows: 70 }, 100);
        let shown = |column: &str| {
            get::<i64>(&format!(
                "SELECT {column}::bigint FROM s3vector_stat_indexes WHERE index = 'ix'::regclass"
            ))
        };
        assert_eq!((shown("segments"), shown("entries"), shown("delta_rows")), (1, 10, 70));
        // Six rows a page.
        assert_eq!(shown("delta_bytes"), 12 * 8192);
        assert_eq!(shown("backlog::int"), 0);
        assert_eq!(flush("rows_flushed"), 70);
        assert_eq!((shown("delta_rows"), shown("delta_bytes")), (0, 8192));
    }

    #[pg_test(error = "\"items_pkey\" is not an s3vector index")]
    fn only_our_indexes_can_be_flushed() {
        create(&Table { dimensions: 3, rows: 1 });
        run("SELECT s3vector_flush('items_pkey')");
    }

    #[pg_test(error = "permission denied for index ix")]
    fn a_stranger_cannot_flush() {
        create(&Table { dimensions: 3, rows: 1 });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        run("CREATE ROLE stranger");
        run("SET LOCAL ROLE stranger");
        run("SELECT s3vector_flush('ix')");
    }

    #[pg_test]
    fn whoever_may_maintain_the_table_can_flush() {
        create(&Table { dimensions: 3, rows: 1 });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        insert(&Table { dimensions: 3, rows: 4 }, 10);
        run("CREATE ROLE keeper; GRANT MAINTAIN ON items TO keeper");
        run("SET LOCAL ROLE keeper");
        assert_eq!(flush("rows_flushed"), 4);
    }

    #[pg_test(error = "s3vector_sweep() cannot run in a transaction that has made changes")]
    fn no_sweep_in_a_transaction_that_could_be_rolled_back() {
        create(&Table { dimensions: 3, rows: 1 });
        run("SELECT s3vector_sweep()");
    }

    #[pg_test]
    fn what_an_open_transaction_has_built_is_not_unused() {
        create(&Table { dimensions: 3, rows: 50 });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        let uuid = get::<String>("SELECT index_uuid FROM s3vector_index_info('ix')");
        assert_eq!(info("owned::int"), 1);
        let listed = get::<i64>(&format!(
            "SELECT count(*) FROM s3vector_sweep(dry_run => true) WHERE prefix LIKE '{uuid}%'"
        ));
        assert_eq!(listed, 0);
    }

    #[pg_test(error = "permission denied for function s3vector_sweep")]
    fn a_stranger_cannot_sweep() {
        run("CREATE ROLE stranger");
        run("SET LOCAL ROLE stranger");
        run("SELECT s3vector_sweep(true)");
    }
}
