//! Pages of a search and of a list: offset, order, vectors, total.

use harness::Metric;
use harness::items::{Source, text};
use harness::upkeep::flush;
use postgres::Client;

use crate::docs::{Docs, PERCENT, id};
use crate::ground::{Ground, gives, holds, one, refused, run, texts};

const DIMENSIONS: usize = 8;

/// Makes a session read by the index, or not.
fn by_index(client: &mut Client, yes: bool) {
    run(client, "RESET ALL");
    run(
        client,
        if yes {
            "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off"
        } else {
            "SET enable_indexscan = off"
        },
    );
}

/// Page after page of a search is the search.
#[test]
fn offsets_leave_no_gaps_and_repeat_nothing() {
    let ground = Ground::new();
    let mut client = ground.client();
    let mut source = Source::new(511, DIMENSIONS);
    let mut docs = Docs::create(&mut client, "docs", Metric::Cosine, source.vectors(700));
    flush(&mut client, "docs_embedding_idx");
    docs.add(&mut client, source.vectors(100));
    let query = text(&source.vector());
    for index in [false, true] {
        by_index(&mut client, index);
        let pages = texts(
            &mut client,
            &format!(
                "SELECT s.id FROM generate_series(0, 799, 25) first,
                 LATERAL s3vector.search_vectors('docs', '{query}', '{{}}', 25, first) s"
            ),
        );
        let whole = texts(
            &mut client,
            &format!("SELECT id FROM s3vector.search_vectors('docs', '{query}', '{{}}', 800)"),
        );
        assert_eq!(pages.len(), 800, "by the index: {index}");
        assert_eq!(pages, whole, "by the index: {index}");
        gives(
            &mut client,
            &format!("SELECT id FROM s3vector.search_vectors('docs', '{query}', '{{}}', 10, 800)"),
            &[] as &[&str],
        );
    }
}

/// Rows at one distance come in one order, so that pages of them have no gaps either.
#[test]
fn pages_of_equal_vectors() {
    let ground = Ground::new();
    let mut client = ground.client();
    run(&mut client, "SELECT s3vector.create_collection('docs', 2, 'l2')");
    run(
        &mut client,
        "SELECT s3vector.add_vectors('docs', array_agg('[1,2]'::vector), ids => array_agg(i::text)) \
         FROM generate_series(1, 300) i",
    );
    for flushed in [false, true] {
        if flushed {
            flush(&mut client, "docs_embedding_idx");
        }
        for index in [false, true] {
            by_index(&mut client, index);
            let distinct: i64 = one(
                &mut client,
                "SELECT count(DISTINCT id) FROM generate_series(0, 299, 10) first,
                 LATERAL s3vector.search_vectors('docs', '[1,1]', '{}', 10, first)",
            );
            assert_eq!(distinct, 300, "flushed: {flushed}, by the index: {index}");
        }
    }
}

#[test]
fn limits() {
    let ground = Ground::new();
    let mut client = ground.client();
    let mut source = Source::new(512, DIMENSIONS);
    Docs::create(&mut client, "docs", Metric::L2, source.vectors(250));
    let query = text(&source.vector());
    for (arguments, rows) in [
        ("", 10),
        (", '{}', NULL, NULL", 10),
        (", NULL", 10),
        (", '{}', 0", 0),
        (", '{}', 3", 3),
        (", '{}', 2147483647", 250),
        (", '{}', 2147483647, 2147483647", 0),
        (", '{}', 100, 200", 50),
    ] {
        for index in [false, true] {
            by_index(&mut client, index);
            let found: i64 = one(
                &mut client,
                &format!(
                    "SELECT count(*) FROM s3vector.search_vectors('docs', '{query}'{arguments})"
                ),
            );
            assert_eq!(found, rows, "{arguments}");
        }
    }
    for (arguments, word) in [("-1", "limit"), ("1, -1", "offset")] {
        for function in ["search_vectors", "search_vectors_page"] {
            let sql = format!("SELECT s3vector.{function}('docs', '{query}', '{{}}', {arguments})");
            refused(&mut client, &sql).expect("22023", &[word, "-1"]);
        }
    }
    refused(&mut client, "SELECT s3vector.list_vectors('docs', -1)").expect("22023", &["limit"]);
    refused(&mut client, "SELECT s3vector.search_vectors('docs', '[1,2,3]')")
        .expect("22000", &["3 dimensions", "8"]);
}

