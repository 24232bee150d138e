//! A session that has searched keeps the statement prepared: is it right after the table changes?

use std::sync::atomic::{AtomicUsize, Ordering};

use harness::Metric;
use harness::items::Source;
use postgres::Client;

use crate::docs::{ALL, Docs, PERCENT};
use crate::ground::{Ground, count, gives, holds, refused, run, texts};

/// A session that has used every call on a collection of the four corners, and another.
fn sessions(ground: &Ground) -> (Client, Client) {
    let (mut user, mut changer) = (ground.client(), ground.client());
    create(&mut changer, "docs");
    for _ in 0..3 {
        assert_whole(&mut user, "docs", &["a", "b", "c", "d"]);
    }
    (user, changer)
}

/// Creates a collection with rows at distances 0, 1, 2, 3 from the origin.
fn create(client: &mut Client, name: &str) {
    run(client, &format!("SELECT s3vector.create_collection('{name}', 2, 'l2')"));
    run(
        client,
        &format!(
            r#"SELECT s3vector.add_vectors('{name}', ARRAY[[0,0],[0,1],[0,2],[0,3]], '[{{"k": 1}},{{"k": 1}},{{"k": 1}},{{"k": 1}}]', '{{a,b,c,d}}')"#
        ),
    );
}

/// Asserts that all calls that read see these rows.
#[track_caller]
fn assert_whole(client: &mut Client, name: &str, ids: &[&str]) {
    for sql in [
        "search_vectors('{}', '[0,0]')",
        r#"search_vectors('{}', '[0,0]', '{"k": 1}')"#,
        r#"search_vectors('{}', '[0,0]', '{"k": 1}', include_vectors => true, order_by => 'id')"#,
        "search_vectors('{}', NULL)",
        "list_vectors('{}')",
    ] {
        gives(client, &format!("SELECT id FROM s3vector.{}", sql.replacen("{}", name, 1)), ids);
    }
    gives(
        client,
        &format!(
            "SELECT jsonb_path_query(s3vector.search_vectors_page('{name}', '[0,0]'), '$.items.id') #>> '{{}}'"
        ),
        ids,
    );
    assert_eq!(count(client, name), i64::try_from(ids.len()).expect("few"));
}

#[test]
fn renamed() {
    let ground = Ground::new();
    let (mut user, mut changer) = sessions(&ground);
    run(&mut changer, "ALTER TABLE docs RENAME TO papers");
    assert_whole(&mut user, "papers", &["a", "b", "c", "d"]);
    refused(&mut user, "SELECT * FROM s3vector.search_vectors('docs', '[0,0]')")
        .expect("42P01", &["docs"]);
    // Another collection takes the name.
    create(&mut changer, "docs");
    run(&mut changer, "SELECT s3vector.remove_vectors('docs', '{a,b}')");
    assert_whole(&mut user, "docs", &["c", "d"]);
    // The two change names.
    run(
        &mut changer,
        "BEGIN; ALTER TABLE docs RENAME TO between; ALTER TABLE papers RENAME TO docs; ALTER TABLE between RENAME TO papers; COMMIT",
    );
    assert_whole(&mut user, "docs", &["a", "b", "c", "d"]);
    assert_whole(&mut user, "papers", &["c", "d"]);
    // Its own renaming, undone.
    run(&mut user, "BEGIN; ALTER TABLE docs RENAME TO mine");
    assert_whole(&mut user, "mine", &["a", "b", "c", "d"]);
    run(&mut user, "ROLLBACK");
    assert_whole(&mut user, "docs", &["a", "b", "c", "d"]);
}

#[test]
fn moved_to_another_schema() {
    let ground = Ground::new();
    let (mut user, mut changer) = sessions(&ground);
    run(&mut changer, "CREATE SCHEMA shelf; ALTER TABLE docs SET SCHEMA shelf");
    refused(&mut user, "SELECT * FROM s3vector.search_vectors('docs', '[0,0]')")
        .expect("42P01", &["docs", "search_path"]);
    run(&mut user, "SET search_path = shelf, public");
    assert_whole(&mut user, "docs", &["a", "b", "c", "d"]);
    run(&mut changer, "ALTER SCHEMA shelf RENAME TO rack");
    run(&mut user, "SET search_path = rack, public");
    assert_whole(&mut user, "docs", &["a", "b", "c", "d"]);
    // A schema of the old name with a collection of the old name.
    run(&mut changer, "CREATE SCHEMA shelf; SET search_path = shelf, public");
    create(&mut changer, "docs");
    run(&mut changer, "SELECT s3vector.remove_vectors('docs', '{d}')");
    assert_whole(&mut user, "docs", &["a", "b", "c", "d"]);
    run(&mut user, "SET search_path = shelf, rack, public");
    assert_whole(&mut user, "docs", &["a", "b", "c"]);
    run(&mut changer, "ALTER SCHEMA shelf RENAME TO other; ALTER SCHEMA rack RENAME TO shelf");
    assert_whole(&mut user, "docs", &["a", "b", "c", "d"]);
}

