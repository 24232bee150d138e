//! Does an index that is written to all day stay as good, and as small, as one just built?
//! Invariant 6.

use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use harness::answers::{self, Answer, assert_all_found, assert_recall, prefer_index};
use harness::items::{Source, literal};
use harness::upkeep::{backlog, flush, info, sweep, wait_for_rest};
use harness::wait::{AtWork, wait_until};
use harness::{Cluster, Items, Metric, store};
use postgres::Client;

const DIMENSIONS: usize = 32;

/// No worker, and nothing unused is kept.
fn tidy() -> Cluster {
    Cluster::builder().set("s3vector.maintenance_workers", 0).set("s3vector.gc_grace", 0).start()
}

/// What an index takes.
#[derive(Debug)]
struct Size {
    /// Bytes of the index relation.
    relation: f64,
    /// Objects in the store.
    objects: f64,
    /// Their bytes.
    bytes: f64,
    /// Segments they make.
    segments: f64,
}

#[expect(clippy::cast_precision_loss, reason = "sizes are small")]
fn size(cluster: &Cluster, client: &mut Client) -> Size {
    sweep(client, false);
    let relation: i64 =
        client.query_one("SELECT pg_relation_size('items_index')", &[]).expect("a size").get(0);
    let index = info(client, "items_index");
    let folder = cluster.store().join(index.uuid);
    let objects = store::written(&folder);
    let bytes: usize = objects.values().map(Vec::len).sum();
    Size {
        relation: relation as f64,
        objects: objects.len() as f64,
        bytes: bytes as f64,
        segments: f64::from(index.segments),
    }
}

fn recall(client: &mut Client, items: &Items, queries: &[Vec<f32>], ef_search: usize) -> f64 {
    client.batch_execute(&format!("SET s3vector.ef_search = {ef_search}")).expect("a setting");
    // A walk for more rows than half of `ef_search` is wider than that.
    answers::recall(client, items, queries, (ef_search / 2).min(10))
}

/// Ten days of an index: rows come, rows go, VACUUM and compaction follow. `change` is what happens
/// to the rows on one day.
fn ten_cycles(change: impl Fn(usize, &mut Client, &mut Items, &mut Source)) {
    let cluster = tidy();
    let mut client = cluster.client();
    let mut source = Source::around(111, DIMENSIONS, 1);
    let mut items = Items::create(&mut client, "items", Metric::L2, source.vectors(3000));
    items.index(&mut client, "");
    prefer_index(&mut client);
    for cycle in 0..10 {
        change(cycle, &mut client, &mut items, &mut source);
        client.batch_execute("VACUUM items").expect("vacuum");
        flush(&mut client, "items_index");
    }
    let queries = source.vectors(1000);
    let aged_recall = [10, 100].map(|ef| recall(&mut client, &items, &queries, ef));
    let aged = size(&cluster, &mut client);
    client.batch_execute("REINDEX INDEX items_index").expect("rebuilt");
    let fresh_recall = [10, 100].map(|ef| recall(&mut client, &items, &queries, ef));
    let fresh = size(&cluster, &mut client);
    println!("aged {aged_recall:?} {aged:?}\nfresh {fresh_recall:?} {fresh:?}");

    assert!(fresh_recall[0] < 0.99, "a search that finds all shows no difference");
    for (aged, fresh) in aged_recall.iter().zip(&fresh_recall) {
        assert!(*aged >= fresh - 0.01, "recall {aged}, freshly built {fresh}");
    }
    assert_recall(&mut client, &items, &queries, 0.95);
    // Some objects, and a page of tombstones, are there once for each segment: of so few rows they
    // are most of all.
    let more_pages = 8192.0 * (aged.segments - fresh.segments);
    for (what, aged, fresh) in [
        ("bytes in the store", aged.bytes, fresh.bytes),
        ("objects in the store", aged.objects, fresh.objects * aged.segments),
        ("bytes of the relation", aged.relation, fresh.relation + more_pages),
    ] {
        assert!(aged <= fresh * 1.1, "{what}: {aged}, freshly built {fresh}");
    }
}

#[test]
fn ten_cycles_in_which_the_oldest_rows_go() {
    ten_cycles(|cycle, client, items, source| {
        items.copy(client, source.vectors(600));
        items.delete(client, |id| id < 600 * (cycle + 1));
    });
}

