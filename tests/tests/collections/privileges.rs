//! Whoever calls, the table's privileges and policies decide.

use crate::ground::{Ground, count, gives, holds, one, refused, run};

const READING: [&str; 7] = [
    "search_vectors('docs', '[1,2]')",
    r#"search_vectors('docs', NULL, '{"k": 1}')"#,
    "search_vectors_page('docs', '[1,2]')",
    "get_vector('docs', 'a')",
    "list_vectors('docs')",
    "count_vectors('docs')",
    "get_collection_info('docs')",
];

const WRITING: [&str; 4] = [
    "add_vectors('docs', ARRAY[[1,2]], ids => '{mine}')",
    r#"add_vectors('docs', items => '[{"id": "mine", "vector": [1,2]}]')"#,
    "add_vectors('docs', ARRAY[[1,2]], ids => '{a}', update => true)",
    "remove_vectors('docs', '{a}')",
];

const OWNING: [&str; 2] =
    ["delete_collection('docs')", "create_collection('docs', 2, overwrite => true)"];

/// A database with the collection `docs`, rows `a` of alice and `b` of bob.
fn ground() -> Ground {
    let ground = Ground::new();
    let c = &mut ground.client();
    run(c, "SELECT s3vector.create_collection('docs', 2, 'l2')");
    run(
        c,
        r#"SELECT s3vector.add_vectors('docs', ARRAY[[1,2],[1,3]], '[{"k": 1, "of": "alice"}, {"k": 1, "of": "bob"}]', '{a,b}')"#,
    );
    ground
}

#[test]
fn without_rights() {
    let ground = ground();
    let nobody = ground.role("nobody");
    let c = &mut ground.client_as(&nobody);
    for call in READING.iter().chain(&WRITING) {
        refused(c, &format!("SELECT s3vector.{call}")).expect("42501", &["docs"]);
    }
    // Neither may a name be taken where one may not create, nor somebody's table be dropped.
    for call in OWNING.iter().chain(&["create_collection('mine', 2)"]) {
        refused(c, &format!("SELECT s3vector.{call}")).expect("42501", &[]);
    }
    gives(c, "SELECT name FROM s3vector.list_collections()", &[] as &[&str]);
    run(&mut ground.client(), &format!("GRANT CREATE ON SCHEMA public TO {nobody}"));
    for call in OWNING {
        refused(c, &format!("SELECT s3vector.{call}")).expect("42501", &["docs"]);
    }
    run(
        c,
        "SELECT s3vector.create_collection('mine', 2); SELECT s3vector.add_vectors('mine', ARRAY[[1,2]])",
    );
    gives(c, "SELECT name FROM s3vector.list_collections()", &["mine"]);
    assert_eq!(count(&mut ground.client(), "docs"), 2);
    // The functions of the schema can be called by all, and run as their callers.
    gives(
        c,
        "SELECT proname::text FROM pg_proc WHERE pronamespace = 's3vector'::regnamespace AND prosecdef",
        &[] as &[&str],
    );
    gives(
        c,
        "SELECT proname::text FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
         JOIN pg_extension e ON e.oid = d.refobjid WHERE e.extname = 's3vector' AND prosecdef",
        &[] as &[&str],
    );
}

/// Who may not read a table cannot keep it locked either.
#[test]
fn no_locks_without_rights() {
    let ground = ground();
    let nobody = ground.role("nobody");
    let (mut owner, mut session) = (ground.client(), ground.client_as(&nobody));
    run(&mut session, "BEGIN; SAVEPOINT before");
    for call in READING
        .iter()
        .map(|call| format!("s3vector.{call}"))
        .chain(["s3vector_collections('docs')".to_owned()])
    {
        // Whether it is refused or not.
        let _ = session.batch_execute(&format!("SELECT * FROM {call}"));
        let locks = "SELECT count(*) FROM pg_locks WHERE relation = 'docs'::regclass";
        if call.starts_with("s3vector_") {
            assert_eq!(one::<i64>(&mut owner, locks), 0, "{call}");
        }
        run(&mut session, "ROLLBACK TO before");
        assert_eq!(one::<i64>(&mut owner, locks), 0, "{call}");
    }
}

