//! Texts that look like SQL or jsonpath are texts.

use postgres::Client;

use crate::ground::{Ground, count, gives, holds, refused, run, texts};

/// What somebody might send in any place that takes a text.
const HOSTILE: [&str; 22] = [
    "'; DROP TABLE victim; --",
    "\"; DROP TABLE victim; --",
    "' OR '1'='1",
    "x') ON CONFLICT DO NOTHING; DELETE FROM victim; --",
    "\\'; DROP TABLE victim; --",
    "\\",
    "\\\\",
    "$1",
    "$tag$; DROP TABLE victim; $tag$",
    "%s %I %L %%",
    "\" || @.\"k\" == \"v",
    "\") || (1 == 1) || (@.\"k\" == \"",
    "$.*",
    "@",
    "/* comment */",
    "-- comment",
    "{\"$gt\": \"\"}",
    "null",
    "line\nbreak\ttab\r",
    "é𝄞\u{202e}\u{feff}",
    "{1,2}",
    "ctid",
];

/// A collection and a table to lose.
fn ground() -> (Ground, Client) {
    let ground = Ground::new();
    let mut client = ground.client();
    run(&mut client, "CREATE TABLE victim (a int); INSERT INTO victim VALUES (1)");
    (ground, client)
}

#[track_caller]
fn assert_unharmed(client: &mut Client) {
    holds(client, "(SELECT count(*) = 1 FROM victim)");
}

#[test]
fn ids_and_metadata() {
    let (_ground, mut client) = ground();
    run(&mut client, "SELECT s3vector.create_collection('docs', 2)");
    for scs in ["on", "off"] {
        run(
            &mut client,
            &format!("SET standard_conforming_strings = {scs}; SET escape_string_warning = off"),
        );
        for text in HOSTILE {
            let id = client
                .query_one(
                    "SELECT (s3vector.add_vectors('docs', ARRAY[[1,2]], ARRAY[jsonb_build_object($1::text, $1::text)], ARRAY[$1::text]))[1]",
                    &[&text],
                )
                .unwrap_or_else(|error| panic!("{text:?}: {error:?}"));
            assert_eq!(id.get::<_, String>(0), text);
            client
                .execute(
                    "SELECT s3vector.add_vectors('docs', items => jsonb_build_array(jsonb_build_object('id', $1::text, 'vector', ARRAY[2,1], 'metadata', jsonb_build_object($1::text, $1::text))), update => true)",
                    &[&text],
                )
                .unwrap_or_else(|error| panic!("{text:?}: {error:?}"));
            let row = client
                .query_one(
                    "SELECT g.id, g.vector::text, g.metadata ->> $1::text FROM s3vector.get_vector('docs', $1) g",
                    &[&text],
                )
                .unwrap_or_else(|error| panic!("{text:?}: {error:?}"));
            assert_eq!(
                (row.get::<_, &str>(0), row.get::<_, &str>(1), row.get::<_, &str>(2)),
                (text, "[2,1]", text)
            );
        }
        assert_eq!(count(&mut client, "docs"), i64::try_from(HOSTILE.len()).expect("few"));
        for text in HOSTILE {
            let after: i64 = client
                .query_one(
                    "SELECT count(*) FROM s3vector.list_vectors('docs', after => $1)",
                    &[&text],
                )
                .expect("listed")
                .get(0);
            let greater = HOSTILE.iter().filter(|other| **other > text).count();
            assert_eq!(after, i64::try_from(greater).expect("few"), "{text:?}");
        }
        for text in HOSTILE {
            let removed: i64 = client
                .query_one("SELECT s3vector.remove_vectors('docs', ARRAY[$1])", &[&text])
                .expect("removed")
                .get(0);
            assert_eq!(removed, 1, "{text:?}");
        }
        assert_unharmed(&mut client);
    }
}

#[test]
fn filters() {
    let (_ground, mut client) = ground();
    run(&mut client, "SELECT s3vector.create_collection('docs', 2)");
    for (n, text) in HOSTILE.iter().enumerate() {
        client
            .execute(
                "SELECT s3vector.add_vectors('docs', ARRAY[[1,2]], ARRAY[jsonb_build_object('value', $1::text, $1::text, $2::text)], ARRAY[$2::text])",
                &[text, &n.to_string()],
            )
            .expect("added");
    }
    run(&mut client, "SELECT s3vector.add_vectors('docs', ARRAY[[1,2]], ids => '{other}')");
    let ids = |client: &mut Client, text: &str, filter: &str| -> Vec<String> {
        let sql = format!("SELECT id FROM s3vector.search_vectors('docs', '[1,2]', {filter}, 100)");
        let rows = client
            .query(&sql, &[&text])
            .unwrap_or_else(|error| panic!("{text:?}: {sql}: {error:?}"));
        rows.iter().map(|row| row.get(0)).collect()
    };
    for (n, text) in HOSTILE.iter().enumerate() {
        let own = [n.to_string()];
        for operand in [
            "$1::text",
            "jsonb_build_object('$eq', $1::text)",
            "jsonb_build_object('$in', ARRAY[$1::text])",
            "jsonb_build_object('$gte', $1::text, '$lte', $1::text)",
        ] {
            assert_eq!(
                ids(&mut client, text, &format!("jsonb_build_object('value', {operand})")),
                own,
                "{text:?}, {operand}"
            );
        }
        // Dots, backslashes and a dollar sign in front of a key are escaped.
        let key = r"regexp_replace(regexp_replace($1::text, '([\\.])', '\\\1', 'g'), '^\$', '\$')";
        assert_eq!(
            ids(
                &mut client,
                text,
                &format!("jsonb_build_object({key}, jsonb_build_object('$exists', true))")
            ),
            own,
            "key {text:?}"
        );
        let others = ids(
            &mut client,
            text,
            "jsonb_build_object('value', jsonb_build_object('$ne', $1::text))",
        );
        assert_eq!(others.len(), HOSTILE.len(), "{text:?}");
        let removed: i64 = client
            .query_one("SELECT s3vector.remove_vectors('docs', filters => jsonb_build_object('value', $1::text || '!'))", &[text])
            .expect("none removed")
            .get(0);
        assert_eq!(removed, 0, "{text:?}");
        // As a pattern or an expression it may be refused, but never more than match.
        for operator in ["$like", "$regex"] {
            let sql = "SELECT count(*) FROM s3vector.search_vectors('docs', NULL, jsonb_build_object('nowhere', jsonb_build_object($2::text, $1::text)))";
            if let Ok(row) = client.query_one(sql, &[text, &operator]) {
                assert_eq!(row.get::<_, i64>(0), 0, "{text:?}");
            }
        }
    }
    assert_unharmed(&mut client);
}

