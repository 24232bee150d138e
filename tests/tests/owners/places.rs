//! `s3vector.storage_url` names a place that an index has nothing in: nothing is written there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::answers::{assert_all_found, assert_recall, prefer_index};
use harness::errors::failure;
use harness::items::Source;
use harness::process::{give_to_server_user, run_as_server_user};
use harness::upkeep::{backlog, flush, info, maintenance, try_flush};
use harness::wait::{wait_for, wait_until};
use harness::{Cluster, store};

use super::{DIMENSIONS, empty, indexed, strict};

fn url(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

/// A folder beside the cluster's that holds nothing.
fn elsewhere(cluster: &Cluster) -> PathBuf {
    let folder = cluster.socket().join("elsewhere");
    fs::create_dir(&folder).expect("a folder");
    give_to_server_user(&folder);
    folder
}

fn point_to(cluster: &mut Cluster, folder: &Path) {
    cluster.reconfigure(&[("s3vector.storage_url", url(folder))]);
}

/// A flush, and a merge with nothing to flush; of an index with segments, and of one that was made on an
/// empty table.
#[test]
fn a_flush_into_an_empty_place_is_refused() {
    let mut cluster = strict().start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 300);
    let mut young = empty(&mut client, "young");
    young.index(&mut client, "");
    let (place, wrong) = (cluster.store(), elsewhere(&cluster));
    for round in 0..3 {
        young.copy(&mut client, source.vectors(50));
        if round == 1 {
            items.delete(&mut client, |id| id % 3 == 0);
            client.batch_execute("VACUUM items").expect("vacuum");
        } else {
            items.copy(&mut client, source.vectors(200));
        }
        for (index, table) in [("items_index", &items), ("young_index", &young)] {
            let before = info(&mut client, index);
            point_to(&mut cluster, &wrong);
            let report = failure(try_flush(&mut client, index));
            let words = [index, &before.uuid, &url(&wrong), "s3vector.storage_url", "REINDEX"];
            report.expect("58P01", &words);
            assert!(store::objects(&wrong).is_empty(), "something was written");
            let after = info(&mut client, index);
            assert_eq!(
                (&before.uuid, before.entries, before.delta_entries),
                (&after.uuid, after.entries, after.delta_entries)
            );
            point_to(&mut cluster, &place);
            flush(&mut client, index);
            let found = info(&mut client, index);
            assert_eq!((found.uuid, found.delta_entries), (after.uuid, 0));
            assert_all_found(&mut client, table, table.live().step_by(7));
        }
    }
    cluster.restart();
    let mut client = cluster.client();
    assert_recall(&mut client, &items, &source.vectors(50), 0.95);
    assert_recall(&mut client, &young, &source.vectors(50), 0.95);
}

/// The place has a folder of that name that says it is another server's.
#[test]
fn a_flush_into_a_folder_of_another_server_is_refused() {
    let cluster = strict().start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 300);
    let uuid = info(&mut client, "items_index").uuid;
    let claim = cluster.store().join(&uuid).join("owner.json");
    let ours = fs::read_to_string(&claim).expect("a claim");
    items.copy(&mut client, source.vectors(100));
    for (name, value) in [
        ("system_identifier", "\"12345\""),
        ("timeline", "7"),
        ("database", "99"),
        ("token", "\"7b0b2d60-6a3f-4a52-9d3c-0f6f5a0e9c11\""),
    ] {
        let theirs: Vec<String> = ours
            .lines()
            .map(|line| match line.trim_start().starts_with(&format!("\"{name}\"")) {
                true => {
                    format!("  \"{name}\": {value}{}", if line.ends_with(',') { "," } else { "" })
                }
                false => line.to_owned(),
            })
            .collect();
        let theirs = theirs.join("\n");
        assert_ne!(theirs, ours, "{name}");
        fs::write(&claim, &theirs).expect("claimed by another");
        let before = store::objects(&cluster.store());
        let report = failure(try_flush(&mut client, "items_index"));
        report.expect("55000", &["items_index", &uuid, "s3vector_adopt", "REINDEX"]);
        assert!(before == store::objects(&cluster.store()), "{name}: something was changed");
        assert_eq!(info(&mut client, "items_index").delta_entries, 100);
    }
    // It is told to go on.
    client.batch_execute("REINDEX INDEX items_index").expect("rebuilt");
    let found = info(&mut client, "items_index");
    assert!(found.owned && found.uuid != uuid, "{found:?}");
    items.copy(&mut client, source.vectors(100));
    flush(&mut client, "items_index");
    assert_recall(&mut client, &items, &source.vectors(50), 0.95);
}

/// A claim that is there and cannot be read is not one that is missing, and the error says which it is.
#[test]
fn a_flush_says_whether_the_claim_is_missing_or_damaged() {
    let cluster = strict().start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 300);
    let uuid = info(&mut client, "items_index").uuid;
    let claim = cluster.store().join(&uuid).join("owner.json");
    let ours = fs::read_to_string(&claim).expect("a claim");
    items.copy(&mut client, source.vectors(100));
    let object = format!("\"{uuid}/owner.json\" in \"{}\"", url(&cluster.store()));
    for (text, what) in [
        (String::new(), "EOF"),
        ("mine".to_owned(), "line 1"),
        (ours.replace("timeline", "time"), "timeline"),
        (ours.replace("\"directory\": \"", "\"directory\": \"a"), "invalid digit"),
    ] {
        fs::write(&claim, text).expect("damaged");
        let before = store::objects(&cluster.store());
        let report = failure(try_flush(&mut client, "items_index"));
        report.expect("XX001", &["items_index", &object, "damaged", what, "copy", "REINDEX"]);
        assert!(!report.text().contains("There is no"), "{report:?}");
        assert!(before == store::objects(&cluster.store()), "something was changed");
    }
    fs::remove_file(&claim).expect("removed");
    let report = failure(try_flush(&mut client, "items_index"));
    let words =
        ["items_index", &format!("There is no {object}"), "s3vector.storage_url", "REINDEX"];
    report.expect("58P01", &words);
    assert!(!report.text().contains("damaged"), "{report:?}");
    fs::write(&claim, ours).expect("brought back");
    flush(&mut client, "items_index");
    assert_eq!(info(&mut client, "items_index").delta_entries, 0);
    assert_recall(&mut client, &items, &source.vectors(50), 0.95);
}

