//! Entries of rows that the index must not have, and of what is no row.

use harness::items::{Source, literal};
use harness::{Cluster, python};
use postgres::Client;

use crate::{DIMENSIONS, expect};
use harness::check::findings;
use harness::upkeep::segments;

/// A table with an index `items_index` that `create` makes.
fn table(create: &str) -> (Cluster, Client) {
    let cluster = Cluster::builder()
        .set("s3vector.maintenance_workers", 0)
        .set("s3vector.graph_reload", "off")
        .start();
    cluster.damaged();
    let mut client = cluster.client();
    client
        .batch_execute(&format!(
            "CREATE TABLE items (id int, note int, embedding vector({DIMENSIONS}))"
        ))
        .expect("a table");
    let mut source = Source::new(72, DIMENSIONS);
    for id in 0..300 {
        let vector = match id {
            5 => "NULL".to_owned(),
            6 => literal(&[0.0; DIMENSIONS]),
            _ => literal(&source.vector()),
        };
        let sql = format!("INSERT INTO items VALUES ({id}, {}, {vector})", id % 10);
        client.batch_execute(&sql).expect("a row");
    }
    client.batch_execute(create).expect("an index");
    assert_eq!(findings(&mut client, "items_index"), []);
    (cluster, client)
}

/// Makes the first entry of the index lead to the row that `select` finds, or to where it says, and
/// lets the check find it.
fn mislead((mut cluster, mut client): (Cluster, Client), select: &str, problem: &str) {
    let row: String = client.query_one(select, &[]).expect("a row").get(0);
    let (block, offset) = row.trim_matches(['(', ')']).split_once(',').expect("a tid");
    let folder = cluster.store().join(&segments(&mut client, "items_index")[0].prefix);
    drop(client);
    let statements = format!("a[0] = ({block} << 16) | {offset}");
    python::run("edit_array.py", &[&folder.to_string_lossy(), "tids", &statements]);
    cluster.restart();
    let found = findings(&mut cluster.client(), "items_index");
    println!("{found:#?}");
    expect(&found, &["heap", "vectors"], &["the row is not in the index"]);
    expect(&found, &["heap", "vectors"], &[&row, problem]);
}

const UNWANTED: &str = "leads to a row that it must not have";
const PLAIN: &str = "CREATE INDEX items_index ON items USING s3vector (embedding)";

#[test]
fn a_row_that_the_predicate_excludes() {
    let ground = table(&format!("{PLAIN} WHERE note < 5"));
    mislead(ground, "SELECT ctid::text FROM items WHERE id = 8", UNWANTED);
}

#[test]
fn a_row_without_a_vector() {
    mislead(table(PLAIN), "SELECT ctid::text FROM items WHERE id = 5", UNWANTED);
}

#[test]
fn a_zero_vector_under_cosine() {
    let ground =
        table("CREATE INDEX items_index ON items USING s3vector (embedding vector_cosine_ops)");
    mislead(ground, "SELECT ctid::text FROM items WHERE id = 6", UNWANTED);
}

#[test]
fn a_row_version_inside_a_chain() {
    let (cluster, mut client) = table(PLAIN);
    for sql in ["ALTER TABLE items SET (fillfactor = 50)", "VACUUM FULL items"] {
        client.batch_execute(sql).expect("room for another version");
    }
    let hot = "UPDATE items SET note = 77 WHERE id = 7";
    client.batch_execute(hot).expect("an update");
    assert_eq!(findings(&mut client, "items_index"), []);
    let select = "SELECT ctid::text FROM items WHERE id = 7";
    mislead((cluster, client), select, "a row version that only another one leads to");
}

#[test]
fn a_place_that_is_free() {
    let (cluster, mut client) = table(PLAIN);
    client.batch_execute("DELETE FROM items WHERE id = 9").expect("deleted");
    let place: String = {
        // The place of the removed row, in the first block.
        client.batch_execute("VACUUM items").expect("vacuum");
        "SELECT '(0,' || min(n) || ')' FROM generate_series(1, 30) n
         WHERE NOT EXISTS (SELECT FROM items WHERE ctid = ('(0,' || n || ')')::tid)"
            .to_owned()
    };
    mislead((cluster, client), &place, "an unused line pointer");
}
