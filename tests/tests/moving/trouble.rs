//! Who may move data, and what is left when it fails half-way.

use std::thread;
use std::time::Instant;

use harness::errors::failure;
use harness::wait::wait_until;
use harness::{Cluster, python};
use postgres::NoTls;

use super::{PATIENCE, folder, number, url};

#[test]
fn only_superusers_and_those_they_choose() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client
        .batch_execute(
            "CREATE ROLE mover; CREATE SCHEMA theirs AUTHORIZATION mover;
             SET search_path = theirs, public; SET ROLE mover;
             SELECT s3vector.create_collection('docs', 3);
             SELECT s3vector.add_vectors('docs', ARRAY[[1,2,3]])",
        )
        .expect("a role with a collection");
    let group = url(&folder(&cluster, "exports").join("docs"));
    let export = format!("SELECT s3vector.export_zarr('docs', '{group}')");
    let import = format!("SELECT s3vector.import_zarr('{group}', 'back')");
    let old = format!("SELECT s3vector.import_collection('{group}', 'old')");
    for sql in [&export, &import, &old] {
        failure(client.query(sql, &[])).expect("42501", &["permission denied for function"]);
    }
    client
        .batch_execute(
            "RESET ROLE;
             GRANT EXECUTE ON FUNCTION s3vector.export_zarr, s3vector.import_zarr TO mover;
             SET ROLE mover",
        )
        .expect("granted");
    assert_eq!(number(&mut client, &export), 1);
    assert_eq!(number(&mut client, &import), 1);
    // The table's privileges count all the same.
    client
        .batch_execute(
            "RESET ROLE; SELECT s3vector.create_collection('public_docs', 3);
                        ALTER TABLE public_docs OWNER TO postgres; SET ROLE mover",
        )
        .expect("another's collection");
    let theirs = format!("SELECT s3vector.export_zarr('public_docs', '{group}2')");
    failure(client.query(&theirs, &[])).expect("42501", &["permission denied for"]);
}

#[test]
fn what_is_not_there() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let place = folder(&cluster, "arrays");
    python::run("write_arrays.py", &[&place.to_string_lossy(), "40", "6"]);
    let place = url(&place);
    for (sql, sqlstate, words) in [
        (format!("import_zarr('{place}/no', 'c')"), "58P01", "there is nothing at"),
        (format!("import_zarr('{place}/v3.zarr', 'c')"), "58P01", "there is no array \"vectors\""),
        (format!("import_zarr('{place}/v3.zarr', 'c', 'number')"), "0A000", "is of type"),
        (format!("import_zarr('{place}/v3.zarr', 'c', 'plain', 'no')"), "58P01", "\"no\""),
        (
            format!("import_zarr('{place}/v3.zarr', 'c', 'plain', 'zstd')"),
            "0A000",
            "is of type float32",
        ),
        (format!("import_collection('{place}', 'c')"), "58P01", "there is no collection at"),
        ("import_zarr('http://host/x', 'c')".into(), "22023", "http"),
        ("import_zarr('/etc', 'c')".into(), "22023", "no scheme"),
        (format!("export_zarr('nobody', '{place}/x')"), "42P01", "\"nobody\" does not exist"),
    ] {
        let result = client.query(&format!("SELECT s3vector.{sql}"), &[]);
        failure(result).expect(sqlstate, &[words]);
    }
    assert_eq!(number(&mut client, "SELECT count(*) FROM s3vector.list_collections()"), 0);
}

/// A cancelled import leaves no table, a cancelled export no object; both end promptly.
#[test]
fn cancelled_half_way() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client
        .batch_execute(
            "SELECT s3vector.create_collection('docs', 200);
             INSERT INTO docs (id, embedding)
             SELECT i, array_fill((i % 97 + 1)::real, ARRAY[200])::vector(200)
             FROM generate_series(1, 60000) i",
        )
        .expect("rows");
    let exports = folder(&cluster, "exports");
    let whole = exports.join("whole");
    let export =
        |name: &str| format!("SELECT s3vector.export_zarr('docs', '{}')", url(&exports.join(name)));
    assert_eq!(number(&mut client, &export("whole")), 60_000);
    let import = format!("SELECT s3vector.import_zarr('{}', 'back')", url(&whole));
    for sql in [export("broken"), import] {
        let token = client.cancel_token();
        let mut watcher = cluster.client();
        let statement = sql.clone();
        let canceller = thread::spawn(move || {
            let running = "SELECT count(*) FROM pg_stat_activity
                           WHERE state = 'active' AND query LIKE 'SELECT s3vector.%port_zarr%'
                             AND clock_timestamp() > query_start + interval '30 ms'";
            wait_until(&statement, || number(&mut watcher, running) > 0);
            token.cancel_query(NoTls).expect("the request is sent");
            Instant::now()
        });
        let outcome = client.query(&sql, &[]);
        let asked = canceller.join().expect("the canceller ends");
        failure(outcome).expect("57014", &["canceling statement"]);
        assert!(asked.elapsed() < PATIENCE, "{sql} took {:?} to end", asked.elapsed());
    }
    let mut left: Vec<_> = walk(&exports.join("broken"));
    left.retain(|path| path.is_file());
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(number(&mut client, "SELECT count(*) FROM pg_class WHERE relname = 'back'"), 0);
    // The session goes on.
    assert_eq!(number(&mut client, &export("again")), 60_000);
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().flat_map(|entry| [vec![entry.path()], walk(&entry.path())].concat()).collect()
}
