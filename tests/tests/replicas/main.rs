//! Do copies of a cluster that share its store answer as it does, and leave its objects alone?

use std::collections::BTreeMap;
use std::path::Path;

use harness::answers::{ask, assert_all_found, assert_recall, prefer_index, try_ask};
use harness::cluster::Stop;
use harness::errors::failure;
use harness::items::Source;
use harness::standby::Backup;
use harness::upkeep::{Swept, flush, info, segments, sweep, try_sweep};
use harness::{Cluster, Items, Metric, store};
use postgres::Client;

mod busy;

const DIMENSIONS: usize = 32;

fn indexed(client: &mut Client, seed: u64, rows: usize) -> (Items, Source) {
    let mut source = Source::new(seed, DIMENSIONS);
    let items = Items::create(client, "items", Metric::L2, source.vectors(rows));
    items.index(client, "");
    prefer_index(client);
    (items, source)
}

/// Asserts that two servers return the same rows in the same order.
#[track_caller]
fn assert_same(one: &mut Client, other: &mut Client, items: &Items, queries: &[Vec<f32>]) {
    for client in [&mut *one, &mut *other] {
        prefer_index(client);
    }
    for query in queries {
        assert_eq!(ask(one, items, query, 20), ask(other, items, query, 20));
    }
}

/// Ten cycles of everything, compared after each, with rows in the delta and without.
#[test]
fn a_standby_answers_as_its_primary_over_ten_cycles() {
    let cluster = Cluster::builder()
        .set("s3vector.maintenance_workers", 0)
        .set("s3vector.gc_grace", 60)
        .start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 121, 800);
    let mut standby = cluster.standby();
    for cycle in 0..10 {
        items.copy(&mut client, source.vectors(120));
        items.delete(&mut client, |id| id % 13 == cycle);
        for id in items.live().step_by(50).collect::<Vec<_>>() {
            items.update(&mut client, id, source.vector());
        }
        client.batch_execute("VACUUM items").expect("vacuum");
        if cycle % 2 == 1 {
            flush(&mut client, "items_index");
            sweep(&mut client, false);
        }
        standby.catch_up(&mut client);
        let mut replica = standby.client();
        assert_same(&mut client, &mut replica, &items, &source.vectors(30));
        let prefixes = |client: &mut Client| -> Vec<String> {
            segments(client, "items_index").into_iter().map(|segment| segment.prefix).collect()
        };
        assert_eq!(prefixes(&mut client), prefixes(&mut replica));
    }
    // With nothing in memory, too.
    standby.restart();
    let mut replica = standby.client();
    assert_same(&mut client, &mut replica, &items, &source.vectors(100));
    assert_all_found(&mut replica, &items, items.live().step_by(5));
    assert_recall(&mut replica, &items, &source.vectors(200), 0.95);
}

/// Indexes that are created, rebuilt and dropped while a standby follows.
#[test]
fn a_standby_follows_a_rebuild() {
    let cluster = Cluster::builder().set("s3vector.maintenance_workers", 0).start();
    let mut client = cluster.client();
    let standby = cluster.standby();
    let (mut items, mut source) = indexed(&mut client, 122, 600);
    standby.catch_up(&mut client);
    let mut replica = standby.client();
    assert_same(&mut client, &mut replica, &items, &source.vectors(50));
    client.batch_execute("REINDEX INDEX items_index").expect("rebuilt");
    items.copy(&mut client, source.vectors(50));
    standby.catch_up(&mut client);
    assert_same(&mut client, &mut replica, &items, &source.vectors(50));
    client.batch_execute("TRUNCATE items").expect("truncated");
    items.rows.fill(None);
    items.copy(&mut client, source.vectors(300));
    flush(&mut client, "items_index");
    standby.catch_up(&mut client);
    assert_same(&mut client, &mut replica, &items, &source.vectors(50));
    assert_recall(&mut replica, &items, &source.vectors(200), 0.95);
}

