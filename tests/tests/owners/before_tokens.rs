//! Indexes written before there were tokens: their pages and their claims have none.

use std::fs;
use std::path::Path;
use std::process::Command;

use harness::answers::{assert_all_found, assert_recall};
use harness::check::assert_sound;
use harness::cluster::Stop;
use harness::process::run_as_server_user;
use harness::upkeep::{flush, info, sweep};
use harness::volumes::with_two_volumes;
use harness::{Cluster, store, tools};

use super::{configured, indexed, strict};

/// Bytes of a page's header, of the meta page's content, and of the token at its end.
const HEADER: usize = 24;
const CONTENT: usize = 144;
const TOKEN: usize = 16;

/// Makes an index and all claims of the store what they were before there were tokens.
fn take_tokens_away(cluster: &mut Cluster, file: &str) {
    cluster.stop(Stop::Fast);
    run_as_server_user(
        Command::new(tools::postgres("pg_checksums"))
            .args(["--disable", "--no-sync", "-D"])
            .arg(cluster.data()),
    );
    let path = cluster.data().join(file);
    let mut pages = fs::read(&path).expect("the index's file");
    let end = usize::from(u16::from_le_bytes([pages[12], pages[13]]));
    assert_eq!(end, HEADER + CONTENT, "the meta page has another form");
    pages[end - TOKEN..end].fill(0);
    let end = u16::try_from(end - TOKEN).expect("a place in a page");
    pages[12..14].copy_from_slice(&end.to_le_bytes());
    fs::write(&path, pages).expect("the index's file");
    for folder in store::folders(&cluster.store()) {
        let claim = cluster.store().join(folder).join("owner.json");
        let mut fields: Vec<String> = text(&claim)
            .lines()
            .filter(|line| !line.contains("token"))
            .map(str::to_owned)
            .collect();
        let last = fields.len() - 2;
        fields[last] = fields[last].trim_end_matches(',').to_owned();
        fs::write(&claim, fields.join("\n")).expect("a claim");
    }
    cluster.start_server();
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn file(cluster: &Cluster) -> String {
    let sql = "SELECT pg_relation_filepath('items_index')";
    cluster.client().query_one(sql, &[]).expect("a path").get(0)
}

#[test]
fn an_index_without_a_token_goes_on_as_its_clusters_own() {
    for swept_first in [true, false] {
        let mut cluster = strict().start();
        let mut client = cluster.client();
        let (mut items, mut source) = indexed(&mut client, 300);
        client
            .batch_execute(
                "CREATE TABLE gone AS SELECT embedding FROM items;
                 CREATE INDEX gone_index ON gone USING s3vector (embedding)",
            )
            .expect("another index");
        let gone = info(&mut client, "gone_index").uuid;
        client.batch_execute("DROP TABLE gone").expect("dropped");
        let file = file(&cluster);
        drop(client);
        take_tokens_away(&mut cluster, &file);
        let mut client = cluster.client();
        let before = info(&mut client, "items_index");
        assert!(before.owned, "{before:?}");
        let claim = cluster.store().join(&before.uuid).join("owner.json");
        assert!(!text(&claim).contains("token"));
        if swept_first {
            // What bears no token gets one first, so that a twin has time to say what it reads.
            assert!(sweep(&mut client, false).is_empty());
            assert!(text(&claim).contains("token"));
            let swept = sweep(&mut client, false);
            assert!(swept.iter().any(|line| line.prefix == gone && line.deleted), "{swept:?}");
        }
        for _ in 0..2 {
            items.copy(&mut client, source.vectors(300));
            items.delete(&mut client, |id| id % 5 == 1);
            client.batch_execute("VACUUM items").expect("vacuum");
            flush(&mut client, "items_index");
            let after = info(&mut client, "items_index");
            assert_eq!((after.uuid.as_str(), after.owned), (before.uuid.as_str(), true));
            assert!(text(&claim).contains("token"));
            sweep(&mut client, false);
        }
        sweep(&mut client, false);
        assert_eq!(store::folders(&cluster.store()), [before.uuid].into());
        drop(client);
        cluster.restart();
        let mut client = cluster.client();
        assert!(info(&mut client, "items_index").owned);
        assert_all_found(&mut client, &items, items.live().step_by(7));
        assert_recall(&mut client, &items, &source.vectors(50), 0.95);
    }
}

/// Of two clusters that could be taken for each other the first to sweep or to flush has the folder.
#[test]
fn a_folder_without_a_token_is_the_first_ones() {
    with_two_volumes(|[here, there]| {
        let mut original = configured(Cluster::builder_in(here)).start();
        let (mut items, mut source) = indexed(&mut original.client(), 300);
        let file = file(&original);
        take_tokens_away(&mut original, &file);
        let mut copy = original.base_backup_in(there).start_bare();
        let mut theirs = items.clone();
        let mut client = original.client();
        let mut twin = copy.client();
        sweep(&mut client, false);
        let uuid = info(&mut client, "items_index").uuid;
        for _ in 0..2 {
            items.copy(&mut client, source.vectors(200));
            flush(&mut client, "items_index");
            let folder = original.store().join(&uuid);
            let before = store::written(&folder);
            assert!(sweep(&mut twin, false).iter().all(|line| !line.deleted));
            theirs.copy(&mut twin, source.vectors(200));
            assert_sound(&mut twin, "items_index");
            flush(&mut twin, "items_index");
            sweep(&mut twin, false);
            let after = store::objects(&folder);
            assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)));
        }
        assert_eq!(info(&mut client, "items_index").uuid, uuid);
        assert_ne!(info(&mut twin, "items_index").uuid, uuid);
        drop((client, twin));
        for (cluster, items) in [(&mut original, &items), (&mut copy, &theirs)] {
            cluster.restart();
            let mut client = cluster.client();
            assert!(info(&mut client, "items_index").owned);
            assert_all_found(&mut client, items, items.live().step_by(7));
            assert_recall(&mut client, items, &source.vectors(50), 0.95);
        }
    });
}
