//! Does a scan that goes on past its walk find every row, once and in order?

use std::collections::HashSet;

use harness::answers::{self, Answer, assert_recall, prefer_index};
use harness::items::{Source, literal};
use harness::reading::last_scan;
use harness::upkeep::{flush, segments};
use harness::{Cluster, Items, Metric};
use postgres::Client;

const DIMENSIONS: usize = 32;

fn cluster() -> Cluster {
    // Nothing is flushed or merged but by the tests.
    Cluster::builder().set("s3vector.maintenance_workers", 0).start()
}

/// Rows around few centres: far from each other, as those of embeddings are.
fn indexed(client: &mut Client, rows: usize, metric: Metric, with: &str) -> (Items, Source) {
    let mut source = Source::around(91, DIMENSIONS, 20);
    let items = Items::create(client, "items", metric, source.vectors(rows));
    items.index(client, with);
    prefer_index(client);
    client.batch_execute("SET enable_sort = off; ANALYZE items").expect("settings");
    (items, source)
}

/// Three segments, removed entries and a delta.
fn aged(client: &mut Client, metric: Metric, with: &str) -> (Items, Source) {
    let (mut items, mut source) = indexed(client, 3000, metric, with);
    for rows in [900, 300] {
        items.copy(client, source.vectors(rows));
        flush(client, "items_index");
    }
    items.delete(client, |id| id % 10 == 7);
    client.batch_execute("VACUUM items").expect("vacuumed");
    items.copy(client, source.vectors(50));
    assert_eq!(segments(client, "items_index").len(), 3);
    (items, source)
}