#[test]
fn columns_added_and_dropped() {
    let ground = Ground::new();
    let (mut user, mut changer) = sessions(&ground);
    for change in [
        "ADD COLUMN body text NOT NULL DEFAULT 'x'",
        "DROP COLUMN body",
        "ADD COLUMN score text, ADD COLUMN vector text, ADD COLUMN found int",
        "ALTER COLUMN created_at SET DEFAULT 'epoch'",
        "ADD CHECK (id <> 'z')",
        "SET (fillfactor = 50)",
        "SET UNLOGGED",
    ] {
        run(&mut changer, &format!("ALTER TABLE docs {change}"));
        assert_whole(&mut user, "docs", &["a", "b", "c", "d"]);
    }
    for change in
        ["ALTER TABLE docs SET LOGGED", "VACUUM FULL docs", "CLUSTER docs USING docs_pkey"]
    {
        run(&mut changer, change);
    }
    assert_whole(&mut user, "docs", &["a", "b", "c", "d"]);
    run(&mut changer, "ALTER TABLE docs DROP COLUMN metadata");
    refused(&mut user, "SELECT * FROM s3vector.search_vectors('docs', '[0,0]')")
        .expect("42809", &["metadata jsonb"]);
    // Other dimensions.
    create(&mut changer, "other");
    assert_whole(&mut user, "other", &["a", "b", "c", "d"]);
    run(&mut changer, "TRUNCATE other; DROP INDEX other_embedding_idx");
    refused(&mut user, "SELECT s3vector.count_vectors('other')").expect("42809", &["index"]);
    run(
        &mut changer,
        "ALTER TABLE other ALTER embedding TYPE vector(3); CREATE INDEX ON other USING s3vector (embedding vector_ip_ops)",
    );
    run(&mut user, "SELECT s3vector.add_vectors('other', ARRAY[[1,2,3]], ids => '{x}')");
    gives(
        &mut user,
        "SELECT id || score FROM s3vector.search_vectors('other', '[1,2,3]')",
        &["x14"],
    );
}

#[test]
fn dropped_and_created_again() {
    let ground = Ground::new();
    let (mut user, mut changer) = sessions(&ground);
    run(&mut changer, "SELECT s3vector.delete_collection('docs')");
    refused(&mut user, "SELECT * FROM s3vector.search_vectors('docs', '[0,0]')")
        .expect("42P01", &["docs"]);
    create(&mut changer, "docs");
    run(&mut changer, "SELECT s3vector.remove_vectors('docs', '{a}')");
    assert_whole(&mut user, "docs", &["b", "c", "d"]);
    // With another metric and other dimensions.
    run(&mut changer, "SELECT s3vector.create_collection('docs', 3, 'ip', overwrite => true)");
    run(&mut user, "SELECT s3vector.add_vectors('docs', ARRAY[[1,2,3]], ids => '{x}')");
    gives(
        &mut user,
        "SELECT id || score FROM s3vector.search_vectors('docs', '[1,2,3]')",
        &["x14"],
    );
    refused(&mut user, "SELECT * FROM s3vector.search_vectors('docs', '[0,0]')")
        .expect("22000", &["2 dimensions"]);
    // Of a creation that is undone nothing stays known.
    run(&mut user, "BEGIN; SELECT s3vector.create_collection('brief', 2, 'l2')");
    run(&mut user, "SELECT * FROM s3vector.search_vectors('brief', '[0,0]'); ROLLBACK");
    refused(&mut user, "SELECT * FROM s3vector.search_vectors('brief', '[0,0]')")
        .expect("42P01", &["brief"]);
    create(&mut changer, "brief");
    assert_whole(&mut user, "brief", &["a", "b", "c", "d"]);
    // Nor of a deletion.
    run(&mut user, "BEGIN; SELECT s3vector.delete_collection('brief')");
    refused(&mut user, "SELECT * FROM s3vector.search_vectors('brief', '[0,0]')")
        .expect("42P01", &["brief"]);
    run(&mut user, "ROLLBACK");
    assert_whole(&mut user, "brief", &["a", "b", "c", "d"]);
}