/// A schema that may not be used hides its collections.
#[test]
fn hidden_schemas() {
    let ground = Ground::new();
    let nobody = ground.role("nobody");
    let mut owner = ground.client();
    run(
        &mut owner,
        "CREATE SCHEMA vault; SET search_path = vault, public; SELECT s3vector.create_collection('docs', 2)",
    );
    run(&mut owner, &format!("GRANT ALL ON docs TO {nobody}"));
    let c = &mut ground.client_as(&nobody);
    run(c, "SET search_path = vault, public");
    for call in READING.iter().chain(&WRITING) {
        let report = refused(c, &format!("SELECT s3vector.{call}"));
        assert!(["42P01", "42501"].contains(&report.sqlstate.as_str()), "{call}: {report:?}");
    }
    gives(c, "SELECT name FROM s3vector.list_collections()", &[] as &[&str]);
}

#[test]
fn one_right_at_a_time() {
    let ground = ground();
    let role = ground.role("reader");
    let (mut owner, mut session) = (ground.client(), ground.client_as(&role));
    let c = &mut session;
    run(&mut owner, &format!("GRANT SELECT ON docs TO {role}"));
    for call in READING {
        run(c, &format!("SELECT * FROM s3vector.{call}"));
    }
    gives(c, "SELECT name FROM s3vector.list_collections()", &["docs"]);
    for call in WRITING.iter().chain(&OWNING) {
        refused(c, &format!("SELECT s3vector.{call}")).expect("42501", &[]);
    }
    run(&mut owner, &format!("GRANT INSERT ON docs TO {role}"));
    run(c, &format!("SELECT s3vector.{}", WRITING[0]));
    for call in &WRITING[2..] {
        refused(c, &format!("SELECT s3vector.{call}")).expect("42501", &["docs"]);
    }
    run(&mut owner, &format!("GRANT UPDATE ON docs TO {role}"));
    run(c, &format!("SELECT s3vector.{}", WRITING[2]));
    refused(c, &format!("SELECT s3vector.{}", WRITING[3])).expect("42501", &["docs"]);
    run(&mut owner, &format!("GRANT DELETE ON docs TO {role}"));
    run(c, &format!("SELECT s3vector.{}", WRITING[3]));
    for call in OWNING {
        refused(c, &format!("SELECT s3vector.{call}")).expect("42501", &[]);
    }
    // What the session has prepared does not outlive its right.
    run(&mut owner, &format!("REVOKE ALL ON docs FROM {role}"));
    for call in READING.iter().chain(&WRITING) {
        refused(c, &format!("SELECT s3vector.{call}")).expect("42501", &["docs"]);
    }
    gives(&mut owner, "SELECT id FROM docs ORDER BY id", &["b", "mine"]);
}

/// One session, two roles: what the first has prepared is checked for the second.
#[test]
fn roles_change_within_a_session() {
    let ground = ground();
    let nobody = ground.role("nobody");
    let c = &mut ground.client();
    let search = "SELECT id FROM s3vector.search_vectors('docs', '[1,2]')";
    for _ in 0..3 {
        gives(c, search, &["a", "b"]);
        run(c, &format!("SET ROLE {nobody}"));
        refused(c, search).expect("42501", &["docs"]);
        run(c, "RESET ROLE");
    }
    // The rights that count inside a function of somebody else are that one's.
    run(
        c,
        "CREATE FUNCTION lent() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER BEGIN ATOMIC SELECT id FROM s3vector.search_vectors('docs', '[1,2]'); END",
    );
    run(c, &format!("SET ROLE {nobody}"));
    gives(c, "SELECT lent()", &["a", "b"]);
    refused(c, search).expect("42501", &["docs"]);
}

