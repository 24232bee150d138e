//! Storage and Redis fail in every way while clients query, insert and delete.

use std::collections::VecDeque;
use std::thread::{self, sleep};
use std::time::Duration;

use harness::answers::{ask, assert_recall};
use harness::items::{Source, literal};
use harness::model::assert_whole;
use harness::proxy::{Effect, Fault, Proxy};
use harness::reading::drop_cache;
use harness::tcp_proxy::{TcpProxy, Trouble};
use harness::upkeep::{backlog, flush, wait_for_rest};
use harness::wait::{AtWork, wait_until};
use harness::{Cluster, Garage, Items, Redis};
use postgres::Client;

use super::{DIMENSIONS, Ground, ROWS, bounded, connect, indexed, run, wait_for_storage};

const CLIENTS: usize = 4;

/// Ids a client may use at most.
const IDS: usize = 8000;

/// How long each failure lasts, and the calm after it.
const FAILURE: Duration = Duration::from_millis(1500);
const CALM: Duration = Duration::from_millis(500);

/// The servers that fail.
struct Servers<'a> {
    proxy: &'a Proxy,
    garage: &'a mut Garage,
    redis: &'a mut Redis,
    way: &'a TcpProxy,
    /// For settings.
    admin: Client,
}

/// What fails, one after the other.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// Every request, or some of them.
    Requests(Effect, f64),
    /// The name in the endpoint's URL leads nowhere.
    NameUnknown,
    ProxyClosed,
    GarageKilled,
    RedisKilled,
    RedisFrozen,
    WayToRedis(Trouble),
    /// Everything at once.
    AllGone,
}

const FAILURES: [Failure; 15] = [
    Failure::Requests(Effect::InternalError, 1.0),
    Failure::Requests(Effect::SlowDown(None), 0.5),
    Failure::RedisFrozen,
    Failure::Requests(Effect::Reset, 0.5),
    Failure::Requests(Effect::WrongBody, 0.5),
    Failure::ProxyClosed,
    Failure::Requests(Effect::HalfBody, 0.5),
    Failure::WayToRedis(Trouble::Garbage),
    Failure::Requests(Effect::Stall, 0.5),
    Failure::RedisKilled,
    Failure::GarageKilled,
    Failure::NameUnknown,
    Failure::Requests(Effect::ShortBody, 0.5),
    Failure::Requests(Effect::Expired, 1.0),
    Failure::AllGone,
];

impl Servers<'_> {
    /// Changes the endpoint of the running server.
    fn configure(&mut self, value: &str) {
        run(&mut self.admin, &format!("ALTER SYSTEM SET s3vector.s3_endpoint {value}"));
        run(&mut self.admin, "SELECT pg_reload_conf()");
    }

    fn start(&mut self, failure: Failure) {
        match failure {
            Failure::Requests(effect, share) => {
                self.proxy.inject(Fault::new(effect).chance(share, 17));
            }
            Failure::NameUnknown => self.configure("= 'http://no-such-host.invalid'"),
            Failure::ProxyClosed => self.proxy.pause(),
            Failure::GarageKilled => self.garage.kill(),
            Failure::RedisKilled => self.redis.kill(),
            Failure::RedisFrozen => self.redis.freeze(),
            Failure::WayToRedis(trouble) => self.way.set_trouble(Some(trouble)),
            Failure::AllGone => {
                self.garage.kill();
                self.redis.kill();
            }
        }
    }

    fn end(&mut self, failure: Failure) {
        match failure {
            Failure::Requests(..) => self.proxy.heal(),
            Failure::NameUnknown => self.configure("TO DEFAULT"),
            Failure::ProxyClosed => self.proxy.resume(),
            Failure::GarageKilled => self.garage.start_server(),
            Failure::RedisKilled => self.redis.start_server(),
            Failure::RedisFrozen => self.redis.thaw(),
            Failure::WayToRedis(_) => self.way.set_trouble(None),
            Failure::AllGone => {
                self.garage.start_server();
                self.redis.start_server();
            }
        }
    }
}