#[test]
fn indexes_rebuilt() {
    let ground = Ground::new();
    let (mut user, mut changer) = sessions(&ground);
    run(&mut user, "SET enable_seqscan = off; SET enable_sort = off");
    for change in [
        "REINDEX TABLE docs",
        "REINDEX INDEX CONCURRENTLY docs_embedding_idx",
        "DROP INDEX docs_metadata_idx",
        "ALTER INDEX docs_embedding_idx RENAME TO other",
        "DROP INDEX other; CREATE INDEX ON docs USING s3vector (embedding vector_l2_ops)",
        "CREATE INDEX CONCURRENTLY second ON docs USING s3vector (embedding vector_l2_ops) WITH (m = 4)",
    ] {
        // Statements of their own: some must not be in a transaction.
        for change in change.split("; ") {
            run(&mut changer, change);
        }
        assert_whole(&mut user, "docs", &["a", "b", "c", "d"]);
    }
    run(&mut changer, "DROP INDEX docs_embedding_idx, second");
    refused(&mut user, "SELECT * FROM s3vector.search_vectors('docs', '[0,0]')")
        .expect("42809", &["s3vector index"]);
}

/// What a collection is ordered by does not hang on which of two indexes was built last.
#[test]
fn two_metrics() {
    let ground = Ground::new();
    let (mut user, mut changer) = sessions(&ground);
    run(&mut changer, "CREATE INDEX cosine ON docs USING s3vector (embedding vector_cosine_ops)");
    let metric = |client: &mut Client| {
        texts(client, "SELECT distance_metric FROM s3vector.get_collection_info('docs')").join("")
    };
    let before = metric(&mut user);
    for index in ["docs_embedding_idx", "cosine"] {
        run(&mut changer, &format!("REINDEX INDEX CONCURRENTLY {index}"));
        assert_eq!(metric(&mut user), before, "after REINDEX of {index}");
    }
}

