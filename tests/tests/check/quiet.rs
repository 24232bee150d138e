//! Nothing is wrong where nothing is.

use harness::check::assert_sound;
use harness::items::Source;
use harness::upkeep::flush;
use harness::{Cluster, Items, Metric};
use postgres::Client;

/// Rows that come and go in every way that a table knows, with the check in between.
fn live(client: &mut Client, items: &mut Items, source: &mut Source) {
    let index = format!("{}_index", items.table);
    let table = items.table.clone();
    let mut run = |client: &mut Client, sql: &str| {
        client
            .batch_execute(&sql.replace("items", &table))
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        assert_sound(client, &index);
    };
    run(client, "INSERT INTO items SELECT id + 10000, embedding FROM items");
    run(client, "INSERT INTO items VALUES (20000, NULL)");
    // In place, and elsewhere.
    run(client, "ALTER TABLE items ADD note int; UPDATE items SET note = 1 WHERE id % 3 = 0");
    run(client, "UPDATE items SET note = 2 WHERE id % 3 = 0");
    run(client, "UPDATE items SET embedding = embedding + embedding WHERE id % 7 = 0");
    run(client, "UPDATE items SET embedding = NULL WHERE id = 21");
    run(client, "BEGIN; INSERT INTO items SELECT id + 30000, embedding FROM items; ROLLBACK");
    run(client, "BEGIN; UPDATE items SET embedding = -1 * embedding WHERE id % 5 = 0; ROLLBACK")
}

#[test]
fn placeholder() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let mut source = Source::new(1, 8);
    let mut items = Items::create(&mut client, "items", Metric::L2, source.vectors(300));
    items.index(&mut client, "");
    live(&mut client, &mut items, &mut source);
    flush(&mut client, "items_index");
}
