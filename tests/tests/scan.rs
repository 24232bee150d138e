//! Does a scan behave as SQL expects, however it is run?

use std::collections::HashSet;

use harness::answers::{self, Answer, assert_recall, prefer_index};
use harness::errors::failure;
use harness::items::{Source, literal};
use harness::upkeep::flush;
use harness::{Cluster, Items, Metric};
use postgres::Client;

const DIMENSIONS: usize = 32;

fn indexed(client: &mut Client, rows: usize, metric: Metric) -> (Items, Source) {
    let mut source = Source::new(71, DIMENSIONS);
    let items = Items::create(client, "items", metric, source.vectors(rows));
    items.index(client, "");
    prefer_index(client);
    (items, source)
}

/// The plan of a query.
fn plan(client: &mut Client, sql: &str) -> String {
    let rows = client.query(&format!("EXPLAIN {sql}"), &[]).expect("a plan");
    rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
}

/// Whether a plan reads the index in order.
fn uses_index(client: &mut Client, sql: &str) -> bool {
    plan(client, sql).contains("Index Scan using items_index")
}

#[test]
fn the_planner_chooses_by_itself() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let (_, mut source) = indexed(&mut client, 10_000, Metric::L2);
    client.batch_execute("RESET enable_seqscan; ANALYZE items").expect("analyzed");
    let query = literal(&source.vector());
    assert!(uses_index(
        &mut client,
        &format!("SELECT id FROM items ORDER BY embedding <-> {query} LIMIT 10")
    ));
    // Without an order, or with that of another operator, it is of no use.
    client.batch_execute("SET enable_seqscan = off").expect("a setting");
    for sql in [
        "SELECT id FROM items".to_owned(),
        "SELECT count(*) FROM items".to_owned(),
        format!("SELECT id FROM items WHERE embedding <-> {query} < 1"),
        format!("SELECT id FROM items ORDER BY embedding <=> {query} LIMIT 10"),
        format!("SELECT id FROM items ORDER BY embedding <-> {query} DESC LIMIT 10"),
    ] {
        let plan = plan(&mut client, &sql);
        assert!(!plan.contains("items_index"), "{sql}\n{plan}");
    }
}

#[test]
fn every_metric_and_more_rows_than_ef_search() {
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
        let cluster = Cluster::start();
        let mut client = cluster.client();
        let (items, mut source) = indexed(&mut client, 1500, metric);
        assert_recall(&mut client, &items, &source.vectors(200), 0.95);
        client.batch_execute("SET s3vector.ef_search = 10").expect("a setting");
        let query = source.vector();
        let answer = answers::ask(&mut client, &items, &query, 400);
        assert_eq!(answer.len(), 400);
    }
}

/// A scan that is read to its end returns every row, once, in order.
#[test]
fn no_limit() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 1000, Metric::L2);
    items.copy(&mut client, source.vectors(100));
    let query = source.vector();
    let sql = answers::sql("items", Metric::L2, &query, 0).replace(" LIMIT 0", "");
    assert!(uses_index(&mut client, &sql));
    let rows = client.query(&sql, &[]).expect("rows");
    let answer: Answer = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    answers::check(&items, &query, &answer);
    assert_eq!(answer.len(), 1100);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn a_filter_that_most_rows_fail() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let (mut items, mut source) = indexed(&mut client, 2000, Metric::L2);
    items
        .rows
        .iter_mut()
        .enumerate()
        .filter(|(id, _)| id % 50 != 3)
        .for_each(|(_, row)| *row = None);
    let (mut found, mut wanted) = (0, 0);
    for query in source.vectors(200) {
        let sql = answers::sql("items WHERE id % 50 = 3", Metric::L2, &query, 10);
        assert!(uses_index(&mut client, &sql));
        let rows = client.query(&sql, &[]).expect("rows");
        let answer: Answer = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        answers::check(&items, &query, &answer);
        assert_eq!(answer.len(), 10);
        let truth = items.nearest(&query, 10);
        found += truth.iter().filter(|row| answer.iter().any(|other| other.0 == row.0)).count();
        wanted += truth.len();
    }
    assert!(found * 100 >= wanted * 95, "{found} of {wanted} found");
}

#[test]
fn prepared_statements() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let (items, mut source) = indexed(&mut client, 1000, Metric::L2);
    client
        .batch_execute("PREPARE nearest (vector, int) AS SELECT id, embedding <-> $1 FROM items ORDER BY embedding <-> $1 LIMIT $2")
        .expect("prepared");
    for mode in ["force_custom_plan", "force_generic_plan"] {
        client.batch_execute(&format!("SET plan_cache_mode = {mode}")).expect("a setting");
        for query in source.vectors(10) {
            let rows = client
                .query(&format!("EXECUTE nearest ({}, 7)", literal(&query)), &[])
                .expect("rows");
            let answer: Answer = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            assert_eq!(answer, answers::ask(&mut client, &items, &query, 7));
        }
    }
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn cursors() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let (items, mut source) = indexed(&mut client, 1000, Metric::L2);
    let (one, other) = (source.vector(), source.vector());
    let mut transaction = client.transaction().expect("a transaction");
    for (name, query) in [("a", &one), ("b", &other)] {
        let sql = answers::sql("items", Metric::L2, query, 500);
        transaction.batch_execute(&format!("DECLARE {name} CURSOR FOR {sql}")).expect("declared");
    }
    let (mut a, mut b) = (Answer::new(), Answer::new());
    // Two scans of one index in one backend, their rows taken in turns.
    for _ in 0..20 {
        for (name, answer) in [("a", &mut a), ("b", &mut b)] {
            let rows = transaction.query(&format!("FETCH 5 FROM {name}"), &[]).expect("fetched");
            answer.extend(rows.iter().map(|row| (row.get::<_, i32>(0), row.get::<_, f64>(1))));
        }
    }
    transaction.commit().expect("committed");
    for (query, answer) in [(&one, &a), (&other, &b)] {
        assert_eq!(answer.len(), 100);
        answers::check(&items, query, answer);
        let near: HashSet<i32> = items.nearest(query, 10).iter().map(|row| row.0).collect();
        assert!(answer[..10].iter().filter(|row| near.contains(&row.0)).count() >= 9, "{answer:?}");
    }
}

