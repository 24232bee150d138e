//! Maintenance while the store is down: invariant 7 for compaction.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use harness::answers::{assert_all_found, assert_recall};
use harness::errors::failure;
use harness::upkeep::{backlog, flush, info, maintenance, try_flush};
use harness::wait::{wait_for, wait_until};
use harness::{Cluster, Garage};

use super::{busy, empty};

/// A folder nobody may enter; dropped, it is open again.
struct Locked(PathBuf);

impl Locked {
    fn new(folder: &Path) -> Self {
        fs::set_permissions(folder, Permissions::from_mode(0o000)).expect("locked");
        Self(folder.to_owned())
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        fs::set_permissions(&self.0, Permissions::from_mode(0o700)).expect("unlocked");
    }
}

/// Invariant 7 for compaction: writes and the queries that need no store go on, flushes fail with
/// a reason that can be looked up, and all is made good when the store is back.
#[test]
fn a_store_that_is_down_for_a_while() {
    let cluster = busy();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client, "items");
    // The store's folder is made by the first flush.
    items.copy(&mut client, source.vectors(10));
    flush(&mut client, "items_index");
    client.batch_execute("TRUNCATE items").expect("truncated");
    items.rows.fill(None);

    let locked = Locked::new(&cluster.store());
    items.copy(&mut client, source.vectors(1500));
    let report = failure(try_flush(&mut client, "items_index"));
    assert!(report.text().contains(&*cluster.store().to_string_lossy()), "{report:?}");
    let seen = wait_for("the worker to have failed", || {
        maintenance(&mut client, "postgres").filter(|seen| seen.errors > 0)
    });
    assert!(seen.last_error.is_some_and(|error| error.contains("data.s3vector")));
    assert!(backlog(&mut client, "items_index"));
    assert_eq!(info(&mut client, "items_index").delta_entries, 1500);
    // The delta answers, and takes more.
    items.insert(&mut client, source.vector());
    items.delete(&mut client, |id| id % 10 == 3);
    client.batch_execute("VACUUM items").expect("vacuum");
    assert_all_found(&mut client, &items, [10, 700, 1510]);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);

    drop(locked);
    wait_until("the backlog to go", || !backlog(&mut client, "items_index"));
    flush(&mut client, "items_index");
    let found = info(&mut client, "items_index");
    let live = i64::try_from(items.len()).expect("small");
    assert_eq!((found.entries - found.tombstones, found.delta_entries), (live, 0), "{found:?}");
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// A statement that catches the error of a flush leaves nothing locked or half done.
#[test]
fn a_flush_that_fails_inside_an_exception_block() {
    let cluster = Cluster::builder().set("s3vector.maintenance_workers", 0).start();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client, "items");
    items.copy(&mut client, source.vectors(300));
    flush(&mut client, "items_index");
    items.copy(&mut client, source.vectors(200));
    let locked = Locked::new(&cluster.store());
    client
        .batch_execute(
            "BEGIN;
             DO $$ BEGIN
                 FOR attempt IN 1..3 LOOP
                     BEGIN
                         PERFORM s3vector_flush('items_index');
                         RAISE 'a flush into a closed store';
                     EXCEPTION WHEN insufficient_privilege OR io_error THEN NULL;
                     END;
                 END LOOP;
             END $$",
        )
        .expect("the error is caught");
    drop(locked);
    // Another session need not wait for the transaction to end.
    let mut other = cluster.client();
    other.batch_execute("SET lock_timeout = '5s'").expect("a setting");
    assert_eq!(flush(&mut other, "items_index").rows_flushed, 200);
    client.batch_execute("COMMIT").expect("committed");
    assert_all_found(&mut client, &items, 0..500);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn an_s3_server_that_is_down_for_a_while() {
    let mut garage = Garage::start();
    let cluster = Cluster::builder()
        .set_all(&garage.settings())
        .set("s3vector.flush_size", "64kB")
        .set("s3vector.fetch_timeout", "5s")
        .start();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client, "items");
    garage.stop();
    items.copy(&mut client, source.vectors(1200));
    failure(try_flush(&mut client, "items_index")).expect("08006", &["s3://vectors/test"]);
    assert_eq!(info(&mut client, "items_index").delta_entries, 1200);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    garage.start_server();
    wait_until("the backlog to go", || !backlog(&mut client, "items_index"));
    assert_all_found(&mut client, &items, (0..1200).step_by(5));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}
