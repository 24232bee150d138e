//! What becomes of an index leaves objects behind: are they listed, and swept in time?

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use harness::answers::{ask, assert_all_found, assert_recall, prefer_index};
use harness::items::Source;
use harness::process::signal_process;
use harness::upkeep::{Swept, flush, info, sweep};
use harness::wait::wait_until;
use harness::{Cluster, Items, Metric, store};
use nix::sys::signal::Signal;
use postgres::Client;

use super::{DIMENSIONS, covers, indexed, live, strict, unused};

/// What may become of an index. Each leaves something unused; the other index of the database,
/// `kept`, goes on.
const FATES: [(&str, &str, &str); 9] = [
    ("drop_index", "DROP INDEX items_index", "dropped index"),
    ("drop_table", "DROP TABLE items", "dropped index"),
    ("truncate", "TRUNCATE items", "dropped index"),
    ("reindex", "REINDEX INDEX items_index", "dropped index"),
    ("reindex_concurrently", "REINDEX INDEX CONCURRENTLY items_index", "dropped index"),
    (
        "rolled_back",
        "BEGIN; CREATE INDEX another ON items USING s3vector (embedding); ROLLBACK",
        "dropped index",
    ),
    (
        "flushed_and_rolled_back",
        "BEGIN; TRUNCATE items; INSERT INTO items SELECT * FROM kept; \
         SELECT s3vector_flush('items_index'); ROLLBACK",
        "dropped index",
    ),
    (
        "replaced",
        "DELETE FROM items WHERE id % 2 = 0; VACUUM items; SELECT s3vector_flush('items_index')",
        "unused segment",
    ),
    (
        "created_and_dropped",
        "BEGIN; CREATE INDEX another ON items USING s3vector (embedding); DROP INDEX another; COMMIT",
        "dropped index",
    ),
];

