//! Does `s3vector_check` find each damage, and nothing where there is none?
//!
//! [`objects`], [`arrays`], [`owner`], [`pages`] and [`entries`] do damage; [`quiet`] and [`beside`] do none;
//! [`refused`] asks what cannot be asked.

mod arrays;
mod beside;
mod entries;
mod objects;
mod owner;
mod pages;
mod quiet;
mod refused;

use std::path::PathBuf;

use harness::check::{Finding, findings};
use harness::items::Source;
use harness::upkeep::segments;
use harness::{Cluster, Items, Metric};
use postgres::Client;

const DIMENSIONS: usize = 24;

/// A table with an index, soon to be damaged.
struct Ground {
    cluster: Cluster,
    items: Items,
    source: Source,
}

impl Ground {
    /// `rows` rows in one segment, on a server whose graphs come and go only when it is asked.
    fn new(rows: usize, with: &str) -> Self {
        let cluster = Cluster::builder()
            .set("s3vector.maintenance_workers", 0)
            .set("s3vector.graph_reload", "off")
            .start();
        cluster.damaged();
        let mut source = Source::new(71, DIMENSIONS);
        let mut client = cluster.client();
        let items = Items::create(&mut client, "items", Metric::L2, source.vectors(rows));
        items.index(&mut client, with);
        assert_eq!(findings(&mut client, "items_index"), []);
        Self { cluster, items, source }
    }

    fn client(&self) -> Client {
        self.cluster.client()
    }

    /// Everything that is wrong now.
    fn findings(&self) -> Vec<Finding> {
        findings(&mut self.client(), "items_index")
    }

    /// The folder of the first segment.
    fn folder(&self) -> PathBuf {
        let all = segments(&mut self.client(), "items_index");
        self.cluster.store().join(&all.first().expect("a segment").prefix)
    }
}

/// Asserts that there are findings, all of one of `parts`, and that one of them contains all `words`.
#[track_caller]
fn expect(found: &[Finding], parts: &[&str], words: &[&str]) {
    let text = |finding: &Finding| format!("{} {}", finding.place, finding.problem);
    assert!(found.iter().all(|finding| parts.contains(&finding.part.as_str())), "{found:#?}");
    let says = |finding: &Finding| words.iter().all(|word| text(finding).contains(word));
    assert!(found.iter().any(says), "nothing says {words:?}: {found:#?}");
}
