//! Names that are taken literally, and tables that are or are not collections.

use postgres::Client;

use crate::ground::{Ground, count, gives, holds, one, refused, run, texts};

/// Makes every call with a name.
#[track_caller]
fn assert_usable(client: &mut Client, name: &str) {
    let mut ask = |sql: &str| {
        let rows = client.query(sql, &[&name]);
        rows.unwrap_or_else(|error| panic!("{name:?}: {sql}: {error:?}")).len()
    };
    ask("SELECT s3vector.create_collection($1, 2, 'l2')");
    ask("SELECT s3vector.add_vectors($1, ARRAY[[1,2],[3,4],[5,6]], ids => '{a,b,c}')");
    assert_eq!(ask("SELECT * FROM s3vector.search_vectors($1, '[1,2]')"), 3);
    assert_eq!(ask("SELECT * FROM s3vector.search_vectors($1, NULL, '{\"$not\": {\"k\": 1}}')"), 3);
    assert_eq!(
        ask("SELECT 1 FROM s3vector.search_vectors_page($1, '[1,2]') p WHERE p ->> 'total' = '3'"),
        1
    );
    assert_eq!(ask("SELECT * FROM s3vector.get_vector($1, 'a')"), 1);
    assert_eq!(ask("SELECT * FROM s3vector.list_vectors($1)"), 3);
    assert_eq!(ask("SELECT 1 WHERE s3vector.remove_vectors($1, '{a}') = 1"), 1);
    assert_eq!(ask("SELECT 1 WHERE s3vector.count_vectors($1) = 2"), 1);
    assert_eq!(ask("SELECT * FROM s3vector.list_collections() WHERE name = $1"), 1);
    assert_eq!(
        ask("SELECT * FROM s3vector.get_collection_info($1) WHERE name = $1 AND vectors = 2"),
        1
    );
    assert_eq!(ask("SELECT 1 FROM pg_class WHERE relname::text = $1 AND relkind = 'r'"), 1);
    ask("SELECT s3vector.create_collection($1, 3, overwrite => true)");
    ask("SELECT s3vector.delete_collection($1)");
    assert_eq!(ask("SELECT 1 FROM pg_class WHERE relname::text = $1"), 0);
}

#[test]
fn hostile_names() {
    let ground = Ground::new();
    let mut client = ground.client();
    let long = "x".repeat(63);
    let accents = "é".repeat(31);
    for name in [
        "My.Docs",
        "my docs",
        " docs ",
        "\"docs\"",
        "a\"b",
        "a'b",
        "a\\b",
        "a;b",
        "$1",
        "%",
        "1",
        "-1",
        "select",
        "table",
        "user",
        "public.docs",
        "t",
        "found",
        "id",
        "embedding",
        "новости",
        "文書",
        "e\u{301}",
        "🐘",
        "\u{1}",
        "\n",
        &long,
        &accents,
        "s3vector",
        "_docs",
    ] {
        assert_usable(&mut client, name);
    }
    for (name, bytes) in [
        (String::new(), "0"),
        ("x".repeat(64), "64"),
        ("é".repeat(32), "64"),
        ("x".repeat(10_000), "10000"),
    ] {
        let report = harness::errors::failure(
            client.execute("SELECT s3vector.create_collection($1)", &[&name]),
        );
        report.expect("42602", &["63 bytes", bytes]);
    }
    // A name that is too long finds nothing, not what its first 63 bytes name.
    run(&mut client, &format!("SELECT s3vector.create_collection('{long}', 2)"));
    refused(&mut client, &format!("SELECT s3vector.count_vectors('{long}y')"))
        .expect("42P01", &["does not exist"]);
    refused(&mut client, &format!("SELECT s3vector.delete_collection('{long}y')"))
        .expect("42P01", &["does not exist"]);
    assert_eq!(count(&mut client, &long), 0);
    // Case counts.
    run(
        &mut client,
        "SELECT s3vector.create_collection('Docs', 2); SELECT s3vector.create_collection('docs', 3)",
    );
    gives(&mut client, "SELECT dimension::text FROM s3vector.get_collection_info('Docs')", &["2"]);
}