/// Statements one by one: some refuse to run in the transaction that several sent at once are.
fn run(client: &mut Client, statements: &str) {
    for statement in statements.split("; ") {
        client.batch_execute(statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

/// Segments whose graphs are in memory.
fn remembered(client: &mut Client) -> BTreeSet<String> {
    let sql = "SELECT index_uuid || '/' || segment_uuid FROM s3vector_stat_graphs";
    client.query(sql, &[]).expect("graphs").iter().map(|row| row.get(0)).collect()
}

#[test]
fn whatever_becomes_of_an_index_its_objects_are_listed_and_swept() {
    let cluster = strict();
    let mut client = cluster.client();
    let (kept, mut source) = indexed(&mut client, "kept", 300);
    for (name, statements, reason) in FATES {
        let (items, _) = indexed(&mut client, "items", 300);
        assert_eq!(ask(&mut client, &items, &source.vector(), 5).len(), 5);
        assert!(sweep(&mut client, true).is_empty(), "{name}: nothing is unused yet");
        run(&mut client, statements);
        let left = unused(&cluster, &mut client);
        assert!(!left.is_empty(), "{name}: leaves nothing");
        let everything = store::objects(&cluster.store());

        let listed = sweep(&mut client, true);
        assert!(left.iter().all(|prefix| covers(&listed, prefix)), "{name}: {listed:?}");
        assert!(!live(&mut client).iter().any(|prefix| covers(&listed, prefix)), "{listed:?}");
        for line in &listed {
            assert_eq!((line.reason.as_str(), line.deleted), (reason, false), "{name}: {line:?}");
            let below = everything.iter().filter(|(key, _)| key.starts_with(&line.prefix));
            let (objects, bytes) =
                below.fold((0, 0), |(n, sum), (_, object)| (n + 1, sum + object.len()));
            assert_eq!(usize::try_from(line.objects), Ok(objects), "{name}: {line:?}");
            assert_eq!(usize::try_from(line.bytes), Ok(bytes), "{name}: {line:?}");
        }
        assert!(
            everything == store::objects(&cluster.store()),
            "{name}: a dry run changes nothing"
        );

        let swept = sweep(&mut client, false);
        assert!(swept.iter().all(|line| line.deleted), "{name}: {swept:?}");
        assert_eq!(unused(&cluster, &mut client), BTreeSet::new(), "{name}");
        assert!(sweep(&mut client, true).is_empty(), "{name}: nothing is unused any more");
        client.batch_execute("DROP TABLE IF EXISTS items").expect("dropped");
        sweep(&mut client, false);
        let folders = store::folders(&cluster.store());
        assert_eq!(folders, BTreeSet::from([info(&mut client, "kept_index").uuid]), "{name}");
        let graphs = remembered(&mut client);
        assert!(graphs.is_subset(&live(&mut client)), "{name}: {graphs:?} are in memory");
    }
    assert_recall(&mut client, &kept, &source.vectors(200), 0.95);
}

/// The same by the worker, all at once.
#[test]
fn the_worker_sweeps_by_itself_after_the_grace_period() {
    let cluster =
        Cluster::builder().set("s3vector.gc_grace", 2).set("s3vector.sweep_interval", 1).start();
    let mut client = cluster.client();
    let (kept, mut source) = indexed(&mut client, "kept", 300);
    for (name, statements, _) in FATES {
        indexed(&mut client, "items", 300);
        run(&mut client, statements);
        run(
            &mut client,
            &format!(
                "ALTER TABLE IF EXISTS items RENAME TO was_{name}; \
             ALTER INDEX IF EXISTS items_index RENAME TO was_{name}_index"
            ),
        );
    }
    // Not in one look: meanwhile the worker may write a segment that is not named yet.
    wait_until("the worker to sweep", || {
        sweep(&mut client, true).is_empty() && unused(&cluster, &mut client).is_empty()
    });
    cluster.log().lines().for_each(|line| assert!(!line.contains("ERROR"), "{line}"));
    assert_recall(&mut client, &kept, &source.vectors(200), 0.95);
}

#[test]
fn the_grace_period_is_kept() {
    const GRACE: Duration = Duration::from_secs(3);
    let cluster = Cluster::builder()
        .set("s3vector.maintenance_workers", 0)
        .set("s3vector.gc_grace", GRACE.as_secs())
        .start();
    let mut client = cluster.client();
    let (kept, mut source) = indexed(&mut client, "kept", 300);
    indexed(&mut client, "items", 300);
    client.batch_execute("DROP TABLE items").expect("dropped");
    let left = unused(&cluster, &mut client);
    // Nobody has looked yet: it is not known since when it is unused.
    assert!(sweep(&mut client, true).iter().all(|line| line.since.is_none()));
    thread::sleep(GRACE);
    let seen = Instant::now();
    let first = sweep(&mut client, false);
    assert!(!first.is_empty() && first.iter().all(|line| !line.deleted), "{first:?}");
    let since = first[0].since.expect("seen now");
    // Told from the clock at first, from the store's later.
    let same = |line: &Swept| {
        let since = line.since.expect("seen before").duration_since(since);
        since.unwrap_or_else(|error| error.duration()) < Duration::from_millis(500)
    };
    while seen.elapsed() < GRACE - Duration::from_millis(800) {
        let swept = sweep(&mut client, false);
        assert!(swept.iter().all(|line| !line.deleted && same(line)), "{swept:?}");
        assert_eq!(unused(&cluster, &mut client), left);
        thread::sleep(Duration::from_millis(200));
    }
    assert!(sweep(&mut client, true).iter().all(same));
    wait_until("the grace period to end", || sweep(&mut client, false).iter().any(|l| l.deleted));
    assert!(seen.elapsed() + Duration::from_millis(100) >= GRACE, "after {:?}", seen.elapsed());
    assert_eq!(unused(&cluster, &mut client), BTreeSet::new());
    assert_recall(&mut client, &kept, &source.vectors(200), 0.95);
}

/// Commands that copy or rewrite the index's file: it goes on, wherever it lies then.
#[test]
fn an_index_whose_file_is_moved() {
    let cluster = Cluster::builder()
        .set("s3vector.maintenance_workers", 0)
        .set("s3vector.gc_grace", 0)
        .set("allow_in_place_tablespaces", "on")
        .start();
    let mut client = cluster.client();
    client.batch_execute("CREATE TABLESPACE elsewhere LOCATION ''").expect("a tablespace");
    let (mut items, mut source) = indexed(&mut client, "items", 300);
    for statement in [
        "ALTER INDEX items_index SET TABLESPACE elsewhere",
        "ALTER INDEX items_index SET TABLESPACE pg_default",
        "ALTER TABLE items SET UNLOGGED",
        "ALTER TABLE items SET LOGGED",
        "VACUUM FULL items",
        "ALTER TABLE items RENAME TO others; ALTER TABLE others RENAME TO items",
        "ALTER TABLE items ALTER id TYPE int USING id",
    ] {
        run(&mut client, statement);
        sweep(&mut client, false);
        assert_all_found(&mut client, &items, items.live().step_by(7));
        items.copy(&mut client, source.vectors(100));
        items.delete(&mut client, |id| id % 5 == 0);
        client.batch_execute("VACUUM items").expect("vacuum");
        flush(&mut client, "items_index");
        sweep(&mut client, false);
        assert_eq!(unused(&cluster, &mut client), BTreeSet::new(), "{statement}");
        assert!(info(&mut client, "items_index").owned, "{statement}");
    }
    drop(client);
    let mut cluster = cluster;
    cluster.restart();
    let mut client = cluster.client();
    assert_all_found(&mut client, &items, items.live());
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Without the extension nobody sweeps; created again, it finds what was left.
#[test]
fn the_extension_is_dropped_and_created_again() {
    let cluster = strict();
    let mut client = cluster.client();
    let (items, mut source) = indexed(&mut client, "items", 300);
    client
        .batch_execute("DROP EXTENSION s3vector CASCADE; CREATE EXTENSION s3vector")
        .expect("another extension");
    let left = store::segments(&cluster.store());
    assert_eq!(left.len(), 1);
    assert!(left.iter().all(|prefix| covers(&sweep(&mut client, true), prefix)));
    assert!(sweep(&mut client, false).iter().all(|line| line.deleted));
    assert_eq!(store::folders(&cluster.store()), BTreeSet::new());
    items.index(&mut client, "");
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Objects of a build whose backend was killed when it had written some of them.
#[test]
fn a_build_killed_half_way() {
    let cluster = strict();
    let mut client = cluster.client();
    let (kept, mut source) = indexed(&mut client, "kept", 300);
    let before = store::folders(&cluster.store());
    let items = Items::create(&mut client, "items", Metric::L2, source.vectors(20_000));
    let mut builder = cluster.client();
    let pid: i32 = builder.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
    thread::scope(|scope| {
        let building = scope.spawn(|| items.try_index(&mut builder, "WITH (shard_rows = 512)"));
        wait_until("the build to write objects", || {
            assert!(!building.is_finished(), "the build was over before it could be killed");
            store::segments(&cluster.store())
                .iter()
                .any(|prefix| !before.contains(prefix.split('/').next().expect("an index")))
        });
        signal_process(pid, Signal::SIGKILL);
        assert!(building.join().expect("the builder ends").is_err(), "the build went through");
    });
    let mut client = cluster.client_after_recovery(1);
    let left = unused(&cluster, &mut client);
    assert!(!left.is_empty(), "the build left nothing");
    let listed = sweep(&mut client, true);
    assert!(left.iter().all(|prefix| covers(&listed, prefix)), "{listed:?}");
    sweep(&mut client, false);
    assert_eq!(store::folders(&cluster.store()), before);
    assert_recall(&mut client, &kept, &source.vectors(200), 0.95);
}

/// The objects of a session's temporary tables go with it.
#[test]
fn temporary_tables_leave_nothing() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let (kept, mut source) = indexed(&mut client, "kept", 300);
    let before = store::folders(&cluster.store());
    {
        let mut session = cluster.client();
        session
            .batch_execute(
                "CREATE TEMP TABLE items (id int, embedding vector(16));
                 CREATE INDEX items_index ON items USING s3vector (embedding)",
            )
            .expect("a temporary table");
        let mut items = Items { table: "items".to_owned(), metric: Metric::L2, rows: Vec::new() };
        for _ in 0..3 {
            items.copy(&mut session, source.vectors(300));
            flush(&mut session, "items_index");
        }
        assert_all_found(&mut session, &items, 0..900);
        assert_recall(&mut session, &items, &source.vectors(200), 0.95);
        assert!(store::folders(&cluster.store()).len() > before.len());
        // What is in use is not unused.
        let uuid = info(&mut session, "items_index").uuid;
        assert!(!sweep(&mut client, true).iter().any(|line| line.prefix == uuid));
        assert!(!sweep(&mut session, true).iter().any(|line| line.prefix == uuid));
    }
    wait_until("the session's objects to go", || store::folders(&cluster.store()) == before);
    assert_recall(&mut client, &kept, &source.vectors(200), 0.95);
}

/// An unlogged index is empty after a crash; what it had stored is swept, and it fills again.
#[test]
fn an_unlogged_index_after_a_crash() {
    let mut cluster = strict();
    let mut client = cluster.client();
    client
        .batch_execute("CREATE UNLOGGED TABLE items (id int, embedding vector(16))")
        .expect("a table");
    let mut source = Source::new(133, DIMENSIONS);
    let mut items = Items { table: "items".to_owned(), metric: Metric::L2, rows: Vec::new() };
    items.copy(&mut client, source.vectors(300));
    items.index(&mut client, "");
    items.copy(&mut client, source.vectors(200));
    flush(&mut client, "items_index");
    cluster.crash();
    cluster.start_server();
    let mut client = cluster.client();
    prefer_index(&mut client);
    items.rows.fill(None);
    assert_eq!(info(&mut client, "items_index").entries, 0);
    for _ in 0..2 {
        items.copy(&mut client, source.vectors(300));
        flush(&mut client, "items_index");
        sweep(&mut client, false);
        assert_eq!(unused(&cluster, &mut client), BTreeSet::new());
        assert_all_found(&mut client, &items, (500..items.rows.len()).step_by(3));
    }
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}
