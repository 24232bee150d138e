//! Is all that no index needs any more reclaimed, after its grace period, and nothing else?

use std::collections::BTreeSet;

use harness::answers::prefer_index;
use harness::items::Source;
use harness::upkeep::{Swept, segments};
use harness::{Cluster, Items, Metric, store};
use postgres::Client;

mod bucket;
mod fates;
mod in_use;
mod others;

const DIMENSIONS: usize = 16;

/// No worker; unused objects are deleted at first sight.
fn strict() -> Cluster {
    Cluster::builder()
        .set("s3vector.maintenance_workers", 0)
        .set("s3vector.gc_grace", 0)
        .set("max_prepared_transactions", 4)
        .start()
}

fn indexed(client: &mut Client, table: &str, rows: usize) -> (Items, Source) {
    let mut source = Source::new(131, DIMENSIONS);
    let items = Items::create(client, table, Metric::L2, source.vectors(rows));
    items.index(client, "");
    prefer_index(client);
    (items, source)
}

/// Folders of segments that the indexes of this database name.
fn live(client: &mut Client) -> BTreeSet<String> {
    let indexes = client
        .query("SELECT index::text FROM s3vector_stat_indexes", &[])
        .expect("statistics of indexes");
    indexes
        .iter()
        .flat_map(|row| segments(client, row.get(0)))
        .map(|segment| segment.prefix)
        .collect()
}

/// Folders of segments in the store that no index of this database names.
fn unused(cluster: &Cluster, client: &mut Client) -> BTreeSet<String> {
    let live = live(client);
    store::segments(&cluster.store()).difference(&live).cloned().collect()
}

/// Whether a list of a sweep covers a segment: itself or its index.
fn covers(swept: &[Swept], segment: &str) -> bool {
    let index = segment.split('/').next().expect("an index");
    swept.iter().any(|line| line.prefix == segment || line.prefix == index)
}