#[test]
fn ten_cycles_in_which_any_rows_go() {
    ten_cycles(|cycle, client, items, source| {
        items.copy(client, source.vectors(450));
        items.delete(client, |id| (id * 7 + cycle) % 8 == 0);
    });
}

#[test]
fn ten_cycles_of_updates() {
    ten_cycles(|cycle, client, items, source| {
        for id in (cycle..3000).step_by(10) {
            items.update(client, id, source.vector());
        }
    });
}

/// The relation at the end of each of six rounds in which all rows go and as many come.
fn relation_sizes(cluster: &Cluster, mut end: impl FnMut(&mut Client)) -> Vec<i64> {
    let mut client = cluster.client();
    let mut source = Source::new(112, DIMENSIONS);
    let mut items = Items::create(&mut client, "items", Metric::L2, source.vectors(1));
    items.index(&mut client, "");
    let mut sizes = Vec::new();
    for _ in 0..6 {
        items.copy(&mut client, source.vectors(1500));
        assert_recall(&mut client, &items, &source.vectors(100), 0.95);
        end(&mut client);
        let row = client.query_one("SELECT pg_relation_size('items_index')", &[]).expect("a size");
        sizes.push(row.get(0));
        items.delete(&mut client, |_| true);
        client.batch_execute("VACUUM items").expect("vacuum");
    }
    sizes
}

#[test]
fn pages_of_flushed_rows_are_used_again() {
    let cluster = tidy();
    let mut other = cluster.client();
    let sizes = relation_sizes(&cluster, |client| {
        // A session that has the index open keeps the flush from shortening the relation.
        let nothing = "SELECT id FROM items WHERE id < 0";
        other.batch_execute(&format!("BEGIN; {nothing}")).expect("a lock");
        flush(client, "items_index");
        other.batch_execute("ROLLBACK").expect("no lock");
    });
    assert!(sizes[5] * 10 <= sizes[1] * 11, "{sizes:?}");
}

#[test]
fn the_worker_keeps_the_relation_from_growing() {
    let cluster = Cluster::builder().set("s3vector.flush_size", "64kB").start();
    let sizes = relation_sizes(&cluster, |client| {
        wait_until("the backlog to go", || !backlog(client, "items_index"));
        wait_for_rest(client);
    });
    let limit = sizes[0].max(sizes[1]) + (64 << 10);
    assert!(sizes[5] <= limit, "{sizes:?}");
}

