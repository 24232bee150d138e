//! Rows between their insertion and the delta: a statement writes many of them together.

use std::thread;

use harness::answers::{assert_all_found, assert_recall, prefer_index};
use harness::items::{Source, literal};
use harness::model::assert_whole;
use harness::upkeep::{flush, info};
use harness::wait::wait_until;
use harness::{Cluster, Items, Metric};
use postgres::Client;

const DIMENSIONS: usize = 32;

fn empty(client: &mut Client) -> (Items, Source) {
    client
        .batch_execute(&format!("CREATE TABLE items (id int, embedding vector({DIMENSIONS}))"))
        .expect("a table");
    let items = Items { table: "items".to_owned(), metric: Metric::L2, rows: Vec::new() };
    items.index(client, "");
    prefer_index(client);
    (items, Source::new(81, DIMENSIONS))
}

/// The next rows of `items`, as VALUES lists them.
fn values(items: &mut Items, vectors: Vec<Vec<f32>>) -> String {
    let rows: Vec<String> = vectors
        .into_iter()
        .map(|vector| {
            let row = format!("({}, {}::vector)", items.rows.len(), literal(&vector));
            items.rows.push(Some(vector));
            row
        })
        .collect();
    rows.join(", ")
}

/// An INSERT of `vectors` as a query whose execution can be left unfinished.
fn inserting(items: &mut Items, vectors: Vec<Vec<f32>>) -> String {
    let rows = values(items, vectors);
    format!("WITH new AS (INSERT INTO items VALUES {rows} RETURNING id) SELECT id FROM new")
}

/// A cluster in which nothing flushes by itself.
fn cluster() -> Cluster {
    Cluster::builder()
        .set("s3vector.maintenance_workers", 0)
        .set("max_prepared_transactions", 5)
        .start()
}