/// A name that would lead the calls elsewhere is refused, and nothing is created.
#[test]
fn names_that_others_have() {
    let ground = Ground::new();
    let c = &mut ground.client();
    run(c, "CREATE TEMP TABLE brief (a int)");
    for name in ["pg_class", "brief"] {
        refused(c, &format!("SELECT s3vector.create_collection('{name}', 2)"))
            .expect("42939", &[name, "search_path"]);
        holds(c, &format!("to_regclass('public.{name}') IS NULL"));
    }
    // Types and tables share their names.
    refused(c, "SELECT s3vector.create_collection('vector', 2)").expect("42710", &["vector"]);
}

/// Names that stand for something else, or for nothing.
#[test]
fn what_is_no_collection() {
    let ground = Ground::new();
    let c = &mut ground.client();
    let columns =
        "id text PRIMARY KEY, embedding vector(2), metadata jsonb, created_at timestamptz";
    run(c, &format!("
        SELECT s3vector.create_collection('docs', 2);
        CREATE VIEW view AS SELECT * FROM docs;
        CREATE MATERIALIZED VIEW stored AS SELECT * FROM docs;
        CREATE SEQUENCE sequence;
        CREATE TYPE type AS (a int);
        CREATE TABLE bare ({columns});
        CREATE TABLE plain (id text);
        CREATE TABLE number_ids (id bigint, embedding vector(2), metadata jsonb, created_at timestamptz);
        CREATE INDEX ON number_ids USING s3vector (embedding);
        CREATE TABLE json_metadata (id text, embedding vector(2), metadata json, created_at timestamptz);
        CREATE INDEX ON json_metadata USING s3vector (embedding);
        CREATE TABLE no_time (id text, embedding vector(2), metadata jsonb);
        CREATE INDEX ON no_time USING s3vector (embedding);
        CREATE TABLE other_column (id text, vec vector(2), metadata jsonb, created_at timestamptz, embedding text);
        CREATE INDEX ON other_column USING s3vector (vec);
        CREATE TABLE hnsw ({columns});
        CREATE INDEX ON hnsw USING hnsw (embedding vector_l2_ops);
        CREATE TABLE partial ({columns});
        CREATE INDEX ON partial USING s3vector (embedding) WHERE id > 'm';
        CREATE INDEX ON stored USING s3vector (embedding)"
    ));
    for name in [
        "view",
        "stored",
        "sequence",
        "bare",
        "plain",
        "number_ids",
        "json_metadata",
        "no_time",
        "other_column",
        "hnsw",
        "partial",
        "docs_pkey",
        "docs_embedding_idx",
        "docs_metadata_idx",
        "pg_class",
        "pg_tables",
    ] {
        for call in [
            "count_vectors('{}')",
            "search_vectors('{}', '[1,2]')",
            "add_vectors('{}', ARRAY[[1,2]])",
            "delete_collection('{}')",
            "get_collection_info('{}')",
        ] {
            refused(c, &format!("SELECT s3vector.{}", call.replacen("{}", name, 1)))
                .expect("42809", &[name, "not a collection"]);
        }
    }
    refused(c, "SELECT s3vector.count_vectors('type')").expect("42809", &["type"]);
    gives(c, "SELECT name FROM s3vector.list_collections()", &["docs"]);
}