fn rows(client: &mut Client, sql: &str) -> Answer {
    let rows = client.query(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

fn count(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

fn without_limit(metric: Metric, query: &[f32], condition: &str) -> String {
    let table = format!("items {condition}");
    answers::sql(&table, metric, query, 0).replace(" LIMIT 0", "")
}

#[test]
fn a_scan_to_the_end_returns_every_row_once_and_in_order() {
    let cluster = cluster();
    let mut client = cluster.client();
    for (metric, with) in [
        (Metric::L2, "WITH (bits = '1')"),
        (Metric::Cosine, "WITH (bits = '4')"),
        (Metric::InnerProduct, "WITH (bits = '2')"),
        (Metric::L2, "WITH (payload = 'float16')"),
    ] {
        client.batch_execute("DROP TABLE IF EXISTS items").expect("dropped");
        let (items, mut source) = aged(&mut client, metric, with);
        // With little memory the codes are looked through more than once.
        for work_mem in ["4MB", "64kB"] {
            client.batch_execute(&format!("SET work_mem = '{work_mem}'")).expect("a setting");
            for query in source.vectors(3) {
                let answer = rows(&mut client, &without_limit(metric, &query, ""));
                answers::check(&items, &query, &answer);
                assert_eq!(answer.len(), items.len(), "{metric:?} {with} {work_mem}");
                let scan = last_scan(&mut client);
                assert_eq!((scan.walks, scan.late), (0, 0), "{scan:?}");
                let sorted = count(&mut client, "SELECT sorted_rows FROM s3vector_last_scan()");
                match work_mem {
                    "4MB" => assert_eq!((scan.sweeps, sorted), (1, 0), "{scan:?}"),
                    _ => assert!(scan.sweeps > 1 || sorted > 0, "{scan:?}"),
                }
            }
        }
        assert_recall(&mut client, &items, &source.vectors(200), 0.95);
    }
}

#[test]
fn a_row_that_a_filter_wants_is_found_wherever_it_is() {
    let cluster = cluster();
    let mut client = cluster.client();
    let (items, mut source) = aged(&mut client, Metric::L2, "WITH (bits = '1')");
    for (query, id) in source.vectors(60).iter().zip((0..4250).step_by(71)) {
        let condition = format!("WHERE id = {id}");
        let answer =
            rows(&mut client, &answers::sql(&format!("items {condition}"), Metric::L2, query, 1));
        assert_eq!(answer.len(), usize::from(items.rows[id].is_some()), "row {id}");
        answers::check(&items, query, &answer);
    }
    // One in fifty, and fewer of them than the limit.
    for query in source.vectors(10) {
        let answer =
            rows(&mut client, &answers::sql("items WHERE id % 50 = 3", Metric::L2, &query, 100));
        let wanted = items.live().filter(|id| id % 50 == 3).count();
        assert_eq!(answer.len(), wanted.min(100));
        answers::check(&items, &query, &answer);
    }
}

/// A row is late if the walk had missed it: next to none is, where a plan reads many.
#[test]
fn next_to_no_row_is_late() {
    let cluster = cluster();
    let mut client = cluster.client();
    let (items, mut source) = indexed(&mut client, 20_000, Metric::Cosine, "");
    let (mut late, mut found) = (0, 0);
    for query in source.vectors(50) {
        let sql = answers::sql("items WHERE id % 10 = 3", Metric::Cosine, &query, 100);
        let answer = rows(&mut client, &sql);
        answers::check(&items, &query, &answer);
        found += answer.len();
        late += last_scan(&mut client).late;
    }
    assert_eq!(found, 50 * 100);
    assert!(late <= 5, "{late} of {found} rows");
}

/// A walk that is read past goes on with a sweep: nothing comes twice, and what the walk had missed
/// comes late, not never.
#[test]
fn a_scan_that_is_read_past_its_walk_goes_on_with_a_sweep() {
    let cluster = cluster();
    let mut client = cluster.client();
    let (items, mut source) =
        indexed(&mut client, 3000, Metric::L2, "WITH (m = 4, ef_construction = 8)");
    // The planner believes that every third row passes: it is one in a hundred.
    client
        .batch_execute(
            "CREATE FUNCTION passes(id int) RETURNS bool LANGUAGE plpgsql \
             AS $$BEGIN RETURN id % 100 = 3; END$$; SET s3vector.ef_search = 40",
        )
        .expect("a function");
    let (mut late, mut right) = (0, 0);
    for query in source.vectors(40) {
        let sql = answers::sql("items WHERE passes(id)", Metric::L2, &query, 8);
        let mut answer = rows(&mut client, &sql);
        let scan = last_scan(&mut client);
        assert_eq!((scan.walks, scan.sweeps), (1, 1), "{scan:?}");
        if scan.late == 0 {
            answers::check_order(&answer);
        }
        late += scan.late;
        answer.sort_by_key(|row| row.0);
        answer.dedup_by_key(|row| row.0);
        assert_eq!(answer.len(), 8);
        assert!(answer.iter().all(|row| row.0 % 100 == 3));
        let near = items.nearest(&query, items.len());
        let near: Vec<i32> = near.iter().map(|row| row.0).filter(|id| id % 100 == 3).collect();
        right += answer.iter().filter(|row| near[..8].contains(&row.0)).count();
    }
    assert!(late > 0, "so narrow a walk in so thin a graph misses rows");
    assert!(right >= 40 * 8 * 95 / 100, "{right} of 320 rows");
}

#[test]
fn pages_neither_repeat_nor_skip_rows() {
    let cluster = cluster();
    let mut client = cluster.client();
    let (items, mut source) = indexed(&mut client, 10_000, Metric::Cosine, "");
    let (mut shown, mut repeated, mut right) = (0, 0, 0);
    for query in source.vectors(10) {
        let mut seen = HashSet::new();
        for page in 0..50 {
            let sql = answers::sql("items", Metric::Cosine, &query, 10);
            let answer = rows(&mut client, &format!("{sql} OFFSET {}", 10 * page));
            answers::check(&items, &query, &answer);
            shown += answer.len();
            repeated += answer.iter().filter(|row| !seen.insert(row.0)).count();
        }
        let nearest = items.nearest(&query, 500);
        right += nearest.iter().filter(|row| seen.contains(&row.0)).count();
    }
    assert_eq!(shown, 5000);
    assert!(repeated <= 50, "{repeated} rows were shown twice");
    assert!(right >= 4950, "{right} of 5000 rows");
}

/// How many rows are wanted is known whatever kind of expression says it.
#[test]
fn limits_are_known_from_constants_parameters_and_functions() {
    let cluster = cluster();
    let mut client = cluster.client();
    let (items, mut source) = indexed(&mut client, 6000, Metric::L2, "");
    let query = literal(&source.vector());
    client
        .batch_execute(&format!(
            "PREPARE nearest (bigint, bigint) AS \
                 SELECT id FROM items ORDER BY embedding <-> {query} LIMIT $1 OFFSET $2;
             SET plan_cache_mode = force_generic_plan;
             CREATE FUNCTION nearest(wanted int) RETURNS SETOF int LANGUAGE plpgsql AS $$
             BEGIN
                 RETURN QUERY SELECT id FROM items ORDER BY embedding <-> {query} LIMIT wanted;
             END $$"
        ))
        .expect("prepared");
    let forms: [(&str, &dyn Fn(usize) -> String); 4] = [
        ("a constant", &|k| {
            format!("SELECT id FROM items ORDER BY embedding <-> {query} LIMIT {k}")
        }),
        ("a parameter", &|k| format!("EXECUTE nearest ({k}, 0)")),
        ("PL/pgSQL", &|k| format!("SELECT * FROM nearest({k})")),
        ("a subquery", &|k| {
            format!("SELECT id FROM items ORDER BY embedding <-> {query} LIMIT (SELECT {k})")
        }),
    ];
    for (form, sql) in forms {
        assert_eq!(client.query(&sql(10), &[]).expect("rows").len(), 10);
        let scan = last_scan(&mut client);
        assert_eq!((scan.walks, scan.sweeps), (1, 0), "{form}: {scan:?}");
        // So many that a sweep is cheaper than a walk for them.
        assert_eq!(client.query(&sql(2000), &[]).expect("rows").len(), 2000);
        let scan = last_scan(&mut client);
        assert_eq!((scan.walks, scan.sweeps), (0, 1), "{form}: {scan:?}");
    }
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Rows of half precision are rows like others: they can be locked and have a place.
#[test]
fn rows_of_half_precision_keep_their_identity_and_come_in_exact_order() {
    let cluster = cluster();
    let mut client = cluster.client();
    let (items, mut source) = aged(&mut client, Metric::L2, "WITH (payload = 'float16')");
    client
        .batch_execute("CREATE TABLE copies AS SELECT * FROM items WHERE id < 200")
        .and_then(|()| {
            client.batch_execute(
                "CREATE INDEX ON copies USING s3vector (embedding) WITH (payload = 'float16')",
            )
        })
        .expect("a second table");
    for query in source.vectors(20) {
        let sql = answers::sql("items", Metric::L2, &query, 20);
        let plain = rows(&mut client, &sql);
        answers::check(&items, &query, &plain);
        assert_eq!(rows(&mut client, &format!("{sql} FOR UPDATE")), plain);
        let with_place = sql.replacen("SELECT id,", "SELECT id, ctid::text,", 1);
        for row in client.query(&with_place, &[]).expect("rows") {
            let (id, ctid): (i32, String) = (row.get(0), row.get(1));
            let sql = format!("SELECT id FROM items WHERE ctid = '{ctid}'");
            assert_eq!(client.query_one(&sql, &[]).expect("the row").get::<_, i32>(0), id);
        }
    }
    assert_recall(&mut client, &items, &source.vectors(200), 0.95);
}

/// Vectors that half precision cannot tell apart are not equal: each row comes at its own distance.
#[test]
fn vectors_that_are_equal_in_half_precision_only_come_in_exact_order() {
    let cluster = cluster();
    let mut client = cluster.client();
    let vectors: Vec<Vec<f32>> = (0..600).map(|i| vec![1.0 + i as f32 * 1e-6, 2.0]).collect();
    let items = Items::create(&mut client, "items", Metric::L2, vectors);
    items.index(&mut client, "WITH (payload = 'float16')");
    prefer_index(&mut client);
    client.batch_execute("SET enable_sort = off").expect("a setting");
    for query in [[1.0, 2.0], [1.000_3, 2.0], [5.0, 2.0]] {
        let ids: Vec<i32> = rows(&mut client, &without_limit(Metric::L2, &query, ""))
            .iter()
            .map(|row| row.0)
            .collect();
        let mut nearest: Vec<i32> = ids.clone();
        nearest.sort_unstable();
        assert_eq!(nearest, (0..600).collect::<Vec<_>>());
        let distance = |id: &i32| {
            items.metric.distance(items.rows[*id as usize].as_ref().expect("live"), &query)
        };
        let distances: Vec<f64> = ids.iter().map(distance).collect();
        assert!(distances.windows(2).all(|pair| pair[0] <= pair[1] + 1e-7), "{distances:?}");
    }
}

/// Order is what nodes above rely on: a sort of ties, a merge of partitions.
#[test]
fn nodes_above_that_rely_on_order_get_it() {
    let cluster = cluster();
    let mut client = cluster.client();
    let (items, mut source) = indexed(&mut client, 3000, Metric::L2, "WITH (bits = '1')");
    client
        .batch_execute(&format!(
            "CREATE TABLE parts (id int, embedding vector({DIMENSIONS})) PARTITION BY RANGE (id);
             CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM (0) TO (1000);
             CREATE TABLE parts2 PARTITION OF parts FOR VALUES FROM (1000) TO (5000);
             INSERT INTO parts SELECT * FROM items;
             CREATE INDEX ON parts USING s3vector (embedding) WITH (bits = '1');
             ANALYZE parts; SET enable_sort = on"
        ))
        .expect("partitions");
    for query in source.vectors(5) {
        for (table, limit) in [("items", 60), ("items", 1500), ("parts", 60), ("parts", 1500)] {
            let sql = answers::sql(table, Metric::L2, &query, limit);
            let sql = match table {
                "items" => sql.replace(" LIMIT", ", id LIMIT"),
                _ => sql,
            };
            let answer = rows(&mut client, &sql);
            answers::check(&items, &query, &answer);
            assert_eq!(answer.len(), limit, "{sql}");
            let nearest: HashSet<i32> =
                items.nearest(&query, limit).iter().map(|row| row.0).collect();
            let right = answer.iter().filter(|row| nearest.contains(&row.0)).count();
            assert!(right * 100 >= limit * 95, "{table}: {right} of {limit}");
        }
    }
}

/// Statements that go wrong, or fail, where rows come out of order. `{d}` is the distance.
const BY_DISTANCE: [&str; 7] = [
    "SELECT DISTINCT {d} AS d FROM t ORDER BY d LIMIT 10",
    "SELECT DISTINCT ON ({d}) {d} AS d, id FROM t ORDER BY {d}, id LIMIT 6",
    "SELECT n, d FROM (SELECT count(*) OVER (ORDER BY {d}) AS n, {d} AS d FROM t) s ORDER BY d LIMIT 200",
    "SELECT d, l FROM (SELECT {d} AS d, lag({d}) OVER (ORDER BY {d}) AS l FROM t) s WHERE d < l LIMIT 10",
    "SELECT {d} AS d, id FROM t WHERE id % 10 = 3 ORDER BY d, id LIMIT 10",
    "SELECT {d} AS d FROM t GROUP BY 1 ORDER BY 1 LIMIT 5",
    "SELECT s.d, s.id FROM (SELECT {d} AS d, id FROM t ORDER BY {d}) s
         JOIN (SELECT DISTINCT {d} AS d FROM t WHERE id % 50 = 3 ORDER BY {d}) u ON s.d = u.d
         ORDER BY s.d, s.id LIMIT 10",
];

#[test]
fn statements_that_compare_distances_answer_as_without_the_index() {
    let cluster = cluster();
    let mut client = cluster.client();
    // Bits, of which many rows are equally far; and numbers, of which none are.
    for element in ["(random() < 0.5)::int", "random() - random()"] {
        client
            .batch_execute(&format!(
                "DROP TABLE IF EXISTS t; CREATE TABLE t (id int, v vector(32)); SELECT setseed(0.3);
                 INSERT INTO t SELECT i, (SELECT array_agg(({element})::real)::vector
                     FROM generate_series(1, 32) WHERE i > 0) FROM generate_series(1, 8000) i;
                 CREATE INDEX t_v ON t USING s3vector (v) WITH (bits = '1'); ANALYZE t;
                 SET enable_hashjoin = off; SET enable_nestloop = off; SET enable_hashagg = off"
            ))
            .expect("a table");
        for query in 1..=12 {
            let query = format!("v <-> (SELECT l2_normalize(v) FROM t WHERE id = {query})");
            for statement in BY_DISTANCE {
                let sql = statement.replace("{d}", &query);
                let all = format!("SELECT array_agg(s::text) FROM ({sql}) s");
                let mut answer = |index: bool| {
                    let settings = format!(
                        "SET enable_indexscan = {index}; SET enable_seqscan = {}; SET enable_sort = {}",
                        !index, !index
                    );
                    client.batch_execute(&settings).expect("settings");
                    let row = client.query_one(&all, &[]);
                    row.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
                        .get::<_, Option<Vec<String>>>(0)
                };
                assert_eq!(answer(true), answer(false), "{sql}");
                let scan = last_scan(&mut client);
                assert_eq!(scan.late, 0, "{sql}: {scan:?}");
            }
        }
    }
}

/// LIMIT does not say how many rows are read where some are not seen, or rows are read ahead of it.
#[test]
fn what_compares_distances_is_right_about_rows_below_a_limit() {
    let cluster = cluster();
    let mut client = cluster.client();
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, v vector(32)); SELECT setseed(0.4);
             INSERT INTO t SELECT i, (SELECT array_agg((random() - random())::real)::vector
                 FROM generate_series(1, 32) WHERE i > 0) FROM generate_series(1, 8000) i;
             CREATE INDEX t_v ON t USING s3vector (v) WITH (bits = '1'); ANALYZE t;
             SET enable_hashjoin = off; SET enable_nestloop = off; SET enable_hashagg = off;
             SET enable_seqscan = off",
        )
        .expect("a table");
    let nearest = "(SELECT {d} AS d, id FROM t WHERE {filter} ORDER BY {d} LIMIT 40)";
    // Each counts what is out of order.
    let statements = [
        "SELECT count(*) FROM (SELECT d, lag(d) OVER (ORDER BY d) AS before FROM {near} n) s WHERE d < before",
        "SELECT 40 - count(*) FROM {near} n JOIN (SELECT DISTINCT {d} AS d FROM t) u USING (d)",
        "WITH n AS MATERIALIZED {near}
             SELECT count(*) - count(DISTINCT d) FROM (SELECT d FROM n GROUP BY d) g",
        "SELECT count(*) FROM (SELECT d, lag(d) OVER () AS before FROM (SELECT {d} AS d, id FROM t
             WHERE {filter} ORDER BY {d}, id LIMIT 40 FOR UPDATE) n) s WHERE d < before",
        "SELECT count(*) FROM (SELECT d, lag(d) OVER () AS before FROM (SELECT {d} AS d, id FROM t
             WHERE {filter} ORDER BY {d} FETCH FIRST 40 ROWS WITH TIES) n) s WHERE d < before",
    ];
    for filter in ["true", "id % 97 < 1"] {
        for query in 1..=10 {
            let distance = format!("v <-> (SELECT l2_normalize(v) FROM t WHERE id = {query})");
            for statement in statements {
                let sql = statement.replace("{near}", nearest);
                let sql = sql.replace("{d}", &distance).replace("{filter}", filter);
                client
                    .batch_execute(&format!(
                        "BEGIN; DELETE FROM t WHERE id > 100 AND id IN (SELECT id FROM (SELECT id FROM t
                             ORDER BY {distance} LIMIT 200) x WHERE id % 2 = 0)"
                    ))
                    .expect("deleted");
                assert_eq!(count(&mut client, &sql), 0, "{sql}");
                client.batch_execute("ROLLBACK").expect("as before");
            }
        }
    }
}

