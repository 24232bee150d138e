//! Unlogged, partitioned and partly indexed tables.

use harness::answers::{self, Answer, assert_all_found, assert_recall, prefer_index};
use harness::items::{Source, literal};
use harness::{Cluster, Items, Metric};

/// PostgreSQL empties an unlogged table when it recovers from a crash, and its index with it.
#[test]
fn an_unlogged_table_after_a_crash() {
    let mut cluster = Cluster::start();
    let mut client = cluster.client();
    let mut source = Source::new(41, 24);
    client
        .batch_execute("CREATE UNLOGGED TABLE items (id int, embedding vector(24))")
        .expect("a table");
    let mut items = Items { table: "items".to_owned(), metric: Metric::L2, rows: Vec::new() };
    items.copy(&mut client, source.vectors(400));
    items.index(&mut client, "");
    items.copy(&mut client, source.vectors(100));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);

    cluster.crash();
    cluster.start_server();
    let mut client = cluster.client();
    prefer_index(&mut client);
    items.rows.fill(None);
    assert_eq!(answers::ask(&mut client, &items, &source.vector(), 10), []);
    items.copy(&mut client, source.vectors(200));
    assert_all_found(&mut client, &items, 500..700);
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

#[test]
fn a_partitioned_table() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let mut source = Source::new(42, 24);
    client
        .batch_execute(
            "CREATE TABLE items (id int, embedding vector(24)) PARTITION BY RANGE (id);
             CREATE TABLE items_1 PARTITION OF items FOR VALUES FROM (0) TO (400);
             CREATE TABLE items_2 PARTITION OF items FOR VALUES FROM (400) TO (900);
             CREATE TABLE items_3 PARTITION OF items FOR VALUES FROM (900) TO (100000)",
        )
        .expect("a partitioned table");
    let mut items = Items { table: "items".to_owned(), metric: Metric::Cosine, rows: Vec::new() };
    items.copy(&mut client, source.vectors(800));
    items.index(&mut client, "");
    // The third partition was empty when its index was built.
    items.copy(&mut client, source.vectors(300));
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    assert_all_found(&mut client, &items, (800..1100).step_by(9));
}

#[test]
fn a_partial_index() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let mut source = Source::new(43, 24);
    let mut items = Items::create(&mut client, "items", Metric::L2, source.vectors(900));
    client
        .batch_execute(
            "CREATE INDEX ON items USING s3vector (embedding vector_l2_ops) WHERE id % 3 = 0",
        )
        .expect("a partial index");
    let entries: i64 = client
        .query_one("SELECT entries FROM s3vector_index_info('items_embedding_idx')", &[])
        .expect("described")
        .get(0);
    assert_eq!(entries, 300);
    prefer_index(&mut client);
    items.copy(&mut client, source.vectors(90));
    items
        .rows
        .iter_mut()
        .enumerate()
        .filter(|(id, _)| id % 3 != 0)
        .for_each(|(_, row)| *row = None);
    let (mut found, mut wanted) = (0, 0);
    for query in source.vectors(200) {
        let sql = answers::sql("items WHERE id % 3 = 0", items.metric, &query, 10);
        let rows = client.query(&sql, &[]).expect("rows");
        let answer: Answer = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        answers::check(&items, &query, &answer);
        let truth = items.nearest(&query, 10);
        found += truth.iter().filter(|row| answer.iter().any(|other| other.0 == row.0)).count();
        wanted += truth.len();
    }
    assert!(found * 100 >= wanted * 95, "{found} of {wanted} found");
}

#[test]
fn an_expression_index() {
    let cluster = Cluster::start();
    let mut client = cluster.client();
    let mut source = Source::new(44, 24);
    let items = Items::create(&mut client, "items", Metric::L2, source.vectors(600));
    client
        .batch_execute("CREATE INDEX ON items USING s3vector ((subvector(embedding, 1, 12)::vector(12)) vector_l2_ops)")
        .expect("an expression index");
    prefer_index(&mut client);
    let heads = Items {
        table: items.table,
        metric: Metric::L2,
        rows: items.rows.iter().map(|row| row.as_ref().map(|row| row[..12].to_vec())).collect(),
    };
    let (mut found, mut wanted) = (0, 0);
    for query in source.vectors(200) {
        let query = &query[..12];
        let key = "subvector(embedding, 1, 12)::vector(12)";
        let query_literal = literal(query);
        let rows = client
            .query(
                &format!("SELECT id, ({key}) <-> {query_literal} FROM items ORDER BY ({key}) <-> {query_literal} LIMIT 10"),
                &[],
            )
            .expect("rows");
        let answer: Answer = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        answers::check(&heads, query, &answer);
        let truth = heads.nearest(query, 10);
        found += truth.iter().filter(|row| answer.iter().any(|other| other.0 == row.0)).count();
        wanted += truth.len();
    }
    assert!(found * 100 >= wanted * 95, "{found} of {wanted} found");
}

/// An index created on an empty table, and one on a single row, fill by inserts.
#[test]
fn almost_nothing_at_first() {
    for rows in [0, 1] {
        let cluster = Cluster::start();
        let mut client = cluster.client();
        let mut source = Source::new(45, 24);
        client.batch_execute("CREATE TABLE items (id int, embedding vector(24))").expect("a table");
        let mut items = Items { table: "items".to_owned(), metric: Metric::L2, rows: Vec::new() };
        items.copy(&mut client, source.vectors(rows));
        items.index(&mut client, "");
        prefer_index(&mut client);
        assert_eq!(answers::ask(&mut client, &items, &source.vector(), 10).len(), rows);
        items.copy(&mut client, source.vectors(300));
        assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    }
}