#[test]
fn vectors_come_when_asked_for() {
    let ground = Ground::new();
    let mut client = ground.client();
    let mut source = Source::new(513, DIMENSIONS);
    Docs::create(&mut client, "docs", Metric::L2, source.vectors(50));
    let query = text(&source.vector());
    for with in [false, true] {
        let condition = if with { "s.vector = d.embedding" } else { "s.vector IS NULL" };
        for query in [format!("'{query}'"), "NULL".to_owned()] {
            holds(
                &mut client,
                &format!(
                    "(SELECT count(*) = 10 AND bool_and({condition} AND s.metadata = d.metadata)
                      FROM s3vector.search_vectors('docs', {query}, include_vectors => {with}) s
                      JOIN docs d USING (id))"
                ),
            );
            holds(
                &mut client,
                &format!(
                    "(SELECT bool_and((item ? 'vector') = {with}
                                      AND (NOT {with} OR item ->> 'vector' = to_jsonb(d.embedding::real[])::text))
                      FROM jsonb_array_elements(s3vector.search_vectors_page('docs', {query},
                           include_vectors => {with}) -> 'items') item
                      JOIN docs d ON d.id = item ->> 'id')"
                ),
            );
        }
        holds(
            &mut client,
            &format!(
                "(SELECT count(*) = 50 AND bool_and({condition})
                  FROM s3vector.list_vectors('docs', include_vectors => {with}) s JOIN docs d USING (id))"
            ),
        );
    }
}

