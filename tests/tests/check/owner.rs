//! Folders whose `owner.json` is missing, damaged or another's: the check tells where a flush would
//! refuse, and nothing where it would not.

use std::fs;
use std::path::PathBuf;

use harness::check::{Finding, findings};
use harness::errors::failure;
use harness::items::Source;
use harness::store;
use harness::upkeep::{flush, info, try_flush};
use harness::{Cluster, Items, Metric};
use postgres::Client;

use crate::{DIMENSIONS, Ground};

fn claim(cluster: &Cluster, uuid: &str) -> PathBuf {
    cluster.store().join(uuid).join("owner.json")
}

/// The only finding, which is about the owner of the folder `uuid`.
#[track_caller]
fn expect_owner(found: &[Finding], uuid: &str, words: &[&str]) {
    let [found] = found else { panic!("not one finding: {found:#?}") };
    assert_eq!((found.part.as_str(), &found.segment), ("owner", &None), "{found:?}");
    assert_eq!(found.place, format!("{uuid}/owner.json"));
    for word in words {
        assert!(found.problem.contains(word), "no '{word}' in {found:?}");
    }
}

/// Nothing is wrong, and a flush goes through.
#[track_caller]
fn assert_writable(client: &mut Client, items: &mut Items, source: &mut Source) {
    let index = format!("{}_index", items.table);
    items.copy(client, source.vectors(20));
    assert_eq!(findings(client, &index), []);
    flush(client, &index);
    assert_eq!(findings(client, &index), []);
}

fn empty(client: &mut Client, table: &str) -> Items {
    client
        .batch_execute(&format!("CREATE TABLE {table} (id int, embedding vector({DIMENSIONS}))"))
        .expect("a table");
    Items { table: table.to_owned(), metric: Metric::L2, rows: Vec::new() }
}

/// The same text with another value of a field.
fn with(ours: &str, name: &str, value: &str) -> String {
    let line = ours.lines().find(|line| line.contains(&format!("\"{name}\""))).expect("a field");
    let comma = if line.ends_with(',') { "," } else { "" };
    ours.replace(line, &format!("  \"{name}\": {value}{comma}"))
}

/// Each of the ways, of an index with a segment and of one that has claimed its folder and written
/// nothing yet.
#[test]
fn an_owner_that_is_missing_damaged_or_another() {
    let Ground { cluster, mut items, mut source } = Ground::new(300, "");
    let mut client = cluster.client();
    let mut young = empty(&mut client, "young");
    young.index(&mut client, "");
    for table in [&mut items, &mut young] {
        let index = format!("{}_index", table.table);
        let uuid = info(&mut client, &index).uuid;
        let path = claim(&cluster, &uuid);
        let ours = fs::read_to_string(&path).expect("a claim");
        table.copy(&mut client, source.vectors(20));
        let damaged = [
            String::new(),
            "no JSON".to_owned(),
            ours[..ours.len() / 2].to_owned(),
            with(&ours, "system_identifier", "\"a name\""),
            with(&ours, "timeline", "-1"),
            with(&ours, "database", "null"),
        ];
        let foreign = [
            with(&ours, "system_identifier", "\"12345\""),
            with(&ours, "timeline", "12345"),
            with(&ours, "database", "12345"),
            with(&ours, "token", "\"12345d60-6a3f-4a52-9d3c-0f6f5a0e9c11\""),
        ];
        let cases = std::iter::once((None, "58P01", "does not exist"))
            .chain(damaged.into_iter().map(|text| (Some(text), "XX001", "damaged")))
            .chain(foreign.into_iter().map(|text| (Some(text), "55000", "12345")));
        for (text, sqlstate, word) in cases {
            match &text {
                None => fs::remove_file(&path).expect("removed"),
                Some(text) => fs::write(&path, text).expect("another text"),
            }
            expect_owner(&findings(&mut client, &index), &uuid, &[word, "flush"]);
            let sql = format!("SELECT part FROM s3vector_check('{index}', heap => false)");
            let row = client.query_one(&sql, &[]).expect("one finding");
            assert_eq!(row.get::<_, String>(0), "owner");
            failure(try_flush(&mut client, &index)).expect(sqlstate, &[&uuid]);
            fs::write(&path, &ours).expect("as it was");
        }
        assert_eq!(findings(&mut client, &index), []);
        assert_writable(&mut client, table, &mut source);
    }
}

/// Indexes that have no folder, and need none yet.
#[test]
fn an_index_without_a_folder() {
    let Ground { cluster, mut items, mut source } = Ground::new(300, "");
    let mut client = cluster.client();
    let old = info(&mut client, "items_index").uuid;
    client.batch_execute("TRUNCATE items").expect("truncated");
    items.rows.fill(None);
    fs::remove_file(claim(&cluster, &old)).expect("removed");
    assert_writable(&mut client, &mut items, &mut source);

    client
        .batch_execute(&format!("CREATE TEMP TABLE brief (id int, embedding vector({DIMENSIONS}))"))
        .expect("a table");
    let mut brief = Items { table: "brief".to_owned(), metric: Metric::L2, rows: Vec::new() };
    brief.index(&mut client, "");
    let folders = store::folders(&cluster.store());
    assert_eq!(findings(&mut client, "brief_index"), []);
    assert_eq!(store::folders(&cluster.store()), folders, "the check claims nothing");
    assert_writable(&mut client, &mut brief, &mut source);
    let uuid = info(&mut client, "brief_index").uuid;
    fs::remove_file(claim(&cluster, &uuid)).expect("removed");
    expect_owner(&findings(&mut client, "brief_index"), &uuid, &["does not exist"]);
}