/// One client: inserts rows, deletes old ones, asks, as long as there is trouble. Returns the ids
/// of the rows it leaves, and how many rounds it made.
fn client(
    cluster: &Cluster,
    number: usize,
    all: &Items,
    trouble: &AtWork,
) -> (VecDeque<usize>, usize) {
    let (mut client, _) = connect(cluster);
    let mut source = Source::new(170 + number as u64, DIMENSIONS);
    let mut ids = (0..IDS).map(|position| ROWS + position * CLIENTS + number);
    let (mut own, mut rounds) = (VecDeque::new(), 0);
    while trouble.goes_on() {
        let Some(id) = ids.next() else { break };
        let vector = all.rows[id].as_ref().expect("prepared");
        run(&mut client, &format!("INSERT INTO items VALUES ({id}, {})", literal(vector)));
        own.push_back(id);
        // Found from the next statement on.
        let answer = bounded("a query", || ask(&mut client, all, vector, 5));
        assert_eq!(answer[0].0, i32::try_from(id).expect("small"), "{answer:?}");
        if own.len() > 40 {
            let gone = own.pop_front().expect("not empty");
            run(&mut client, &format!("DELETE FROM items WHERE id = {gone}"));
            let vector = all.rows[gone].as_ref().expect("prepared");
            let answer = bounded("a query", || ask(&mut client, all, vector, 5));
            let gone = i32::try_from(gone).expect("small");
            assert!(answer.iter().all(|row| row.0 != gone), "{gone} in {answer:?}");
        }
        if rounds % 3 == 0 {
            drop_cache(&mut client);
        }
        let query = source.vector();
        let answer = bounded("a query", || ask(&mut client, all, &query, 10));
        assert_eq!(answer.len(), 10);
        rounds += 1;
    }
    (own, rounds)
}

#[test]
fn answers_stay_right_whatever_fails() {
    let mut redis = Redis::start();
    let way = TcpProxy::start(redis.address());
    let mut ground = Ground::new(&[
        ("s3vector.redis_url", format!("redis://{}", way.address())),
        ("s3vector.flush_size", "64kB".to_owned()),
        ("s3vector.maintenance_workers", "1".to_owned()),
    ]);
    let (mut vacuumer, warnings) = ground.client();
    let (mut items, mut source) = indexed(&mut vacuumer, "items", ROWS);
    let mut all = items.clone();
    all.rows.extend(source.vectors(CLIENTS * IDS).into_iter().map(Some));

    let Ground { cluster, proxy, garage } = &mut ground;
    let (cluster, all): (&Cluster, &Items) = (cluster, &all);
    let mut servers =
        Servers { proxy, garage, redis: &mut redis, way: &way, admin: cluster.client() };
    let trouble = AtWork::new(1);
    let outcomes: Vec<_> = thread::scope(|scope| {
        let trouble = &trouble;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| scope.spawn(move || client(cluster, number, all, trouble)))
            .collect();
        let shift = trouble.shift();
        for failure in FAILURES {
            println!("{failure:?}");
            servers.start(failure);
            sleep(FAILURE);
            run(&mut vacuumer, "VACUUM items");
            servers.end(failure);
            sleep(CALM);
        }
        drop(shift);
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    });
    let rounds: Vec<usize> = outcomes.iter().map(|outcome| outcome.1).collect();
    println!("rounds {rounds:?}, {:?}", ground.proxy.counts());
    assert!(rounds.iter().all(|rounds| *rounds > 20), "{rounds:?}");
    items.rows.resize(all.rows.len(), None);
    for id in outcomes.into_iter().flat_map(|outcome| outcome.0) {
        items.rows[id].clone_from(&all.rows[id]);
    }

    wait_for_storage(&mut vacuumer, &warnings, &items);
    wait_until("the backlog to go", || !backlog(&mut vacuumer, "items_index"));
    wait_for_rest(&mut vacuumer);
    flush(&mut vacuumer, "items_index");
    assert_whole(&mut vacuumer, &items, &source.vector(), 0.95);
    assert_recall(&mut vacuumer, &items, &source.vectors(200), 0.95);
}