/// A transaction with an old snapshot sees names as they are, as with any table, and what it has
/// learned does no harm later.
#[test]
fn changed_behind_an_old_snapshot() {
    let ground = Ground::new();
    let (mut user, mut changer) = sessions(&ground);
    run(&mut user, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    run(&mut changer, "ALTER TABLE docs RENAME TO papers");
    create(&mut changer, "later");
    run(&mut changer, "SELECT s3vector.remove_vectors('papers', '{a}')");
    // The rows are those of the snapshot.
    assert_whole(&mut user, "papers", &["a", "b", "c", "d"]);
    assert_whole(&mut user, "later", &[]);
    run(&mut user, "COMMIT");
    assert_whole(&mut user, "papers", &["b", "c", "d"]);
    assert_whole(&mut user, "later", &["a", "b", "c", "d"]);
}

#[test]
fn created_behind_an_old_snapshot() {
    let ground = Ground::new();
    let (mut user, mut changer) = sessions(&ground);
    run(&mut user, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    create(&mut changer, "later");
    run(&mut user, "SAVEPOINT before");
    refused(&mut user, "SELECT s3vector.create_collection('later', 2)")
        .expect("42P07", &["collection \"later\""]);
    run(
        &mut user,
        "ROLLBACK TO before; SELECT s3vector.create_collection('later', 2, overwrite => true); COMMIT",
    );
    assert_eq!(count(&mut changer, "later"), 0);
}

/// The same mistakes outside of any transaction block: a session that has the wrong name once must
/// not keep it.
#[test]
fn a_snapshot_that_was_old_is_forgotten() {
    let ground = Ground::new();
    let (mut user, mut changer) = sessions(&ground);
    run(&mut user, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    run(&mut changer, "ALTER TABLE docs RENAME TO papers");
    // Whatever this says.
    let _ = user.batch_execute("SELECT s3vector.count_vectors('papers')");
    run(&mut user, "ROLLBACK");
    assert_whole(&mut user, "papers", &["a", "b", "c", "d"]);
}

/// The same beside parallel workers, where no newer snapshot can be had.
#[test]
fn an_old_snapshot_beside_parallel_workers() {
    let ground = Ground::new();
    let (mut user, mut changer) = sessions(&ground);
    run(
        &mut user,
        "SET debug_parallel_query = on; CREATE TABLE many AS SELECT generate_series(1, 100) i",
    );
    run(&mut user, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1");
    run(&mut changer, "ALTER TABLE docs RENAME TO papers");
    let _ = user.batch_execute("SELECT count(*) + s3vector.count_vectors('papers') FROM many");
    run(&mut user, "ROLLBACK; RESET debug_parallel_query");
    assert_whole(&mut user, "papers", &["a", "b", "c", "d"]);
}

/// pgvector is moved to another schema.
#[test]
fn the_type_moves() {
    let ground = Ground::new();
    let (mut user, mut changer) = sessions(&ground);
    run(&mut changer, "CREATE SCHEMA ext; ALTER EXTENSION vector SET SCHEMA ext");
    assert_whole(&mut user, "docs", &["a", "b", "c", "d"]);
    create(&mut user, "more");
    assert_whole(&mut user, "more", &["a", "b", "c", "d"]);
}

/// The plan of an empty collection is not that of a large one, though nothing is analyzed.
#[test]
fn growth() {
    /// Marks queries in the log that all tests share.
    static QUERY: AtomicUsize = AtomicUsize::new(0);
    let ground = Ground::new();
    let (mut user, mut changer) = (ground.client(), ground.client());
    let mut source = Source::new(521, 4);
    let mut docs = Docs::create(&mut changer, "growing", Metric::L2, source.vectors(10));
    run(
        &mut user,
        "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on",
    );
    // The plans of a search, from the server's log.
    let mut plans = |docs: &Docs, filter: crate::docs::Filter| {
        let mark = format!("growth{}", QUERY.fetch_add(1, Ordering::Relaxed));
        let before = ground.cluster.log().len();
        docs.search(&mut user, &source.vector(), filter, 10);
        run(&mut user, &format!("SELECT '{mark}'"));
        harness::wait::wait_until("the plan to be logged", || {
            ground.cluster.log()[before..].contains(&mark)
        });
        ground.cluster.log()[before..].to_owned()
    };
    for _ in 0..3 {
        let plan = plans(&docs, ALL);
        assert!(plan.contains("on growing t"), "{plan}");
        plans(&docs, PERCENT);
    }
    let mut more = Source::new(522, 4);
    docs.add(&mut changer, more.vectors(9990));
    let plan = plans(&docs, ALL);
    assert!(
        plan.contains("Index Scan using growing_embedding_idx"),
        "10,000 rows in the delta: {plan}"
    );
    run(&mut changer, "SELECT s3vector_flush('growing_embedding_idx')");
    docs.add(&mut changer, more.vectors(10_000));
    let plan = plans(&docs, ALL);
    assert!(plan.contains("Index Scan using growing_embedding_idx"), "20,000 rows: {plan}");
    run(&mut changer, "ANALYZE growing");
    let plan = plans(&docs, PERCENT);
    assert!(plan.contains("on growing t"), "{plan}");
    // And back: nearly nothing is left.
    run(&mut changer, "DELETE FROM growing WHERE id >= 'd00010'");
    run(&mut changer, "VACUUM ANALYZE growing");
    docs.vectors.truncate(10);
    plans(&docs, ALL);
}

/// More shapes of searches than are kept prepared.
#[test]
fn many_shapes() {
    let ground = Ground::new();
    let (mut user, _) = sessions(&ground);
    run(
        &mut user,
        "DO $$ BEGIN
           FOR i IN 1 .. 200 LOOP
             ASSERT 4 = (SELECT count(*) FROM s3vector.search_vectors('docs', '[0,0]', \"limit\" => 3 + i));
             ASSERT 3 = (SELECT count(*) FROM s3vector.search_vectors('docs', '[0,0]', '{\"k\": 1}', 100, 1, i % 2 = 0, 'k' || i));
           END LOOP;
         END $$",
    );
    holds(&mut user, "(SELECT count(*) < 20 FROM pg_prepared_statements)");
    assert_whole(&mut user, "docs", &["a", "b", "c", "d"]);
}