/// Maintenance says what is wrong, pauses between attempts, and makes good what has waited.
#[test]
fn the_worker_writes_nothing_into_an_empty_place() {
    let mut cluster = Cluster::builder()
        .set("s3vector.flush_size", "64kB")
        .set("s3vector.sweep_interval", 1)
        .start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 300);
    assert_all_found(&mut client, &items, [10]);
    let (place, wrong) = (cluster.store(), elsewhere(&cluster));
    point_to(&mut cluster, &wrong);
    items.copy(&mut client, source.vectors(1500));
    let seen = wait_for("two failures of the worker", || {
        maintenance(&mut client, "postgres").filter(|seen| seen.errors >= 2)
    });
    let error = seen.last_error.expect("an error");
    assert!(error.contains("items_index"), "{error}");
    assert!(backlog(&mut client, "items_index"));
    assert_eq!(info(&mut client, "items_index").delta_entries, 1500);
    items.insert(&mut client, source.vector());
    assert_all_found(&mut client, &items, [10, 700, 1800]);
    assert!(cluster.log().contains(&url(&wrong)), "the log does not name the place");
    assert!(store::objects(&wrong).is_empty(), "something was written");

    point_to(&mut cluster, &place);
    wait_until("the backlog to go", || !backlog(&mut client, "items_index"));
    assert!(store::objects(&wrong).is_empty(), "something was written");
    drop(client);
    cluster.restart();
    let mut client = cluster.client();
    assert_all_found(&mut client, &items, items.live().step_by(31));
    assert_recall(&mut client, &items, &source.vectors(50), 0.95);
}

/// Everything has been copied to a new place, as the docs say.
#[test]
fn an_index_goes_on_in_a_place_that_all_was_copied_to() {
    let mut cluster = strict().start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 300);
    let uuid = info(&mut client, "items_index").uuid;
    let moved = cluster.socket().join("moved");
    run_as_server_user(Command::new("cp").arg("-a").arg(cluster.store()).arg(&moved));
    point_to(&mut cluster, &moved);
    fs::remove_dir_all(cluster.store()).expect("the old place goes");
    items.copy(&mut client, source.vectors(300));
    flush(&mut client, "items_index");
    let found = info(&mut client, "items_index");
    assert_eq!((found.uuid.as_str(), found.owned), (uuid.as_str(), true));
    assert!(!cluster.store().exists());
    drop(client);
    cluster.restart();
    let mut client = cluster.client();
    assert_all_found(&mut client, &items, items.live().step_by(7));
    assert_recall(&mut client, &items, &source.vectors(50), 0.95);
}

/// A copy has no folder of its own yet: it looks for those that it reads.
#[test]
fn a_copy_writes_nothing_where_its_original_is_not() {
    let mut cluster = strict().start();
    let mut client = cluster.client();
    client.batch_execute("CREATE DATABASE original").expect("a database");
    let mut original = cluster.client_of("original");
    original.batch_execute("CREATE EXTENSION s3vector CASCADE").expect("the extension");
    let (items, mut source) = indexed(&mut original, 300);
    drop(original);
    client.batch_execute("CREATE DATABASE copy TEMPLATE original").expect("a copy");
    let (place, wrong) = (cluster.store(), elsewhere(&cluster));
    let mut theirs = items.clone();
    let mut copy = cluster.client_of("copy");
    prefer_index(&mut copy);
    theirs.copy(&mut copy, source.vectors(200));
    point_to(&mut cluster, &wrong);
    let uuid = info(&mut copy, "items_index").uuid;
    failure(try_flush(&mut copy, "items_index")).expect("58P01", &["items_index", &uuid]);
    assert!(store::objects(&wrong).is_empty(), "something was written");
    point_to(&mut cluster, &place);
    flush(&mut copy, "items_index");
    let found = info(&mut copy, "items_index");
    assert!(found.owned && found.uuid != uuid, "{found:?}");
    assert_recall(&mut copy, &theirs, &source.vectors(50), 0.95);
    assert_recall(&mut cluster.client_of("original"), &items, &source.vectors(50), 0.95);
}

/// An index that is built anew needs nothing of what was there.
#[test]
fn a_rebuild_begins_in_an_empty_place() {
    let mut cluster = strict().start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 300);
    let new = elsewhere(&cluster);
    point_to(&mut cluster, &new);
    fs::remove_dir_all(cluster.store()).expect("the old place is lost");
    client.batch_execute("REINDEX INDEX items_index").expect("rebuilt");
    items.copy(&mut client, Source::new(172, DIMENSIONS).vectors(100));
    flush(&mut client, "items_index");
    assert!(store::folders(&new).contains(&info(&mut client, "items_index").uuid));
    assert_recall(&mut client, &items, &source.vectors(50), 0.95);
}
