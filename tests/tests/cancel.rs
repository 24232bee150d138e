//! Does CREATE INDEX stop when it is told to, at any moment, with nothing published?

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use harness::items::Source;
use harness::upkeep::indexes;
use harness::wait::wait_for;
use harness::{Cluster, Items, Metric, answers};
use postgres::{Client, NoTls};

/// Longest time a cancelled build may go on.
const PROMPTLY: Duration = Duration::from_secs(1);

/// The phase of the build under way, when there is one.
fn phase(client: &mut Client) -> Option<String> {
    client
        .query_opt("SELECT phase FROM pg_stat_progress_create_index", &[])
        .expect("progress")
        .map(|row| row.get(0))
}

fn table(cluster: &Cluster, rows: usize) -> (Items, Source) {
    let mut source = Source::new(11, 128);
    let items = Items::create(&mut cluster.client(), "items", Metric::L2, source.vectors(rows));
    (items, source)
}

/// Cancels at moments spread over the whole build, found by first timing one.
#[test]
fn cancelled_at_any_moment() {
    let cluster = Cluster::start();
    let (items, mut source) = table(&cluster, 20_000);
    let mut client = cluster.client();
    let start = Instant::now();
    items.index(&mut client, "");
    let mut whole = start.elapsed();
    client.batch_execute("DROP INDEX items_index").expect("dropped");

    let mut cancelled = 0;
    for step in 0..8 {
        let token = client.cancel_token();
        let pause = whole * step / 8;
        let start = Instant::now();
        let canceller = thread::spawn(move || {
            thread::sleep(pause);
            let asked = Instant::now();
            token.cancel_query(NoTls).expect("the request is sent");
            asked
        });
        let result = items.try_index(&mut client, "");
        let ended = Instant::now();
        let asked = canceller.join().expect("the canceller ends");
        if result.is_ok() {
            // A faster build than the one timed: let the request meet a statement of no account.
            whole = ended - start;
            let _ = client.batch_execute("SELECT pg_sleep(0.3)");
            client.batch_execute("DROP INDEX items_index").expect("dropped");
            continue;
        }
        cancelled += 1;
        harness::errors::failure(result).expect("57014", &[]);
        assert!(ended - asked < PROMPTLY, "the build went on for {:?}", ended - asked);
        assert_eq!(indexes(&mut client), 0);
    }
    assert!(cancelled >= 4, "only {cancelled} of 8 builds could be cancelled");

    // Nothing that was left over stands in the way.
    items.index(&mut client, "");
    answers::assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// A backend that is terminated instead of cancelled.
#[test]
fn terminated() {
    let cluster = Cluster::start();
    let (items, mut source) = table(&cluster, 20_000);
    let mut builder = cluster.client();
    let mut client = cluster.client();
    let pid: i32 = builder.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
    thread::scope(|scope| {
        let building = scope.spawn(|| items.try_index(&mut builder, "").is_err());
        wait_for("the build to start", || phase(&mut client));
        client.execute("SELECT pg_terminate_backend($1)", &[&pid]).expect("terminated");
        assert!(building.join().expect("the builder ends"), "the build was not terminated");
    });
    assert_eq!(indexes(&mut client), 0);
    items.index(&mut client, "");
    answers::assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn progress_moves_through_named_phases() {
    let cluster = Cluster::start();
    let (items, mut source) = table(&cluster, 20_000);
    let mut builder = cluster.client();
    let mut client = cluster.client();
    let phases: BTreeSet<String> = thread::scope(|scope| {
        let building = scope.spawn(|| items.index(&mut builder, ""));
        let mut seen = BTreeSet::new();
        while !building.is_finished() {
            seen.extend(phase(&mut client));
            thread::sleep(Duration::from_millis(1));
        }
        seen
    });
    let named = phases.iter().filter(|phase| phase.starts_with("building index: ")).count();
    assert!(named >= 2, "phases seen: {phases:?}");
    answers::assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}
