//! Does every plan over an index return what a scan of the table returns?
//!
//! Random tables ([`world`]) are asked random queries ([`queries`]) in many forms ([`forms`]) and ways
//! ([`ways`]), by the index and by a sequential scan in the same snapshot ([`turn`]), and the answers
//! are compared ([`compare`]): the same rows where all are read, rows in order but for those that are
//! counted as late, no error, no crash. Others write, merge and load graphs meanwhile ([`beside`]).
//! What must be met often enough comes in turns, not by chance ([`coverage`]).
//!
//! `S3VECTOR_PLANS_SECONDS` makes the run longer, `S3VECTOR_PLANS_SEED` another one,
//! `S3VECTOR_PLANS_TABLE` repeats one table of it.

mod beside;
mod column;
mod compare;
mod coverage;
mod filters;
mod forms;
mod plan;
mod queries;
mod session;
mod turn;
mod ways;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use harness::Cluster;

use beside::{End, Shared};
use coverage::Coverage;
use queries::{Aim, Query};
use session::{Fault, Journal, Session};
use turn::Stage;
use world::World;

/// The run that `make test` makes.
const SEED: u64 = 11;
/// Tables of a run unless the environment says how long it is to take.
const TABLES: usize = 25;
/// Queries of a table.
const TURNS: usize = 12;
/// The mean share of the nearest rows that limited queries must find.
const RECALL: f64 = 0.9;
/// Lines in a server's log that must not be there.
const CRASHES: [&str; 3] = ["was terminated by signal", "PANIC:", "TRAP:"];

fn environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// Faults of a run: how many of each kind, and how to repeat the first.
#[derive(Default)]
struct Faults(BTreeMap<String, (usize, String)>);

impl Faults {
    fn note(&mut self, fault: &Fault, place: &str, script: &str) {
        let story = || format!("{place}: {fault}\n{script}");
        self.0.entry(fault.what.clone()).or_insert_with(|| (0, story())).0 += 1;
    }
}

#[test]
fn every_plan_answers_as_a_sequential_scan_does() {
    let seconds = environment("S3VECTOR_PLANS_SECONDS");
    // A long run is for what has not been tried before.
    let usual = if seconds.is_some() { fastrand::u64(..1_000_000) } else { SEED };
    let seed = environment("S3VECTOR_PLANS_SEED").unwrap_or(usual);
    let only = environment("S3VECTOR_PLANS_TABLE");
    println!("S3VECTOR_PLANS_SEED={seed}");
    let start = Instant::now();
    let goes_on = |number: usize| match seconds {
        Some(seconds) => start.elapsed() < Duration::from_secs(seconds),
        None => number < TABLES,
    };
    let mut cluster = Cluster::builder()
        // What is flushed, merged and swept is what the test says.
        .set("s3vector.maintenance_workers", 0)
        .set("s3vector.gc_grace", 0)
        .start();
    let mut client = cluster.client();
    client.batch_execute(include_str!("prelude.sql")).expect("functions for random data");
    let (mut coverage, mut faults) = (Coverage::default(), Faults::default());
    for number in (0..).take_while(|number| goes_on(*number)) {
        if only.is_none_or(|only| only == number as u64) {
            table(&mut cluster, seed, number, &mut coverage, &mut faults);
        }
    }
    println!("S3VECTOR_PLANS_SEED={seed}: {coverage:#?}");
    for (what, (times, story)) in &faults.0 {
        println!("==== {times} times: {what}\n{story}");
    }
    let kinds: Vec<&String> = faults.0.keys().collect();
    assert!(kinds.is_empty(), "S3VECTOR_PLANS_SEED={seed}: {kinds:#?}");
    if only.is_none() && coverage.queries >= coverage::ENOUGH_FOR {
        let lacking = coverage.lacking();
        assert!(lacking.is_empty(), "not met often enough: {lacking:?}");
        assert!(coverage.recall() >= RECALL, "recall within limits is {}", coverage.recall());
    }
}

