//! What happens to an index while clients use it: housekeeping, and sudden deaths.

use std::thread::sleep;
use std::time::{Duration, Instant};

use fastrand::Rng;
use harness::cluster::Stop;
use harness::process::{exists, signal_process};
use nix::sys::signal::Signal;
use postgres::{Client, Error};

use crate::{Arena, Tally, assert_lost, count};

/// Something that is ended by force.
#[derive(Clone, Copy, Debug)]
pub enum Blow {
    /// A client's server process is killed with SIGKILL.
    KillBackend,
    /// The storage worker is killed with SIGKILL.
    KillStorageWorker,
    /// The maintenance worker is killed with SIGKILL.
    KillMaintenanceWorker,
    /// The maintenance worker is terminated as an administrator would.
    TerminateMaintenanceWorker,
    /// A client's server process is terminated as an administrator would.
    TerminateBackend,
    /// The server is stopped at once, without a checkpoint, and started.
    Restart,
}

impl Blow {
    /// Each of them.
    pub const ALL: [Self; 6] = [
        Self::KillBackend,
        Self::KillStorageWorker,
        Self::KillMaintenanceWorker,
        Self::TerminateMaintenanceWorker,
        Self::TerminateBackend,
        Self::Restart,
    ];

    /// A query for the processes it may meet.
    fn victims(self) -> &'static str {
        match self {
            Self::KillBackend | Self::TerminateBackend => {
                "SELECT pid FROM pg_stat_activity \
                 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            }
            Self::KillStorageWorker => "SELECT pid FROM s3vector_stat_worker WHERE pid IS NOT NULL",
            Self::KillMaintenanceWorker | Self::TerminateMaintenanceWorker => {
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 's3vector maintenance worker'"
            }
            Self::Restart => "SELECT 0",
        }
    }
}

/// Deals blows every second or two until the end, all kinds in turns; returns how many of each.
pub fn kill(arena: &Arena, seed: u64) -> Tally {
    let mut rng = Rng::with_seed(seed + 500);
    let mut tally = Tally::new();
    let mut next = Vec::new();
    for blows in 1_u32.. {
        // Now and then long enough for a hang to show.
        let pause = if blows.is_multiple_of(7) { 5000 } else { rng.u64(1200..3000) };
        sleep(Duration::from_millis(pause));
        // The clients need the server until the end.
        if arena.end.saturating_duration_since(Instant::now()) < Duration::from_secs(2) {
            break;
        }
        if next.is_empty() {
            next.extend(Blow::ALL);
            rng.shuffle(&mut next);
        }
        let mut client = arena.connect();
        assert_nobody_hangs(&mut client);
        let Some(blow) = next.pop() else { continue };
        let victims = client.query(blow.victims(), &[]).expect("nobody else kills this session");
        let Some(victim) = rng.choice(&victims).map(|row| row.get::<_, i32>(0)) else {
            // The maintenance worker rests now and then: its turn comes again.
            next.insert(0, blow);
            continue;
        };
        drop(client);
        deal(arena, blow, victim);
        count(&mut tally, &format!("{blow:?}"), 1);
    }
    tally
}

/// Asserts that no process waits for a page for long: such waits end by no timeout, and a restart
/// would hide them.
fn assert_nobody_hangs(client: &mut Client) {
    let sql = "SELECT pid::text || ': ' || query FROM pg_stat_activity \
               WHERE wait_event = 'BufferContent' AND query_start < now() - interval '3 s'";
    let rows = client.query(sql, &[]).expect("nobody else kills this session");
    let hanging: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(hanging.is_empty(), "waiting for a page: {hanging:#?}");
}

fn deal(arena: &Arena, blow: Blow, victim: i32) {
    let signal = match blow {
        Blow::Restart => {
            let mut cluster = arena.cluster.write().expect("no restart failed");
            cluster.stop(Stop::Immediate);
            return cluster.start_server();
        }
        Blow::TerminateBackend | Blow::TerminateMaintenanceWorker => Signal::SIGTERM,
        _ => Signal::SIGKILL,
    };
    // Between the question and now it may have gone, and only this server's may be met.
    if arena.cluster.read().expect("no restart failed").processes().contains(&victim) {
        signal_process(victim, signal);
        harness::wait::wait_until("the victim to end", || !exists(victim));
    }
}

/// Vacuums, flushes and sweeps until the end; returns what that did, and what the maintenance
/// worker did by itself.
pub fn keep_house(arena: &Arena) -> Tally {
    let mut tally = Tally::new();
    let mut worker = [0; 2];
    let mut session = arena.connect();
    for round in 1_u32.. {
        if !arena.runs() {
            break;
        }
        if let Err(error) = house_round(&mut session, round, &mut worker, &mut tally) {
            assert_lost(&error);
            session = arena.connect();
        }
        sleep(Duration::from_millis(150));
    }
    tally
}

/// One round; `worker` holds the worker's flushes and merges as the statistics last told.
fn house_round(
    session: &mut Client,
    round: u32,
    worker: &mut [i64; 2],
    tally: &mut Tally,
) -> Result<(), Error> {
    // It would wait for the table at its end to cut it off, for five seconds with nothing removed.
    session.batch_execute("VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) items")?;
    count(tally, "vacuums", 1);
    // Mostly it is the worker that flushes.
    if round.is_multiple_of(20) {
        count(tally, "flushes asked for by a session", 1);
        let sql = "SELECT rows_flushed, rows_merged FROM s3vector_flush('items_index')";
        let row = session.query_one(sql, &[])?;
        count(tally, "rows flushed by a session", number(row.get(0)));
        count(tally, "rows merged by a session", number(row.get(1)));
    }
    if round.is_multiple_of(15) {
        let sql = "SELECT count(*) FROM s3vector_sweep() WHERE deleted";
        let deleted: i64 = session.query_one(sql, &[])?.get(0);
        count(tally, "sweeps that deleted objects", usize::from(deleted > 0));
    }
    let sql = "SELECT count(*) FROM s3vector_segments('items_index') WHERE generation > 0";
    let merged: i64 = session.query_one(sql, &[])?.get(0);
    count(tally, "looks at merged segments", usize::from(merged > 0));
    let sql = "SELECT last_error FROM s3vector_stat_maintenance WHERE errors > 0";
    let failures: Vec<Option<String>> =
        session.query(sql, &[])?.iter().map(|row| row.get(0)).collect();
    assert!(failures.is_empty(), "the maintenance worker failed: {failures:?}");
    let sql = "SELECT coalesce(sum(flushes), 0)::bigint, coalesce(sum(merges), 0)::bigint \
               FROM s3vector_stat_maintenance";
    let row = session.query_one(sql, &[])?;
    for (at, what) in ["flushes by the worker", "merges by the worker"].into_iter().enumerate() {
        let now: i64 = row.get(at);
        // A crash starts the statistics anew.
        let before = if now < worker[at] { 0 } else { worker[at] };
        count(tally, what, number(now - before));
        worker[at] = now;
    }
    Ok(())
}

fn number(count: i64) -> usize {
    usize::try_from(count).expect("counts are not negative")
}
