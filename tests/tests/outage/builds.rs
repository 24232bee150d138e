//! CREATE INDEX while storage fails: it fails too, says why, and leaves nothing.

use std::time::Duration;

use harness::answers::assert_recall;
use harness::errors::failure;
use harness::items::Source;
use harness::proxy::{Effect, Fault};
use harness::wait::wait_until;
use harness::{Items, Metric};
use postgres::Client;

use super::{DIMENSIONS, Ground, ROWS, bounded};

/// Index relations that exist, valid or not.
fn indexes(client: &mut Client) -> i64 {
    let sql = "SELECT count(*) FROM pg_class JOIN pg_am ON pg_am.oid = relam \
               WHERE amname = 's3vector'";
    client.query_one(sql, &[]).expect("a count").get(0)
}

#[test]
fn nothing_is_left_behind() {
    let ground = Ground::new(&[]);
    let (mut client, _) = ground.client();
    let mut source = Source::new(162, DIMENSIONS);
    let items = Items::create(&mut client, "items", Metric::L2, source.vectors(ROWS));
    for (effect, sqlstate, word) in [
        (Effect::InternalError, "08006", "InternalError"),
        (Effect::SlowDown(None), "08006", "SlowDown"),
        (Effect::Expired, "42501", "ExpiredToken"),
        (Effect::Reset, "08006", "127.0.0.1"),
        (Effect::Stall, "08006", "127.0.0.1"),
    ] {
        // From the first request on, and once the build is under way.
        for path in ["", "/vectors/c/", "/neighbors/", "/zarr.json"] {
            println!("{effect:?} {path}");
            ground.proxy.inject(Fault::new(effect).method("PUT").path(path));
            let outcome = bounded("CREATE INDEX", || items.try_index(&mut client, ""));
            failure(outcome).expect(sqlstate, &["s3://vectors/test", word]);
            assert_eq!(indexes(&mut client), 0, "{effect:?} {path}");
            ground.proxy.heal();
        }
    }
    // What the failed builds had uploaded is gone, or will be found by a sweep.
    client.batch_execute("ALTER SYSTEM SET s3vector.gc_grace = 0").expect("a setting");
    client.batch_execute("SELECT pg_reload_conf()").expect("reloaded");
    wait_until("the bucket to be empty", || {
        client.batch_execute("SELECT s3vector_sweep()").expect("a sweep");
        ground.garage.objects().is_empty()
    });
    items.index(&mut client, "");
    super::prefer_index(&mut client);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Beside a build that fails, an index that exists goes on; REINDEX leaves it as it was.
#[test]
fn a_rebuild_that_fails_leaves_the_old_index() {
    let ground = Ground::new(&[]);
    let (mut client, warnings) = ground.client();
    let (items, mut source) = super::indexed(&mut client, "items", ROWS);
    for statement in ["REINDEX INDEX items_index", "REINDEX INDEX CONCURRENTLY items_index"] {
        ground.proxy.inject(Fault::new(Effect::InternalError).method("PUT"));
        failure(bounded(statement, || client.batch_execute(statement))).expect("08006", &[]);
        ground.proxy.heal();
        ground.heal(&mut client, &warnings, &items);
        assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    }
    // CONCURRENTLY leaves an invalid index, as PostgreSQL says.
    client.batch_execute("DROP INDEX IF EXISTS items_index_ccnew").expect("dropped");
    assert_eq!(indexes(&mut client), 1);
}

/// Uploads that fail now and then are made again.
#[test]
fn a_build_over_a_bad_connection() {
    let ground =
        Ground::new(&[("s3vector.fetch_timeout", Duration::from_secs(5).as_millis().to_string())]);
    let (mut client, _) = ground.client();
    let mut source = Source::new(163, DIMENSIONS);
    let items = Items::create(&mut client, "items", Metric::L2, source.vectors(ROWS));
    for effect in [Effect::InternalError, Effect::SlowDown(Some(1)), Effect::Reset] {
        // Two of three attempts to write each of these objects.
        let objects = ["/owner.json", "/codes/c/", "/neighbors/c/", "/tids/c/"];
        for path in objects {
            ground.proxy.inject(Fault::new(effect).method("PUT").path(path).first(2));
        }
        let faults = ground.proxy.counts().faults;
        items.index(&mut client, "");
        assert_eq!(ground.proxy.counts().faults, faults + 8, "{effect:?}");
        ground.proxy.heal();
        super::prefer_index(&mut client);
        assert_recall(&mut client, &items, &source.vectors(100), 0.95);
        client.batch_execute("DROP INDEX items_index").expect("dropped");
    }
}
