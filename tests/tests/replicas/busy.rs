//! A standby that is asked while its primary is busy.

use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use harness::answers::{Answer, TOLERANCE, assert_recall, check_order, prefer_index, sql};
use harness::items::Source;
use harness::standby::{position, replayed};
use harness::upkeep::flush;
use harness::wait::AtWork;
use harness::{Cluster, Items, Metric};
use postgres::Client;

use super::{DIMENSIONS, assert_same, indexed};

/// A row as the primary's client knows it while it comes and goes.
struct Known {
    vector: Vec<f32>,
    /// Where WAL was when its insertion was committed.
    inserted: Option<u64>,
    /// Whether its deletion has begun.
    leaving: bool,
    /// Where WAL was when its deletion was committed.
    deleted: Option<u64>,
}

/// All rows there have ever been, by id, shared between the client that writes and those that ask.
struct History(Mutex<Vec<Known>>);

impl History {
    fn rows(&self) -> MutexGuard<'_, Vec<Known>> {
        self.0.lock().expect("no other thread has panicked")
    }

    fn insert(&self, client: &mut Client, items: &mut Items, vectors: Vec<Vec<f32>>) {
        let first = items.rows.len();
        let known = |vector: &Vec<f32>| Known {
            vector: vector.clone(),
            inserted: None,
            leaving: false,
            deleted: None,
        };
        self.rows().extend(vectors.iter().map(known));
        items.copy(client, vectors);
        let now = position(client);
        self.rows()[first..].iter_mut().for_each(|row| row.inserted = Some(now));
    }

    fn delete(&self, client: &mut Client, items: &mut Items, condition: impl Fn(usize) -> bool) {
        let ids: Vec<usize> = items.live().filter(|id| condition(*id)).collect();
        {
            let mut rows = self.rows();
            ids.iter().for_each(|id| rows[*id].leaving = true);
        }
        items.delete(client, condition);
        let now = position(client);
        let mut rows = self.rows();
        ids.iter().for_each(|id| rows[*id].deleted = Some(now));
    }

    /// Judges an answer of a server that had replayed WAL up to `replayed` before it was asked:
    /// how many rows it had to hold, and how many of them it does.
    fn judge(&self, replayed: u64, query: &[f32], answer: &Answer) -> (usize, usize) {
        let rows = self.rows();
        assert_eq!(answer.len(), 10);
        check_order(answer);
        let has = |id: usize| answer.iter().any(|row| usize::try_from(row.0) == Ok(id));
        for (id, distance) in answer {
            let row = &rows[usize::try_from(*id).expect("an id")];
            let truth = Metric::L2.distance(&row.vector, query);
            assert!((truth - distance).abs() < TOLERANCE * truth.max(1.0), "{id}: {distance}");
            let dead = row.deleted.is_some_and(|deleted| deleted <= replayed);
            assert!(!dead, "row {id} was deleted before the question");
        }
        let reach = answer[9].1 - TOLERANCE;
        let certain = rows.iter().enumerate().filter(|(_, row)| {
            !row.leaving
                && row.inserted.is_some_and(|inserted| inserted <= replayed)
                && Metric::L2.distance(&row.vector, query) < reach
        });
        certain.fold((0, 0), |(wanted, found), (id, _)| (wanted + 1, found + usize::from(has(id))))
    }
}

/// Invariants 1 to 3 on a replica: while the primary inserts, deletes, vacuums, compacts, merges
/// and sweeps, no query of the standby fails, misses a row that was there, or returns one that was
/// gone.
#[test]
fn a_standby_answers_while_its_primary_is_busy() {
    let cluster = Cluster::builder()
        .set("s3vector.flush_size", "64kB")
        .set("s3vector.sweep_interval", 1)
        .set("s3vector.gc_grace", 5)
        .start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 123, 1);
    let history = History(Mutex::new(Vec::new()));
    items.rows.clear();
    client.batch_execute("TRUNCATE items").expect("truncated");
    history.insert(&mut client, &mut items, source.vectors(1000));
    let standby = cluster.standby();
    standby.catch_up(&mut client);
    let writing = AtWork::new(1);
    let end = Instant::now() + Duration::from_secs(9);

    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|seed| {
                let (standby, history, writing) = (&standby, &history, &writing);
                scope.spawn(move || {
                    let mut client = standby.client();
                    prefer_index(&mut client);
                    let mut source = Source::new(124 + seed, DIMENSIONS);
                    let (mut asked, mut wanted, mut found) = (0, 0, 0);
                    while writing.goes_on() {
                        let query = source.vector();
                        let replayed = replayed(&mut client);
                        let rows = client
                            .query(&sql("items", Metric::L2, &query, 10), &[])
                            .unwrap_or_else(|error| panic!("query {asked}: {error:?}"));
                        let answer = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
                        let (certain, there) = history.judge(replayed, &query, &answer);
                        (asked, wanted, found) = (asked + 1, wanted + certain, found + there);
                    }
                    (asked, wanted, found)
                })
            })
            .collect();
        let mut round = 0;
        {
            let _shift = writing.shift();
            while Instant::now() < end {
                history.insert(&mut client, &mut items, source.vectors(150));
                history.delete(&mut client, &mut items, |id| id % 10 == round % 10);
                client.batch_execute("VACUUM items").expect("vacuum");
                if round % 4 == 3 {
                    flush(&mut client, "items_index");
                }
                round += 1;
            }
        }
        for reader in readers {
            let (asked, wanted, found) = reader.join().expect("a reader");
            println!("{asked} queries in {round} rounds: {found} of {wanted} certain rows");
            assert!(asked >= 100 && wanted >= 500, "{asked} queries, {wanted} certain rows");
            assert!(found * 100 >= wanted * 95, "{found} of {wanted} rows found");
        }
        assert!(round >= 5, "only {round} rounds");
    });
    standby.catch_up(&mut client);
    assert_same(&mut client, &mut standby.client(), &items, &source.vectors(50));
    assert_recall(&mut standby.client(), &items, &source.vectors(200), 0.95);
}
