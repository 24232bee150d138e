//! Functions, operators and types that somebody has put into the caller's search path are not used.

use postgres::Client;

use crate::ground::{Ground, count, gives, run, texts};

/// Each of the calls, on the collection `docs`.
const CALLS: [&str; 14] = [
    "SELECT s3vector.create_collection('more', 2, config => '{\"m\": 8}')",
    "SELECT s3vector.create_collection('docs', 2, 'l2', overwrite => true)",
    "SELECT s3vector.add_vectors('docs', ARRAY[[1,2],[3,4]], '[{\"k\": 1}, {}]', '{a,b}')",
    "SELECT s3vector.add_vectors('docs', ARRAY[[1,2]]::numeric[], ARRAY['{\"k\": 2}'], '{a}', true)",
    "SELECT s3vector.add_vectors('docs', items => '[{\"id\": \"c\", \"vector\": [5,6]}]')",
    "SELECT * FROM s3vector.search_vectors('docs', '[1,2]')",
    "SELECT * FROM s3vector.search_vectors('docs', '[1,2]', '{\"k\": {\"$gte\": 1}}', 5, 0, true, 'k desc')",
    "SELECT * FROM s3vector.search_vectors('docs', NULL, '{\"k\": 2}', order_by => 'created_at')",
    "SELECT s3vector.search_vectors_page('docs', '[1,2]', include_vectors => true)",
    "SELECT * FROM s3vector.get_vector('docs', 'a')",
    "SELECT * FROM s3vector.list_vectors('docs', 5, 'a', '{\"k\": 1}')",
    "SELECT s3vector.count_vectors('docs', '{\"k\": [1, 2]}'), (SELECT count(*) FROM s3vector.list_collections()), (SELECT vectors FROM s3vector.get_collection_info('docs'))",
    "SELECT s3vector.remove_vectors('docs', '{c}', '{\"$not\": {\"k\": 1}}')",
    "SELECT s3vector.delete_collection('more')",
];

/// Creates functions in `schema` that note who called them and answer nonsense, as operators too.
fn lay_traps(client: &mut Client, schema: &str) {
    run(
        client,
        &format!("CREATE SCHEMA IF NOT EXISTS {schema}; CREATE TABLE {schema}.caught (what text)"),
    );
    let mut number = 0;
    let mut trap = |client: &mut Client,
                    name: Option<&str>,
                    arguments: &str,
                    result: &str,
                    answer: &str|
     -> String {
        number += 1;
        let name = name.map_or_else(|| format!("trap{number}"), str::to_owned);
        run(
            client,
            &format!(
                "CREATE FUNCTION {schema}.{name}({arguments}) RETURNS {result} LANGUAGE plpgsql AS $f$
                 BEGIN INSERT INTO {schema}.caught VALUES ($q${name}({arguments})$q$); RETURN {answer}; END $f$"
            ),
        );
        name
    };
    for (operator, left, right, result, answer) in [
        ("-", "integer", "double precision", "double precision", "42"),
        ("+", "integer", "double precision", "double precision", "42"),
        ("/", "integer", "double precision", "double precision", "42"),
        ("-", "double precision", "double precision", "double precision", "42"),
        ("=", "text", "text", "boolean", "true"),
        ("=", "name", "name", "boolean", "true"),
        ("=", "name", "text", "boolean", "true"),
        ("=", "oid", "oid", "boolean", "false"),
        ("=", "smallint", "smallint", "boolean", "false"),
        ("=", "smallint", "integer", "boolean", "false"),
        ("=", "integer", "bigint", "boolean", "false"),
        ("=", "\"char\"", "\"char\"", "boolean", "false"),
        (">", "text", "text", "boolean", "false"),
        ("@?", "jsonb", "jsonpath", "boolean", "false"),
        ("#>", "jsonb", "text[]", "jsonb", "NULL"),
        ("<->", "public.vector", "public.vector", "double precision", "42"),
        ("<=>", "public.vector", "public.vector", "double precision", "42"),
    ] {
        let function = trap(client, None, &format!("{left}, {right}"), result, answer);
        run(
            client,
            &format!(
                "CREATE OPERATOR {schema}.{operator} (leftarg = {left}, rightarg = {right}, function = {schema}.{function})"
            ),
        );
    }
    let function = trap(client, None, "double precision", "double precision", "42");
    run(
        client,
        &format!(
            "CREATE OPERATOR {schema}.- (rightarg = double precision, function = {schema}.{function})"
        ),
    );
    for (name, arguments, result, answer) in [
        ("unnest", "text[]", "text", "'trapped'"),
        ("unnest", "jsonb[]", "jsonb", "'{}'"),
        ("unnest", "public.vector[]", "public.vector", "NULL"),
        ("count", "text", "bigint", "42"),
        ("format", "text, name, name", "text", "'trapped'"),
        ("now", "", "timestamptz", "'epoch'"),
        ("jsonb_typeof", "jsonb", "text", "'object'"),
        ("jsonb_agg", "jsonb", "jsonb", "'{}'"),
        ("array_agg", "jsonb", "jsonb[]", "'{}'"),
        ("jsonb_array_elements", "jsonb", "jsonb", "'{}'"),
        ("count_vectors", "text, jsonb DEFAULT '{}'", "bigint", "42"),
        ("s3vector_collections", "text DEFAULT NULL", "bigint", "42"),
    ] {
        trap(client, Some(name), arguments, result, answer);
    }
    for domain in ["float8", "text", "jsonb", "timestamptz", "regtype", "jsonpath"] {
        run(
            client,
            &format!(
                "CREATE DOMAIN {schema}.{domain} AS pg_catalog.{domain} CHECK (pg_catalog.length(VALUE::pg_catalog.text) < 0)"
            ),
        );
    }
}