/// A flush gives the pages it emptied back to the file system when nobody else uses the index.
#[test]
fn a_flush_makes_the_relation_small() {
    let cluster = tidy();
    let mut client = cluster.client();
    let mut source = Source::new(113, DIMENSIONS);
    let mut items = Items::create(&mut client, "items", Metric::L2, source.vectors(2000));
    items.index(&mut client, "");
    let fresh = size(&cluster, &mut client).relation;
    items.copy(&mut client, source.vectors(1900));
    let grown = size(&cluster, &mut client).relation;
    flush(&mut client, "items_index");
    let flushed = size(&cluster, &mut client);
    assert!(grown > 5.0 * fresh, "{fresh}, with a delta {grown}");
    let more_pages = 8192.0 * (flushed.segments - 1.0);
    assert!(flushed.relation <= fresh + more_pages, "{fresh}, with a delta {grown}, {flushed:?}");
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// An index that was there before its rows, filled by several clients while the worker compacts.
#[test]
fn recall_after_concurrent_inserts_is_that_of_a_build() {
    let cluster = Cluster::builder().set("s3vector.flush_size", "64kB").start();
    let mut client = cluster.client();
    let mut source = Source::around(114, DIMENSIONS, 1);
    let mut items = Items::create(&mut client, "items", Metric::Cosine, source.vectors(1));
    items.index(&mut client, "");
    let parts: Vec<Vec<Vec<f32>>> = (0..4).map(|_| source.vectors(700)).collect();
    thread::scope(|scope| {
        let mut first = items.rows.len();
        for part in &parts {
            let (cluster, start) = (&cluster, first);
            first += part.len();
            scope.spawn(move || {
                let mut client = cluster.client();
                for (id, vector) in (start..).zip(part) {
                    let row = format!("INSERT INTO items VALUES ({id}, {})", literal(vector));
                    client.batch_execute(&row).expect("a row is inserted");
                }
            });
        }
    });
    items.rows.extend(parts.into_iter().flatten().map(Some));
    wait_for_rest(&mut client);
    prefer_index(&mut client);
    let queries = source.vectors(1000);
    flush(&mut client, "items_index");
    assert_eq!(info(&mut client, "items_index").entries, 2801);
    let grown = [10, 100].map(|ef| recall(&mut client, &items, &queries, ef));
    client.batch_execute("REINDEX INDEX items_index").expect("rebuilt");
    let built = [10, 100].map(|ef| recall(&mut client, &items, &queries, ef));
    println!("grown {grown:?}, built {built:?}");
    for (grown, built) in grown.iter().zip(&built) {
        assert!(*grown >= built - 0.01, "recall {grown}, built at once {built}");
    }
    assert_recall(&mut client, &items, &queries, 0.95);
    assert_all_found(&mut client, &items, (0..2801).step_by(7));
}

/// INSERT, DELETE, UPDATE, SELECT, VACUUM and flushes of several clients at once.
#[test]
fn a_mix_of_everything() {
    const WRITERS: usize = 3;
    const SHARE: usize = 400;
    let cluster = Cluster::builder()
        .set("s3vector.flush_size", "64kB")
        .set("s3vector.sweep_interval", 1)
        .set("s3vector.gc_grace", 30)
        .start();
    let mut client = cluster.client();
    let mut source = Source::new(115, DIMENSIONS);
    let mut items =
        Items::create(&mut client, "items", Metric::L2, source.vectors(WRITERS * SHARE));
    items.index(&mut client, "");
    let writing = AtWork::new(WRITERS);
    let end = Instant::now() + Duration::from_secs(4);

    // Every writer has rows of its own, `id % WRITERS`, and knows what became of them.
    let shares: Vec<Items> = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let (cluster, writing) = (&cluster, &writing);
                let rows = items.rows.iter().enumerate();
                let rows = rows.map(|(id, row)| row.clone().filter(|_| id % WRITERS == number));
                let mut own =
                    Items { table: "items".to_owned(), metric: Metric::L2, rows: rows.collect() };
                scope.spawn(move || {
                    let _shift = writing.shift();
                    let mut client = cluster.client();
                    prefer_index(&mut client);
                    let seed = 116 + u64::try_from(number).expect("small");
                    let (mut source, mut rng) =
                        (Source::new(seed, DIMENSIONS), Rng::with_seed(seed));
                    while Instant::now() < end {
                        let id = number + WRITERS * rng.usize(..SHARE);
                        match own.rows[id] {
                            None => {
                                let vector = source.vector();
                                client
                                    .batch_execute(&format!(
                                        "INSERT INTO items VALUES ({id}, {})",
                                        literal(&vector)
                                    ))
                                    .expect("inserted");
                                own.rows[id] = Some(vector);
                            }
                            Some(_) if rng.bool() => own.delete(&mut client, |other| other == id),
                            Some(_) => own.update(&mut client, id, source.vector()),
                        }
                        let Some(vector) = &own.rows[id] else { continue };
                        let sql = answers::sql("items", Metric::L2, vector, 1);
                        let found: i32 = client.query_one(&sql, &[]).expect("a row").get(0);
                        assert_eq!(usize::try_from(found).expect("an id"), id);
                    }
                    own
                })
            })
            .collect();
        scope.spawn(|| {
            let mut client = cluster.client();
            while writing.goes_on() {
                // Shortening the table would wait for a moment without writers.
                client.batch_execute("VACUUM (TRUNCATE off) items").expect("vacuum");
                flush(&mut client, "items_index");
            }
        });
        scope.spawn(|| {
            let (mut client, mut source) = (cluster.client(), Source::new(119, DIMENSIONS));
            prefer_index(&mut client);
            while writing.goes_on() {
                let sql = answers::sql("items", Metric::L2, &source.vector(), 100);
                let rows = client.query(&sql, &[]).expect("rows");
                let answer: Answer = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
                assert_eq!(answer.len(), 100);
                answers::check_order(&answer);
            }
        });
        writers.into_iter().map(|writer| writer.join().expect("a writer")).collect()
    });
    for (id, row) in items.rows.iter_mut().enumerate() {
        *row = shares[id % WRITERS].rows[id].clone();
    }
    assert_all_found(&mut client, &items, items.live());
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    client.batch_execute("VACUUM items").expect("vacuum");
    wait_until("all dead entries to go", || {
        flush(&mut client, "items_index");
        let found = info(&mut client, "items_index");
        found.entries - found.tombstones == i64::try_from(items.len()).expect("small")
    });
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}
