//! Where in SQL a call may stand.

use postgres::types::Type;

use crate::ground::{Ground, count, gives, holds, one, run, texts};

/// `docs` with rows `r1` to `r9` at distances 1 to 9 from the origin, and `queries` with three.
fn ground() -> Ground {
    let ground = Ground::new();
    let c = &mut ground.client();
    run(c, "SELECT s3vector.create_collection('docs', 2, 'l2')");
    run(
        c,
        "SELECT s3vector.add_vectors('docs', array_agg(ARRAY[i, 0] ORDER BY i), to_jsonb(array_agg(jsonb_build_object('odd', i % 2 = 1) ORDER BY i)), array_agg('r' || i ORDER BY i)) FROM generate_series(1, 9) i",
    );
    run(
        c,
        "CREATE TABLE queries (n int, q vector(2)); INSERT INTO queries VALUES (1, '[0,0]'), (2, '[4,0]'), (3, '[9,0]')",
    );
    ground
}

#[test]
fn in_a_list_and_in_a_join() {
    let ground = ground();
    let c = &mut ground.client();
    gives(c, "SELECT (s3vector.search_vectors('docs', '[0,0]', '{}', 2)).id", &["r1", "r2"]);
    gives(
        c,
        "SELECT s3vector.search_vectors('docs', '[0,0]', '{}', 2)::text",
        &[r#"(r1,0.5,"{""odd"": true}",)"#, r#"(r2,0.3333333333333333,"{""odd"": false}",)"#],
    );
    gives(c, "SELECT (s3vector.list_vectors('docs', 2)).id", &["r1", "r2"]);
    gives(c, "SELECT (s3vector.get_vector('docs', 'r3')).id", &["r3"]);
    gives(
        c,
        "SELECT n || s.id FROM queries, LATERAL s3vector.search_vectors('docs', q, '{}', 2) s ORDER BY n, s.score DESC, s.id",
        &["1r1", "1r2", "2r4", "2r3", "3r9", "3r8"],
    );
    gives(
        c,
        "SELECT n || coalesce(s.id, '-') FROM queries LEFT JOIN LATERAL s3vector.search_vectors('docs', q, '{\"odd\": true}', 1, n - 1) s ON s.score > 0.3 ORDER BY n",
        &["1r1", "2r5", "3-"],
    );
    gives(
        c,
        "SELECT n || ' ' || (s3vector.search_vectors_page('docs', q, '{}', 1) -> 'items' -> 0 ->> 'id') FROM queries ORDER BY n",
        &["1 r1", "2 r4", "3 r9"],
    );
    gives(
        c,
        "SELECT g.id FROM unnest('{r5,none,r1}'::text[]) WITH ORDINALITY w(id, n), LATERAL s3vector.get_vector('docs', w.id) g ORDER BY n",
        &["r5", "r1"],
    );
    gives(c, "WITH near AS (SELECT * FROM s3vector.search_vectors('docs', '[0,0]', '{}', 5)) SELECT d.id FROM near JOIN docs d USING (id) WHERE metadata_is(d.metadata) ORDER BY near.score DESC".replace("metadata_is(d.metadata)", "(d.metadata ->> 'odd')::bool").as_str(), &["r1", "r3", "r5"]);
    gives(
        c,
        "SELECT id FROM docs WHERE id IN (SELECT id FROM s3vector.search_vectors('docs', '[9,0]', '{}', 2)) AND EXISTS (SELECT FROM s3vector.get_vector('docs', docs.id)) ORDER BY id",
        &["r8", "r9"],
    );
    gives(
        c,
        "SELECT id FROM s3vector.search_vectors('docs', (SELECT q FROM queries WHERE n = 3), (SELECT jsonb_build_object('odd', true)), (SELECT 1)) ORDER BY 1",
        &["r9"],
    );
    // Two searches that are read in turns.
    gives(
        c,
        "SELECT a.id || b.id FROM ROWS FROM (s3vector.search_vectors('docs', '[0,0]', '{}', 2), s3vector.search_vectors('docs', '[9,0]', '{}', 3)) AS x(id, s, m, v, id2, s2, m2, v2), LATERAL (SELECT coalesce(x.id, '-') AS id) a, LATERAL (SELECT x.id2 AS id) b",
        &["r1r9", "r2r8", "-r7"],
    );
    run(c, "CREATE VIEW best AS SELECT * FROM s3vector.search_vectors('docs', '[0,0]', '{}', 1)");
    gives(c, "SELECT id FROM best", &["r1"]);
    run(
        c,
        "CREATE TABLE copied AS SELECT * FROM s3vector.search_vectors('docs', '[0,0]', include_vectors => true)",
    );
    holds(c, "(SELECT count(*) = 9 AND bool_and(vector_dims(vector) = 2) FROM copied)");
}

#[test]
fn in_procedural_code() {
    let ground = ground();
    let c = &mut ground.client();
    run(
        c,
        r#"CREATE FUNCTION grow(first int, last int) RETURNS TABLE (step int, counted bigint, nearest text) LANGUAGE plpgsql AS $$
           DECLARE found record; ids text[];
           BEGIN
             PERFORM s3vector.create_collection('made', 2, 'l2', overwrite => true);
             FOR i IN first .. last LOOP
               ids := s3vector.add_vectors('made', ARRAY[[i, i]], ids => ARRAY['m' || i]);
               ASSERT ids = ARRAY['m' || i];
               FOR found IN SELECT * FROM s3vector.search_vectors('made', ('[' || i || ',' || i || ']')::vector, '{}', 1) LOOP
                 step := i; counted := s3vector.count_vectors('made'); nearest := found.id;
                 RETURN NEXT;
               END LOOP;
             END LOOP;
             ASSERT s3vector.remove_vectors('made', filters => '{}') = last - first + 1;
             ASSERT s3vector.count_vectors('made') = 0;
           END $$"#,
    );
    for _ in 0..3 {
        gives(
            c,
            "SELECT concat_ws(' ', step, counted, nearest) FROM grow(1, 3)",
            &["1 1 m1", "2 2 m2", "3 3 m3"],
        );
    }
    // A function that promises to change nothing sees what its query sees.
    run(
        c,
        "CREATE FUNCTION seen() RETURNS bigint LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN s3vector.count_vectors('docs') + (SELECT count(*) FROM s3vector.search_vectors('docs', '[0,0]', \"limit\" => 100)); END $$",
    );
    assert_eq!(one::<i64>(c, "SELECT seen()"), 18);
    // A trigger that searches.
    run(c, "CREATE TABLE noted (n int, near text); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.near := (SELECT id FROM s3vector.search_vectors('docs', ARRAY[NEW.n, 0]::vector, '{}', 1)); RETURN NEW; END $$;
            CREATE TRIGGER note BEFORE INSERT ON noted FOR EACH ROW EXECUTE FUNCTION note(); INSERT INTO noted SELECT generate_series(1, 9)");
    gives(
        c,
        "SELECT near FROM noted ORDER BY n",
        &["r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9"],
    );
}

/// A procedure that commits between the calls.
#[test]
fn in_a_procedure_that_commits() {
    let ground = ground();
    let c = &mut ground.client();
    run(
        c,
        "CREATE PROCEDURE fill() LANGUAGE plpgsql AS $$ BEGIN
              FOR i IN 1 .. 5 LOOP
                PERFORM s3vector.create_collection('filled', 2, overwrite => true);
                COMMIT;
                PERFORM s3vector.add_vectors('filled', ARRAY[[i, 1], [1, i + 1]]);
                PERFORM s3vector.search_vectors('filled', '[1,1]');
                IF i % 2 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
                ASSERT s3vector.count_vectors('filled') = CASE i % 2 WHEN 0 THEN 0 ELSE 2 END;
              END LOOP; END $$",
    );
    run(c, "CALL fill()");
    assert_eq!(count(c, "filled"), 2);
}

#[test]
fn in_cursors() {
    let ground = ground();
    let c = &mut ground.client();
    run(
        c,
        "BEGIN; DECLARE near SCROLL CURSOR FOR SELECT id FROM s3vector.search_vectors('docs', '[0,0]', '{}', 9)",
    );
    gives(c, "FETCH 2 FROM near", &["r1", "r2"]);
    // What happens meanwhile is not seen by it.
    run(
        c,
        "SELECT s3vector.remove_vectors('docs', '{r3}'); SELECT s3vector.add_vectors('docs', ARRAY[[0,0]], ids => '{r0}')",
    );
    gives(c, "FETCH 2 FROM near", &["r3", "r4"]);
    gives(c, "FETCH ABSOLUTE 1 FROM near", &["r1"]);
    gives(c, "SELECT id FROM s3vector.search_vectors('docs', '[0,0]', '{}', 2)", &["r0", "r1"]);
    run(
        c,
        "ROLLBACK; BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT id FROM s3vector.search_vectors('docs', '[0,0]', '{}', 3); COMMIT",
    );
    run(c, "SELECT s3vector.create_collection('docs', 3, overwrite => true)");
    gives(c, "FETCH ALL FROM held", &["r1", "r2", "r3"]);
}

/// Every argument as a parameter, with plans for the values and for all values.
#[test]
fn prepared() {
    let ground = ground();
    let c = &mut ground.client();
    for mode in ["force_custom_plan", "force_generic_plan", "auto"] {
        run(c, &format!("SET plan_cache_mode = {mode}"));
        let search = c
            .prepare_typed(
                "SELECT id, vector::text FROM s3vector.search_vectors($1, ($2::text)::vector, ($3::text)::jsonb, $4, $5, $6, $7)",
                &[Type::TEXT, Type::TEXT, Type::TEXT, Type::INT4, Type::INT4, Type::BOOL, Type::TEXT],
            )
            .expect("prepared");
        for round in 0..8 {
            let wanted = format!("r{}", 9 - 2 * (round % 3));
            let rows = c
                .query(
                    &search,
                    &[
                        &"docs",
                        &"[0,0]",
                        &r#"{"odd": true}"#,
                        &9,
                        &(round % 3),
                        &(round % 2 == 0),
                        &"id desc",
                    ],
                )
                .expect("found");
            // The nearest are left out by the offset, the farthest comes first by id.
            let ids: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
            assert_eq!(
                (ids[0], ids.len()),
                ("r9", usize::try_from(5 - round % 3).expect("few")),
                "{wanted}"
            );
            assert_eq!(rows[0].get::<_, Option<&str>>(1).is_some(), round % 2 == 0);
            let rows = c
                .query(
                    &search,
                    &[
                        &"docs",
                        &None::<&str>,
                        &None::<&str>,
                        &None::<i32>,
                        &None::<i32>,
                        &None::<bool>,
                        &None::<&str>,
                    ],
                )
                .expect("all");
            assert_eq!(rows.len(), 9);
        }
        let page = c.prepare("SELECT s3vector.search_vectors_page($1, ($2::text)::vector, ($3::text)::jsonb, $4) ->> 'total'").expect("prepared");
        let list = c.prepare("SELECT id FROM s3vector.list_vectors($1, $2, $3)").expect("prepared");
        let add = c.prepare("SELECT s3vector.add_vectors($1, ARRAY[($2::text)::vector], ARRAY[($3::text)::jsonb], ARRAY[$4], $5)").expect("prepared");
        let remove = c
            .prepare("SELECT s3vector.remove_vectors($1, $2, ($3::text)::jsonb)")
            .expect("prepared");
        for _ in 0..7 {
            let total: String = c
                .query_one(&page, &[&"docs", &"[0,0]", &"{\"odd\": false}", &1])
                .expect("a page")
                .get(0);
            assert_eq!(total, "4");
            assert_eq!(c.query(&list, &[&"docs", &3, &"r7"]).expect("listed").len(), 2);
            let ids: Vec<String> = c
                .query_one(&add, &[&"docs", &"[7,7]", &"{\"t\": 1}", &"temp", &true])
                .expect("added")
                .get(0);
            assert_eq!(ids, ["temp"]);
            let removed: i64 = c
                .query_one(&remove, &[&"docs", &vec!["temp"], &None::<&str>])
                .expect("removed")
                .get(0);
            assert_eq!(removed, 1);
        }
    }
}

#[test]
fn in_repeatable_read() {
    let ground = ground();
    let (mut old, mut new) = (ground.client(), ground.client());
    run(&mut old, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    assert_eq!(count(&mut old, "docs"), 9);
    run(
        &mut new,
        "SELECT s3vector.add_vectors('docs', ARRAY[[0,0]], ids => '{r0}'); SELECT s3vector.remove_vectors('docs', '{r1}'); SELECT s3vector_flush('docs_embedding_idx')",
    );
    for way in ["SELECT 1", "SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off"] {
        run(&mut old, way);
        gives(
            &mut old,
            "SELECT id FROM s3vector.search_vectors('docs', '[0,0]', '{}', 3)",
            &["r1", "r2", "r3"],
        );
        gives(
            &mut new,
            "SELECT id FROM s3vector.search_vectors('docs', '[0,0]', '{}', 3)",
            &["r0", "r2", "r3"],
        );
    }
    assert_eq!(count(&mut old, "docs"), 9);
    // An id that the snapshot does not see is taken all the same.
    crate::ground::refused(
        &mut old,
        "SELECT s3vector.add_vectors('docs', ARRAY[[1,1]], ids => '{r0}')",
    )
    .expect("40001", &[]);
    run(&mut old, "ROLLBACK");
    assert_eq!(count(&mut old, "docs"), 9);
    gives(&mut old, "SELECT id FROM s3vector.list_vectors('docs', 1)", &["r0"]);
}

/// What one statement does, its later parts may use; what they read is as it was at its start.
#[test]
fn in_one_statement() {
    let ground = Ground::new();
    let c = &mut ground.client();
    let row = c
        .query_one(
            "SELECT s3vector.create_collection('docs', 2)::text, s3vector.add_vectors('docs', ARRAY[[1,2],[3,4]], ids => '{a,b}')",
            &[],
        )
        .expect("created and filled");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, Vec<&str>>(1)), ("docs", vec!["a", "b"]));
    assert_eq!(count(c, "docs"), 2);
    run(
        c,
        "SELECT s3vector.remove_vectors('docs', '{a}'), s3vector.add_vectors('docs', ARRAY[[5,6]], ids => '{a}'), s3vector.create_collection('docs2', 2), s3vector.delete_collection('docs2')",
    );
    gives(
        c,
        "SELECT id || vector FROM s3vector.list_vectors('docs', include_vectors => true)",
        &["a[5,6]", "b[3,4]"],
    );
    // Several statements in one message are one transaction.
    crate::ground::refused(c, "SELECT s3vector.add_vectors('docs', ARRAY[[5,6]], ids => '{c}'); SELECT s3vector.add_vectors('docs', ARRAY[[5,6]], ids => '{a}')").expect("23505", &["row 1"]);
    assert_eq!(count(c, "docs"), 2);
    run(
        c,
        "SELECT s3vector.create_collection(name, 3, overwrite => true) FROM unnest('{docs,docs3}'::text[]) name",
    );
    gives(c, "SELECT name || dimension FROM s3vector.list_collections()", &["docs3", "docs33"]);
    // All rows of a table at once.
    run(
        c,
        "CREATE TABLE source AS SELECT i, ARRAY[i, i, i]::vector AS v FROM generate_series(1, 50) i",
    );
    assert_eq!(texts(c, "SELECT unnest(s3vector.add_vectors('docs', array_agg(v ORDER BY i), ids => array_agg(i::text ORDER BY i))) FROM source").len(), 50);
    assert_eq!(count(c, "docs"), 50);
}

/// While parallel workers run: the calls stay with the leader.
#[test]
fn beside_parallel_workers() {
    let ground = ground();
    let c = &mut ground.client();
    run(c, "CREATE TABLE many AS SELECT i FROM generate_series(1, 20000) i; ANALYZE many");
    run(
        c,
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET debug_parallel_query = on",
    );
    let mut fresh = ground.client();
    run(
        &mut fresh,
        "SET debug_parallel_query = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0",
    );
    for client in [c, &mut fresh] {
        let rows: i64 = one(
            client,
            "SELECT (SELECT count(*) FROM many WHERE i % 2 = 0) + s3vector.count_vectors('docs') + (SELECT count(*) FROM s3vector.search_vectors('docs', '[0,0]', '{\"odd\": true}'))",
        );
        assert_eq!(rows, 10_000 + 9 + 5);
        gives(client, "SELECT name FROM s3vector.list_collections()", &["docs"]);
        gives(
            client,
            "SELECT s.id FROM many JOIN LATERAL s3vector.search_vectors('docs', '[0,0]', '{}', 1) s ON i = 777",
            &["r1"],
        );
        holds(client, "(SELECT vectors = 9 FROM s3vector.get_collection_info('docs'))");
    }
}
