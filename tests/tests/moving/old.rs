//! A collection of the older engine.

use std::collections::BTreeSet;

use harness::errors::failure;
use harness::{Cluster, python};

use super::{number, old_collection, url};

/// All 2,000 rows, though that engine's own records name 1,250.
#[test]
fn every_row_comes_in() {
    let mut cluster = Cluster::start();
    let old = old_collection(&cluster);
    let mut client = cluster.client();
    let sql = format!("SELECT s3vector.import_collection('{}', 'dictionary')", url(&old));
    assert_eq!(number(&mut client, &sql), 2000);
    let socket = cluster.socket().to_string_lossy().into_owned();
    let compared =
        python::run("check_old_collection.py", &[&socket, &old.to_string_lossy(), "dictionary"]);
    assert_eq!(compared.trim(), "2000");

    cluster.restart();
    let mut client = cluster.client();
    let rows = client.query("SELECT id FROM dictionary", &[]).expect("ids");
    let ids: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(ids, (0..2000).map(|number| format!("wn-{number}")).collect());
    let info = client
        .query_one("SELECT * FROM s3vector.get_collection_info('dictionary')", &[])
        .expect("a description");
    assert_eq!(info.get::<_, i32>("dimension"), 384);
    assert_eq!(info.get::<_, String>("distance_metric"), "cosine");
    assert_eq!(info.get::<_, i64>("vectors"), 2000);
    // A graph, not rows that wait for one.
    assert_eq!((info.get::<_, i32>("segments"), info.get::<_, i64>("delta_rows")), (1, 0));

    // Recall over 50 of its own vectors as queries.
    let recall = number(
        &mut client,
        "SELECT count(*) FROM (SELECT embedding FROM dictionary ORDER BY id LIMIT 50) q,
         LATERAL (SELECT id FROM s3vector.search_vectors('dictionary', q.embedding)) found
         WHERE id IN (SELECT e.id FROM (SELECT id, embedding <=> q.embedding AS d FROM dictionary
                                        OFFSET 0) e ORDER BY d LIMIT 10)",
    );
    assert!(recall >= 475, "recall@10 is {}", recall as f64 / 500.0);
}

/// A batch that is not whole is named, and nothing of the import stays.
#[test]
fn a_batch_without_its_ids() {
    let cluster = Cluster::start();
    let old = old_collection(&cluster);
    let batch = files(&old)
        .into_iter()
        .find(|file| file.ends_with("batch_000003/metadata.json"))
        .expect("a fourth batch");
    std::fs::remove_file(&batch).expect("removed");
    let mut client = cluster.client();
    let sql = format!("SELECT s3vector.import_collection('{}', 'dictionary')", url(&old));
    failure(client.query(&sql, &[])).expect("XX001", &["batch_000003", "is incomplete"]);
    let left = number(&mut client, "SELECT count(*) FROM s3vector.list_collections()");
    assert_eq!(left, 0);
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}
