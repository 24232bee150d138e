//! What `add_vectors` takes: three forms that mean the same, ids given and generated, replacing.

use harness::Cluster;
use harness::cluster::Stop;
use postgres::Client;

use crate::ground::{Ground, count, gives, holds, one, run, texts};

fn created(ground: &Ground) -> Client {
    let mut client = ground.client();
    run(&mut client, "SELECT s3vector.create_collection('docs', 3, 'l2')");
    client
}

/// Every form of the same two rows ends as the same two rows.
#[test]
fn the_forms_agree() {
    let ground = Ground::new();
    let c = &mut created(&ground);
    let vectors = [
        "ARRAY['[1,2.5,-3]','[0.1,5,6]']::vector[]",
        "ARRAY[[1,2.5,-3],[0.1,5,6]]::real[]",
        "ARRAY[[1,2.5,-3],[0.1,5,6]]::double precision[]",
        "ARRAY[[1,2.5,-3],[0.1,5,6]]",
        "ARRAY[[1,2.5,-3],[0.1,5,6]]::numeric[]",
        "'{{1,2.5,-3},{0.1,5,6}}'::real[][]",
        "'[0:1][-1:1]={{1,2.5,-3},{0.1,5,6}}'::real[]",
        "array(SELECT v::vector FROM unnest('{\"[1,2.5,-3]\",\"[0.1,5,6]\"}'::text[]) v)",
    ];
    let metadata = [
        r#"ARRAY['{"a": 1}', '{"b": [2]}']::jsonb[]"#,
        r#"'[{"a": 1}, {"b": [2]}]'::jsonb"#,
        r#"'[{"a": 1}, {"b": [2]}]'::json"#,
        r#"'[{"a": 1}, {"b": [2]}]'"#,
        r#"' [{"a": 1}, {"b": [2]}]'::text"#,
        r#"ARRAY['{"a": 1}', '{"b": [2]}']"#,
        r#"ARRAY['{"a": 1}', '{"b": [2]}']::json[]"#,
    ];
    let calls = vectors
        .iter()
        .map(|v| format!("'docs', {v}, {}, '{{x,y}}'", metadata[0]))
        .chain(metadata.iter().map(|m| format!("'docs', {}, {m}, '{{x,y}}'", vectors[0])))
        .chain([
            format!("collection => 'docs', ids => '{{x,y}}', vectors => {}, metadata => {}", vectors[1], metadata[3]),
            r#"'docs', '[{"id": "x", "vector": [1, 2.5, -3], "metadata": {"a": 1}}, {"metadata": {"b": [2]}, "vector": [1e-1, 5, 6], "id": "y"}]'::jsonb"#.to_owned(),
            r#"'docs', '[{"id": "x", "vector": [1, 2.5, -3], "metadata": {"a": 1}}, {"id": "y", "vector": [0.1, 5.0, 6], "metadata": {"b": [2]}}]', false"#.to_owned(),
        ]);
    for call in calls {
        gives(c, &format!("SELECT unnest(s3vector.add_vectors({call}))"), &["x", "y"]);
        gives(
            c,
            "SELECT concat_ws(' ', id, embedding, metadata) FROM docs ORDER BY id",
            &[r#"x [1,2.5,-3] {"a": 1}"#, r#"y [0.1,5,6] {"b": [2]}"#],
        );
        run(c, "TRUNCATE docs");
    }
    // Integers of every size, and one vector as one row.
    for kind in ["smallint", "integer", "bigint"] {
        run(c, &format!("SELECT s3vector.add_vectors('docs', ARRAY[[1,2,3],[4,5,6]]::{kind}[])"));
        run(c, &format!("SELECT s3vector.add_vectors('docs', ARRAY[7,8,9]::{kind}[])"));
    }
    gives(
        c,
        "SELECT embedding::text || ' ' || count(*) FROM docs GROUP BY embedding ORDER BY 1",
        &["[1,2,3] 3", "[4,5,6] 3", "[7,8,9] 3"],
    );
}

/// Ids come back in the order of the vectors; those that were missing are new, and sort as they came.
#[test]
fn ids() {
    let ground = Ground::new();
    let c = &mut created(&ground);
    let vectors = "ARRAY[[1,2,3],[4,5,6],[7,8,9],[0,1,2]]";
    gives(
        c,
        &format!(
            "SELECT unnest(s3vector.add_vectors('docs', {vectors}, ids => '{{z,10,\"a b\",é}}'))"
        ),
        &["z", "10", "a b", "é"],
    );
    let mixed = texts(
        c,
        &format!(
            "SELECT unnest(s3vector.add_vectors('docs', {vectors}, ids => '{{m,NULL,k,NULL}}'))"
        ),
    );
    assert_eq!((mixed[0].as_str(), mixed[2].as_str()), ("m", "k"));
    for (at, wanted) in [(0, "[1,2,3]"), (1, "[4,5,6]"), (2, "[7,8,9]"), (3, "[0,1,2]")] {
        gives(
            c,
            &format!("SELECT vector::text FROM s3vector.get_vector('docs', '{}')", mixed[at]),
            &[wanted],
        );
    }
    let items = r#"[{"vector": [1,1,1]}, {"id": 7, "vector": [2,2,2]}, {"id": null, "vector": [3,3,3], "metadata": null},
                    {"id": "7 ", "vector": [4,4,4]}, {"id": -1.50, "vector": [5,5,5]}]"#;
    let given =
        texts(c, &format!("SELECT unnest(s3vector.add_vectors('docs', items => '{items}'))"));
    assert_eq!((given[1].as_str(), given[3].as_str(), given[4].as_str()), ("7", "7 ", "-1.50"));
    gives(
        c,
        &format!(
            "SELECT vector::text || metadata FROM s3vector.get_vector('docs', '{}')",
            given[2]
        ),
        &["[3,3,3]{}"],
    );
    run(c, "TRUNCATE docs");
    let made = texts(
        c,
        "SELECT unnest(s3vector.add_vectors('docs', (SELECT array_agg(ARRAY[i,i,i]) FROM generate_series(1, 300) i)))",
    );
    let later = texts(c, "SELECT unnest(s3vector.add_vectors('docs', ARRAY[[0,0,0]]))");
    gives(c, "SELECT id FROM s3vector.list_vectors('docs', 1000)", &[made, later].concat());
    gives(
        c,
        "SELECT DISTINCT (left(embedding::text, 2) = '[' || left(n::text, 1))::text FROM (SELECT embedding, row_number() OVER (ORDER BY id) n FROM docs ORDER BY id LIMIT 300) d",
        &["true"],
    );
    // Nothing to add is no error.
    for none in [
        "'{}'::real[]",
        "'{}'::vector[]",
        "items => '[]'",
        "'[]'::jsonb",
        "'{}'::real[], '[]', '{}'",
    ] {
        gives(c, &format!("SELECT unnest(s3vector.add_vectors('docs', {none}))"), &[] as &[&str]);
    }
    assert_eq!(count(c, "docs"), 301);
}

