//! Copies of a cluster whose data directories have the same inode number, started beside it as if
//! they were it: same system identifier, same timeline, same store.

use std::fs;
use std::os::unix::fs::MetadataExt;

use harness::answers::{assert_all_found, assert_recall};
use harness::cluster::Stop;
use harness::items::Source;
use harness::upkeep::{flush, info, sweep};
use harness::volumes::with_two_volumes;
use harness::{Cluster, Items, store};
use postgres::Client;

use super::{configured, indexed, strict};

/// What the copy does harms the original at no time, and the other way round.
#[track_caller]
fn assert_apart(original: &mut Cluster, mut items: Items, copy: &mut Cluster, source: &mut Source) {
    let inode = |cluster: &Cluster| fs::metadata(cluster.data()).expect("it is there").ino();
    assert_eq!(inode(original), inode(copy), "nothing is shown by directories that differ");
    let mut theirs = items.clone();
    let mut client = original.client();
    let mut twin = copy.client();
    assert!(info(&mut client, "items_index").owned);
    assert!(!info(&mut twin, "items_index").owned);
    // What only the original names is its own.
    for _ in 0..2 {
        items.copy(&mut client, source.vectors(300));
        flush(&mut client, "items_index");
        let before = store::written(&original.store());
        let swept = sweep(&mut twin, false);
        assert!(swept.iter().all(|line| !line.deleted), "{swept:?}");
        assert!(before == store::written(&original.store()), "the copy changed something");
    }
    // The copy goes its own way.
    let before = store::written(&original.store());
    theirs.copy(&mut twin, source.vectors(300));
    flush(&mut twin, "items_index");
    let own = info(&mut twin, "items_index");
    assert!(own.owned && own.uuid != info(&mut client, "items_index").uuid, "{own:?}");
    sweep(&mut twin, false);
    let after = store::objects(&original.store());
    assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)));
    // An index that the original rebuilds leaves its old folder to the original alone.
    let uuid = info(&mut client, "items_index").uuid;
    client.batch_execute("REINDEX INDEX items_index").expect("rebuilt");
    sweep(&mut twin, false);
    assert!(store::folders(&original.store()).contains(&uuid));
    twin.batch_execute("REINDEX INDEX items_index").expect("rebuilt");
    sweep(&mut client, false);
    assert!(!store::folders(&original.store()).contains(&uuid));
    drop((client, twin));
    for (cluster, items) in [(original, &items), (copy, &theirs)] {
        cluster.restart();
        let mut client: Client = cluster.client();
        assert!(info(&mut client, "items_index").owned);
        assert_all_found(&mut client, items, items.live().step_by(3));
        assert_recall(&mut client, items, &source.vectors(50), 0.95);
    }
}

#[test]
fn a_base_backup_on_a_volume_of_its_own_leaves_its_originals_folders_alone() {
    with_two_volumes(|[here, there]| {
        let mut original = configured(Cluster::builder_in(here)).start();
        let (items, mut source) = indexed(&mut original.client(), 600);
        let mut copy = original.base_backup_in(there).start_bare();
        assert_apart(&mut original, items, &mut copy, &mut source);
    });
}

/// The token is among the files here.
#[test]
fn a_copy_of_files_on_a_volume_of_its_own_leaves_its_originals_folders_alone() {
    with_two_volumes(|[here, there]| {
        let mut original = configured(Cluster::builder_in(here)).start();
        let (items, mut source) = indexed(&mut original.client(), 600);
        original.stop(Stop::Fast);
        let copy = original.copy_files_in(there);
        original.start_server();
        let mut copy = copy.start_bare();
        assert_apart(&mut original, items, &mut copy, &mut source);
    });
}

/// A standby has a token of its own, before its promotion and after it.
#[test]
fn a_standby_is_not_taken_for_its_primary() {
    let cluster = strict().start();
    let mut client = cluster.client();
    let (items, mut source) = indexed(&mut client, 300);
    let standby = cluster.standby();
    standby.catch_up(&mut client);
    assert!(!info(&mut standby.client(), "items_index").owned);
    standby.promote();
    let mut promoted = standby.client();
    assert!(!info(&mut promoted, "items_index").owned);
    let before = store::written(&cluster.store());
    let mut theirs = items.clone();
    theirs.copy(&mut promoted, source.vectors(300));
    flush(&mut promoted, "items_index");
    sweep(&mut promoted, false);
    let after = store::objects(&cluster.store());
    assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)));
    let mut standby = standby;
    standby.restart();
    assert!(info(&mut standby.client(), "items_index").owned);
    assert_recall(&mut standby.client(), &theirs, &source.vectors(50), 0.95);
    assert_recall(&mut client, &items, &source.vectors(50), 0.95);
}
