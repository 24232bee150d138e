//! One bad row, wherever it is, and nothing of the call is kept.

use postgres::Client;

use crate::ground::{Ground, count, gives, refused, run};

/// A collection of three-dimensional vectors with the rows `old` and `older`.
fn created(ground: &Ground) -> Client {
    let mut client = ground.client();
    run(&mut client, "SELECT s3vector.create_collection('docs', 3)");
    run(
        &mut client,
        r#"SELECT s3vector.add_vectors('docs', ARRAY[[1,2,3],[3,2,1]], '[{"k": 1}, {}]', '{old,older}')"#,
    );
    client
}

/// Asserts that a call fails, says so in these words, and has changed nothing.
#[track_caller]
fn assert_refused(client: &mut Client, arguments: &str, sqlstate: &str, words: &[&str]) {
    for update in ["", ", update => true"] {
        if sqlstate == "23505"
            && words.iter().any(|word| word.contains("already"))
            && !update.is_empty()
        {
            continue;
        }
        let sql = format!("SELECT s3vector.add_vectors('docs', {arguments}{update})");
        let report = refused(client, &sql);
        assert_eq!(report.sqlstate, sqlstate, "{sql}: {report:?}");
        for word in words {
            assert!(report.message.contains(word), "{sql}: no '{word}' in {report:?}");
        }
        assert_eq!(count(client, "docs"), 2, "{sql}");
    }
}

/// Three texts with `bad` at position `at` and `good` elsewhere.
fn with(bad: &str, at: usize, good: &str) -> [String; 3] {
    std::array::from_fn(|n| if n + 1 == at { bad.to_owned() } else { good.to_owned() })
}

