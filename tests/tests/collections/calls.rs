//! Does each call do what its name says, and is all of it there after a restart?

use harness::Cluster;
use postgres::Client;

use crate::ground::{Ground, count, gives, holds, one, refused, run, texts};

/// Everything the calls tell about the collection `library`, as one text.
fn told(client: &mut Client) -> String {
    let told = texts(
        client,
        "SELECT 'list '    || name || schema || owner || dimension || distance_metric
             FROM s3vector.list_collections()
         UNION ALL SELECT 'info ' || name || schema || owner || dimension || distance_metric || vectors || config
             FROM s3vector.get_collection_info('library')
         UNION ALL SELECT 'get ' || g::text FROM s3vector.get_vector('library', 'b') g
         UNION ALL SELECT 'row ' || l::text FROM s3vector.list_vectors('library', include_vectors => true) l
         UNION ALL SELECT 'found ' || s::text FROM s3vector.search_vectors('library', '[1,0,0]', include_vectors => true) s
         UNION ALL SELECT 'filtered ' || s::text FROM s3vector.search_vectors('library', NULL, '{\"year\": [1990, 2000]}') s
         UNION ALL SELECT 'page ' || s3vector.search_vectors_page('library', '[1,0,0]', '{}', 2, 1)::text
         UNION ALL SELECT 'count ' || s3vector.count_vectors('library')
         UNION ALL SELECT 'counted ' || s3vector.count_vectors('library', '{\"year\": {\"$gt\": 1990}}')",
    );
    told.join("\n")
}