#[test]
fn a_standby_sweeps_nothing() {
    let cluster = Cluster::builder().set("s3vector.gc_grace", 0).start();
    let mut client = cluster.client();
    let (items, mut source) = indexed(&mut client, 126, 300);
    let standby = cluster.standby();
    standby.catch_up(&mut client);
    failure(try_sweep(&mut standby.client(), false)).expect("25006", &["recovery"]);
    assert_recall(&mut standby.client(), &items, &source.vectors(200), 0.95);
}

/// Every object of `before` is there, unchanged.
#[track_caller]
fn assert_untouched(before: &BTreeMap<String, Vec<u8>>, folder: &Path) {
    let after = store::objects(folder);
    for (name, bytes) in before {
        assert!(after.get(name) == Some(bytes), "{name} was changed or deleted");
    }
}

#[test]
fn a_promoted_standby_and_its_old_primary_leave_each_other_alone() {
    let mut cluster = Cluster::builder()
        .set("s3vector.maintenance_workers", 0)
        .set("s3vector.gc_grace", 3600)
        .start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 127, 700);
    items.copy(&mut client, source.vectors(300));
    flush(&mut client, "items_index");
    items.copy(&mut client, source.vectors(50));
    let mut standby = cluster.standby();
    standby.catch_up(&mut client);
    let mut theirs = items.clone();
    standby.promote();
    let folder = cluster.store();
    let before = store::written(&folder);

    // The new primary writes, merges and sweeps without grace.
    standby.reconfigure(&[("s3vector.gc_grace", "0".to_owned())]);
    let mut promoted = standby.client();
    assert!(!info(&mut promoted, "items_index").owned);
    assert_recall(&mut promoted, &theirs, &source.vectors(200), 0.95);
    for _ in 0..3 {
        theirs.copy(&mut promoted, source.vectors(250));
        theirs.delete(&mut promoted, |id| id % 9 == 0);
        promoted.batch_execute("VACUUM items").expect("vacuum");
        flush(&mut promoted, "items_index");
        sweep(&mut promoted, false);
        assert_untouched(&before, &folder);
    }
    let copy = info(&mut promoted, "items_index");
    assert!(copy.owned, "{copy:?}");
    assert_ne!(copy.uuid, info(&mut client, "items_index").uuid);
    assert_recall(&mut promoted, &theirs, &source.vectors(200), 0.95);

    // The old one still runs, and goes its own way.
    let new = store::written(&folder.join(&copy.uuid));
    assert!(!new.is_empty());
    for _ in 0..3 {
        items.copy(&mut client, source.vectors(250));
        items.delete(&mut client, |id| id % 7 == 0);
        client.batch_execute("VACUUM items").expect("vacuum");
        flush(&mut client, "items_index");
        let swept = sweep(&mut client, false);
        assert!(swept.iter().all(|line| !line.deleted), "{swept:?}");
        assert_untouched(&new, &folder.join(&copy.uuid));
    }
    assert!(info(&mut client, "items_index").owned);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    standby.restart();
    let mut promoted = standby.client();
    assert_all_found(&mut promoted, &theirs, theirs.live().step_by(5));
    assert_recall(&mut promoted, &theirs, &source.vectors(200), 0.95);

    // Rebuilt, the new primary needs nothing of the old one, whose sweeps may then be thorough.
    promoted.batch_execute("REINDEX INDEX items_index").expect("rebuilt");
    cluster.reconfigure(&[("s3vector.gc_grace", "0".to_owned())]);
    assert!(sweep(&mut client, false).iter().any(|line| line.deleted), "nothing was left to sweep");
    standby.restart();
    assert_recall(&mut standby.client(), &theirs, &source.vectors(200), 0.95);
    cluster.restart();
    assert_recall(&mut cluster.client(), &items, &source.vectors(200), 0.95);
}