/// Merges make codes of the stored halves, which are not where the rows are.
#[test]
fn rows_of_merged_segments_of_half_precision_come_in_order() {
    let cluster = cluster();
    let mut client = cluster.client();
    for (metric, dimensions) in [(Metric::L2, 3), (Metric::InnerProduct, 1), (Metric::L2, 64)] {
        client
            .batch_execute(&format!(
                "DROP TABLE IF EXISTS t; CREATE TABLE t (id int, v vector({dimensions})) WITH (autovacuum_enabled = off);
                 SELECT setseed(0.6); CREATE FUNCTION pg_temp.more(first int, many int) RETURNS void LANGUAGE sql AS $$
                     INSERT INTO t SELECT i, (SELECT array_agg((1 + random() / 1000)::real)::vector
                     FROM generate_series(1, {dimensions}) WHERE i > 0) FROM generate_series(first, first + many - 1) i $$;
                 SELECT pg_temp.more(1, 999);
                 CREATE INDEX t_v ON t USING s3vector (v {}) WITH (payload = 'float16');
                 SET enable_seqscan = off; SET enable_sort = off",
                metric.opclass()
            ))
            .expect("a table");
        for round in 1..=4 {
            client
                .batch_execute(&format!("SELECT pg_temp.more({}, 300)", 1000 * round))
                .expect("more");
            flush(&mut client, "t_v");
        }
        client.batch_execute("DROP FUNCTION pg_temp.more").expect("dropped");
        for query in [3, 30, 1003] {
            let sql = format!(
                "SELECT id, v {} (SELECT v FROM t WHERE id = {query}) AS d FROM t
                 ORDER BY v {} (SELECT v FROM t WHERE id = {query})",
                metric.operator(),
                metric.operator()
            );
            let answer = rows(&mut client, &sql);
            answers::check_order(&answer);
            assert_eq!((answer.len(), last_scan(&mut client).late), (2199, 0));
        }
    }
}