#[test]
fn orders() {
    let (_ground, mut client) = ground();
    run(&mut client, "SELECT s3vector.create_collection('docs', 2)");
    run(
        &mut client,
        r#"SELECT s3vector.add_vectors('docs', ARRAY[[1,2],[1,3]], '[{"k": 2}, {"k": 1}]', '{a,b}')"#,
    );
    for scs in ["on", "off"] {
        run(&mut client, &format!("SET standard_conforming_strings = {scs}"));
        for text in HOSTILE.into_iter().chain([
            "id; DROP TABLE victim",
            "id desc, (SELECT 1/0)",
            "k desc nulls first",
            "score) UNION SELECT (1",
        ]) {
            for query in ["'[1,2]'", "NULL"] {
                // A field that no row has: by id.
                let sql = format!(
                    "SELECT id FROM s3vector.search_vectors('docs', {query}, order_by => $1)"
                );
                let rows = client
                    .query(&sql, &[&text])
                    .unwrap_or_else(|error| panic!("{text:?}: {error:?}"));
                let ids: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
                assert_eq!(ids, ["a", "b"], "{text:?}");
            }
        }
    }
    assert_unharmed(&mut client);
}

#[test]
fn names() {
    let (_ground, mut client) = ground();
    for scs in ["on", "off"] {
        run(&mut client, &format!("SET standard_conforming_strings = {scs}"));
        for name in HOSTILE.iter().filter(|name| name.len() < 64) {
            let mut ask = |sql: &str| {
                client
                    .query(sql, &[name])
                    .unwrap_or_else(|error| panic!("{name:?}: {sql}: {error:?}"))
                    .len()
            };
            ask("SELECT s3vector.create_collection($1, 2)");
            ask("SELECT s3vector.add_vectors($1, ARRAY[[1,2],[3,4]])");
            assert_eq!(
                ask("SELECT * FROM s3vector.search_vectors($1, '[1,2]', '{\"$not\": {\"k\": 1}}')"),
                2
            );
            assert_eq!(ask("SELECT * FROM s3vector.list_collections() WHERE name = $1"), 1);
            assert_eq!(
                ask(
                    "SELECT * FROM s3vector.get_collection_info($1) WHERE vectors = 2 AND name = $1"
                ),
                1
            );
            ask("SELECT s3vector.create_collection($1, 3, overwrite => true)");
            assert_eq!(ask("SELECT 1 WHERE s3vector.count_vectors($1) = 0"), 1);
            ask("SELECT s3vector.delete_collection($1)");
        }
        assert!(texts(&mut client, "SELECT name FROM s3vector.list_collections()").is_empty());
    }
    assert_unharmed(&mut client);
}

/// In the options of a new collection.
#[test]
fn options() {
    let (_ground, mut client) = ground();
    for scs in ["on", "off"] {
        run(
            &mut client,
            &format!("SET standard_conforming_strings = {scs}; SET escape_string_warning = off"),
        );
        for text in HOSTILE
            .into_iter()
            .chain(["\\'); DROP TABLE victim; --", "zstd'); DROP TABLE victim; --"])
        {
            for option in ["m", "bits", "payload", "compression", "zarr_chunk_size"] {
                let refused = client.execute(
                    "SELECT s3vector.create_collection('docs', 2, config => jsonb_build_object($1::text, $2::text))",
                    &[&option, &text],
                );
                harness::errors::failure(refused).expect(
                    "22023",
                    &[if option == "zarr_chunk_size" { "chunk_rows" } else { option }],
                );
            }
        }
        // A backslash before the end of one option does not open the next.
        let error = client.execute(
            "SELECT s3vector.create_collection('docs', 2, config => jsonb_build_object('bits', E'\\\\', 'm', E', m = 4); DROP TABLE victim; --'))",
            &[],
        );
        harness::errors::failure(error).expect("22023", &[]);
        assert_unharmed(&mut client);
    }
    refused(
        &mut client,
        "SELECT s3vector.create_collection('docs', 2, 'l2''; DROP TABLE victim; --')",
    )
    .expect("22023", &["distance_metric"]);
    gives(&mut client, "SELECT name FROM s3vector.list_collections()", &[] as &[&str]);
    assert_unharmed(&mut client);
}
