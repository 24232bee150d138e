//! Databases made from, and gone beside, others: whose objects are swept, and whose are kept?

use std::collections::BTreeSet;
use std::time::Duration;

use harness::answers::{assert_all_found, assert_recall, prefer_index, try_ask};
use harness::cluster::Stop;
use harness::errors::failure;
use harness::items::Source;
use harness::upkeep::{flush, info, sweep};
use harness::wait::wait_until;
use harness::{Cluster, Items, Metric, store};
use postgres::Client;

const DIMENSIONS: usize = 16;

/// A cluster with a database `original` that has an indexed table of 300 + 200 rows.
fn original(settings: &[(&str, String)]) -> (Cluster, Items, Source) {
    let cluster = Cluster::builder().set_all(settings).start();
    cluster.client().batch_execute("CREATE DATABASE original").expect("a database");
    let mut client = cluster.client_of("original");
    client.batch_execute("CREATE EXTENSION s3vector CASCADE").expect("the extension");
    let mut source = Source::new(141, DIMENSIONS);
    let mut items = Items::create(&mut client, "items", Metric::L2, source.vectors(300));
    items.index(&mut client, "");
    items.copy(&mut client, source.vectors(200));
    if settings.iter().any(|setting| setting.1 == "0") {
        flush(&mut client, "items_index");
    }
    drop(client);
    (cluster, items, source)
}

/// Without a worker, and with a grace period in seconds.
fn quiet(grace: u32) -> Vec<(&'static str, String)> {
    vec![("s3vector.maintenance_workers", "0".to_owned()), ("s3vector.gc_grace", grace.to_string())]
}

fn clone(cluster: &Cluster, strategy: &str) {
    cluster
        .client()
        .batch_execute(&format!("CREATE DATABASE copy TEMPLATE original STRATEGY {strategy}"))
        .expect("a copy");
}

/// Removes a third of the rows, so that all segments are written anew.
fn replace_all(client: &mut Client, items: &mut Items, which: usize) {
    items.delete(client, |id| id % 3 == which);
    client.batch_execute("VACUUM items").expect("vacuum");
    let done = flush(client, "items_index");
    assert!(done.segments_replaced >= 1, "{done:?}");
}

#[test]
fn a_dropped_database_is_swept_from_another() {
    let (cluster, _, _) = original(&quiet(0));
    let mut client = cluster.client();
    let mut source = Source::new(142, DIMENSIONS);
    let kept = Items::create(&mut client, "kept", Metric::L2, source.vectors(300));
    kept.index(&mut client, "");
    let uuid = info(&mut client, "kept_index").uuid;
    assert!(sweep(&mut client, true).iter().all(|line| line.reason == "foreign"));
    client.batch_execute("DROP DATABASE original").expect("dropped");
    let listed = sweep(&mut client, true);
    assert!(
        !listed.is_empty() && listed.iter().all(|line| line.reason == "dropped database"),
        "{listed:?}"
    );
    assert!(sweep(&mut client, false).iter().all(|line| line.deleted));
    assert_eq!(store::folders(&cluster.store()), BTreeSet::from([uuid]));
    assert_recall(&mut client, &kept, &source.vectors(200), 0.95);
}

#[test]
fn a_dropped_database_is_swept_by_the_worker_of_another() {
    let (cluster, _, mut source) = original(&[
        ("s3vector.gc_grace", "1".to_owned()),
        ("s3vector.sweep_interval", "1".to_owned()),
    ]);
    let mut client = cluster.client();
    let kept = Items::create(&mut client, "kept", Metric::L2, source.vectors(300));
    kept.index(&mut client, "");
    let uuid = info(&mut client, "kept_index").uuid;
    client.batch_execute("DROP DATABASE original WITH (FORCE)").expect("dropped");
    wait_until("the worker to sweep", || {
        store::folders(&cluster.store()) == BTreeSet::from([uuid.clone()])
    });
    assert_recall(&mut client, &kept, &source.vectors(200), 0.95);
}