/// The longest id, and the largest metadata but one.
#[test]
fn large_ones() {
    let ground = Ground::new();
    let c = &mut created(&ground);
    run(
        c,
        "SELECT s3vector.add_vectors('docs', ARRAY[[1,2,3]], ids => ARRAY[string_agg(md5(i::text), '')]) FROM generate_series(1, 64) i",
    );
    holds(c, "(SELECT octet_length(id) = 2048 FROM docs)");
    gives(
        c,
        "SELECT s.id FROM docs, s3vector.get_vector('docs', docs.id) s WHERE s.id <> docs.id",
        &[] as &[&str],
    );
    run(
        c,
        "SELECT s3vector.add_vectors('docs', ARRAY[[1,2,3]], ARRAY[jsonb_build_object('text', repeat('é\"', 300000))], '{large}')",
    );
    holds(
        c,
        "(SELECT metadata ->> 'text' = repeat('é\"', 300000) FROM s3vector.get_vector('docs', 'large'))",
    );
    run(
        c,
        "SELECT s3vector.add_vectors('docs', items => jsonb_build_array(jsonb_build_object('id', 'deep', 'vector', ARRAY[1,2,3], 'metadata', jsonb_build_object('k', (repeat('[', 1000) || repeat(']', 1000))::jsonb))))",
    );
    holds(
        c,
        "(SELECT metadata -> 'k' = (repeat('[', 1000) || repeat(']', 1000))::jsonb FROM docs WHERE id = 'deep')",
    );
}