#[test]
fn every_call_before_and_after_a_restart() {
    let mut cluster = Cluster::start();
    let mut client = cluster.client();
    let c = &mut client;
    gives(c, "SELECT name FROM s3vector.list_collections()", &[] as &[&str]);

    // create
    gives(c, "SELECT s3vector.create_collection('library', 3, 'l2')::text", &["library"]);
    gives(c, "SELECT name FROM s3vector.list_collections()", &["library"]);
    assert_eq!(count(c, "library"), 0);
    gives(c, "SELECT id FROM s3vector.search_vectors('library', '[1,0,0]')", &[] as &[&str]);

    // add
    gives(
        c,
        r#"SELECT unnest(s3vector.add_vectors('library', ARRAY[[1,0,0],[0,1,0],[0,0,1],[3,0,0]],
           '[{"year": 1990}, {"year": 1995, "by": "B"}, {"year": 2001}, {}]', '{a,b,c,d}'))"#,
        &["a", "b", "c", "d"],
    );
    assert_eq!(count(c, "library"), 4);

    // search: scores are 1 / (1 + distance)
    gives(
        c,
        "SELECT id || ' ' || round(score::numeric, 4) FROM s3vector.search_vectors('library', '[1,0,0]')",
        &["a 1.0000", "b 0.4142", "c 0.4142", "d 0.3333"],
    );
    gives(
        c,
        r#"SELECT id FROM s3vector.search_vectors('library', '[1,0,0]', '{"year": {"$gt": 1990}}')"#,
        &["b", "c"],
    );

    // get
    gives(
        c,
        "SELECT concat_ws(' ', id, vector, metadata) FROM s3vector.get_vector('library', 'b')",
        &[r#"b [0,1,0] {"by": "B", "year": 1995}"#],
    );
    holds(
        c,
        "(SELECT created_at <= now() AND created_at > now() - interval '1 minute' FROM s3vector.get_vector('library', 'b'))",
    );
    gives(c, "SELECT id FROM s3vector.get_vector('library', 'z')", &[] as &[&str]);

    // list, by pages
    gives(c, "SELECT id FROM s3vector.list_vectors('library')", &["a", "b", "c", "d"]);
    gives(c, "SELECT id FROM s3vector.list_vectors('library', 2)", &["a", "b"]);
    gives(c, "SELECT id FROM s3vector.list_vectors('library', 2, after => 'b')", &["c", "d"]);
    gives(
        c,
        r#"SELECT id FROM s3vector.list_vectors('library', filters => '{"year": {"$exists": true}}', after => 'a')"#,
        &["b", "c"],
    );
    holds(c, "(SELECT bool_and(vector IS NULL) FROM s3vector.list_vectors('library'))");

    // remove: the true count, by ids, by filter, by both
    assert_eq!(one::<i64>(c, "SELECT s3vector.remove_vectors('library', '{d,nope,d}')"), 1);
    assert_eq!(
        one::<i64>(c, r#"SELECT s3vector.remove_vectors('library', '{a,b}', '{"year": 2001}')"#),
        0
    );
    assert_eq!(
        one::<i64>(c, r#"SELECT s3vector.remove_vectors('library', filters => '{"year": 2001}')"#),
        1
    );
    gives(c, "SELECT id FROM library ORDER BY id", &["a", "b"]);
    assert_eq!(count(c, "library"), 2);
    refused(c, "SELECT s3vector.remove_vectors('library')").expect("22004", &["ids", "filters"]);
    assert_eq!(count(c, "library"), 2);

    // a second one, to be deleted
    run(c, "SELECT s3vector.create_collection('gone', 3)");
    run(c, "SELECT s3vector.add_vectors('gone', ARRAY[[1,2,3]])");
    gives(c, "SELECT name FROM s3vector.list_collections()", &["gone", "library"]);
    run(c, "SELECT s3vector.delete_collection('gone')");
    gives(c, "SELECT name FROM s3vector.list_collections()", &["library"]);
    holds(c, "to_regclass('gone') IS NULL");
    refused(c, "SELECT s3vector.count_vectors('gone')").expect("42P01", &["gone"]);
    refused(c, "SELECT s3vector.delete_collection('gone')").expect("42P01", &["gone"]);

    let before = told(c);
    assert_eq!(before.lines().filter(|line| line.starts_with("found")).count(), 2, "{before}");
    drop(client);
    cluster.restart();
    let mut client = cluster.client();
    assert_eq!(told(&mut client), before);
    run(&mut client, "SELECT s3vector_flush('library_embedding_idx')");
    drop(client);
    cluster.restart();
    let mut client = cluster.client();
    run(&mut client, "SET enable_seqscan = off; SET enable_sort = off");
    assert_eq!(told(&mut client), before);
    // A crash takes nothing either, and no process ended otherwise than it should.
    assert!(!cluster.log().contains("was terminated by signal"), "a server process has died");
}

/// A session that has searched ends without taking the server along.
#[test]
fn sessions_end() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    run(&mut client, "SELECT s3vector.create_collection('docs', 2)");
    run(&mut client, "SELECT s3vector.add_vectors('docs', ARRAY[[1,2],[3,4]])");
    for _ in 0..3 {
        let mut other = cluster.client();
        gives(
            &mut other,
            r#"SELECT id FROM s3vector.search_vectors('docs', '[1,2]', '{"a": 1}')"#,
            &[] as &[&str],
        );
        assert_eq!(
            texts(&mut other, "SELECT id FROM s3vector.search_vectors('docs', '[1,2]')").len(),
            2
        );
        let pid: i32 = one(&mut other, "SELECT pg_backend_pid()");
        drop(other);
        harness::wait::wait_until("the session to end", || !harness::process::exists(pid));
    }
    assert_eq!(count(&mut client, "docs"), 2);
    assert!(
        !cluster.log().contains("was terminated by signal"),
        "a session that ended has crashed"
    );
}

#[test]
fn defaults_and_options() {
    let ground = Ground::new();
    let c = &mut ground.client();
    run(c, "SELECT s3vector.create_collection('plain')");
    gives(
        c,
        "SELECT concat_ws(' ', dimension, distance_metric, vectors, segments, delta_rows) FROM s3vector.get_collection_info('plain')",
        &["384 cosine 0 0 0"],
    );
    // Options under their own names and under those of the older design reach the index.
    run(
        c,
        r#"SELECT s3vector.create_collection('tuned', 8, 'ip', config =>
           '{"m": 8, "ef_construction": 32, "bits": "4", "payload": "float16", "compression": "lz4",
             "zarr_chunk_size": 100, "shard_size": 250, "compression_level": 7}')"#,
    );
    gives(
        c,
        "SELECT array_to_string(array(SELECT unnest(reloptions) ORDER BY 1), ' ') FROM pg_class WHERE relname = 'tuned_embedding_idx'",
        &[
            "bits=4 chunk_rows=100 compression=lz4 compression_level=7 ef_construction=32 m=8 payload=float16 shard_rows=300",
        ],
    );
    holds(
        c,
        r#"(SELECT config @> '{"m": 8, "ef_construction": 32, "bits": 4, "payload": "float16", "compression": "lz4", "chunk_rows": 100, "shard_rows": 300}'
            FROM s3vector.get_collection_info('tuned'))"#,
    );
    // What info says of one collection makes another like it.
    run(
        c,
        "SELECT s3vector.create_collection('twin', 8, config => config) FROM s3vector.get_collection_info('tuned')",
    );
    holds(
        c,
        "(SELECT config FROM s3vector.get_collection_info('twin')) = (SELECT config FROM s3vector.get_collection_info('tuned'))",
    );
    for (config, word) in [
        (r#"{"lists": 3}"#, "lists"),
        (r#"{"m": 1}"#, "\"m\""),
        (r#"{"m": null}"#, "\"m\""),
        (r#"{"m": [8]}"#, "\"m\""),
        (r#"{"bits": 3}"#, "\"bits\""),
        (r#"{"chunk_rows": 10, "zarr_chunk_size": 10}"#, "chunk_rows"),
        ("[]", "JSON object"),
        ("3", "JSON object"),
    ] {
        refused(c, &format!("SELECT s3vector.create_collection('bad', 8, config => '{config}')"))
            .expect("22023", &[word]);
    }
    for (arguments, word) in [
        ("0", "dimension"),
        ("-3", "dimension"),
        ("16001", "dimension"),
        ("3, 'hamming'", "hamming"),
    ] {
        refused(c, &format!("SELECT s3vector.create_collection('bad', {arguments})"))
            .expect("22023", &[word]);
    }
    refused(c, "SELECT s3vector.create_collection(NULL)").expect("22004", &["name"]);
    holds(c, "to_regclass('bad') IS NULL");
    run(c, "SELECT s3vector.create_collection('most', 16000)");
    for metric in ["cosine", "COSINE", "l2", "euclidean", "ip", "inner_product"] {
        run(
            c,
            &format!("SELECT s3vector.create_collection('any', 2, '{metric}', overwrite => true)"),
        );
    }
}

#[test]
fn overwrite_leaves_nothing_of_the_old() {
    let ground = Ground::new();
    let c = &mut ground.client();
    run(c, "SELECT s3vector.create_collection('docs', 2)");
    run(c, "SELECT s3vector.add_vectors('docs', ARRAY[[1,2],[3,4]])");
    refused(c, "SELECT s3vector.create_collection('docs', 3)")
        .expect("42P07", &["docs", "overwrite"]);
    assert_eq!(count(c, "docs"), 2);
    run(c, "SELECT s3vector.create_collection('docs', 3, 'ip', overwrite => true)");
    assert_eq!(count(c, "docs"), 0);
    gives(
        c,
        "SELECT dimension || distance_metric FROM s3vector.get_collection_info('docs')",
        &["3ip"],
    );
    run(c, "SELECT s3vector.add_vectors('docs', ARRAY[[1,2,3]])");
    assert_eq!(texts(c, "SELECT id FROM s3vector.search_vectors('docs', '[1,2,3]')").len(), 1);
    // Of what is not a collection nothing is overwritten.
    run(c, "CREATE TABLE plain (id text); CREATE VIEW seen AS SELECT 1; CREATE SEQUENCE numbers");
    for name in ["plain", "seen", "numbers", "docs_pkey"] {
        refused(c, &format!("SELECT s3vector.create_collection('{name}', 3)"))
            .expect("42P07", &[name]);
        refused(c, &format!("SELECT s3vector.create_collection('{name}', 3, overwrite => true)"))
            .expect("42809", &[name]);
        holds(c, &format!("to_regclass('{name}') IS NOT NULL"));
    }
    // Nor where somebody else depends on it.
    run(c, "CREATE VIEW dependent AS SELECT id FROM docs");
    refused(c, "SELECT s3vector.delete_collection('docs')").expect("2BP01", &["dependent"]);
    refused(c, "SELECT s3vector.create_collection('docs', 3, overwrite => true)")
        .expect("2BP01", &["dependent"]);
    assert_eq!(count(c, "docs"), 1);
}

#[test]
fn what_is_told_about_collections() {
    let ground = Ground::new();
    let c = &mut ground.client();
    let owner = ground.role("owner");
    run(c, &format!("CREATE SCHEMA shelf AUTHORIZATION {owner}"));
    run(c, "SELECT s3vector.create_collection('docs', 4, 'ip')");
    run(
        c,
        &format!(
            "SET ROLE {owner}; SET search_path = shelf; SELECT s3vector.create_collection('docs', 5); RESET ROLE; RESET search_path"
        ),
    );
    gives(
        c,
        "SELECT concat_ws(' ', name, schema, owner, dimension, distance_metric) FROM s3vector.list_collections()",
        &["docs public postgres 4 ip".to_owned(), format!("docs shelf {owner} 5 cosine")],
    );
    run(
        c,
        "SELECT s3vector.add_vectors('docs', array_agg(ARRAY[i, 1, 2, 3])) FROM generate_series(1, 2000) i",
    );
    run(c, "ANALYZE docs");
    run(c, "SELECT s3vector_flush('docs_embedding_idx')");
    run(c, "SELECT s3vector.add_vectors('docs', ARRAY[[1,2,3,4]])");
    let told = c
        .query_one("SELECT * FROM s3vector.get_collection_info('docs')", &[])
        .expect("information");
    assert_eq!(told.get::<_, i64>("vectors"), 2001);
    assert_eq!(told.get::<_, i32>("segments"), 1);
    assert_eq!(told.get::<_, i64>("delta_rows"), 1);
    assert_eq!(told.get::<_, String>("owner"), "postgres");
    for bytes in ["table_bytes", "resident_bytes", "storage_bytes"] {
        assert!(told.get::<_, i64>(bytes) > 10_000, "{bytes}: {told:?}");
    }
    let listed = c
        .query_one("SELECT * FROM s3vector.list_collections() WHERE schema = 'public'", &[])
        .expect("listed");
    let estimate: i64 = listed.get("estimated_vectors");
    assert!((1900..2100).contains(&estimate), "estimated at {estimate}");
    assert!(listed.get::<_, i64>("total_bytes") > told.get::<_, i64>("table_bytes"));
    run(c, "SET search_path = shelf, public");
    assert_eq!(count(c, "docs"), 0);
    gives(c, "SELECT schema FROM s3vector.get_collection_info('docs')", &["shelf"]);
    // Deleting finds what the other calls find.
    run(c, "SELECT s3vector.delete_collection('docs')");
    assert_eq!(count(c, "docs"), 2001);
}
