//! Collections on a standby, and in a database that was restored from a dump.

use std::process::Command;

use harness::Metric;
use harness::items::Source;
use harness::process::{give_to_server_user, run_as_server_user};
use harness::{Cluster, tools};

use crate::docs::{ALL, Docs, PERCENT};
use crate::ground::{count, gives, holds, refused, run, texts};

#[test]
fn on_a_standby() {
    let cluster = Cluster::builder().set("s3vector.maintenance_workers", 0).start();
    let mut primary = cluster.client();
    let mut source = Source::new(531, 8);
    let mut docs = Docs::create(&mut primary, "docs", Metric::Cosine, source.vectors(400));
    run(&mut primary, "SELECT s3vector_flush('docs_embedding_idx')");
    let standby = cluster.standby();
    docs.add(&mut primary, source.vectors(100));
    standby.catch_up(&mut primary);
    let mut client = standby.client();
    let queries = source.vectors(5);
    for way in
        ["SELECT 1", "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off"]
    {
        run(&mut client, way);
        for (filter, limit) in [(ALL, 10), (PERCENT, 5)] {
            assert!(docs.recall(&mut client, &queries, filter, limit) >= 0.95, "{way}");
        }
    }
    assert_eq!(count(&mut client, "docs"), 500);
    assert_eq!(texts(&mut client, "SELECT id FROM s3vector.list_vectors('docs', 1000)").len(), 500);
    gives(&mut client, "SELECT id FROM s3vector.get_vector('docs', 'd00450')", &["d00450"]);
    gives(&mut client, "SELECT name FROM s3vector.list_collections()", &["docs"]);
    gives(
        &mut client,
        "SELECT (vectors || ' ' || delta_rows)::text FROM s3vector.get_collection_info('docs')",
        &["500 100"],
    );
    for call in [
        "add_vectors('docs', ARRAY[[1,2,3,4,5,6,7,8]])",
        "add_vectors('docs', ARRAY[[1,2,3,4,5,6,7,8]], ids => '{d00001}', update => true)",
        "remove_vectors('docs', '{d00001}')",
        "create_collection('more', 2)",
        "create_collection('docs', 2, overwrite => true)",
        "delete_collection('docs')",
    ] {
        refused(&mut client, &format!("SELECT s3vector.{call}"))
            .expect("25006", &["cannot execute"]);
    }
    // What changes on the primary while the standby's session has its searches prepared.
    run(
        &mut primary,
        "ALTER TABLE docs RENAME TO papers; SELECT s3vector.create_collection('docs', 2, 'l2'); SELECT s3vector.add_vectors('docs', ARRAY[[1,2]], ids => '{x}')",
    );
    standby.catch_up(&mut primary);
    gives(&mut client, "SELECT id FROM s3vector.search_vectors('docs', '[1,2]')", &["x"]);
    assert_eq!(count(&mut client, "papers"), 500);
    run(&mut primary, "SELECT s3vector.delete_collection('docs')");
    standby.catch_up(&mut primary);
    refused(&mut client, "SELECT s3vector.search_vectors('docs', '[1,2]')")
        .expect("42P01", &["docs"]);
    standby.promote();
    run(
        &mut client,
        "SELECT s3vector.add_vectors('papers', ARRAY[[1,2,3,4,5,6,7,8]]); SELECT s3vector.create_collection('docs', 2)",
    );
    assert_eq!(count(&mut client, "papers"), 501);
}

#[test]
fn dumped_and_restored() {
    let cluster = Cluster::builder().set("s3vector.maintenance_workers", 0).start();
    let mut client = cluster.client();
    let mut source = Source::new(532, 8);
    let docs = Docs::create(&mut client, "docs", Metric::InnerProduct, source.vectors(300));
    run(
        &mut client,
        r#"CREATE SCHEMA "My Shelf"; SET search_path = "My Shelf"; SELECT s3vector.create_collection('My.Docs', 2, config => '{"m": 8, "payload": "float16"}');
           SELECT s3vector.add_vectors('My.Docs', ARRAY[[1,2]], '[{"k": "é"}]', '{a}'); RESET search_path"#,
    );
    let folder = tempfile::tempdir_in(tools::directory()).expect("a folder");
    give_to_server_user(folder.path());
    for format in ["plain", "custom"] {
        let file = folder.path().join(format);
        let connect = ["-U", "postgres", "-h", cluster.socket().to_str().expect("a path")];
        run_as_server_user(
            Command::new(tools::postgres("pg_dump"))
                .args(connect)
                .args(["-F", format, "-f"])
                .arg(&file)
                .arg("postgres"),
        );
        let database = format!("restored_{format}");
        run(&mut client, &format!("CREATE DATABASE {database} TEMPLATE template0"));
        if format == "plain" {
            run_as_server_user(
                Command::new(tools::postgres("psql"))
                    .args(connect)
                    .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &database, "-f"])
                    .arg(&file),
            );
        } else {
            run_as_server_user(
                Command::new(tools::postgres("pg_restore"))
                    .args(connect)
                    .args(["--exit-on-error", "-j", "2", "-d", &database])
                    .arg(&file),
            );
        }
        let mut restored = cluster.client_of(&database);
        for way in ["SELECT 1", "SET enable_seqscan = off; SET enable_sort = off"] {
            run(&mut restored, way);
            assert!(
                docs.recall(&mut restored, &source.vectors(5), ALL, 10) >= 0.95,
                "{format}, {way}"
            );
        }
        assert_eq!(count(&mut restored, "docs"), 300);
        gives(
            &mut restored,
            "SELECT name || schema || dimension || distance_metric FROM s3vector.list_collections()",
            &["My.DocsMy Shelf2cosine", "docspublic8ip"],
        );
        run(&mut restored, r#"SET search_path = "My Shelf", public"#);
        gives(
            &mut restored,
            "SELECT id || metadata FROM s3vector.search_vectors('My.Docs', '[1,2]', '{\"k\": \"é\"}')",
            &[r#"a{"k": "é"}"#],
        );
        holds(
            &mut restored,
            r#"(SELECT config @> '{"m": 8, "payload": "float16"}' FROM s3vector.get_collection_info('My.Docs'))"#,
        );
        run(
            &mut restored,
            "SELECT s3vector.add_vectors('My.Docs', ARRAY[[3,4]]); SELECT s3vector.delete_collection('docs')",
        );
        assert_eq!(count(&mut restored, "My.Docs"), 2);
    }
    assert_eq!(count(&mut client, "docs"), 300);
}
