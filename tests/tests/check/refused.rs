//! What cannot be checked, and by whom.

use std::fs;

use harness::check::{findings, try_check};
use harness::errors::failure;
use harness::items::Source;
use harness::process::free_port;
use harness::{Cluster, Items, Metric};
use postgres::Client;

use crate::expect;

fn items(cluster: &Cluster) -> (Client, Items) {
    let mut client = cluster.client();
    let mut source = Source::new(76, 8);
    let items = Items::create(&mut client, "items", Metric::L2, source.vectors(200));
    items.index(&mut client, "");
    (client, items)
}

#[test]
fn who_may_not_maintain_the_table_may_not_check_it() {
    let cluster = Cluster::start();
    let (mut client, _) = items(&cluster);
    client.batch_execute("CREATE ROLE reader LOGIN; CREATE ROLE keeper LOGIN; CREATE ROLE owner LOGIN;
        GRANT SELECT ON items TO reader; GRANT MAINTAIN ON items TO keeper; ALTER TABLE items OWNER TO owner")
        .expect("roles");
    failure(try_check(&mut cluster.client_as("reader"), "items_index", true))
        .expect("42501", &["items_index", "may check it"]);
    for role in ["keeper", "owner"] {
        assert_eq!(findings(&mut cluster.client_as(role), "items_index"), []);
    }
}

/// Expressions run as the table's owner, not as who checks.
#[test]
fn expressions_cannot_borrow_privileges() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client
        .batch_execute(
            "CREATE ROLE owner LOGIN; GRANT CREATE ON SCHEMA public TO owner; CREATE TABLE secret (n int)",
        )
        .expect("a role");
    let mut owner = cluster.client_as("owner");
    owner
        .batch_execute(
            "CREATE TABLE items (id int, embedding vector(3));
             INSERT INTO items VALUES (1, '[1,2,3]'), (2, '[3,2,1]');
             CREATE FUNCTION peep(v public.vector) RETURNS public.vector LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
                 IF current_user <> 'owner' THEN INSERT INTO public.secret VALUES (1); END IF; RETURN v; END $$;
             CREATE INDEX peep_index ON items USING s3vector ((peep(embedding)::vector(3)))",
        )
        .expect("an index");
    assert_eq!(findings(&mut client, "peep_index"), []);
    let secret: i64 = client.query_one("SELECT count(*) FROM secret", &[]).expect("a count").get(0);
    assert_eq!(secret, 0);
    let user: String = client.query_one("SELECT current_user::text", &[]).expect("a user").get(0);
    assert_eq!(user, "postgres");
}

#[test]
fn what_is_no_index_of_ours() {
    let cluster = Cluster::start();
    let (mut client, _) = items(&cluster);
    client
        .batch_execute(
            "CREATE INDEX by_id ON items (id); CREATE VIEW seen AS SELECT 1;
             CREATE TABLE parted (id int, embedding vector(3)) PARTITION BY RANGE (id);
             CREATE INDEX parted_index ON parted USING s3vector (embedding)",
        )
        .expect("others");
    failure(try_check(&mut client, "by_id", false)).expect("42809", &["is not an s3vector index"]);
    failure(try_check(&mut client, "items", false)).expect("42809", &["is not an index"]);
    failure(try_check(&mut client, "seen", false)).expect("42809", &["is not an index"]);
    failure(try_check(&mut client, "parted_index", false))
        .expect("42809", &["parted_index", "indexes of its partitions"]);
}

#[test]
fn an_index_whose_build_has_failed() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client
        .batch_execute(
            "CREATE TABLE items (id int, embedding vector(3)); INSERT INTO items VALUES (1, '[70000,1,1]')",
        )
        .expect("a table");
    let create = "CREATE INDEX CONCURRENTLY half ON items USING s3vector (embedding) WITH (payload = 'float16')";
    failure(client.batch_execute(create)).expect("22003", &[]);
    failure(try_check(&mut client, "half", false))
        .expect("55000", &["\"half\"", "not valid", "REINDEX"]);
}

#[test]
fn a_temporary_index_of_another_session() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let mut other = cluster.client();
    other
        .batch_execute(
            "CREATE TEMP TABLE mine (embedding vector(3)); INSERT INTO mine VALUES ('[1,2,3]');
             CREATE INDEX mine_index ON mine USING s3vector (embedding)",
        )
        .expect("a temporary table");
    let oid: u32 =
        other.query_one("SELECT 'mine_index'::regclass::oid", &[]).expect("an oid").get(0);
    failure(try_check(&mut client, &oid.to_string(), false))
        .expect("0A000", &["temporary table of another session"]);
    assert_eq!(findings(&mut other, "mine_index"), []);
}

/// A store that cannot be asked is an error: nothing is known of what it holds. A folder that is
/// not there is one without objects.
#[test]
fn a_store_that_is_away() {
    let mut cluster = Cluster::start();
    let (mut client, _) = items(&cluster);
    let away = cluster.store().with_extension("away");
    fs::rename(cluster.store(), &away).expect("the store is away");
    let found = findings(&mut client, "items_index");
    expect(&found, &["owner", "objects", "heap"], &["zarr.json", "does not exist"]);
    fs::rename(&away, cluster.store()).expect("the store is back");
    assert_eq!(findings(&mut client, "items_index"), []);

    let url = format!("file://{}", cluster.store().display());
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let set = |url: &str| ("s3vector.storage_url", url.to_owned());
    let s3 = [
        ("s3vector.s3_endpoint", nobody),
        ("s3vector.s3_region", "nowhere".to_owned()),
        ("s3vector.s3_access_key_id", "key".to_owned()),
        ("s3vector.s3_secret_access_key", "secret".to_owned()),
    ];
    cluster.reconfigure(&s3);
    cluster.reconfigure(&[set("s3://bucket")]);
    failure(try_check(&mut cluster.client(), "items_index", false))
        .expect("08006", &["zarr.json", "s3_endpoint"]);
    cluster.reconfigure(&[set(&url)]);
    assert_eq!(findings(&mut cluster.client(), "items_index"), []);
}

/// An old snapshot can see rows that a younger index was not made for.
#[test]
fn an_index_that_is_younger_than_the_snapshot() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    client
        .batch_execute(
            "CREATE TABLE items (id int, note int, embedding vector(3));
             INSERT INTO items SELECT i, 0, ARRAY[i, 1, 2]::vector FROM generate_series(1, 50) i",
        )
        .expect("a table");
    let mut old = cluster.client();
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM items")
        .expect("a snapshot");
    // Versions of a row in a chain, with other vectors: the index is made for the last ones.
    client
        .batch_execute("UPDATE items SET embedding = '[9,9,9]' WHERE id < 10; CREATE INDEX items_index ON items USING s3vector (embedding)")
        .expect("an index");
    failure(try_check(&mut old, "items_index", true))
        .expect("40001", &["younger than the transaction"]);
    old.batch_execute("ROLLBACK").expect("its end");
    assert_eq!(findings(&mut client, "items_index"), []);
}
