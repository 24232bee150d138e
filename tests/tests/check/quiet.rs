//! Nothing is wrong where nothing is.

use harness::check::{assert_sound, findings};
use harness::cluster::Stop;
use harness::items::{Source, literal};
use harness::upkeep::{flush, segments};
use harness::{Cluster, Items, Metric};
use postgres::Client;

/// Runs statements, each followed by a check of every index named.
#[track_caller]
fn run(client: &mut Client, indexes: &[&str], statements: &[&str]) {
    for sql in statements {
        client.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        for index in indexes {
            assert_eq!(findings(client, index), [], "{index} after {sql}");
        }
    }
}

/// All that can happen to rows of a table `items (id, note, embedding)`.
const EVENTS: &[&str] = &[
    "INSERT INTO items SELECT id + 1000, note, embedding FROM items WHERE id < 60",
    "INSERT INTO items VALUES (2000, 1, NULL)",
    // In place, again and again, so that chains are pruned; and elsewhere.
    "UPDATE items SET note = note + 1 WHERE id % 3 = 0",
    "UPDATE items SET note = note + 1 WHERE id % 6 = 0",
    "UPDATE items SET embedding = embedding + embedding WHERE id % 7 = 0",
    "UPDATE items SET embedding = NULL WHERE id = 21",
    "UPDATE items SET embedding = (SELECT embedding FROM items WHERE id = 2) WHERE id = 21",
    "BEGIN; INSERT INTO items SELECT id + 3000, note, embedding FROM items; ROLLBACK",
    "BEGIN; UPDATE items SET embedding = embedding + embedding; ROLLBACK",
    "BEGIN; SAVEPOINT a; INSERT INTO items SELECT id + 4000, note, embedding FROM items; ROLLBACK TO a;
     INSERT INTO items SELECT id + 5000, note, embedding FROM items WHERE id < 9; COMMIT",
    "DELETE FROM items WHERE id % 5 = 0",
    "VACUUM items",
    "INSERT INTO items SELECT id + 6000, note, embedding FROM items WHERE id < 200",
    "VACUUM (INDEX_CLEANUP off) items",
    "DELETE FROM items WHERE id % 11 = 0",
    "VACUUM (FREEZE) items",
    "UPDATE items SET note = 5 WHERE id % 2 = 0",
];

/// What makes an index new.
const RENEWALS: &[&str] = &[
    "SELECT FROM s3vector_flush('items_index')",
    "DELETE FROM items WHERE id % 4 = 1",
    "VACUUM items",
    "SELECT FROM s3vector_flush('items_index')",
    "REINDEX INDEX CONCURRENTLY items_index",
    "VACUUM FULL items",
    "INSERT INTO items SELECT id + 8000, note, embedding FROM items",
    "DELETE FROM items",
    "VACUUM items",
    "SELECT FROM s3vector_flush('items_index')",
    "INSERT INTO items SELECT 1, 1, array_agg(random())::vector FROM generate_series(1, 9)",
    "TRUNCATE items",
];

/// Fills `items (id, note, embedding)` with 400 rows, of which a hundred are equal to others.
fn fill(client: &mut Client, create: &str, dimensions: usize, metric: Metric) {
    client
        .batch_execute(&create.replace("vector", &format!("vector({dimensions})")))
        .expect("a table");
    let mut source = Source::new(73, dimensions);
    for id in 0..300 {
        let vector = literal(&source.vector());
        let sql = format!("INSERT INTO items VALUES ({id}, {}, {vector})", id % 10);
        client.batch_execute(&sql).expect("a row");
    }
    client
        .batch_execute(
            "INSERT INTO items SELECT id + 300, note, embedding FROM items WHERE id < 100",
        )
        .expect("equal rows");
    if metric == Metric::Cosine {
        let zeros = literal(&vec![0.0; dimensions]);
        client
            .batch_execute(&format!("INSERT INTO items VALUES (999, 1, {zeros})"))
            .expect("a row");
    }
}

const TABLE: &str = "CREATE TABLE items (id int, note int, embedding vector)";

/// A quiet server: nothing happens on it but what the test does.
fn cluster() -> Cluster {
    Cluster::builder()
        .set("s3vector.maintenance_workers", 0)
        .set("max_prepared_transactions", 5)
        .start()
}

fn of_every_kind(metric: Metric, with: &str) {
    let cluster = cluster();
    let mut client = cluster.client();
    fill(&mut client, TABLE, 9, metric);
    client
        .batch_execute(&format!(
            "CREATE INDEX items_index ON items USING s3vector (embedding {}) {with}",
            metric.opclass()
        ))
        .expect("an index");
    run(&mut client, &["items_index"], EVENTS);
    run(&mut client, &["items_index"], RENEWALS);
}

