//! Bad input: the message says what is wrong.

use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use super::super::support::*;
    use pgrx::prelude::*;

    fn table() {
        run("CREATE TABLE items (id bigint, embedding vector(3))");
        run("INSERT INTO items VALUES (1, '[1,2,3]')");
    }

    fn index_with(options: &str) {
        table();
        run(&format!("CREATE INDEX ix ON items USING s3vector (embedding) WITH ({options})"));
    }

    #[pg_test(error = "value 1 out of bounds for option \"m\"")]
    fn m_too_small() {
        index_with("m = 1");
    }

    #[pg_test(error = "value 1001 out of bounds for option \"ef_construction\"")]
    fn ef_construction_too_large() {
        index_with("ef_construction = 1001");
    }

    #[pg_test(error = "invalid value for enum option \"bits\": 3")]
    fn no_such_width() {
        index_with("bits = 3");
    }

    #[pg_test(error = "invalid value for enum option \"payload\": float64")]
    fn no_such_payload() {
        index_with("payload = float64");
    }

    #[pg_test(error = "invalid value for enum option \"compression\": brotli")]
    fn no_such_compression() {
        index_with("compression = brotli");
    }

    #[pg_test(error = "unrecognized parameter \"lists\"")]
    fn no_such_option() {
        index_with("lists = 100");
    }

    #[pg_test(error = "value 60000 out of bounds for option \"chunk_rows\"")]
    fn chunks_the_cache_could_not_hold() {
        index_with("chunk_rows = 60000, shard_rows = 60000");
    }

    #[pg_test(error = "value 100 is not valid for option \"shard_rows\"")]
    fn shards_of_broken_chunks() {
        index_with("chunk_rows = 64, shard_rows = 100");
    }

    #[pg_test(error = "column does not have dimensions")]
    fn dimensions_are_needed() {
        run("CREATE TABLE items (embedding vector)");
        run("CREATE INDEX ON items USING s3vector (embedding)");
    }

    #[pg_test(error = "access method \"s3vector\" does not support multicolumn indexes")]
    fn one_column_only() {
        run("CREATE TABLE items (a vector(3), b vector(3))");
        run("CREATE INDEX ON items USING s3vector (a, b)");
    }

    #[pg_test(error = "access method \"s3vector\" does not support unique indexes")]
    fn not_unique() {
        table();
        run("CREATE UNIQUE INDEX ON items USING s3vector (embedding)");
    }

    #[pg_test(error = "expected 3 dimensions, not 2")]
    fn wrong_dimensions_on_insert() {
        index_with("m = 16");
        run("INSERT INTO items VALUES (2, '[1,2]')");
    }

    #[pg_test(error = "different vector dimensions 2 and 3")]
    fn wrong_dimensions_in_a_query() {
        index_with("m = 8");
        use_index(true);
        ids("SELECT id FROM items ORDER BY embedding <-> '[1,2]' LIMIT 1");
    }

    #[pg_test(error = "70000 is out of range for an index with payload = float16")]
    fn too_large_for_half_precision_when_built() {
        run("CREATE TABLE items (embedding vector(2))");
        run("INSERT INTO items VALUES ('[1,70000]')");
        run("CREATE INDEX ON items USING s3vector (embedding) WITH (payload = float16)");
    }

    #[pg_test(error = "-70000 is out of range for an index with payload = float16")]
    fn too_large_for_half_precision_when_inserted() {
        run("CREATE TABLE items (embedding vector(2))");
        run("CREATE INDEX ON items USING s3vector (embedding) WITH (payload = float16)");
        run("INSERT INTO items VALUES ('[1,-70000]')");
    }

    #[pg_test(error = "\"items_pkey\" is not an s3vector index")]
    fn info_of_another_index() {
        run("CREATE TABLE items (id bigint PRIMARY KEY)");
        run("SELECT * FROM s3vector_index_info('items_pkey')");
    }
}