/// A sweep of one database leaves what another of the same cluster has stored.
#[test]
fn databases_leave_each_other_alone() {
    let (cluster, items, mut source) = original(&quiet(0));
    let before = store::objects(&cluster.store());
    let mut client = cluster.client();
    for _ in 0..2 {
        let swept = sweep(&mut client, false);
        assert!(swept.iter().all(|line| !line.deleted), "{swept:?}");
        assert!(before == store::objects(&cluster.store()), "another's objects were changed");
    }
    let mut theirs = cluster.client_of("original");
    assert_recall(&mut theirs, &items, &source.vectors(200), 0.95);
}

/// A copy answers from the original's objects, writes its own, and deletes what is its own only.
fn copied_by(strategy: &str) {
    let (mut cluster, items, mut source) = original(&quiet(0));
    clone(&cluster, strategy);
    let before = store::written(&cluster.store());
    let mut copy = cluster.client_of("copy");
    let mut theirs = items.clone();
    let uuid = info(&mut copy, "items_index").uuid;
    assert!(!info(&mut copy, "items_index").owned);
    assert_all_found(&mut copy, &theirs, 0..500);
    for round in 0..3 {
        let swept = sweep(&mut copy, false);
        assert!(!swept.iter().any(|line| line.deleted && line.prefix.starts_with(&uuid)));
        theirs.copy(&mut copy, source.vectors(200));
        replace_all(&mut copy, &mut theirs, round);
        let after = store::objects(&cluster.store());
        for (name, bytes) in &before {
            assert!(after.get(name) == Some(bytes), "{name} was changed or deleted");
        }
    }
    let own = info(&mut copy, "items_index");
    assert!(own.owned && own.uuid != uuid, "{own:?}");
    assert!(store::folders(&cluster.store()).contains(&own.uuid));
    // Of its own it sweeps what it has replaced.
    sweep(&mut copy, false);
    let segments = store::segments(&cluster.store());
    let segments = segments.iter().filter(|segment| segment.starts_with(&own.uuid)).count();
    assert_eq!(i32::try_from(segments), Ok(own.segments), "{own:?}");
    assert_recall(&mut copy, &theirs, &source.vectors(200), 0.95);
    drop(copy);

    cluster.restart();
    let mut original = cluster.client_of("original");
    assert!(info(&mut original, "items_index").owned);
    assert_all_found(&mut original, &items, 0..500);
    assert_recall(&mut original, &items, &source.vectors(200), 0.95);
    assert_recall(&mut cluster.client_of("copy"), &theirs, &source.vectors(200), 0.95);
}

#[test]
fn a_copy_by_wal() {
    copied_by("wal_log");
}

#[test]
fn a_copy_of_files() {
    copied_by("file_copy");
}

/// What a copy reads, the original keeps when it needs it no more, until the grace period is over;
/// then the copy says what to do.
#[test]
fn the_original_keeps_what_a_copy_reads_for_the_grace_period() {
    let (mut cluster, mut items, mut source) = original(&quiet(3600));
    clone(&cluster, "wal_log");
    let theirs = items.clone();
    let mut copy = cluster.client_of("copy");
    // The copy's maintenance tells the original that somebody reads.
    sweep(&mut copy, false);
    drop(copy);
    let mut client = cluster.client_of("original");
    replace_all(&mut client, &mut items, 0);
    let swept = sweep(&mut client, false);
    assert!(!swept.iter().any(|line| line.deleted), "{swept:?}");
    cluster.restart();
    assert_all_found(&mut cluster.client_of("copy"), &theirs, (0..500).step_by(3));
    assert_recall(&mut cluster.client_of("copy"), &theirs, &source.vectors(200), 0.95);

    cluster.reconfigure(&[("s3vector.gc_grace", "0".to_owned())]);
    let mut client = cluster.client_of("original");
    assert!(sweep(&mut client, false).iter().any(|line| line.deleted));
    drop(client);
    cluster.restart();
    assert_recall(&mut cluster.client_of("original"), &items, &source.vectors(200), 0.95);
    let mut copy = cluster.client_of("copy");
    prefer_index(&mut copy);
    failure(try_ask(&mut copy, &theirs, &source.vector(), 10)).expect("58P01", &["REINDEX"]);
    copy.batch_execute("REINDEX INDEX items_index").expect("rebuilt");
    assert!(info(&mut copy, "items_index").owned);
    assert_recall(&mut copy, &theirs, &source.vectors(200), 0.95);
}

