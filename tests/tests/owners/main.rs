//! Who owns what lies in the store: can a cluster be taken for another, and does an index write where
//! it should, when it should?

use harness::answers::prefer_index;
use harness::items::Source;
use harness::{Cluster, Items, Metric};
use postgres::Client;

mod before_tokens;
mod places;
mod temporary;
mod token;
mod truncated;
mod twins;

const DIMENSIONS: usize = 16;

/// No worker; unused objects are deleted at first sight.
fn strict() -> harness::cluster::Builder {
    configured(Cluster::builder())
}

fn configured(builder: harness::cluster::Builder) -> harness::cluster::Builder {
    builder.set("s3vector.maintenance_workers", 0).set("s3vector.gc_grace", 0)
}

/// A table `items` of so many rows, indexed.
fn indexed(client: &mut Client, rows: usize) -> (Items, Source) {
    let mut source = Source::new(171, DIMENSIONS);
    let items = Items::create(client, "items", Metric::L2, source.vectors(rows));
    items.index(client, "");
    prefer_index(client);
    (items, source)
}

/// A table with nothing in it.
fn empty(client: &mut Client, table: &str) -> Items {
    client
        .batch_execute(&format!("CREATE TABLE {table} (id int, embedding vector({DIMENSIONS}))"))
        .expect("a table");
    Items { table: table.to_owned(), metric: Metric::L2, rows: Vec::new() }
}