/// One scan node started again for every row of the outer table.
#[test]
fn lateral_rescans() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let (items, mut source) = indexed(&mut client, 1000, Metric::Cosine);
    let queries = source.vectors(50);
    client
        .batch_execute(&format!("CREATE TABLE queries (n int, v vector({DIMENSIONS}))"))
        .expect("a table");
    for (number, query) in queries.iter().enumerate() {
        client
            .batch_execute(&format!("INSERT INTO queries VALUES ({number}, {})", literal(query)))
            .expect("a row");
    }
    let sql = "SELECT n, id, distance FROM queries, LATERAL \
               (SELECT id, embedding <=> v AS distance FROM items ORDER BY embedding <=> v LIMIT 10) AS nearest";
    assert!(uses_index(&mut client, sql));
    let rows = client.query(sql, &[]).expect("rows");
    assert_eq!(rows.len(), 500);
    for (number, query) in queries.iter().enumerate() {
        let answer: Answer = rows
            .iter()
            .filter(|row| usize::try_from(row.get::<_, i32>(0)).expect("not negative") == number)
            .map(|row| (row.get(1), row.get(2)))
            .collect();
        assert_eq!(answer, answers::ask(&mut client, &items, query, 10));
    }
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// After a restart nothing is cached: what a query needs comes in one parallel wave.
#[test]
fn a_cold_query_waits_once() {
    let mut cluster = Cluster::start();
    let mut client = cluster.client();
    let mut source = Source::new(72, 128);
    let items = Items::create(&mut client, "items", Metric::L2, source.vectors(4000));
    items.index(&mut client, "");
    cluster.restart();
    let mut client = cluster.client();
    prefer_index(&mut client);
    let queries = source.vectors(20);
    let mut fetched = 0;
    for query in &queries {
        assert_eq!(answers::ask(&mut client, &items, query, 10).len(), 10);
        let scan = client
            .query_one("SELECT waves, requests, bytes FROM s3vector_last_scan()", &[])
            .expect("a scan");
        let (waves, requests): (i32, i32) = (scan.get(0), scan.get(1));
        assert!(waves <= 1, "{waves} waves");
        fetched += requests;
    }
    assert!(fetched > 0, "nothing was fetched after a restart");
    // The same again needs no fetch at all.
    for query in &queries {
        answers::ask(&mut client, &items, query, 10);
        let waves: i32 =
            client.query_one("SELECT waves FROM s3vector_last_scan()", &[]).expect("a scan").get(0);
        assert_eq!(waves, 0);
    }
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// NULL, zero and wrong queries: the outcome is that of pgvector's hnsw on the same rows.
#[test]
fn unusual_queries_behave_as_with_hnsw() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let mut source = Source::new(73, 8);
    let mut vectors = source.vectors(200);
    vectors.push(vec![0.0; 8]);
    let queries = [
        "NULL::vector".to_owned(),
        literal(&[1.0, 2.0]),
        literal(&[0.0; 8]),
        literal(&source.vector()),
    ];
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
        client.batch_execute("DROP TABLE IF EXISTS items").expect("dropped");
        Items::create(&mut client, "items", metric, vectors.clone());
        client.batch_execute("INSERT INTO items VALUES (-1, NULL)").expect("a NULL");
        prefer_index(&mut client);
        let mut outcomes = Vec::new();
        for method in ["hnsw", "s3vector"] {
            client
                .batch_execute(&format!(
                    "CREATE INDEX items_index ON items USING {method} (embedding {})",
                    metric.opclass()
                ))
                .expect("an index");
            let operator = metric.operator();
            let outcome: Vec<Result<usize, String>> = queries
                .iter()
                .map(|query| {
                    let sql = format!(
                        "SELECT id FROM items ORDER BY embedding {operator} {query} LIMIT 20"
                    );
                    client.query(&sql, &[]).map(|rows| rows.len()).map_err(|error| {
                        let report = failure::<()>(Err(error));
                        format!("{} {}", report.sqlstate, report.message)
                    })
                })
                .collect();
            outcomes.push(outcome);
            client.batch_execute("DROP INDEX items_index").expect("dropped");
        }
        assert_eq!(outcomes[0], outcomes[1], "{metric:?}: hnsw, then s3vector");
    }
}

/// Vectors as wide as pgvector stores them, in rows that do not fit one page.
#[test]
fn sixteen_thousand_dimensions() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let mut source = Source::new(74, 16_000);
    let mut items = Items::create(&mut client, "items", Metric::L2, source.vectors(40));
    items.index(&mut client, "");
    items.copy(&mut client, source.vectors(10));
    assert_recall(&mut client, &items, &source.vectors(5), 0.95);
    flush(&mut client, "items_index");
    assert_recall(&mut client, &items, &source.vectors(5), 0.95);
}