/// An index whose building has failed does not make a collection.
#[test]
fn an_invalid_index() {
    let ground = Ground::new();
    let c = &mut ground.client();
    run(
        c,
        "CREATE TABLE docs (id text PRIMARY KEY, embedding vector(2), metadata jsonb, created_at timestamptz DEFAULT now())",
    );
    run(c, "INSERT INTO docs VALUES ('a', '[1,70000]', '{}')");
    refused(c, "CREATE INDEX CONCURRENTLY broken ON docs USING s3vector (embedding vector_l2_ops) WITH (payload = float16)").expect("22003", &[]);
    holds(c, "(SELECT NOT indisvalid FROM pg_index WHERE indexrelid = 'broken'::regclass)");
    refused(c, "SELECT s3vector.count_vectors('docs')").expect("42809", &["valid s3vector index"]);
    gives(c, "SELECT name FROM s3vector.list_collections()", &[] as &[&str]);
    run(c, "UPDATE docs SET embedding = '[1,2]'");
    run(c, "VACUUM docs");
    run(c, "REINDEX INDEX broken");
    assert_eq!(count(c, "docs"), 1);
    gives(c, "SELECT id FROM s3vector.search_vectors('docs', '[1,2]')", &["a"]);
}

/// A table made by hand with the right columns is a collection, whatever else it has.
#[test]
fn made_by_hand() {
    let ground = Ground::new();
    let c = &mut ground.client();
    run(
        c,
        r#"CREATE TABLE "By Hand" (
            extra int GENERATED ALWAYS AS IDENTITY, created_at timestamptz DEFAULT now(), metadata jsonb,
            score int DEFAULT 7, embedding vector(2), id text UNIQUE, vector text, CHECK (extra > 0));
        CREATE INDEX ON "By Hand" USING s3vector (embedding vector_l2_ops);
        INSERT INTO "By Hand" (id, embedding, metadata) SELECT 'h' || i, ARRAY[i, 0], jsonb_build_object('k', i % 2) FROM generate_series(1, 9) i"#,
    );
    assert_eq!(count(c, "By Hand"), 9);
    gives(
        c,
        "SELECT unnest(s3vector.add_vectors('By Hand', ARRAY[[0,0]], '[{\"k\": 0}]', '{new}'))",
        &["new"],
    );
    gives(
        c,
        "SELECT id FROM s3vector.search_vectors('By Hand', '[0,0]', '{\"k\": 0}', 3)",
        &["new", "h2", "h4"],
    );
    gives(
        c,
        "SELECT id FROM s3vector.search_vectors('By Hand', '[0,0]', '{\"k\": 0}', 3, order_by => 'score')",
        &["h4", "h2", "new"],
    );
    gives(c, "SELECT id FROM s3vector.list_vectors('By Hand', 2)", &["h1", "h2"]);
    assert_eq!(
        one::<i64>(c, "SELECT s3vector.remove_vectors('By Hand', filters => '{\"k\": 1}')"),
        5
    );
    run(c, "SELECT s3vector.add_vectors('By Hand', ARRAY[[9,9]], ids => '{new}', update => true)");
    gives(
        c,
        "SELECT distance_metric || dimension || vectors FROM s3vector.get_collection_info('By Hand')",
        &["l225"],
    );
    run(c, "SELECT s3vector.delete_collection('By Hand')");
    // Without unique ids rows cannot be added by the calls, and that is said.
    run(
        c,
        "CREATE TABLE loose (id text, embedding vector(2), metadata jsonb, created_at timestamptz); CREATE INDEX ON loose USING s3vector (embedding)",
    );
    refused(c, "SELECT s3vector.add_vectors('loose', ARRAY[[1,2]])").expect("42P10", &["unique"]);
    assert_eq!(count(c, "loose"), 0);
}