#[test]
fn euclidean_one_bit() {
    of_every_kind(Metric::L2, "WITH (bits = '1', m = 2, ef_construction = 8)");
}

#[test]
fn cosine_two_bits_half_precision() {
    of_every_kind(Metric::Cosine, "WITH (bits = '2', payload = 'float16', compression = 'lz4')");
}

#[test]
fn inner_product_four_bits_compressed() {
    of_every_kind(Metric::InnerProduct, "WITH (bits = '4', compression = 'zstd', m = 3)");
}

#[test]
fn cosine_eight_bits() {
    of_every_kind(Metric::Cosine, "WITH (bits = '8', chunk_rows = 4, shard_rows = 64)");
}

/// Rows too large for a page go on in others.
#[test]
fn rows_of_several_pages() {
    let cluster = cluster();
    let mut client = cluster.client();
    fill(&mut client, TABLE, 2100, Metric::L2);
    client
        .batch_execute("CREATE INDEX items_index ON items USING s3vector (embedding)")
        .expect("an index");
    run(&mut client, &["items_index"], EVENTS);
}

/// A part of the rows, and what is computed of them.
#[test]
fn partial_and_expression_indexes() {
    let cluster = cluster();
    let mut client = cluster.client();
    fill(&mut client, TABLE, 9, Metric::Cosine);
    client
        .batch_execute(
            "CREATE FUNCTION doubled(v vector) RETURNS vector LANGUAGE sql IMMUTABLE
                 AS $$ SELECT v OPERATOR(public.+) v $$;
             CREATE INDEX part ON items USING s3vector (embedding vector_cosine_ops) WHERE note < 5;
             CREATE INDEX twice ON items USING s3vector ((doubled(embedding)::vector(9)) vector_l2_ops);
             CREATE INDEX items_index ON items USING s3vector (embedding vector_cosine_ops)",
        )
        .expect("indexes");
    let all = ["part", "twice", "items_index"];
    run(&mut client, &all, EVENTS);
    run(&mut client, &all, RENEWALS);
}

#[test]
fn a_temporary_and_an_unlogged_table() {
    for kind in ["TEMP", "UNLOGGED"] {
        let mut cluster = cluster();
        let mut client = cluster.client();
        fill(&mut client, &TABLE.replace("TABLE", &format!("{kind} TABLE")), 9, Metric::L2);
        client
            .batch_execute("CREATE INDEX items_index ON items USING s3vector (embedding)")
            .expect("an index");
        run(&mut client, &["items_index"], EVENTS);
        if kind == "UNLOGGED" {
            cluster.stop(Stop::Immediate);
            cluster.start_server();
            assert_sound(&mut cluster.client(), "items_index");
        }
    }
}

/// Rows of transactions that are prepared, or that have not ended in another session.
#[test]
fn transactions_that_have_not_ended() {
    let cluster = cluster();
    let mut client = cluster.client();
    fill(&mut client, TABLE, 9, Metric::L2);
    client
        .batch_execute("CREATE INDEX items_index ON items USING s3vector (embedding)")
        .expect("an index");
    let mut other = cluster.client();
    other
        .batch_execute(
            "BEGIN; INSERT INTO items SELECT id + 7000, note, embedding FROM items;
             UPDATE items SET embedding = embedding + embedding WHERE id % 3 = 0;
             UPDATE items SET note = 8 WHERE id % 5 = 0; DELETE FROM items WHERE id % 7 = 0",
        )
        .expect("changes");
    assert_sound(&mut other, "items_index");
    assert_sound(&mut client, "items_index");
    other.batch_execute("PREPARE TRANSACTION 'some'").expect("prepared");
    run(
        &mut client,
        &["items_index"],
        &["VACUUM items", "SELECT FROM s3vector_flush('items_index')"],
    );
    other.batch_execute("COMMIT PREPARED 'some'").expect("committed");
    run(
        &mut client,
        &["items_index"],
        &["VACUUM items", "SELECT FROM s3vector_flush('items_index')"],
    );
}