#[test]
fn row_level_security() {
    let ground = ground();
    let (alice, bob) = (ground.role("alice"), ground.role("bob"));
    let mut owner = ground.client();
    run(
        &mut owner,
        &format!(
            "GRANT ALL ON docs TO {alice}, {bob};
             ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
             CREATE POLICY own ON docs USING (current_user LIKE '%\\_' || (metadata ->> 'of'))"
        ),
    );
    // One session for all: the prepared search must follow the role.
    let c = &mut ground.client();
    for index in [false, true] {
        if index {
            run(
                c,
                "SELECT s3vector_flush('docs_embedding_idx'); SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off",
            );
        }
        for (role, wanted) in [(&alice, "a"), (&bob, "b"), (&alice, "a")] {
            run(c, &format!("SET ROLE {role}"));
            for call in [
                "search_vectors('docs', '[1,2]')",
                r#"search_vectors('docs', '[1,2]', '{"k": 1}')"#,
                "search_vectors('docs', NULL)",
                "list_vectors('docs')",
            ] {
                gives(c, &format!("SELECT id FROM s3vector.{call}"), &[wanted]);
            }
            assert_eq!(count(c, "docs"), 1);
            gives(
                c,
                "SELECT id FROM s3vector.get_vector('docs', 'a') UNION ALL SELECT id FROM s3vector.get_vector('docs', 'b')",
                &[wanted],
            );
            holds(c, "(s3vector.search_vectors_page('docs', '[1,2]') ->> 'total') = '1'");
            holds(c, "(SELECT vectors = 1 FROM s3vector.get_collection_info('docs'))");
            run(c, "RESET ROLE");
            gives(c, "SELECT id FROM s3vector.search_vectors('docs', '[1,2]')", &["a", "b"]);
        }
    }
    let c = &mut ground.client_as(&bob);
    assert_eq!(one::<i64>(c, "SELECT s3vector.remove_vectors('docs', '{a}')"), 0);
    assert_eq!(
        one::<i64>(c, "SELECT s3vector.remove_vectors('docs', filters => '{\"of\": \"alice\"}')"),
        0
    );
    // Rows for somebody else are refused, and so is replacing somebody else's.
    for arguments in [
        r#"items => '[{"id": "c", "vector": [1,2], "metadata": {"of": "alice"}}]'"#,
        r#"items => '[{"id": "a", "vector": [1,2], "metadata": {"of": "bob"}}]', update => true"#,
    ] {
        refused(c, &format!("SELECT s3vector.add_vectors('docs', {arguments})"))
            .expect("42501", &["row-level security"]);
    }
    run(
        c,
        r#"SELECT s3vector.add_vectors('docs', items => '[{"id": "c", "vector": [1,2], "metadata": {"of": "bob"}}]')"#,
    );
    assert_eq!(one::<i64>(c, "SELECT s3vector.remove_vectors('docs', filters => '{}')"), 2);
    gives(&mut owner, "SELECT id FROM docs", &["a"]);
}

/// Reading and writing where the server may is for superusers and those to whom they grant it.
#[test]
fn files_are_not_for_everybody() {
    let ground = ground();
    let nobody = ground.role("nobody");
    let (mut owner, mut session) = (ground.client(), ground.client_as(&nobody));
    run(&mut owner, &format!("GRANT ALL ON docs TO {nobody}"));
    for call in [
        "import_zarr('file:///nowhere', 'docs')",
        "import_collection('file:///nowhere', 'other')",
        "export_zarr('docs', 'file:///nowhere')",
    ] {
        let (function, _) = call.split_once('(').expect("a call");
        refused(&mut session, &format!("SELECT s3vector.{call}")).expect("42501", &[function]);
        run(&mut owner, &format!("GRANT EXECUTE ON FUNCTION s3vector.{function} TO {nobody}"));
        // It is no longer the right to call it that is missing.
        let report = refused(&mut session, &format!("SELECT s3vector.{call}"));
        assert!(!report.message.contains("permission denied for function"), "{report:?}");
        run(&mut owner, &format!("REVOKE EXECUTE ON FUNCTION s3vector.{function} FROM {nobody}"));
    }
}