/// With too little memory for what one-bit codes leave open the rows are sorted, on disk if need be; also
/// when another scan begins, or the scan ends, before all have come.
#[test]
fn rows_that_memory_is_too_small_for_are_sorted() {
    let cluster = cluster();
    let mut client = cluster.client();
    for payload in ["float32", "float16"] {
        client.batch_execute("DROP TABLE IF EXISTS items; RESET ALL").expect("dropped");
        let with = format!("WITH (bits = '1', payload = '{payload}')");
        let (items, mut source) = aged(&mut client, Metric::L2, &with);
        client.batch_execute("SET work_mem = '64kB'; SELECT s3vector_drop_cache()").expect("set");
        for query in source.vectors(2) {
            let answer = rows(&mut client, &without_limit(Metric::L2, &query, ""));
            answers::check(&items, &query, &answer);
            assert_eq!(answer.len(), items.len(), "{payload}");
            assert!(
                count(&mut client, "SELECT sorted_rows FROM s3vector_last_scan()") > 0,
                "{payload}"
            );
            assert_eq!(last_scan(&mut client).late, 0);
        }
        // Scans below a nested loop that are begun again, and one that is not read to its end.
        let lateral =
            "SELECT count(*) FROM (VALUES (1), (2)) q (id), LATERAL (SELECT i.id FROM items i
             ORDER BY i.embedding <-> (SELECT embedding FROM items WHERE id = q.id) OFFSET 0) s";
        assert_eq!(count(&mut client, lateral), 2 * items.len() as i64);
        client
            .batch_execute(&format!(
                "BEGIN; DECLARE c CURSOR FOR {}; MOVE 3500 IN c; CLOSE c; COMMIT",
                without_limit(Metric::L2, &source.vectors(1)[0], "")
            ))
            .expect("a cursor that is closed early");
    }
}

#[test]
fn rows_too_far_for_any_number_come_all_the_same() {
    let cluster = cluster();
    let mut client = cluster.client();
    client
        .batch_execute(
            "CREATE TABLE t (id int, v vector(2)); SET work_mem = '64kB';
             INSERT INTO t SELECT i, array[CASE WHEN i % 3 = 0 THEN i ELSE 1e25 + i * 1e20 END, i]::vector
             FROM generate_series(1, 6000) i;
             CREATE INDEX ON t USING s3vector (v); SET enable_seqscan = off; SET enable_sort = off",
        )
        .expect("a table");
    for (filter, expected) in [("true", 6000), ("id > 5990", 10)] {
        let sql = format!(
            "SELECT count(*) FROM (SELECT id FROM t WHERE {filter} ORDER BY v <-> '[0,0]' OFFSET 0) s"
        );
        let count: i64 = client.query_one(&sql, &[]).expect("a count").get(0);
        assert_eq!(count, expected, "{filter}");
        assert_eq!(last_scan(&mut client).late, 0);
    }
}
