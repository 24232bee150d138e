//! Arrays that other libraries have written.

use harness::errors::failure;
use harness::{Cluster, python};
use postgres::Client;

use super::{folder, number, url};

const ROWS: usize = 500;

/// Imports an array and compares every vector with what was written.
fn check(client: &mut Client, group: &str, array: &str, more: &str) {
    let name = format!("c_{}", array);
    client
        .batch_execute(&format!("DROP TABLE IF EXISTS {name}"))
        .unwrap_or_else(|error| panic!("{error:?}"));
    let sql = format!(
        "SELECT s3vector.import_zarr('{group}', '{name}', \"array\" => '{array}', distance_metric => 'l2' {more})"
    );
    assert_eq!(number(client, &sql), ROWS as i64, "{group} {array}");
    let id = if more.is_empty() { "row" } else { "row * 3 + 1" };
    let sql = format!(
        "SELECT count(*) FROM expected e JOIN {name} c ON c.id = ({id})::text
         WHERE c.embedding = e.embedding"
    );
    assert_eq!(number(client, &sql), ROWS as i64, "vectors of {group} {array}");
}

#[test]
fn codecs_and_versions() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let arrays = folder(&cluster, "arrays");
    python::run("write_arrays.py", &[&arrays.to_string_lossy(), &ROWS.to_string(), "30"]);
    client
        .batch_execute("CREATE TABLE expected (row serial, embedding vector(30))")
        .expect("a table");
    let lines = std::fs::read_to_string(arrays.join("expected.txt")).expect("vectors");
    for (row, line) in lines.lines().enumerate() {
        client
            .execute(&format!("INSERT INTO expected VALUES ({row}, '{line}')"), &[])
            .expect("a row");
    }
    for version in ["v2", "v3"] {
        let group = format!("{}/{version}.zarr", url(&arrays));
        for array in ["plain", "blosc", "zstd", "gzip", "half"] {
            check(&mut client, &group, array, "");
        }
        check(&mut client, &group, "plain", ", ids => 'number'");
    }
    let group = format!("{}/v2.zarr", url(&arrays));
    check(&mut client, &group, "lz4", "");
    // The array itself, not a group.
    check_whole(&mut client, &format!("{}/v3.zarr/zstd", url(&arrays)));

    // Into a collection that is there, behind rows that are.
    client
        .batch_execute(
            "SELECT s3vector.create_collection('there', 30, 'l2');
             SELECT s3vector.add_vectors('there', (SELECT array_agg(embedding) FROM expected))",
        )
        .expect("a collection");
    let group = format!("{}/v3.zarr", url(&arrays));
    let sql = format!(
        "SELECT s3vector.import_zarr('{group}', 'there', \"array\" => 'zstd', ids => 'number')"
    );
    assert_eq!(number(&mut client, &sql), ROWS as i64);
    let rows = number(&mut client, "SELECT s3vector.count_vectors('there')");
    assert_eq!(rows, 2 * ROWS as i64);
    // Once more: the ids are taken, and nothing is kept.
    failure(client.query(&sql, &[])).expect("23505", &["the id of row 0 is already in"]);
    assert_eq!(number(&mut client, "SELECT s3vector.count_vectors('there')"), rows);
    client
        .batch_execute("SELECT s3vector.create_collection('other', 31)")
        .expect("a collection of 31 dimensions");
    let sql = format!("SELECT s3vector.import_zarr('{group}', 'other', \"array\" => 'zstd')");
    failure(client.query(&sql, &[])).expect("22000", &["the array has 30 dimensions, not 31"]);
}

fn check_whole(client: &mut Client, url: &str) {
    let sql = format!("SELECT s3vector.import_zarr('{url}', 'whole', \"array\" => '')");
    assert_eq!(number(client, &sql), ROWS as i64);
}