/// Four sessions and COPY: pages of all of them end up in one list.
#[test]
fn copying_side_by_side() {
    let cluster = cluster();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client);
    let parts: Vec<Vec<Vec<f32>>> = (0..4).map(|_| source.vectors(2500)).collect();
    let copied: Vec<Items> = thread::scope(|scope| {
        let writers: Vec<_> = parts
            .into_iter()
            .enumerate()
            .map(|(number, vectors)| {
                let (cluster, mut part) = (&cluster, items.clone());
                scope.spawn(move || {
                    part.rows = vec![None; 2500 * number];
                    let mut client = cluster.client();
                    // Statements that fill a part of a page, a page and several.
                    for rows in vectors.chunks(625).flat_map(|rows| {
                        let (few, rest) = rows.split_at(3);
                        let (page, many) = rest.split_at(60);
                        [few, page, many]
                    }) {
                        part.copy(&mut client, rows.to_vec());
                    }
                    part
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer")).collect()
    });
    for (number, mut part) in copied.into_iter().enumerate() {
        items.rows.extend(part.rows.drain(2500 * number..));
    }
    let found = info(&mut client, "items_index");
    assert_eq!(found.delta_entries, 10_000, "{found:?}");
    assert_all_found(&mut client, &items, (0..10_000).step_by(37));
    assert_recall(&mut client, &items, &source.vectors(50), 0.95);
    let all = client
        .query("SELECT id FROM items ORDER BY embedding <-> (SELECT embedding FROM items WHERE id = 1)", &[])
        .expect("all rows");
    assert_eq!(all.len(), 10_000);
    // Not by far more pages than the rows take.
    let pages: i64 = client
        .query_one("SELECT pg_relation_size('items_index') / 8192", &[])
        .expect("a size")
        .get(0);
    let needed = 10_000 / (8150 / (8 + 4 * DIMENSIONS as i64));
    assert!(pages <= needed + needed / 10 + 10, "{pages} pages, {needed} needed");
}

/// A client that has not fetched all of what RETURNING returns: the rows are there for the session's
/// next statement, and for everybody after the commit.
#[test]
fn a_portal_that_stays_open() {
    let cluster = cluster();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client);
    let mut transaction = client.transaction().expect("a transaction");
    let portal =
        transaction.bind(&*inserting(&mut items, source.vectors(20)), &[]).expect("a portal");
    assert_eq!(transaction.query_portal(&portal, 1).expect("a row").len(), 1);
    let seen = transaction
        .query(
            &format!("SELECT id FROM items ORDER BY embedding <-> {}", literal(&source.vector())),
            &[],
        )
        .expect("a search");
    assert_eq!(seen.len(), 20);
    let portal =
        transaction.bind(&*inserting(&mut items, source.vectors(20)), &[]).expect("a portal");
    assert_eq!(transaction.query_portal(&portal, 1).expect("a row").len(), 1);
    transaction.commit().expect("committed");
    assert_all_found(&mut cluster.client(), &items, 0..40);

    let mut transaction = client.transaction().expect("a transaction");
    let portal =
        transaction.bind(&*inserting(&mut items, source.vectors(20)), &[]).expect("a portal");
    assert_eq!(transaction.query_portal(&portal, 1).expect("a row").len(), 1);
    transaction.batch_execute("PREPARE TRANSACTION 'later'").expect("prepared");
    drop(transaction);
    let mut client = cluster.client();
    client.batch_execute("COMMIT PREPARED 'later'").expect("committed");
    prefer_index(&mut client);
    assert_all_found(&mut client, &items, 0..60);
}

/// A lock that statements of other sessions wait for, held by this one.
struct Barrier {
    client: Client,
    key: i64,
}

impl Barrier {
    fn raise(cluster: &Cluster, key: i64) -> Self {
        let mut client = cluster.client();
        client.execute("SELECT pg_advisory_lock($1)", &[&key]).expect("locked");
        Self { client, key }
    }

    /// Waits until another session stands before it.
    fn wait(&mut self) {
        let waiting = "SELECT count(*) FROM pg_locks \
             WHERE locktype = 'advisory' AND NOT granted AND objid::bigint = $1";
        wait_until("a session at the barrier", || {
            let row = self.client.query_one(waiting, &[&self.key]).expect("locks");
            row.get::<_, i64>(0) == 1
        });
    }

    fn lift(mut self) {
        self.client.execute("SELECT pg_advisory_unlock($1)", &[&self.key]).expect("unlocked");
    }
}

/// VACUUM gives the places of a failed statement's rows away while the transaction goes on. What had not
/// been written must never be.
#[test]
fn places_of_a_failed_statement() {
    let cluster = cluster();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client);
    let first = source.vector();
    let mut barrier = Barrier::raise(&cluster, 1);
    thread::scope(|scope| {
        let block = format!(
            "DO $$ BEGIN
                 BEGIN
                     INSERT INTO items SELECT 10000 + i + 0 / (50 - i), {vector}
                     FROM generate_series(1, 100) AS i;
                 EXCEPTION WHEN division_by_zero THEN NULL;
                 END;
                 PERFORM pg_advisory_lock_shared(1);
                 INSERT INTO items VALUES (0, {vector});
             END $$",
            vector = literal(&first)
        );
        let cluster = &cluster;
        let running =
            scope.spawn(move || cluster.client().batch_execute(&block).expect("the block"));
        barrier.wait();
        client.batch_execute("VACUUM (INDEX_CLEANUP ON) items").expect("vacuumed");
        items.rows.push(None);
        items.copy(&mut client, source.vectors(60));
        barrier.lift();
        running.join().expect("the block ends");
    });
    items.rows[0] = Some(first);
    let found = info(&mut client, "items_index");
    assert_eq!(found.delta_entries, 61, "{found:?}");
    assert_whole(&mut client, &items, &source.vector(), 1.0);
    assert_all_found(&mut client, &items, 0..61);
}

/// Defines `pause(id)`, an index over which makes an insertion of the rows 500 and 501 stand before a
/// [`Barrier`] when they are in the table and in no younger index.
const PAUSE: &str =
    "CREATE FUNCTION pause(id text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
         IF id IN ('500', '501') THEN
             PERFORM pg_advisory_lock(id::bigint);
             PERFORM pg_advisory_unlock(id::bigint);
         END IF;
         RETURN id;
     END $$";

/// A table with a unique index that a row reaches last, when it has an entry in all others; rows 0 to
/// 489. `parent` is the table, or one that it is a partition of.
fn contested(client: &mut Client, parent: &str) -> (Items, Source) {
    let table = format!("(id int, embedding vector({DIMENSIONS}))");
    let tables = match parent {
        "items" => format!("CREATE TABLE items {table}"),
        _ => format!(
            "CREATE TABLE {parent} {table} PARTITION BY RANGE (id);
             CREATE TABLE items PARTITION OF {parent} FOR VALUES FROM (0) TO (1000000)"
        ),
    };
    client
        .batch_execute(&format!("{tables}; {PAUSE}; CREATE INDEX ON items (pause(id::text))"))
        .expect("a table");
    let mut items = Items { table: "items".to_owned(), metric: Metric::L2, rows: Vec::new() };
    items.index(client, "");
    client.batch_execute(&format!("ALTER TABLE {parent} ADD UNIQUE (id)")).expect("a constraint");
    let mut source = Source::new(82, DIMENSIONS);
    items.copy(client, source.vectors(490));
    (items, source)
}

/// Runs a statement that inserts the rows 500 and 501, in this order. While row 500 is on its way into
/// the indexes `rival` inserts one of its own; VACUUM then gives the place of the other one to what
/// `fill` inserts, while the statement still runs. Returns how many rows it says it has written.
fn outrun(
    cluster: &Cluster,
    table: &str,
    statement: &str,
    rival: &str,
    fill: impl FnOnce(&mut Client),
) -> u64 {
    let (mut conflict, mut end) = (Barrier::raise(cluster, 500), Barrier::raise(cluster, 501));
    thread::scope(|scope| {
        let running =
            scope.spawn(move || cluster.client().execute(statement, &[]).expect("the statement"));
        conflict.wait();
        conflict.client.batch_execute(rival).expect("inserted");
        conflict.lift();
        end.wait();
        let mut client = cluster.client();
        client.batch_execute(&format!("VACUUM (INDEX_CLEANUP ON) {table}")).expect("vacuumed");
        fill(&mut client);
        end.lift();
        running.join().expect("the statement ends")
    })
}

/// With ON CONFLICT a row that conflicts is dead while its statement goes on, and VACUUM gives its place
/// away.
#[test]
fn places_of_conflicting_rows() {
    let cluster = cluster();
    let mut client = cluster.client();
    let (mut items, mut source) = contested(&mut client, "items");
    let statement = format!(
        "INSERT INTO items SELECT * FROM (VALUES {}) AS new ON CONFLICT (id) DO NOTHING",
        values(&mut items, source.vectors(20))
    );
    let vector = source.vector();
    let rival = format!("INSERT INTO items VALUES (500, {})", literal(&vector));
    items.rows[500] = Some(vector);
    let others = source.vectors(60);
    let written =
        outrun(&cluster, "items", &statement, &rival, |client| items.copy(client, others));
    assert_eq!(written, 19);
    assert_whole(&mut client, &items, &source.vector(), 1.0);
    assert_all_found(&mut client, &items, 400..570);
}

/// The same in a statement whose first rows are updates, which do not tell that it has ON CONFLICT, and
/// which has more updates later.
#[test]
fn places_of_conflicting_rows_after_updates() {
    for parent in ["items", "parent"] {
        let cluster = cluster();
        let mut client = cluster.client();
        let (mut items, mut source) = contested(&mut client, parent);
        let mut rows = Vec::new();
        for id in [3, 1, 500, 2, 501] {
            let vector = source.vector();
            rows.push(format!("({id}, {}::vector)", literal(&vector)));
            items.rows.resize(items.rows.len().max(id + 1), None);
            items.rows[id] = Some(vector);
        }
        let statement = format!(
            "INSERT INTO {parent} VALUES {} ON CONFLICT (id) DO UPDATE SET embedding = excluded.embedding",
            rows.join(", ")
        );
        let rival = format!("INSERT INTO items VALUES (500, {})", literal(&source.vector()));
        let others = source.vectors(60);
        let written =
            outrun(&cluster, "items", &statement, &rival, |client| items.copy(client, others));
        assert_eq!(written, 5);
        assert_whole(&mut client, &items, &source.vector(), 1.0);
        assert_all_found(&mut client, &items, (0..490).step_by(50).chain(500..562));
    }
}

/// `add_vectors` that replaces rows is such a statement.
#[test]
fn places_of_conflicting_rows_of_a_collection() {
    let cluster = cluster();
    let mut client = cluster.client();
    client
        .batch_execute(&format!(
            "SELECT s3vector.create_collection('docs', 3, 'l2');
             ALTER TABLE docs DROP CONSTRAINT docs_pkey;
             {PAUSE};
             CREATE INDEX ON docs (pause(id));
             ALTER TABLE docs ADD PRIMARY KEY (id);
             SELECT s3vector.add_vectors('docs', ARRAY['[1,1,1]']::vector[], ids => ARRAY['1'])"
        ))
        .expect("a collection");
    let statement = "SELECT s3vector.add_vectors('docs',
        ARRAY['[1,1,2]', '[50,50,50]', '[9,9,9]']::vector[], ids => ARRAY['1', '500', '501'], update => true)";
    let rival = "INSERT INTO docs VALUES ('500', '[70,70,70]')";
    outrun(&cluster, "docs", statement, rival, |client| {
        client.batch_execute("INSERT INTO docs VALUES ('900', '[-90,-90,-90]')").expect("inserted");
    });
    prefer_index(&mut client);
    let nearest = "SELECT id FROM docs ORDER BY embedding <-> '[50,50,50]' LIMIT 10";
    for _ in 0..2 {
        let plan = client.query(&format!("EXPLAIN {nearest}"), &[]).expect("a plan");
        let plan: Vec<String> = plan.iter().map(|line| line.get(0)).collect();
        assert!(plan.iter().any(|line| line.contains("docs_embedding_idx")), "{plan:#?}");
        let found = client.query(nearest, &[]).expect("a search");
        let found: Vec<String> = found.iter().map(|row| row.get(0)).collect();
        assert_eq!(found, ["500", "501", "1", "900"]);
        flush(&mut client, "docs_embedding_idx");
    }
}

/// What is inserted in a subtransaction belongs to the transaction when that ends well.
#[test]
fn released_savepoints() {
    let cluster = cluster();
    let mut client = cluster.client();
    let (mut items, mut source) = empty(&mut client);
    let mut transaction = client.transaction().expect("a transaction");
    for round in 0..4 {
        transaction.batch_execute("SAVEPOINT first; SAVEPOINT second").expect("savepoints");
        let mut next = items.clone();
        let statement = inserting(&mut next, source.vectors(20));
        assert_eq!(transaction.query(&*statement, &[]).expect("inserted").len(), 20);
        transaction.batch_execute("RELEASE second").expect("released");
        if round % 2 == 0 {
            transaction.batch_execute("RELEASE first").expect("released");
            items = next;
        } else {
            transaction.batch_execute("ROLLBACK TO first; RELEASE first").expect("rolled back");
        }
    }
    transaction.commit().expect("committed");
    assert_all_found(&mut client, &items, 0..40);
}