/// Makes table `number`, asks it, and looks at what has become of it.
fn table(
    cluster: &mut Cluster,
    seed: u64,
    number: usize,
    coverage: &mut Coverage,
    faults: &mut Faults,
) {
    let mut rng = Rng::with_seed(seed.wrapping_mul(1_000_003) + number as u64);
    let world = World::draw(number, &mut rng);
    let memory = if world.crowded { "1MB" } else { "256MB" };
    cluster.reconfigure(&[("s3vector.graph_memory", memory.to_owned())]);
    let journal = Arc::new(Journal::default());
    let mut note = |fault: &Fault, turn: usize| {
        let place = format!("S3VECTOR_PLANS_SEED={seed} S3VECTOR_PLANS_TABLE={number} turn {turn}");
        faults.note(fault, &place, &journal.script());
    };
    let logged = cluster.log().len();
    let mut other = Session::open(cluster, "other", &journal);
    let indexes = match make(&mut other, &world, coverage) {
        Ok(indexes) => indexes,
        Err(fault) => return note(&fault, 0),
    };
    let shared = Shared {
        next_id: AtomicUsize::new(world.rows + 1),
        world,
        quiet: Mutex::new(()),
        indexes,
        ended: AtomicBool::new(false),
    };
    let world = &shared.world;
    let reader = Session::open(cluster, "reader", &journal);
    let mut stage = Stage { shared: &shared, reader, other };
    let mut aims = aims(world);
    rng.shuffle(&mut aims);
    thread::scope(|scope| {
        let end = End(&shared);
        let mut beside = Vec::new();
        if world.busy {
            let (session, rng) = (Session::open(cluster, "writer", &journal), rng.fork());
            beside.push(scope.spawn(|| beside::write(session, &shared, rng)));
        }
        for _ in 0..if world.crowded { 2 } else { 0 } {
            let (session, rng) = (Session::open(cluster, "beside", &journal), rng.fork());
            beside.push(scope.spawn(|| beside::read(session, &shared, rng)));
        }
        for (turn, aim) in aims.into_iter().enumerate() {
            journal.turn();
            let prepared = stage.prepare(&mut rng, turn, aim);
            let query = Query::draw(&mut rng, world, turn, aim);
            match prepared.and_then(|()| stage.take(&query)) {
                Ok(met) => coverage.count(&query, &met.scans, met.beside, met.figures),
                Err(fault) => note(&fault, turn),
            }
        }
        journal.turn();
        drop(end);
        for session in beside {
            if let Err(fault) = session.join().expect("a session beside panicked") {
                note(&fault, TURNS);
            }
        }
    });
    if let Err(fault) = finish(&mut stage) {
        note(&fault, TURNS);
    }
    let log = cluster.log();
    for line in log[logged..].lines().filter(|line| CRASHES.iter().any(|text| line.contains(text)))
    {
        note(&Fault::new("the server log", line), TURNS);
    }
}

/// What the queries of a table are about.
fn aims(world: &World) -> Vec<Aim> {
    let whole = if world.large { Aim::WholeInLittleMemory } else { Aim::Whole };
    let mut aims = vec![Aim::Nearest, Aim::Far, Aim::Far, whole, whole, Aim::Merge, Aim::Merge];
    if world.large {
        aims.push(whole);
    }
    aims.resize(TURNS, Aim::Anything);
    aims
}

/// Makes a table and its past; returns the names of its indexes.
fn make(
    session: &mut Session,
    world: &World,
    coverage: &mut Coverage,
) -> Result<Vec<String>, Fault> {
    for sql in world.create() {
        session.change(&sql)?;
    }
    let rows = session.look(&world.indexes())?;
    let indexes: Vec<String> = rows.into_iter().filter_map(|row| row[0].clone()).collect();
    let parts = if world.partitioned { 3 } else { 1 };
    assert_eq!(indexes.len(), parts * world.columns.len(), "indexes of {}", world.table);
    for sql in world.past(&indexes) {
        session.change(&sql)?;
    }
    coverage.tables += 1;
    let mut aged = true;
    for index in &indexes {
        let sql = format!(
            "SELECT segments >= 3 AND tombstones > 0 AND delta_entries > 0 \
             FROM s3vector_index_info('{index}')"
        );
        aged &= session.look(&sql)?[0][0].as_deref() == Some("t");
    }
    coverage.aged += usize::from(aged);
    Ok(indexes)
}

/// Checks what has become of a table's indexes, and drops it.
fn finish(stage: &mut Stage<'_>) -> Result<(), Fault> {
    let Stage { shared, other, .. } = stage;
    for index in &shared.indexes {
        let found = other.ask(&format!("SELECT * FROM s3vector_check('{index}', deep => true)"))?;
        if !found.is_empty() {
            return Err(Fault::new("s3vector_check found something", format!("{found:?}")));
        }
    }
    let table = &shared.world.table;
    other.change(&format!("DROP TABLE {table}, {table}_side"))?;
    other.change("SELECT prefix, deleted FROM s3vector_sweep()").map(drop)
}