#[test]
fn bad_vectors() {
    let ground = Ground::new();
    let c = &mut created(&ground);
    for at in 1..=3 {
        let place = format!("vector {at}");
        let place = place.as_str();
        for (bad, sqlstate, word) in [
            ("'[1,2]'", "22000", "2 dimensions"),
            ("'[1,2,3,4]'", "22000", "4 dimensions"),
            ("NULL", "22004", "null"),
        ] {
            let vectors = with(bad, at, "'[1,2,3]'").join(", ");
            assert_refused(c, &format!("ARRAY[{vectors}]::vector[]"), sqlstate, &[place, word]);
        }
        for (bad, sqlstate, word) in [
            ("'NaN'", "22000", "NaN"),
            ("'inf'", "22000", "inf"),
            ("'-inf'", "22000", "-inf"),
            ("NULL", "22004", "null"),
        ] {
            for kind in ["real", "double precision", "numeric"] {
                let row = format!("[1, {bad}, 3]");
                let rows = with(&row, at, "[1,2,3]").join(", ");
                assert_refused(
                    c,
                    &format!("ARRAY[{rows}]::{kind}[]"),
                    sqlstate,
                    &[place, "element 2", word],
                );
            }
        }
        for bad in ["[1,2]", "[1,2,3,4]", "[]"] {
            let items =
                with(bad, at, "[1,2,3]").map(|v| format!(r#"{{"vector": {v}}}"#)).join(", ");
            assert_refused(c, &format!("items => '[{items}]'"), "22000", &[place, "dimensions"]);
        }
    }
    for (columns, text) in [("2", "[1,2],[3,4]"), ("4", "[1,2,3,4]")] {
        assert_refused(
            c,
            &format!("ARRAY[{text}]"),
            "22000",
            &["vector 1", &format!("{columns} dimensions")],
        );
    }
    assert_refused(c, "ARRAY[1,2]", "22000", &["vector 1", "2 dimensions"]);
    assert_refused(c, "ARRAY[[[1,2,3]]]", "22023", &["3 dimensions"]);
    assert_refused(c, "ARRAY['[1,2,3]']", "42804", &["vectors"]);
    assert_refused(c, "NULL::real[]", "22004", &["vectors"]);
    assert_refused(c, "items => NULL", "22004", &["items"]);
}

/// Numbers that a vector's elements cannot hold: the message says which vector.
#[test]
fn numbers_too_large() {
    let ground = Ground::new();
    let c = &mut created(&ground);
    for at in 1..=3 {
        let rows = with("[1, 1e39, 3]", at, "[1,2,3]").join(", ");
        for kind in ["double precision", "numeric"] {
            let sql = format!("SELECT s3vector.add_vectors('docs', ARRAY[{rows}]::{kind}[])");
            let report = refused(c, &sql);
            assert!(report.sqlstate == "22000" || report.sqlstate == "22003", "{report:?}");
            assert_eq!(count(c, "docs"), 2);
            assert!(report.text().contains(&format!("vector {at}")), "{sql}: {report:?}");
        }
    }
}

#[test]
fn bad_items() {
    let ground = Ground::new();
    let c = &mut created(&ground);
    let good = r#"{"vector": [1, 2, 3]}"#;
    for at in 1..=3 {
        for (bad, sqlstate, kind) in [
            (r#"{"vector": [1, 2, 3], "metdata": {}}"#, "22023", "item"),
            (r#"{"id": "x"}"#, "22023", "item"),
            (r#"{"vector": null}"#, "22023", "item"),
            (r#"{"vector": "[1,2,3]"}"#, "22023", "item"),
            (r#"{"vector": [1, "2", 3]}"#, "22023", "item"),
            (r#"{"vector": [1, null, 3]}"#, "22023", "item"),
            (r#"{"vector": [1, 1e39, 3]}"#, "22023", "item"),
            (r#"{"vector": [1, 1e400, 3]}"#, "22023", "item"),
            (r#"{"vector": {"0": 1}}"#, "22023", "item"),
            ("[1, 2, 3]", "22023", "item"),
            ("null", "22023", "item"),
            ("7", "22023", "item"),
            (r#"{"vector": [1, 2, 3], "id": true}"#, "22023", "item"),
            (r#"{"vector": [1, 2, 3], "id": ["a"]}"#, "22023", "item"),
            (r#"{"vector": [1, 2, 3], "id": {"a": 1}}"#, "22023", "item"),
            (r#"{"vector": [1, 2, 3], "id": ""}"#, "22023", "row"),
            (r#"{"vector": [1, 2, 3], "id": "old"}"#, "23505", "row"),
            (r#"{"vector": [1, 2, 3], "metadata": []}"#, "22023", "row"),
            (r#"{"vector": [1, 2, 3], "metadata": "text"}"#, "22023", "row"),
            (r#"{"vector": [1, 2, 3], "metadata": 1}"#, "22023", "row"),
        ] {
            let items = with(bad, at, good).join(", ");
            let place = format!("{kind} {at}");
            let words = if sqlstate == "23505" {
                vec![place.as_str(), "already"]
            } else {
                vec![place.as_str()]
            };
            assert_refused(c, &format!("items => '[{items}]'"), sqlstate, &words);
        }
    }
    for items in [r#"{"vector": [1, 2, 3]}"#, "3", "null", r#""[]""#] {
        assert_refused(c, &format!("items => '{items}'"), "22023", &["JSON array"]);
    }
}

#[test]
fn bad_metadata() {
    let ground = Ground::new();
    let c = &mut created(&ground);
    let vectors = "ARRAY[[1,2,3],[4,5,6],[7,8,9]]";
    for at in 1..=3 {
        let place = format!("row {at}");
        for bad in ["[]", "[1]", "\"text\"", "null", "true", "3.5"] {
            let list = with(bad, at, "{}");
            assert_refused(
                c,
                &format!("{vectors}, '[{}]'", list.join(", ")),
                "22023",
                &[&place, "JSON object"],
            );
            let list = list.map(|json| format!("'{json}'")).join(", ");
            assert_refused(
                c,
                &format!("{vectors}, ARRAY[{list}]::jsonb[]"),
                "22023",
                &[&place, "JSON object"],
            );
        }
        // Ten megabytes.
        let large =
            with("jsonb_build_object('k', repeat('x', 10000000))", at, "'{}'::jsonb").join(", ");
        assert_refused(c, &format!("{vectors}, ARRAY[{large}]"), "54000", &[&place, "bytes"]);
        let items = with("jsonb_build_object('vector', ARRAY[1,2,3], 'metadata', jsonb_build_object('k', repeat('x', 10000000)))", at, "'{\"vector\": [1,2,3]}'::jsonb").join(", ");
        assert_refused(
            c,
            &format!("items => jsonb_build_array({items})"),
            "54000",
            &[&place, "bytes"],
        );
    }
    assert_refused(c, &format!("{vectors}, '[{{}}, {{}}]'"), "22023", &["2 metadata", "3 vectors"]);
    assert_refused(c, &format!("{vectors}, '[]'"), "22023", &["0 metadata", "3 vectors"]);
    assert_refused(
        c,
        &format!("{vectors}, '[{{}},{{}},{{}},{{}}]'::jsonb"),
        "22023",
        &["4 metadata"],
    );
    assert_refused(c, &format!("{vectors}, ARRAY[1,2,3]"), "42804", &["metadata"]);
    // One object for all is none for each.
    assert_refused(c, &format!("{vectors}, '{{\"k\": 1}}'::jsonb"), "22023", &[]);
}

#[test]
fn bad_ids() {
    let ground = Ground::new();
    let c = &mut created(&ground);
    let vectors = "ARRAY[[1,2,3],[4,5,6],[7,8,9]]";
    for at in 1..=3 {
        let place = format!("row {at}");
        let ids = with("''", at, "NULL").join(", ");
        assert_refused(
            c,
            &format!("{vectors}, ids => ARRAY[{ids}]::text[]"),
            "22023",
            &[&place, "0 bytes"],
        );
        let ids = with("repeat('x', 2049)", at, "NULL").join(", ");
        assert_refused(
            c,
            &format!("{vectors}, ids => ARRAY[{ids}]"),
            "22023",
            &[&place, "2049 bytes"],
        );
        let ids = with("'old'", at, "NULL").join(", ");
        assert_refused(
            c,
            &format!("{vectors}, ids => ARRAY[{ids}]"),
            "23505",
            &[&place, "already"],
        );
    }
    for (ids, rows) in
        [("a,a,b", "rows 1 and 2"), ("a,b,a", "rows 1 and 3"), ("b,a,a", "rows 2 and 3")]
    {
        assert_refused(c, &format!("{vectors}, ids => '{{{ids}}}'"), "23505", &[rows, "\"a\""]);
    }
    assert_refused(c, &format!("{vectors}, ids => '{{a,b}}'"), "22023", &["2 ids", "3 vectors"]);
    assert_refused(
        c,
        &format!("{vectors}, ids => '{{a,b,c,d}}'"),
        "22023",
        &["4 ids", "3 vectors"],
    );
    assert_refused(c, &format!("{vectors}, ids => '{{}}'"), "22023", &["0 ids", "3 vectors"]);
    gives(c, "SELECT id FROM s3vector.list_vectors('docs')", &["old", "older"]);
}

/// Every call about a collection that is none, or about nothing.
#[test]
fn unknown_collections() {
    let ground = Ground::new();
    let c = &mut created(&ground);
    run(c, "CREATE TABLE plain (id text PRIMARY KEY, embedding vector(3), metadata jsonb)");
    for (name, sqlstate, words) in [
        ("'nope'", "42P01", &["\"nope\"", "does not exist", "create_collection"] as &[&str]),
        ("''", "42P01", &["does not exist"]),
        ("'DOCS'", "42P01", &["\"DOCS\""]),
        ("'public.docs'", "42P01", &["\"public.docs\""]),
        ("repeat('x', 64)", "42P01", &["xxx"]),
        ("'plain'", "42809", &["plain", "created_at", "s3vector"]),
        ("NULL", "22004", &["collection"]),
    ] {
        for call in [
            "add_vectors({}, ARRAY[[1,2,3]])",
            "add_vectors({}, items => '[]')",
            "search_vectors({}, '[1,2,3]')",
            "search_vectors_page({}, '[1,2,3]')",
            "get_vector({}, 'old')",
            "list_vectors({})",
            "remove_vectors({}, '{old}')",
            "count_vectors({})",
            "delete_collection({})",
            "get_collection_info({})",
        ] {
            if name == "NULL" && call.starts_with("get_collection_info") {
                continue;
            }
            refused(c, &format!("SELECT s3vector.{}", call.replace("{}", name)))
                .expect(sqlstate, words);
        }
    }
    refused(c, "SELECT s3vector.get_vector('docs', NULL)").expect("22004", &["id"]);
    assert_eq!(count(c, "docs"), 2);
}

/// Filters that are none: every call that takes one says what is wrong, and removes nothing.
#[test]
fn bad_filters() {
    let ground = Ground::new();
    let c = &mut created(&ground);
    for (filter, words) in [
        (r#"{"k": {"$near": 1}}"#, &["$near"] as &[&str]),
        (r#"{"$where": "1"}"#, &["$where"]),
        (r#"{"k": [1]}"#, &["range", "\"k\""]),
        (r#"{"k": {}}"#, &["empty"]),
        (r#"{"$or": {}}"#, &["$or", "array"]),
        ("[]", &["object"]),
        ("null", &["object"]),
        ("3", &["object"]),
    ] {
        for call in [
            "search_vectors('docs', '[1,2,3]', '{}')",
            "search_vectors('docs', NULL, '{}')",
            "search_vectors_page('docs', '[1,2,3]', '{}')",
            "list_vectors('docs', filters => '{}')",
            "remove_vectors('docs', filters => '{}')",
            "remove_vectors('docs', '{\"old\"}', '{}')",
            "count_vectors('docs', '{}')",
        ] {
            let (start, end) = call.rsplit_once("{}").expect("a place for the filter");
            refused(c, &format!("SELECT s3vector.{start}{filter}{end}")).expect("22023", words);
        }
    }
    refused(c, r#"SELECT s3vector.count_vectors('docs', '{"k": {"$regex": "("}}')"#)
        .expect("2201B", &[]);
    assert_eq!(count(c, "docs"), 2);
}
