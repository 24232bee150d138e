//! Exports, as xarray sees them and as they come in again.

use harness::errors::failure;
use harness::{Cluster, Garage, python};
use postgres::Client;

use super::{folder, number, url};

/// A collection with all that JSON and text can hold.
fn fill(client: &mut Client, rows: usize) {
    client
        .batch_execute(&format!(
            "SELECT s3vector.create_collection('docs', 7, 'ip');
             INSERT INTO docs (id, embedding, metadata)
             SELECT 'id-' || i || CASE WHEN i % 3 = 0 THEN 'äöü \"quoted\" \\ 漢字' ELSE '' END,
                    ARRAY(SELECT (random() - 0.5)::real FROM generate_series(1, 7) WHERE i > 0)::vector(7),
                    CASE WHEN i % 5 = 0 THEN '{{}}'
                         ELSE jsonb_build_object('i', i, 't', repeat('x', i % 50), 'n', NULL,
                                                 'deep', jsonb_build_object('list', jsonb_build_array(1, 'a', true)))
                    END
             FROM generate_series(1, {rows}) i"
        ))
        .unwrap_or_else(|error| panic!("{error:?}"));
}

const SAME: &str = "SELECT count(*) FROM docs d JOIN back b USING (id)
                    WHERE d.embedding = b.embedding AND d.metadata = b.metadata";

#[test]
fn xarray_opens_it_and_it_comes_back() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    fill(&mut client, 3000);
    let group = folder(&cluster, "exports").join("docs");
    let place = url(&group);
    let sql = format!("SELECT s3vector.export_zarr('docs', '{place}')");
    assert_eq!(number(&mut client, &sql), 3000);
    let socket = cluster.socket().to_string_lossy().into_owned();
    let seen = python::run("check_export.py", &[&socket, &group.to_string_lossy(), "docs"]);
    assert_eq!(seen.trim(), "3000");
    let back = format!(
        "SELECT s3vector.import_zarr('{place}', 'back', ids => 'ids', metadata => 'metadata',
                                     distance_metric => 'ip')"
    );
    assert_eq!(number(&mut client, &back), 3000);
    assert_eq!(number(&mut client, SAME), 3000);
    failure(client.query(&sql, &[])).expect("22023", &["is not empty", "docs"]);
}

#[test]
fn an_empty_collection() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    fill(&mut client, 0);
    let group = folder(&cluster, "exports").join("docs");
    let sql = format!("SELECT s3vector.export_zarr('docs', '{}')", url(&group));
    assert_eq!(number(&mut client, &sql), 0);
    let socket = cluster.socket().to_string_lossy().into_owned();
    let seen = python::run("check_export.py", &[&socket, &group.to_string_lossy(), "docs"]);
    assert_eq!(seen.trim(), "0");
    let sql = format!("SELECT s3vector.import_zarr('{}', 'back', ids => 'ids')", url(&group));
    assert_eq!(number(&mut client, &sql), 0);
}

#[test]
fn to_a_bucket_and_back() {
    let garage = Garage::start();
    let cluster = Cluster::builder().set_all(&garage.settings()).start();
    let mut client = cluster.client();
    fill(&mut client, 1000);
    let place = garage.url_of("exports/docs");
    let sql = format!("SELECT s3vector.export_zarr('docs', '{place}')");
    assert_eq!(number(&mut client, &sql), 1000);
    let back = format!(
        "SELECT s3vector.import_zarr('{place}', 'back', ids => 'ids', metadata => 'metadata',
                                     distance_metric => 'ip')"
    );
    assert_eq!(number(&mut client, &back), 1000);
    assert_eq!(number(&mut client, SAME), 1000);
}