/// A database of another encoding: what comes back is what was added, or nothing is added.
#[test]
fn another_encoding() {
    let ground = Ground::new();
    let latin = format!("{}_latin", ground.name);
    run(
        &mut ground.client(),
        &format!("CREATE DATABASE {latin} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"),
    );
    let c = &mut ground.cluster.client_of(&latin);
    run(c, "CREATE EXTENSION s3vector CASCADE");
    let attempts = [
        "SELECT s3vector.create_collection('docs', 2)",
        r#"SELECT s3vector.add_vectors('docs', ARRAY[[1,2]], '[{"k": "ö"}]', '{a}')"#,
        r#"SELECT s3vector.add_vectors('docs', items => '[{"id": "b", "vector": [1,2], "metadata": {"k": "ö"}}]')"#,
        r#"SELECT s3vector.add_vectors('docs', ARRAY[[1,2]], ids => '{ö}')"#,
    ];
    for attempt in attempts {
        if let Err(error) = c.batch_execute(attempt) {
            let report = harness::errors::failure::<()>(Err(error));
            assert!(
                ["0A000", "42P01"].contains(&report.sqlstate.as_str()),
                "{attempt}: {report:?}"
            );
        }
    }
    if one(c, "SELECT to_regclass('docs') IS NOT NULL") {
        gives(
            c,
            "SELECT id || ' ' || (metadata ->> 'k') FROM docs WHERE metadata ? 'k' ORDER BY id",
            &["a ö", "b ö"],
        );
        gives(
            c,
            r#"SELECT id FROM s3vector.list_vectors('docs', filters => '{"k": "ö"}')"#,
            &["a", "b"],
        );
        gives(c, "SELECT id FROM s3vector.get_vector('docs', 'ö')", &["ö"]);
    }
}

#[test]
fn replacing() {
    let ground = Ground::new();
    let c = &mut created(&ground);
    run(
        c,
        r#"SELECT s3vector.add_vectors('docs', ARRAY[[1,0,0],[0,1,0]], '[{"n": 1}, {"n": 2}]', '{a,b}')"#,
    );
    let since: String = one(c, "SELECT created_at::text FROM docs WHERE id = 'a'");
    // Vectors alone leave the metadata, with metadata both are replaced; what is new is added.
    gives(
        c,
        "SELECT unnest(s3vector.add_vectors('docs', ARRAY[[0,0,5],[9,9,9]], ids => '{a,c}', update => true))",
        &["a", "c"],
    );
    gives(
        c,
        r#"SELECT unnest(s3vector.add_vectors('docs', items => '[{"id": "b", "vector": [7,7,7], "metadata": {"m": 3}}]', update => true))"#,
        &["b"],
    );
    gives(
        c,
        "SELECT concat_ws(' ', id, vector, metadata) FROM s3vector.list_vectors('docs', include_vectors => true)",
        &[r#"a [0,0,5] {"n": 1}"#, r#"b [7,7,7] {"m": 3}"#, "c [9,9,9] {}"],
    );
    gives(c, "SELECT created_at::text FROM docs WHERE id = 'a'", &[since]);
    run(c, "SET enable_seqscan = off; SET enable_sort = off");
    gives(c, "SELECT id FROM s3vector.search_vectors('docs', '[0,0,5]', \"limit\" => 1)", &["a"]);
    gives(
        c,
        "SELECT id FROM s3vector.search_vectors('docs', '[1,0,0]') WHERE score = 1",
        &[] as &[&str],
    );
    assert_eq!(count(c, "docs"), 3);
    // An update with a bad row replaces none.
    crate::ground::refused(c, "SELECT s3vector.add_vectors('docs', ARRAY[[1,1,1],['NaN',1,1]]::real[], ids => '{a,b}', update => true)")
        .expect("22000", &["vector 2"]);
    gives(c, "SELECT vector::text FROM s3vector.get_vector('docs', 'a')", &["[0,0,5]"]);
}

/// What has been added is there after a crash right behind the commit.
#[test]
fn a_crash_after_the_commit() {
    let mut cluster = Cluster::start();
    let mut client = cluster.client();
    run(&mut client, "SELECT s3vector.create_collection('docs', 3, 'l2')");
    run(
        &mut client,
        r#"SELECT s3vector.add_vectors('docs', ARRAY[[1,0,0],[0,1,0]], '[{"n": 1}, {"n": 2}]', '{a,b}')"#,
    );
    run(&mut client, "SELECT s3vector_flush('docs_embedding_idx')");
    run(&mut client, "SELECT s3vector.add_vectors('docs', ARRAY[[0,0,1]], ids => '{c}')");
    run(&mut client, "SELECT s3vector.remove_vectors('docs', '{b}')");
    cluster.crash();
    cluster.start_server();
    let mut client = cluster.client();
    for way in ["SELECT 1", "SET enable_seqscan = off; SET enable_sort = off"] {
        run(&mut client, way);
        gives(
            &mut client,
            "SELECT id FROM s3vector.search_vectors('docs', '[0,0,1]')",
            &["c", "a"],
        );
    }
    run(&mut client, "SELECT s3vector.create_collection('late', 1)");
    run(&mut client, "SELECT s3vector.delete_collection('docs')");
    run(&mut client, "SELECT s3vector.add_vectors('late', ARRAY[1])");
    cluster.stop(Stop::Immediate);
    cluster.start_server();
    let mut client = cluster.client();
    gives(&mut client, "SELECT name FROM s3vector.list_collections()", &["late"]);
    assert_eq!(count(&mut client, "late"), 1);
}
