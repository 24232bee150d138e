//! Is what is rolled back as if it had never been?

use crate::ground::{Ground, count, gives, holds, refused, run};

#[test]
fn creation_undone() {
    let ground = Ground::new();
    let c = &mut ground.client();
    run(
        c,
        "BEGIN; SELECT s3vector.create_collection('docs', 2); SELECT s3vector.add_vectors('docs', ARRAY[[1,2],[3,4]])",
    );
    assert_eq!(count(c, "docs"), 2);
    gives(c, "SELECT name FROM s3vector.list_collections()", &["docs"]);
    run(c, "ROLLBACK");
    gives(c, "SELECT name FROM s3vector.list_collections()", &[] as &[&str]);
    refused(c, "SELECT s3vector.count_vectors('docs')").expect("42P01", &["docs"]);
    run(c, "SELECT s3vector.create_collection('docs', 2)");
    assert_eq!(count(c, "docs"), 0);
}

#[test]
fn rows_undone() {
    let ground = Ground::new();
    let c = &mut ground.client();
    run(
        c,
        "SELECT s3vector.create_collection('docs', 2, 'l2'); SELECT s3vector.add_vectors('docs', ARRAY[[1,0],[2,0]], ids => '{a,b}')",
    );
    run(c, "BEGIN; SELECT s3vector.add_vectors('docs', ARRAY[[0,0]], ids => '{c}')");
    gives(c, "SELECT id FROM s3vector.search_vectors('docs', '[0,0]')", &["c", "a", "b"]);
    run(c, "SAVEPOINT one; SELECT s3vector.remove_vectors('docs', '{a,c}')");
    gives(c, "SELECT id FROM s3vector.search_vectors('docs', '[0,0]')", &["b"]);
    run(
        c,
        "SAVEPOINT two; SELECT s3vector.add_vectors('docs', ARRAY[[9,9]], ids => '{b}', update => true)",
    );
    run(c, "ROLLBACK TO two");
    gives(
        c,
        "SELECT id || vector FROM s3vector.list_vectors('docs', include_vectors => true)",
        &["b[2,0]"],
    );
    // An error ends no more than the savepoint.
    refused(c, "SELECT s3vector.add_vectors('docs', ARRAY[[7,7],[8,8]], ids => '{z,b}')")
        .expect("23505", &["row 2"]);
    run(c, "ROLLBACK TO one");
    gives(c, "SELECT id FROM s3vector.search_vectors('docs', '[0,0]')", &["c", "a", "b"]);
    run(c, "COMMIT");
    gives(c, "SELECT id FROM s3vector.search_vectors('docs', '[0,0]')", &["c", "a", "b"]);
    run(c, "BEGIN; SELECT s3vector.remove_vectors('docs', filters => '{}')");
    assert_eq!(count(c, "docs"), 0);
    run(c, "ROLLBACK");
    assert_eq!(count(c, "docs"), 3);
}

#[test]
fn deletion_and_overwriting_undone() {
    let ground = Ground::new();
    let c = &mut ground.client();
    run(
        c,
        "SELECT s3vector.create_collection('docs', 2, 'l2'); SELECT s3vector.add_vectors('docs', ARRAY[[1,0],[2,0]], ids => '{a,b}')",
    );
    for flushed in [false, true] {
        if flushed {
            run(c, "SELECT s3vector_flush('docs_embedding_idx')");
        }
        run(c, "BEGIN; SELECT s3vector.delete_collection('docs')");
        refused(c, "SELECT s3vector.count_vectors('docs')").expect("42P01", &[]);
        run(c, "ROLLBACK; BEGIN; SELECT s3vector.create_collection('docs', 3, overwrite => true)");
        run(c, "SELECT s3vector.add_vectors('docs', ARRAY[[1,2,3]])");
        assert_eq!(count(c, "docs"), 1);
        run(
            c,
            "SAVEPOINT again; SELECT s3vector.create_collection('docs', 4, overwrite => true); ROLLBACK TO again",
        );
        assert_eq!(count(c, "docs"), 1);
        run(c, "ROLLBACK");
        gives(c, "SELECT id FROM s3vector.search_vectors('docs', '[0,0]')", &["a", "b"]);
        run(c, "SET enable_seqscan = off; SET enable_sort = off");
        gives(c, "SELECT id FROM s3vector.search_vectors('docs', '[0,0]')", &["a", "b"]);
    }
}

/// In PL/pgSQL a caught error undoes the block and no more.
#[test]
fn caught_errors() {
    let ground = Ground::new();
    let c = &mut ground.client();
    run(c, "SELECT s3vector.create_collection('docs', 2)");
    run(
        c,
        "DO $$ BEGIN
           PERFORM s3vector.add_vectors('docs', ARRAY[[1,2]], ids => '{a}');
           FOR i IN 1 .. 50 LOOP
             BEGIN
               PERFORM s3vector.add_vectors('docs', ARRAY[[1,2]], ids => ARRAY['b' || i]);
               PERFORM s3vector.search_vectors('docs', '[1,2]', \"limit\" => i);
               PERFORM s3vector.create_collection('other' || i, 2);
               PERFORM s3vector.search_vectors('other' || i, '[1,2]');
               PERFORM s3vector.add_vectors('docs', ARRAY[[1,2]], ids => '{a}');
               RAISE 'added twice';
             EXCEPTION WHEN unique_violation THEN NULL;
             END;
           END LOOP;
         END $$",
    );
    gives(c, "SELECT id FROM s3vector.search_vectors('docs', '[1,2]')", &["a"]);
    gives(c, "SELECT name FROM s3vector.list_collections()", &["docs"]);
}

#[test]
fn read_only_transactions() {
    let ground = Ground::new();
    let c = &mut ground.client();
    run(
        c,
        "SELECT s3vector.create_collection('docs', 2); SELECT s3vector.add_vectors('docs', ARRAY[[1,2]], ids => '{a}')",
    );
    run(c, "SET default_transaction_read_only = on");
    gives(c, "SELECT id FROM s3vector.search_vectors('docs', '[1,2]')", &["a"]);
    assert_eq!(count(c, "docs"), 1);
    gives(c, "SELECT name FROM s3vector.list_collections()", &["docs"]);
    for call in [
        "add_vectors('docs', ARRAY[[1,2]])",
        "add_vectors('docs', items => '[{\"vector\": [1,2]}]')",
        "remove_vectors('docs', '{a}')",
        "create_collection('more', 2)",
        "create_collection('docs', 2, overwrite => true)",
        "delete_collection('docs')",
    ] {
        refused(c, &format!("SELECT s3vector.{call}")).expect("25006", &["read-only"]);
    }
    run(c, "RESET default_transaction_read_only");
    holds(c, "s3vector.count_vectors('docs') = 1");
}