/// The page function says the same as the rows, with the number of all matches.
#[test]
fn a_page_as_json() {
    let ground = Ground::new();
    let mut client = ground.client();
    let mut source = Source::new(514, DIMENSIONS);
    Docs::create(&mut client, "docs", Metric::Cosine, source.vectors(900));
    let query = text(&source.vector());
    let arguments = format!("'docs', '{query}', '{}', 4, 3", PERCENT.json);
    gives(
        &mut client,
        &format!(
            "SELECT p ->> k FROM s3vector.search_vectors_page({arguments}) p,
             unnest(ARRAY['total', 'offset', 'limit']) k"
        ),
        &["9", "3", "4"],
    );
    holds(
        &mut client,
        &format!(
            "(SELECT p -> 'items' FROM s3vector.search_vectors_page({arguments}) p)
             = (SELECT jsonb_agg(jsonb_build_object('id', id, 'score', score, 'metadata', metadata))
                FROM s3vector.search_vectors({arguments}))"
        ),
    );
    gives(
        &mut client,
        "SELECT s3vector.search_vectors_page('docs', NULL, '{\"n\": -1}')::text",
        &[r#"{"items": [], "limit": 10, "total": 0, "offset": 0}"#],
    );
    // By filter alone: in order of id, every score 1.
    gives(
        &mut client,
        &format!(
            "SELECT id FROM s3vector.search_vectors('docs', NULL, '{}', 3, 2) WHERE score = 1",
            PERCENT.json
        ),
        &[id(207), id(307), id(407)],
    );
}

/// `order_by` orders the rows of the page that are nearest, or that pass the filter.
#[test]
fn orders() {
    let ground = Ground::new();
    let mut client = ground.client();
    let c = &mut client;
    run(c, "SELECT s3vector.create_collection('docs', 1, 'l2')");
    run(
        c,
        r#"SELECT s3vector.add_vectors('docs', items => '[
            {"id": "a", "vector": [1], "metadata": {"year": 2001, "by": {"name": "Zoe"}, "a.b": 1}},
            {"id": "b", "vector": [2], "metadata": {"year": 10, "by": {"name": "Adam"}}},
            {"id": "c", "vector": [3], "metadata": {"by": {"name": "Mia"}}},
            {"id": "d", "vector": [4], "metadata": {"year": 999.5, "by": "nobody", "id": "y"}},
            {"id": "e", "vector": [5], "metadata": {"year": 10, "score": 3, "id": "x"}},
            {"id": "f", "vector": [90], "metadata": {"year": 1}}]')"#,
    );
    // The five nearest to 0, whatever the order: f is never among them.
    for (order, wanted) in [
        ("year", "beda c"),
        ("year asc", "beda c"),
        ("  year   DESC ", "adbe c"),
        ("metadata.year desc", "adbe c"),
        ("by.name", "bca de"),
        ("by.name desc", "acb de"),
        ("metadata.id", "ed abc"),
        ("metadata.score", "e abcd"),
        ("no.such.field", "abcde"),
        ("id desc", "edcba"),
        ("score", "edcba"),
        ("score desc", "abcde"),
        ("created_at", "abcde"),
        ("desc", "abcde"),
    ] {
        let wanted: Vec<String> =
            wanted.chars().filter(|x| *x != ' ').map(|x| x.to_string()).collect();
        for condition in ["'[0]', '{}', 5", r#"NULL, '{"year": {"$not": 1}}', 5"#] {
            let sql =
                format!("s3vector.search_vectors('docs', {condition}, order_by => '{order}')");
            let by_score = order == "score" && condition.starts_with("NULL");
            if !by_score {
                gives(c, &format!("SELECT id FROM {sql}"), &wanted);
            }
            holds(
                c,
                &format!(
                    "(SELECT array_agg(item ->> 'id') FROM jsonb_array_elements(s3vector.search_vectors_page('docs', {condition}, order_by => '{order}') -> 'items') item)
                     = (SELECT array_agg(id) FROM {sql})"
                ),
            );
        }
    }
    // Pages by a field of all that pass the filter.
    gives(
        c,
        "SELECT id FROM s3vector.search_vectors('docs', NULL, '{}', 2, 2, order_by => 'year desc')",
        &["b", "e"],
    );
    for order in ["", " ", ".", "a..b", "metadata.", " desc"] {
        let sql = format!("SELECT s3vector.search_vectors('docs', '[0]', order_by => '{order}')");
        if order == " desc" {
            // A field called so: see above.
            run(c, &sql);
        } else {
            refused(c, &sql).expect("22023", &["order_by"]);
        }
    }
}

/// Listing from id to id comes to every row once, also while rows come and go.
#[test]
fn lists_by_key() {
    let ground = Ground::new();
    let mut client = ground.client();
    run(&mut client, "SELECT s3vector.create_collection('docs', 1)");
    let ids = ["", "A", "B", "Z", "a", "b", "ä", "ß", "z", "é", "10", "9", "-1", " ", "𝄞", "\u{1}"];
    let mut sorted: Vec<&str> = ids.into_iter().filter(|id| !id.is_empty()).collect();
    for id in &sorted {
        client
            .execute(
                "SELECT s3vector.add_vectors('docs', ARRAY[1]::real[], ids => ARRAY[$1])",
                &[id],
            )
            .unwrap_or_else(|error| panic!("{id:?}: {error:?}"));
    }
    sorted.sort_unstable();
    let mut after: Option<String> = None;
    let mut seen = Vec::new();
    loop {
        let rows = client
            .query("SELECT id FROM s3vector.list_vectors('docs', 4, after => $1)", &[&after])
            .expect("a page");
        let Some(last) = rows.last() else { break };
        after = Some(last.get(0));
        seen.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    }
    assert_eq!(seen, sorted);
}