/// Of a partitioned table each partition is a collection, the whole is none: what a call does hangs
/// on one index.
#[test]
fn partitions() {
    let ground = Ground::new();
    let c = &mut ground.client();
    run(
        c,
        "CREATE TABLE docs (id text PRIMARY KEY, embedding vector(2), metadata jsonb DEFAULT '{}',
             created_at timestamptz) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF docs FOR VALUES FROM ('a') TO ('m');
         CREATE TABLE high PARTITION OF docs FOR VALUES FROM ('m') TO ('z');
         CREATE INDEX ON docs USING s3vector (embedding vector_l2_ops);
         INSERT INTO docs (id, embedding) VALUES ('b', '[1,0]'), ('c', '[2,0]'), ('n', '[3,0]')",
    );
    refused(c, "SELECT s3vector.count_vectors('docs')").expect("42809", &["docs"]);
    gives(c, "SELECT name FROM s3vector.list_collections()", &["high", "low"]);
    gives(c, "SELECT id FROM s3vector.search_vectors('low', '[0,0]')", &["b", "c"]);
    gives(
        c,
        "SELECT distance_metric || vectors FROM s3vector.get_collection_info('high')",
        &["l21"],
    );
    run(c, "SELECT s3vector.add_vectors('low', ARRAY[[0,0]], ids => '{d}')");
    refused(c, "SELECT s3vector.add_vectors('low', ARRAY[[0,0]], ids => '{x}')")
        .expect("23514", &["partition"]);
    gives(c, "SELECT id FROM docs ORDER BY embedding <-> '[0,0]'", &["d", "b", "c", "n"]);
}

/// Temporary tables come first, and are their session's.
#[test]
fn temporary_ones() {
    let ground = Ground::new();
    let (mut one_session, mut other) = (ground.client(), ground.client());
    let c = &mut one_session;
    run(c, "SELECT s3vector.create_collection('docs', 2)");
    run(
        c,
        "SET search_path = pg_temp, public; SELECT s3vector.create_collection('docs', 3); RESET search_path",
    );
    run(c, "SELECT s3vector.add_vectors('docs', ARRAY[[1,2,3]])");
    assert_eq!(texts(c, "SELECT id FROM s3vector.search_vectors('docs', '[1,2,3]')").len(), 1);
    assert_eq!(count(&mut other, "docs"), 0);
    // What another session cannot use is not listed to it.
    gives(&mut other, "SELECT name || dimension FROM s3vector.list_collections()", &["docs2"]);
    run(c, "SELECT s3vector.delete_collection('docs')");
    gives(c, "SELECT dimension::text FROM s3vector.get_collection_info('docs')", &["2"]);
    // At the end of a transaction.
    run(
        c,
        "BEGIN; CREATE TEMP TABLE brief (LIKE docs INCLUDING ALL) ON COMMIT DROP; CREATE INDEX IF NOT EXISTS brief_embedding_idx ON brief USING s3vector (embedding vector_cosine_ops)",
    );
    run(
        c,
        "SELECT s3vector.add_vectors('brief', ARRAY[[1,2]]); SELECT * FROM s3vector.search_vectors('brief', '[1,2]'); COMMIT",
    );
    refused(c, "SELECT s3vector.count_vectors('brief')").expect("42P01", &["brief"]);
}

/// The first schema of the path that has the name, and the first that exists for what is new.
#[test]
fn schemas() {
    let ground = Ground::new();
    let c = &mut ground.client();
    run(c, "CREATE SCHEMA \"Über. Lager\"; CREATE SCHEMA two");
    run(
        c,
        "SET search_path = missing, \"Über. Lager\", two, public; SELECT s3vector.create_collection('docs', 5)",
    );
    gives(c, "SELECT schema FROM s3vector.list_collections()", &["Über. Lager"]);
    run(
        c,
        "SELECT s3vector.add_vectors('docs', ARRAY[[1,2,3,4,5]]); SELECT * FROM s3vector.search_vectors('docs', '[1,2,3,4,5]')",
    );
    run(c, "SET search_path = two, \"Über. Lager\", public");
    // Found behind, but the first schema is free for another.
    assert_eq!(count(c, "docs"), 1);
    run(c, "SELECT s3vector.create_collection('docs', 2)");
    assert_eq!(count(c, "docs"), 0);
    run(c, "CREATE VIEW \"Über. Lager\".seen AS SELECT 1");
    run(c, "SET search_path = public");
    refused(c, "SELECT s3vector.count_vectors('docs')").expect("42P01", &["search_path"]);
    gives(c, "SELECT schema FROM s3vector.list_collections()", &["two", "Über. Lager"]);
}
