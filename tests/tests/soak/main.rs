//! Does an index stay right that is written, read, vacuumed, flushed, merged, swept and killed
//! all the time?
//!
//! Four clients ([`writer`]) change rows and ask for them, each knowing what it has committed; one
//! session vacuums, flushes and sweeps, the maintenance worker does the same by itself, and
//! something is killed every other second ([`unrest`]). What is certain is checked on the way, and
//! everything at the end. `S3VECTOR_SOAK_SECONDS` makes it longer, `S3VECTOR_SOAK_SEED` repeats
//! the clients' choices, not the moments of what happens to them.

mod unrest;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::RwLock;
use std::sync::atomic::AtomicI32;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use harness::answers::{assert_all_found, assert_recall};
use harness::check::assert_sound;
use harness::cluster::Stop;
use harness::items::Source;
use harness::model::{self, Graves, Share, assert_whole};
use harness::wait::{PATIENCE, wait_for};
use harness::{Cluster, Items, Metric};
use postgres::{Client, Error};

use writer::Writer;

const CLIENTS: i32 = 4;
const DIMENSIONS: usize = 32;
/// `s3vector.ef_search` for a search that misses nothing.
const THOROUGH: usize = 1000;
/// How long the clients work unless the environment says otherwise.
const SECONDS: u64 = 40;

/// What all threads share.
struct Arena {
    cluster: RwLock<Cluster>,
    graves: Graves,
    /// The highest id that anybody has tried to insert.
    highest: AtomicI32,
    end: Instant,
}

impl Arena {
    fn runs(&self) -> bool {
        Instant::now() < self.end
    }

    /// A connection, once the server accepts one.
    fn connect(&self) -> Client {
        wait_for("a connection", || {
            let mut client =
                self.cluster.read().expect("no restart failed").try_client("postgres").ok()?;
            // Nothing takes that long: what hangs is to fail as that.
            let settings = "SET enable_seqscan = off; SET statement_timeout = '25s'";
            client.batch_execute(settings).ok().map(|()| client)
        })
    }
}

/// How often what happened.
type Tally = BTreeMap<String, usize>;

fn count(tally: &mut Tally, what: &str, by: usize) {
    *tally.entry(what.to_owned()).or_default() += by;
}

/// Asserts that a statement failed because its session or its server was ended.
#[track_caller]
fn assert_lost(error: &Error) {
    let code = error.code().map(|code| code.code());
    assert!(matches!(code, None | Some("57P01" | "57P02" | "57P03")), "{error:?}");
}

fn environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[test]
fn nothing_is_lost_doubled_or_dead() {
    let seed = environment("S3VECTOR_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let seconds = environment("S3VECTOR_SOAK_SECONDS").unwrap_or(SECONDS);
    println!("S3VECTOR_SOAK_SEED={seed} S3VECTOR_SOAK_SECONDS={seconds}");

    let cluster = Cluster::builder()
        // A flush about every second, so that the maintenance worker is always at it.
        .set("s3vector.flush_size", "64kB")
        .set("s3vector.sweep_interval", 2)
        // Longer than any query, short enough that objects go while clients ask.
        .set("s3vector.gc_grace", 6)
        .start();
    let mut client = cluster.client();
    client
        .batch_execute(&format!(
            "CREATE TABLE items (id int PRIMARY KEY, embedding vector({DIMENSIONS}), note int DEFAULT 0)"
        ))
        .expect("a table");
    let arena = Arena {
        cluster: RwLock::new(cluster),
        graves: Graves::default(),
        highest: AtomicI32::new(0),
        end: Instant::now() + Duration::from_secs(seconds),
    };
    let mut writers: Vec<Writer<'_>> =
        (0..CLIENTS).map(|number| Writer::new(&arena, number, seed)).collect();
    writers.iter_mut().for_each(Writer::fill);
    client
        .batch_execute("CREATE INDEX items_index ON items USING s3vector (embedding vector_l2_ops)")
        .expect("an index");
    drop(client);

    let (shares, mut tally) = thread::scope(|scope| {
        let clients: Vec<_> =
            writers.into_iter().map(|writer| scope.spawn(|| writer.run())).collect();
        let keeping = scope.spawn(|| unrest::keep_house(&arena));
        let killing = scope.spawn(|| unrest::kill(&arena, seed));
        while !clients.iter().all(ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(50));
            if arena.end.elapsed() > PATIENCE * 2 {
                // Without its server nothing can hang, and the test fails instead.
                arena.cluster.write().expect("no restart failed").stop(Stop::Immediate);
                panic!("a client does not come to its end");
            }
        }
        let mut shares = Vec::new();
        let mut tally = Tally::new();
        let mut add = |some: Tally| some.iter().for_each(|(what, by)| count(&mut tally, what, *by));
        for client in clients {
            let (share, some) = client.join().expect("a client failed");
            shares.push(share);
            add(some);
        }
        add(keeping.join().expect("housekeeping failed"));
        add(killing.join().expect("killing failed"));
        (shares, tally)
    });
    let cluster = arena.cluster.into_inner().expect("no restart failed");
    // The worker's sweeps tell of themselves in the log, those of a session have been counted.
    count(
        &mut tally,
        "sweeps that deleted objects",
        cluster.log().matches("unused objects").count(),
    );
    println!("{tally:#?}");
    judge(&tally, seconds);
    check_everything(cluster, &shares, seed);
}