/// While its worker runs, a copy goes on telling that it reads: a short grace period is enough.
#[test]
fn a_copy_at_work_keeps_what_it_reads_from_being_swept() {
    let (mut cluster, mut items, mut source) = original(&[
        ("s3vector.gc_grace", "3".to_owned()),
        ("s3vector.sweep_interval", "1".to_owned()),
    ]);
    clone(&cluster, "wal_log");
    let theirs = items.clone();
    let mut copy = cluster.client_of("copy");
    assert_recall(&mut copy, &theirs, &source.vectors(200), 0.95);
    let uuid = info(&mut copy, "items_index").uuid;
    let readers = cluster.store().join(&uuid).join("readers");
    wait_until("the copy to be registered", || !store::objects(&readers).is_empty());
    drop(copy);
    let mut client = cluster.client_of("original");
    replace_all(&mut client, &mut items, 0);
    drop(client);
    std::thread::sleep(Duration::from_secs(7));
    // Nothing of it is in memory.
    cluster.restart();
    assert_recall(&mut cluster.client_of("copy"), &theirs, &source.vectors(200), 0.95);

    // Gone, it keeps nothing.
    cluster.client().batch_execute("DROP DATABASE copy WITH (FORCE)").expect("dropped");
    let mut client = cluster.client_of("original");
    wait_until("what only the copy read to go", || {
        let segments = info(&mut client, "items_index").segments;
        i32::try_from(store::segments(&cluster.store()).len()) == Ok(segments)
    });
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// The original is dropped while its copy still reads from its folder.
#[test]
fn a_copy_outlives_its_original() {
    let (mut cluster, items, mut source) = original(&quiet(3600));
    clone(&cluster, "wal_log");
    let mut theirs = items.clone();
    let mut copy = cluster.client_of("copy");
    sweep(&mut copy, false);
    let mut client = cluster.client();
    client.batch_execute("DROP DATABASE original").expect("dropped");
    for client in [&mut client, &mut copy] {
        let swept = sweep(client, false);
        assert!(!swept.iter().any(|line| line.deleted), "{swept:?}");
    }
    drop(copy);
    cluster.restart();
    let mut copy = cluster.client_of("copy");
    assert_all_found(&mut copy, &theirs, 0..500);
    theirs.copy(&mut copy, source.vectors(300));
    flush(&mut copy, "items_index");
    assert_recall(&mut copy, &theirs, &source.vectors(200), 0.95);

    // It takes over what is left of the original.
    copy.query("SELECT s3vector_adopt()", &[]).expect("adopted");
    drop(copy);
    cluster.reconfigure(&[("s3vector.gc_grace", "0".to_owned())]);
    let mut client = cluster.client();
    sweep(&mut client, false);
    sweep(&mut cluster.client_of("copy"), false);
    cluster.restart();
    let mut copy = cluster.client_of("copy");
    assert_all_found(&mut copy, &theirs, theirs.live().step_by(3));
    assert_recall(&mut copy, &theirs, &source.vectors(200), 0.95);
}

/// A stopped cluster's files, copied: both run then, and neither knows of the other.
#[test]
fn a_copy_of_a_data_directory() {
    let (mut cluster, mut items, mut source) = original(&quiet(0));
    cluster.stop(Stop::Fast);
    let copied = cluster.copy_files();
    cluster.start_server();
    let mut theirs = items.clone();
    let mut client = cluster.client_of("original");
    let mut copy = copied.client_of("original");
    assert!(info(&mut client, "items_index").owned);
    assert!(!info(&mut copy, "items_index").owned);
    let before = store::written(&cluster.store());
    theirs.copy(&mut copy, source.vectors(300));
    replace_all(&mut copy, &mut theirs, 0);
    sweep(&mut copy, false);
    let after = store::objects(&cluster.store());
    for (name, bytes) in &before {
        assert!(after.get(name) == Some(bytes), "{name} was changed or deleted");
    }
    let own = info(&mut copy, "items_index").uuid;
    let own_before = store::written(&cluster.store().join(&own));
    replace_all(&mut client, &mut items, 1);
    sweep(&mut client, false);
    assert!(own_before == store::written(&cluster.store().join(&own)), "the copy's was changed");
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    // All of the original's segments were rewritten by the copy.
    let mut copied = copied;
    copied.restart();
    assert_recall(&mut copied.client_of("original"), &theirs, &source.vectors(200), 0.95);
}