/// Makes every call with that search path; none may step into a trap, and all must do their work.
fn assert_not_caught(ground: &Ground, schema: &str, path: &str) {
    let mut client = ground.client();
    for table in ["docs", "more"] {
        run(&mut client, &format!("DROP TABLE IF EXISTS public.{table}, {schema}.{table}"));
    }
    run(&mut client, "SELECT s3vector.create_collection('docs', 2)");
    // In a session that has seen nothing yet.
    let mut client = ground.client();
    for call in CALLS {
        run(&mut client, &format!("SET search_path = {path}"));
        let outcome = client.batch_execute(call);
        // The traps would spoil the test's own questions.
        run(&mut client, "RESET search_path");
        let caught = texts(&mut client, &format!("SELECT DISTINCT what FROM {schema}.caught"));
        assert_eq!(caught, [] as [&str; 0], "{path}: {call}");
        outcome.unwrap_or_else(|error| panic!("{path}: {call}: {error:?}"));
    }
    run(&mut client, "RESET search_path");
    let mut client = ground.client();
    run(&mut client, &format!("SET search_path = pg_catalog, {path}"));
    assert_eq!(count(&mut client, "docs"), 2);
    gives(
        &mut client,
        "SELECT id || metadata FROM s3vector.list_vectors('docs')",
        &[r#"a{"k": 2}"#, "b{}"],
    );
}

/// What anybody may create in a schema that is searched after PostgreSQL's own: better matches.
#[test]
fn in_a_schema_behind_the_catalog() {
    let ground = Ground::new();
    lay_traps(&mut ground.client(), "evil");
    assert_not_caught(&ground, "evil", "public, evil");
}

/// The schema that tables are created in by default is one that others may create in.
#[test]
fn in_a_schema_before_public() {
    let ground = Ground::new();
    lay_traps(&mut ground.client(), "evil");
    assert_not_caught(&ground, "evil", "evil, public");
}

/// A path that puts others before PostgreSQL's own schema.
#[test]
fn in_a_schema_before_the_catalog() {
    let ground = Ground::new();
    lay_traps(&mut ground.client(), "evil");
    assert_not_caught(&ground, "evil", "public, evil, pg_catalog");
}

/// Nothing is found by the path but collections: it may be empty but for their schema.
#[test]
fn a_path_without_the_types_schema() {
    let ground = Ground::new();
    let mut client = ground.client();
    run(
        &mut client,
        "CREATE SCHEMA shelf; SET search_path = shelf; SELECT s3vector.create_collection('docs', 2)",
    );
    for call in CALLS {
        run(&mut client, call);
    }
    assert_eq!(count(&mut client, "docs"), 2);
    run(&mut client, "SET search_path = ''");
    crate::ground::refused(&mut client, "SELECT s3vector.count_vectors('docs')")
        .expect("42P01", &["search_path"]);
    crate::ground::refused(&mut client, "SELECT s3vector.create_collection('docs')")
        .expect("3F000", &[]);
}