/// Asserts that everything that was to happen did, and that the clients found what they looked for.
fn judge(tally: &Tally, seconds: u64) {
    let of = |what: &str| tally.get(what).copied().unwrap_or_default();
    for what in [
        "commits",
        "rollbacks",
        "answers",
        "connections lost",
        "vacuums",
        "flushes asked for by a session",
        "flushes by the worker",
        "looks at merged segments",
        "sweeps that deleted objects",
    ] {
        assert!(of(what) > 0, "nothing happened: {what}");
    }
    // Shorter runs end before each had its turn.
    if seconds >= SECONDS {
        for blow in unrest::Blow::ALL {
            assert!(of(&format!("{blow:?}")) > 0, "never happened: {blow:?}");
        }
    }
    let (asked, missed) = (of("rows asked for by themselves"), of("of these missed at first"));
    assert!(missed * 100 <= asked, "{missed} of {asked} rows were not among their own nearest");
    let (near, missed) = (of("own rows among the nearest"), of("of these missed"));
    assert!(missed * 20 <= near, "{missed} of {near} rows were missed while things were changing");
}

/// Compares the table and its index with what the clients know, as they are and after whatever
/// makes them new.
fn check_everything(mut cluster: Cluster, shares: &[Share], seed: u64) {
    let items = model::items("items", Metric::L2, shares);
    let mut source = Source::new(seed + 1000, DIMENSIONS);
    let mut queries = source.vectors(200);
    let query = queries.pop().expect("a query");
    queries.push(source.vector());
    let check = |client: &mut Client, when: &str| {
        println!("{when}: {} rows", items.len());
        assert_sound(client, "items_index");
        assert_whole(client, &items, &query, 0.99);
        assert_recall(client, &items, &queries, 0.95);
    };
    let mut client = cluster.client();
    assert_table(&mut client, &items);
    check(&mut client, "at the end");
    // None is lost: a search that looks at everything finds each.
    client.batch_execute(&format!("SET s3vector.ef_search = {THOROUGH}")).expect("a setting");
    let live = (0..items.rows.len()).filter(|id| items.rows[*id].is_some());
    assert_all_found(&mut client, &items, live);

    cluster.restart();
    check(&mut cluster.client(), "with empty memory");

    let mut client = cluster.client();
    client.batch_execute("VACUUM (INDEX_CLEANUP ON) items").expect("vacuum");
    client.batch_execute("SELECT * FROM s3vector_flush('items_index')").expect("flush");
    check(&mut client, "after VACUUM and a flush");
    let info = client
        .query_one(
            "SELECT delta_entries, entries - tombstones FROM s3vector_index_info('items_index')",
            &[],
        )
        .expect("facts");
    let rows = i64::try_from(items.len()).expect("a small number");
    assert_eq!((info.get::<_, i64>(0), info.get::<_, i64>(1)), (0, rows));

    cluster.reconfigure(&[
        ("s3vector.gc_grace", "0".to_owned()),
        ("s3vector.maintenance_workers", "0".to_owned()),
    ]);
    // Ends the worker that may still be busy: a sweep leaves alone what it works on.
    cluster.restart();
    let mut client = cluster.client();
    client.batch_execute("SELECT * FROM s3vector_sweep()").expect("sweep");
    assert_no_litter(&cluster, &mut client);
    cluster.restart();
    check(&mut cluster.client(), "after a sweep that spares nothing");

    let mut client = cluster.client();
    client.batch_execute("REINDEX INDEX items_index").expect("rebuilt");
    check(&mut client, "after REINDEX");
}

/// Asserts that the table holds what the clients know.
fn assert_table(client: &mut Client, items: &Items) {
    let rows = client.query("SELECT id, embedding::text FROM items", &[]).expect("all rows");
    assert_eq!(rows.len(), items.len(), "rows in the table, and known to the clients");
    for row in rows {
        let id: i32 = row.get(0);
        let known = usize::try_from(id).ok().and_then(|id| items.rows.get(id)?.as_ref());
        assert_eq!(Some(&model::vector(row.get(1))), known, "row {id}");
    }
}

/// Asserts that the store holds the segments of the manifest, and no others.
fn assert_no_litter(cluster: &Cluster, client: &mut Client) {
    let sql = "SELECT prefix FROM s3vector_segments('items_index')";
    let rows = client.query(sql, &[]).expect("segments");
    let named: BTreeSet<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(model::stored_segments(&cluster.store()), named, "stored, and named");
}