/// A transaction sees the rows that it has inserted, also those that it has not written to the
/// index yet, and the rows that it saw when it began.
#[test]
fn inside_a_transaction() {
    let cluster = cluster();
    let mut client = cluster.client();
    fill(&mut client, TABLE, 9, Metric::L2);
    client
        .batch_execute(
            "CREATE INDEX items_index ON items USING s3vector (embedding);
             CREATE TABLE found (n bigint);
             CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO found SELECT count(*) FROM s3vector_check('items_index'); RETURN NEW; END $$;
             CREATE TRIGGER look AFTER INSERT ON items FOR EACH ROW WHEN (NEW.id % 50 = 0) EXECUTE FUNCTION look();
             INSERT INTO items SELECT id + 2000, note, embedding FROM items",
        )
        .expect("rows and looks");
    let row = client.query_one("SELECT count(*), sum(n)::bigint FROM found", &[]).expect("looks");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (8, 0));

    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut old = cluster.client();
        old.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}; SELECT FROM items"))
            .expect("a snapshot");
        run(&mut client, &["items_index"], EVENTS);
        assert_sound(&mut old, "items_index");
        old.batch_execute("UPDATE found SET n = 1; COMMIT").expect("its end");
    }
}

/// With little memory the table is looked at part by part.
#[test]
fn with_little_memory() {
    let cluster = cluster();
    let mut client = cluster.client();
    client.batch_execute("CREATE TABLE items (id int, embedding vector(3))").expect("a table");
    let rows = "INSERT INTO items SELECT i, ARRAY[i % 500, i / 500, 1]::vector FROM generate_series(1, 30000) i";
    client.batch_execute(rows).expect("rows");
    client
        .batch_execute(
            "CREATE INDEX items_index ON items USING s3vector (embedding);
             INSERT INTO items SELECT id + 30000, embedding FROM items WHERE id < 3000;
             UPDATE items SET embedding = embedding + embedding WHERE id % 10 = 0;
             DELETE FROM items WHERE id % 7 = 0",
        )
        .expect("rows");
    client.batch_execute("VACUUM items").expect("vacuum");
    for memory in ["64kB", "200kB", "1GB"] {
        client.batch_execute(&format!("SET maintenance_work_mem = '{memory}'")).expect("a setting");
        assert_sound(&mut client, "items_index");
    }
}

/// What a crash leaves behind is nobody's fault: pages in no list, rows of transactions that never
/// ended.
#[test]
fn after_a_crash() {
    let mut cluster = cluster();
    let mut client = cluster.client();
    let mut source = Source::new(74, 24);
    let mut items = Items::create(&mut client, "items", Metric::L2, source.vectors(300));
    items.index(&mut client, "");
    items.copy(&mut client, source.vectors(300));
    items.delete(&mut client, |id| id % 3 == 0);
    client.batch_execute("VACUUM items").expect("vacuum");
    flush(&mut client, "items_index");
    client
        .batch_execute("BEGIN; INSERT INTO items SELECT id + 7000, embedding FROM items")
        .expect("rows");
    cluster.crash();
    cluster.start_server();
    let mut client = cluster.client();
    assert_sound(&mut client, "items_index");
    run(
        &mut client,
        &["items_index"],
        &["VACUUM items", "INSERT INTO items SELECT id + 7000, embedding FROM items"],
    );
    assert!(!segments(&mut client, "items_index").is_empty());
}

#[test]
fn an_index_without_rows() {
    let cluster = cluster();
    let mut client = cluster.client();
    run(
        &mut client,
        &["items_index"],
        &[
            "CREATE TABLE items (id int, embedding vector(3));
             CREATE INDEX items_index ON items USING s3vector (embedding)",
            "INSERT INTO items VALUES (1, NULL)",
            "VACUUM items",
            "SELECT FROM s3vector_flush('items_index')",
        ],
    );
}

/// Each partition has an index of its own.
#[test]
fn partitions() {
    let cluster = cluster();
    let mut client = cluster.client();
    client
        .batch_execute(
            "CREATE TABLE items (id int, note int, embedding vector(3)) PARTITION BY RANGE (id);
             CREATE TABLE low PARTITION OF items FOR VALUES FROM (0) TO (1000);
             CREATE TABLE high PARTITION OF items FOR VALUES FROM (1000) TO (100000);
             CREATE INDEX items_index ON items USING s3vector (embedding);
             INSERT INTO items SELECT i, i % 10, ARRAY[i, 1, i % 7]::vector FROM generate_series(0, 400) i",
        )
        .expect("partitions");
    // From one partition into the other.
    run(
        &mut client,
        &["low_embedding_idx", "high_embedding_idx"],
        &["UPDATE items SET id = id + 950"],
    );
    run(&mut client, &["low_embedding_idx", "high_embedding_idx"], EVENTS);
}
