//! Storage never answers: does every statement that waits for it stop when it is told to?

use std::thread;
use std::time::{Duration, Instant};

use harness::answers::{assert_recall, sql};
use harness::errors::failure;
use harness::proxy::{Effect, Fault};
use harness::reading::drop_cache;
use harness::wait::wait_until;
use postgres::{Client, NoTls};

use super::{Ground, ROWS, indexed};

/// Longest time a cancelled statement may go on.
const PROMPTLY: Duration = Duration::from_millis(1500);

/// No statement ends by itself in the time a test takes.
fn patient() -> Ground {
    Ground::new(&[
        ("s3vector.fetch_timeout", "10min".to_owned()),
        ("s3vector.graph_reload", "off".to_owned()),
    ])
}

/// Runs a statement that waits for a server that has gone silent, and cancels it.
#[track_caller]
fn cancel(client: &mut Client, statement: &str) {
    let token = client.cancel_token();
    let canceller = thread::spawn(move || {
        thread::sleep(Duration::from_millis(400));
        let asked = Instant::now();
        token.cancel_query(NoTls).expect("the request is sent");
        asked
    });
    failure(client.batch_execute(statement)).expect("57014", &["user request"]);
    let ended = Instant::now();
    let taken = ended - canceller.join().expect("the canceller ends");
    assert!(taken < PROMPTLY, "{statement} went on for {taken:?}");
}

#[test]
fn statements_that_wait_for_storage() {
    let mut ground = patient();
    let (mut client, _) = ground.client();
    let (mut items, mut source) = indexed(&mut client, "items", ROWS);
    items.copy(&mut client, source.vectors(50));
    let query = sql("items", items.metric, &source.vector(), 10);
    ground.proxy.inject(Fault::new(Effect::Stall));

    // Payload.
    for _ in 0..3 {
        drop_cache(&mut client);
        cancel(&mut client, &query);
    }
    // Uploads, and the probe before a build.
    cancel(&mut client, "SELECT s3vector_flush('items_index')");
    cancel(&mut client, "CREATE INDEX other ON items USING s3vector (embedding)");
    cancel(&mut client, "REINDEX INDEX items_index");
    // Graphs.
    ground.proxy.heal();
    ground.cluster.restart();
    ground.proxy.inject(Fault::new(Effect::Stall));
    let (mut client, warnings) = ground.client();
    cancel(&mut client, &query);
    cancel(&mut client, "SELECT s3vector_prewarm('items_index')");
    items.delete(&mut client, |id| id % 7 == 0);
    cancel(&mut client, "VACUUM items");

    ground.heal(&mut client, &warnings, &items);
    client.batch_execute("VACUUM items").expect("vacuum");
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// A session that is ended rather than its statement; the server stops with statements waiting.
#[test]
fn sessions_and_servers() {
    let mut ground = patient();
    let (mut client, _) = ground.client();
    let (items, mut source) = indexed(&mut client, "items", ROWS);
    drop_cache(&mut client);
    ground.proxy.inject(Fault::new(Effect::Stall));
    let (mut waiting, _) = ground.client();
    let pid: i32 = waiting.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
    let query = sql("items", items.metric, &source.vector(), 10);
    thread::scope(|scope| {
        let asking = scope.spawn(|| waiting.batch_execute(&query).is_err());
        wait_until("a request to be stalled", || ground.proxy.counts().faults > 0);
        let ended: bool = client
            .query_one("SELECT pg_terminate_backend($1, 1500)", &[&pid])
            .expect("terminated")
            .get(0);
        assert!(ended, "the session went on");
        assert!(asking.join().expect("a thread"), "the query was not ended");
    });
    let (mut waiting, _) = ground.client();
    thread::scope(|scope| {
        let faults = ground.proxy.counts().faults;
        let proxy = &ground.proxy;
        let asking = scope.spawn(|| waiting.batch_execute(&query).is_err());
        drop_cache(&mut client);
        wait_until("a query to wait", || {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'";
            let active: i64 = client.query_one(sql, &[]).expect("a count").get(0);
            active > 1 && proxy.counts().faults >= faults
        });
        let start = Instant::now();
        ground.cluster.stop(harness::cluster::Stop::Fast);
        assert!(start.elapsed() < Duration::from_secs(5), "stopping took {:?}", start.elapsed());
        assert!(asking.join().expect("a thread"), "the query was not ended");
    });
    ground.proxy.heal();
    ground.cluster.start_server();
    let (mut client, _) = ground.client();
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}
