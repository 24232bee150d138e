//! Filling memory before queries need it.

use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use super::super::support::*;
    use pgrx::prelude::*;

    const ROWS: i64 = 3000;

    fn indexed() {
        create(&Table { dimensions: 32, rows: ROWS as usize });
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
    }

    /// Graphs, their bytes, chunks, their bytes.
    fn prewarm(arguments: &str) -> (i64, i64, i64, i64) {
        let row = get::<Vec<i64>>(&format!(
            "SELECT ARRAY[graphs, graph_bytes, chunks, payload_bytes] FROM s3vector_prewarm({arguments})"
        ));
        (row[0], row[1], row[2], row[3])
    }

    fn info(column: &str) -> i64 {
        get(&format!("SELECT {column}::bigint FROM s3vector_index_info('ix')"))
    }

    /// Inner chunks of a segment.
    fn chunks(rows: i64) -> i64 {
        (rows + info("chunk_rows") - 1) / info("chunk_rows")
    }

    fn in_memory() -> i64 {
        get("SELECT count(*) FROM s3vector_stat_graphs
             WHERE index_uuid = (SELECT index_uuid FROM s3vector_index_info('ix'))
               AND state = 'ready'")
    }

    /// Waits until everything fetched is in the cache: then there is nothing left to fetch.
    fn settle() {
        for _ in 0..100 {
            if prewarm("'ix', 'payload'").2 == 0 {
                return;
            }
            run("SELECT pg_sleep(0.05)");
        }
        panic!("chunks do not get into the cache");
    }

    #[pg_test]
    fn graphs_only() {
        indexed();
        let bytes = info("resident_bytes");
        assert_eq!(prewarm("'ix', 'graph'"), (1, bytes, 0, 0));
        assert_eq!(in_memory(), 1);
        assert_eq!(prewarm("'ix', 'graph'"), (1, bytes, 0, 0), "told, also when in memory already");
    }

    #[pg_test]
    fn vectors_only() {
        indexed();
        let (graphs, _, fetched, bytes) = prewarm("'ix', 'payload'");
        assert_eq!((graphs, fetched), (0, chunks(ROWS)));
        assert_eq!(bytes, chunks(ROWS) * info("chunk_rows") * 32 * 4);
        assert_eq!(in_memory(), 0);
    }

    #[pg_test]
    fn queries_fetch_nothing_after_everything_is_loaded() {
        indexed();
        run("INSERT INTO items SELECT id + 10000, embedding FROM items WHERE id < 9");
        assert_eq!(prewarm("'ix'").2, chunks(ROWS));
        settle();
        use_index(true);
        for id in [1, 1000, 2999] {
            ids(&format!(
                "SELECT id FROM items
                 ORDER BY embedding <-> (SELECT embedding FROM items WHERE id = {id}) LIMIT 20"
            ));
            assert_eq!(get::<i32>("SELECT waves FROM s3vector_last_scan()"), 0);
            assert!(get::<i32>("SELECT cache_hits FROM s3vector_last_scan()") >= 20);
        }
    }

    #[pg_test]
    fn every_segment_and_every_form_of_payload() {
        create(&Table { dimensions: 64, rows: 12_000 });
        run("SET LOCAL maintenance_work_mem = '1MB'");
        run("CREATE INDEX ix ON items USING s3vector (embedding)
             WITH (payload = 'float16', compression = 'zstd')");
        let segments = info("segments");
        assert!(segments > 1);
        let (graphs, graph_bytes, fetched, bytes) = prewarm("'ix', 'all'");
        assert_eq!((graphs, graph_bytes), (segments, info("resident_bytes")));
        let rows = get::<Vec<i64>>("SELECT array_agg(rows) FROM s3vector_segments('ix')");
        assert_eq!(fetched, rows.into_iter().map(chunks).sum::<i64>());
        assert_eq!(bytes, fetched * info("chunk_rows") * 64 * 2);
        settle();
    }

    #[pg_test]
    fn an_empty_index() {
        run("CREATE TABLE items (id bigint, embedding vector(3))");
        run("CREATE INDEX ix ON items USING s3vector (embedding)");
        assert_eq!(prewarm("'ix'"), (0, 0, 0, 0));
    }

    #[pg_test(error = "s3vector_prewarm() cannot load \"graphs\"")]
    fn nothing_else_can_be_loaded() {
        indexed();
        prewarm("'ix', 'graphs'");
    }

    #[pg_test(error = "\"items_pkey\" is not an s3vector index")]
    fn other_indexes_are_refused() {
        indexed();
        prewarm("'items_pkey'");
    }

    #[pg_test(error = "permission denied for index ix")]
    fn who_may_not_read_the_table_may_not_prewarm() {
        indexed();
        run("CREATE ROLE s3vector_nobody");
        run("SET LOCAL ROLE s3vector_nobody");
        prewarm("'ix'");
    }

    #[pg_test]
    fn who_may_read_the_table_may_prewarm() {
        indexed();
        run("CREATE ROLE s3vector_reader");
        run("GRANT SELECT ON items TO s3vector_reader");
        run("SET LOCAL ROLE s3vector_reader");
        assert_eq!(prewarm("'ix', 'graph'").0, 1);
    }
}