/// A copy needs the folders that it reads, whoever owns them, and none that it reads no more.
#[test]
fn a_copy_of_a_database() {
    let Ground { cluster, items, mut source } = Ground::new(300, "");
    let mut client = cluster.client();
    let uuid = info(&mut client, "items_index").uuid;
    drop(client);
    let mut admin = cluster.client_of("template1");
    admin.batch_execute("CREATE DATABASE copy TEMPLATE postgres").expect("a copy");
    let mut theirs = items.clone();
    let mut copy = cluster.client_of("copy");
    theirs.copy(&mut copy, source.vectors(20));
    let path = claim(&cluster, &uuid);
    let ours = fs::read_to_string(&path).expect("a claim");
    for (text, sqlstate, word) in
        [(None, "58P01", "does not exist"), (Some("no JSON"), "XX001", "damaged")]
    {
        match text {
            None => fs::remove_file(&path).expect("removed"),
            Some(text) => fs::write(&path, text).expect("damaged"),
        }
        expect_owner(&findings(&mut copy, "items_index"), &uuid, &[word]);
        failure(try_flush(&mut copy, "items_index")).expect(sqlstate, &[&uuid]);
    }
    // Somebody else's is as good as the original's.
    fs::write(&path, with(&ours, "system_identifier", "\"12345\"")).expect("another's");
    assert_writable(&mut copy, &mut theirs, &mut source);
    let own = info(&mut copy, "items_index").uuid;
    assert_ne!(own, uuid);
    // It still reads the original's segment beside its own, until it has no row of it any more.
    theirs.delete(&mut copy, |id| id < 300);
    copy.batch_execute("VACUUM items").expect("vacuum");
    flush(&mut copy, "items_index");
    fs::remove_dir_all(cluster.store().join(&uuid)).expect("removed");
    assert_writable(&mut copy, &mut theirs, &mut source);
}

/// Folders that a server has taken over from its predecessor are its own; before that it reads them.
#[test]
fn a_folder_that_was_adopted() {
    let Ground { mut cluster, mut items, mut source } = Ground::new(300, "");
    let uuid = info(&mut cluster.client(), "items_index").uuid;
    let path = claim(&cluster, &uuid);
    // As if the data directory had been moved by copying.
    cluster.stop(harness::cluster::Stop::Fast);
    fs::remove_file(cluster.data().join("pg_stat_tmp/s3vector.token")).expect("a lost token");
    cluster.start_server();
    let mut client = cluster.client();
    items.copy(&mut client, source.vectors(20));
    assert_eq!(findings(&mut client, "items_index"), []);
    client.batch_execute("SELECT s3vector_adopt()").expect("adopted");
    assert_eq!(findings(&mut client, "items_index"), []);
    let ours = fs::read_to_string(&path).expect("a claim");
    fs::write(&path, with(&ours, "timeline", "12345")).expect("another's");
    expect_owner(&findings(&mut client, "items_index"), &uuid, &["12345"]);
    failure(try_flush(&mut client, "items_index")).expect("55000", &[&uuid]);
    fs::write(&path, &ours).expect("as it was");
    assert_writable(&mut client, &mut items, &mut source);
    assert_eq!(info(&mut client, "items_index").uuid, uuid);
}

/// A standby does not write. It tells of the folders that it reads, and goes on so when it is promoted.
#[test]
fn a_standby_and_what_becomes_of_it() {
    let Ground { cluster, items, mut source } = Ground::new(300, "");
    let mut client = cluster.client();
    let uuid = info(&mut client, "items_index").uuid;
    let standby = cluster.standby();
    standby.damaged();
    standby.catch_up(&mut client);
    let mut replica = standby.client();
    assert_eq!(findings(&mut replica, "items_index"), []);
    let path = claim(&cluster, &uuid);
    let ours = fs::read_to_string(&path).expect("a claim");
    fs::remove_file(&path).expect("removed");
    expect_owner(&findings(&mut replica, "items_index"), &uuid, &["does not exist"]);
    fs::write(&path, "no JSON").expect("damaged");
    expect_owner(&findings(&mut replica, "items_index"), &uuid, &["damaged"]);
    // What another server says of itself is no obstacle to this one once it is promoted.
    fs::write(&path, with(&ours, "timeline", "12345")).expect("another's");
    assert_eq!(findings(&mut replica, "items_index"), []);
    drop(replica);
    standby.promote();
    let mut promoted = standby.client();
    let mut theirs = items.clone();
    assert_writable(&mut promoted, &mut theirs, &mut source);
    assert_ne!(info(&mut promoted, "items_index").uuid, uuid);
}