/// When the old primary is gone for good, the new one takes its folders over.
#[test]
fn a_promoted_standby_adopts_what_its_primary_left() {
    let mut cluster = Cluster::builder()
        .set("s3vector.maintenance_workers", 0)
        .set("s3vector.gc_grace", 0)
        .start();
    let mut client = cluster.client();
    let (items, mut source) = indexed(&mut client, 128, 700);
    client
        .batch_execute(
            "CREATE TABLE gone AS SELECT embedding FROM items;
             CREATE INDEX gone_index ON gone USING s3vector (embedding)",
        )
        .expect("another table");
    let gone = info(&mut client, "gone_index").uuid;
    let standby = cluster.standby();
    standby.catch_up(&mut client);
    standby.promote();
    cluster.stop(Stop::Fast);
    let folder = cluster.store();
    let mut promoted = standby.client();
    promoted.batch_execute("DROP TABLE gone").expect("dropped");
    let named = |swept: &[Swept]| swept.iter().find(|line| line.prefix.starts_with(&gone)).cloned();
    // Not its own yet.
    sweep(&mut promoted, false);
    assert!(store::folders(&folder).contains(&gone));
    let listed = named(&sweep(&mut promoted, true)).expect("an unused folder is listed");
    assert_eq!((listed.reason.as_str(), listed.deleted), ("foreign", false), "{listed:?}");

    let adopted: Vec<String> = promoted
        .query("SELECT s3vector_adopt()", &[])
        .expect("adopted")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(adopted.contains(&info(&mut promoted, "items_index").uuid), "{adopted:?}");
    assert!(info(&mut promoted, "items_index").owned);
    assert!(named(&sweep(&mut promoted, false)).is_some_and(|line| line.deleted));
    assert!(!store::folders(&folder).contains(&gone));
    assert_recall(&mut promoted, &items, &source.vectors(200), 0.95);
}

/// A base backup restored to a moment before a merge answers as long as the merged segments are
/// kept, and later says what to do.
#[test]
fn a_backup_restored_to_before_a_merge() {
    let mut cluster = Cluster::builder()
        .archiving()
        .set("s3vector.maintenance_workers", 0)
        .set("s3vector.gc_grace", 3600)
        .start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 129, 600);
    let backup = Backup::take(&cluster);
    items.copy(&mut client, source.vectors(250));
    flush(&mut client, "items_index");
    items.delete(&mut client, |id| id % 6 == 0);
    client.batch_execute("VACUUM items").expect("vacuum");
    items.copy(&mut client, source.vectors(30));
    let then = items.clone();
    cluster.restore_point(&mut client, "before");

    items.delete(&mut client, |id| id % 3 == 0);
    client.batch_execute("VACUUM items").expect("vacuum");
    items.copy(&mut client, source.vectors(600));
    assert!(flush(&mut client, "items_index").segments_replaced >= 2, "nothing was merged");
    sweep(&mut client, false);
    let folder = cluster.store();
    let before = store::written(&folder);

    let restored = backup.restore(&cluster, "before");
    let mut copy = restored.client();
    assert!(!info(&mut copy, "items_index").owned);
    assert_all_found(&mut copy, &then, then.live().step_by(3));
    assert_recall(&mut copy, &then, &source.vectors(200), 0.95);
    let mut later = then.clone();
    later.copy(&mut copy, source.vectors(400));
    flush(&mut copy, "items_index");
    sweep(&mut copy, false);
    assert_untouched(&before, &folder);
    assert_recall(&mut copy, &later, &source.vectors(200), 0.95);
    drop(copy);
    drop(restored);

    // The grace period is over.
    cluster.reconfigure(&[("s3vector.gc_grace", "0".to_owned())]);
    assert!(sweep(&mut client, false).iter().any(|line| line.deleted));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    let restored = backup.restore(&cluster, "before");
    let mut copy = restored.client();
    prefer_index(&mut copy);
    let asked = try_ask(&mut copy, &then, &source.vector(), 10);
    failure(asked).expect("58P01", &["REINDEX"]);
    copy.batch_execute("REINDEX INDEX items_index").expect("rebuilt");
    assert_all_found(&mut copy, &then, then.live().step_by(3));
    assert_recall(&mut copy, &then, &source.vectors(200), 0.95);
}
