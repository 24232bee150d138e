//! Do metadata filters find the rows that they describe, with an index and without?
//!
//! The expected rows come from `semantics`, which knows nothing of jsonpath.

mod generate;
mod json;
mod semantics;

use std::cell::{Cell, RefCell};

use filter::compile;
use harness::Cluster;
use harness::errors::failure;
use postgres::{Client, Statement};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use json::Json;

const ROWS: usize = 2000;

/// A server with an empty table `items` that has an index on its metadata.
fn server() -> (Cluster, Client) {
    let cluster = Cluster::builder().start_bare();
    let mut client = cluster.client();
    client
        .batch_execute(
            "CREATE TABLE items (id bigint, metadata jsonb);
             CREATE INDEX items_metadata ON items USING gin (metadata jsonb_path_ops)",
        )
        .expect("a table");
    (cluster, client)
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

/// Puts rows into the table, numbered from 0.
fn insert(client: &mut Client, rows: &[Json]) {
    let texts: Vec<_> = rows.iter().map(ToString::to_string).collect();
    client
        .execute(
            "INSERT INTO items SELECT number - 1, text::jsonb
             FROM unnest($1::text[]) WITH ORDINALITY AS row (text, number)",
            &[&texts],
        )
        .expect("rows");
    client.batch_execute("VACUUM ANALYZE items").expect("vacuumed");
}

/// The query that [`find`] makes.
fn prepare(client: &mut Client) -> Statement {
    client.prepare("SELECT id FROM items WHERE metadata @? $1::text::jsonpath").expect("prepared")
}

/// The rows that match a path.
fn find(client: &mut Client, query: &Statement, path: &str) -> Vec<usize> {
    let rows = client.query(query, &[&path]).unwrap_or_else(|error| panic!("{path:.200}: {error}"));
    rows.iter().map(|row| usize::try_from(row.get::<_, i64>(0)).expect("a row")).collect()
}

/// The plan of the query, with what it did.
fn plan(client: &mut Client, path: &str) -> String {
    let sql = format!(
        "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, BUFFERS off)
         SELECT id FROM items WHERE metadata @? '{}'",
        path.replace('\'', "''")
    );
    let rows = client.query(&sql, &[]).expect("a plan");
    rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
}

/// How often the index has been read by this connection or those before it.
fn index_scans(client: &mut Client) -> i64 {
    client.batch_execute("SELECT pg_stat_force_next_flush()").expect("a flush");
    let row = client
        .query_one("SELECT idx_scan FROM pg_stat_user_indexes", &[])
        .expect("statistics of the index");
    row.get(0)
}

/// The query is made by reading the whole table, or by the index.
const WAYS: [&str; 2] = [
    "SET enable_seqscan = on; SET enable_bitmapscan = off",
    "SET enable_seqscan = off; SET enable_bitmapscan = on",
];

#[test]
fn random_filters_over_random_rows() {
    let (_cluster, mut client) = server();
    let mut runner = runner(800);
    let rows: Vec<_> = (0..ROWS)
        .map(|_| generate::metadata().new_tree(&mut runner).expect("metadata").current())
        .collect();
    insert(&mut client, &rows);
    let query = prepare(&mut client);
    let client = RefCell::new(client);
    let (tried, choosy) = (Cell::new(0), Cell::new(0));
    let checked = runner.run(&generate::filter(), |filter| {
        let client = &mut *client.borrow_mut();
        let expected: Vec<_> = rows.iter().map(|row| semantics::matches(&filter, row)).collect();
        let Some(path) = compile(&filter.to_string()).expect("a filter") else {
            prop_assert!(!expected.contains(&false), "{} does not match every row", filter);
            return Ok(());
        };
        for way in WAYS {
            client.batch_execute(way).expect("settings");
            let mut found = vec![false; rows.len()];
            find(client, &query, &path).into_iter().for_each(|id| found[id] = true);
            let wrong = (0..rows.len()).find(|id| found[*id] != expected[*id]);
            prop_assert!(
                wrong.is_none(),
                "filter {filter}\npath {path}\n{way}\nrow {}",
                rows[wrong.unwrap_or_default()]
            );
        }
        tried.set(tried.get() + 1);
        choosy.set(choosy.get() + i64::from(expected.contains(&true) && expected.contains(&false)));
        Ok(())
    });
    checked.unwrap_or_else(|error| panic!("{error}"));
    // Otherwise this would have shown nothing.
    assert!(index_scans(&mut client.borrow_mut()) >= tried.get());
    let (tried, choosy) = (tried.get(), choosy.get());
    assert!(tried > 400 && choosy * 4 > tried, "{choosy} of {tried} filters tell rows apart");
}

/// Keys and strings of any characters are found, and nothing else is.
#[test]
fn any_text_is_itself() {
    let (_cluster, client) = server();
    let client = RefCell::new(client);
    let texts = (generate::any_text(), generate::any_text(), generate::any_text());
    let checked = runner(600).run(&texts, |(key, text, other)| {
        let row = Json::object(key.clone(), Json::text(text.clone())).to_string();
        let wildcards: String = text
            .chars()
            .flat_map(|character| match character {
                '%' | '_' | '\\' => vec!['\\', character],
                plain => vec![plain],
            })
            .collect();
        let like = |pattern: String| Json::object("$like", Json::Text(pattern));
        let one_of = |texts: &[&str]| {
            let texts = texts.iter().map(|text| Json::text(*text)).collect();
            Json::object("$in", Json::Array(texts))
        };
        for (operand, holds) in [
            (Json::text(text.clone()), true),
            (Json::text(other.clone()), text == other),
            (one_of(&[&other, &text]), true),
            (one_of(&[&format!("{text}{text}x"), &format!("x{text}")]), false),
            (Json::Array(vec![Json::text(text.clone()), Json::text(text.clone())]), true),
            (Json::object("$gt", Json::text(other.clone())), text > other),
            (like(wildcards.clone()), true),
            (like(format!("{wildcards}%")), true),
            (like(format!("%{wildcards}")), true),
            (like(format!("{wildcards}_%")), false),
            (like("_".repeat(text.chars().count())), true),
            (like("_".repeat(text.chars().count() + 1)), false),
        ] {
            let filter = Json::object(generate::escaped(&key), operand);
            let path = compile(&filter.to_string()).expect("a filter").expect("a condition");
            let not = Json::object("$not", filter.clone());
            let opposite = compile(&not.to_string()).expect("a filter").expect("a condition");
            let answer = client
                .borrow_mut()
                .query_one(
                    "SELECT m @? $2::text::jsonpath, m @? $3::text::jsonpath
                     FROM (SELECT $1::text::jsonb) AS t (m)",
                    &[&row, &path, &opposite],
                )
                .unwrap_or_else(|error| panic!("{filter}: {error}"));
            let answer: (bool, bool) = (answer.get(0), answer.get(1));
            prop_assert_eq!(answer, (holds, !holds), "{} of {}", filter, row);
        }
        Ok(())
    });
    checked.unwrap_or_else(|error| panic!("{error}"));
}

/// The planner takes the index by itself, and what the index finds is nearly what is wanted.
#[test]
fn equalities_are_found_by_the_index() {
    let (_cluster, mut client) = server();
    client
        .batch_execute(
            "INSERT INTO items
             SELECT i, jsonb_build_object('id', i, 'group', i % 500, 'tags',
                 jsonb_build_array(i % 700, 'x'), 'deep', jsonb_build_object('group', i % 300))
             FROM generate_series(0, 29999) i",
        )
        .expect("rows");
    client.batch_execute("VACUUM ANALYZE items").expect("vacuumed");
    let ids = |range: std::ops::Range<i64>| -> String {
        range.map(|id| id.to_string()).collect::<Vec<_>>().join(",")
    };
    let fifty = format!(r#"{{"id": {{"$in": [{}]}}}}"#, ids(0..50));
    for (filter, rows, read) in [
        (r#"{"group": 7}"#, 60, 60),
        (r#"{"tags": 7}"#, 43, 43),
        (r#"{"deep.group": 7}"#, 100, 100),
        (r#"{"deep": {"group": {"$not": {"$ne": 7}}}}"#, 100, 100),
        (r#"{"group": {"$in": [7, 8]}}"#, 120, 120),
        (r#"{"$or": [{"group": 7}, {"tags": 7}]}"#, 94, 94),
        (r#"{"tags": {"$all": [7, "x"]}}"#, 43, 43),
        // The other conditions are left to the rows that the equality leaves.
        (r#"{"group": 7, "id": {"$lt": 15000}}"#, 30, 60),
        (r#"{"group": 7, "deep.group": {"$ne": 7}}"#, 40, 60),
        (r#"{"group": 7, "$not": {"id": {"$lt": 15000}, "tags": {"$ne": 7}}}"#, 35, 60),
        (&fifty, 50, 50),
    ] {
        let path = compile(filter).expect("a filter").expect("a condition");
        let plan = plan(&mut client, &path);
        let line = |part: &str| plan.lines().find(|line| line.contains(part)).unwrap_or_default();
        assert!(plan.contains("Bitmap Index Scan on items_metadata"), "{filter}\n{plan}");
        let scan = line("Bitmap Heap Scan");
        assert!(scan.contains(&format!("rows={rows}.00")), "{filter}: {rows} rows\n{plan}");
        // Hashes of other values may be the same, but hardly ever are.
        let removed = line("Rows Removed by Index Recheck").rsplit(' ').next();
        let removed: i64 = removed.and_then(|number| number.parse().ok()).unwrap_or(0);
        assert!(rows + removed <= read + 2, "{filter}: {read} rows read\n{plan}");
    }
}

/// What is as large and as deep as the limits allow can be read and executed by a server.
#[test]
fn the_largest_filters() {
    let (_cluster, mut client) = server();
    let value = (0..64).fold(Json::number("1"), |value, _| Json::object("a", value));
    insert(&mut client, &[value]);
    let query = prepare(&mut client);
    let nested = |operand: &str, levels: usize| {
        format!("{}{operand}{}", "{\"a\": ".repeat(levels), "}".repeat(levels))
    };
    let negated = format!("{}{}{}", "{\"$not\": ".repeat(60), nested("2", 1), "}".repeat(60));
    let alternatives = (0..30).fold("{}".to_owned(), |filter, _| {
        format!(r#"{{"$or": [{filter}, {{"b": {{"$ne": 5}}}}], "b": {{"$exists": false}}}}"#)
    });
    let numbers: Vec<_> = (0..filter::MAX_VALUES).map(|number| number.to_string()).collect();
    let none: Vec<_> =
        (0..filter::MAX_VALUES).map(|number| format!("{{\"b\":{number}}}")).collect();
    for (filter, found) in [
        (nested("1", 64), 1),
        (nested(r#"{"$ne": 1}"#, 63), 1),
        (format!(r#"{{"{}": 1}}"#, ["a"; 64].join(".")), 1),
        (negated, 0),
        (alternatives, 1),
        (format!(r#"{{"b": {{"$in": [{}]}}}}"#, numbers.join(",")), 0),
        (format!(r#"{{"b": {{"$nin": [{}]}}}}"#, numbers.join(",")), 1),
        (format!(r#"{{"$or": [{}]}}"#, none.join(",")), 0),
        (format!(r#"{{"$not": {{"$or": [{}]}}}}"#, none.join(",")), 1),
    ] {
        let path = compile(&filter).expect("a filter").expect("a condition");
        for way in WAYS {
            client.batch_execute(way).expect("settings");
            assert_eq!(find(&mut client, &query, &path).len(), found, "{:.80}", filter);
        }
    }
}

/// An expression is PostgreSQL's to judge.
#[test]
fn an_expression_that_is_none() {
    let (_cluster, mut client) = server();
    let query = prepare(&mut client);
    let path = compile(r#"{"a": {"$regex": "(b"}}"#).expect("a filter").expect("a condition");
    failure(client.query(&query, &[&path])).expect("2201B", &["invalid regular expression"]);
}
