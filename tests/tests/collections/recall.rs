//! Are the rows of a search the nearest ones that pass its filter, however they are looked for?

use harness::Metric;
use harness::items::Source;
use harness::upkeep::flush;
use postgres::Client;

use crate::docs::{ALL, Docs, Filter, PER_MILLE, PERCENT, RANGE};
use crate::ground::{Ground, column, count, one, refused, run, texts};

const DIMENSIONS: usize = 16;

/// Ways to read the table that a session can be held to.
const EXACT: &str = "SET enable_indexscan = off";
const BY_VECTOR: &str =
    "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off";
const BY_METADATA: &str = "SET enable_seqscan = off; SET enable_indexscan = off";

/// What this session's last scan of an s3vector index did, with its times: no two are alike.
fn last_scan(client: &mut Client) -> String {
    one(client, "SELECT coalesce((SELECT s::text FROM s3vector_last_scan() s), '')")
}

/// Asserts recall with every filter in every way of reading.
#[track_caller]
fn assert_all_ways(client: &mut Client, docs: &Docs, queries: &[Vec<f32>], when: &str) {
    for (way, floor) in [("SELECT 1", 0.95), (EXACT, 1.0), (BY_METADATA, 1.0), (BY_VECTOR, 0.95)] {
        run(client, "RESET ALL");
        run(client, way);
        for (filter, limit) in [(ALL, 10), (PERCENT, 10), (RANGE, 10), (PER_MILLE, 2)] {
            let recall = docs.recall(client, queries, filter, limit);
            let Filter { json, .. } = filter;
            assert!(recall >= floor, "{when}, {way}, {json}: recall {recall}");
        }
    }
    run(client, "RESET ALL");
}

/// One row of a thousand and one of a hundred still fill the limit: from the delta, from segments,
/// from both, with statistics and without.
#[test]
fn filters_fill_the_limit() {
    for (metric, name) in
        [(Metric::Cosine, "cosine"), (Metric::L2, "l2"), (Metric::InnerProduct, "ip")]
    {
        let ground = Ground::new();
        let mut client = ground.client();
        let mut source = Source::new(501, DIMENSIONS);
        let mut docs = Docs::create(&mut client, name, metric, source.vectors(1500));
        let queries = source.vectors(8);
        assert_all_ways(&mut client, &docs, &queries, "in the delta");
        let index = format!("{name}_embedding_idx");
        flush(&mut client, &index);
        docs.add(&mut client, source.vectors(1500));
        assert_all_ways(&mut client, &docs, &queries, "in a segment and the delta");
        flush(&mut client, &index);
        run(&mut client, &format!("ANALYZE {name}"));
        assert_all_ways(&mut client, &docs, &queries, "merged and analyzed");
    }
}

/// The settings above force what their names say: an exact search does not scan the index, and a
/// search by the index walks on until the filter has let enough rows pass.
#[test]
fn the_ways_differ() {
    let ground = Ground::new();
    let mut client = ground.client();
    let mut source = Source::new(502, DIMENSIONS);
    let docs = Docs::create(&mut client, "docs", Metric::L2, source.vectors(3000));
    flush(&mut client, "docs_embedding_idx");
    let query = source.vector();
    for way in [EXACT, BY_METADATA] {
        let before = last_scan(&mut client);
        run(&mut client, &format!("RESET ALL; {way}"));
        docs.search(&mut client, &query, PERCENT, 10);
        assert_eq!(last_scan(&mut client), before, "{way} scans the index");
    }
    run(&mut client, &format!("RESET ALL; {BY_VECTOR}"));
    docs.search(&mut client, &query, PER_MILLE, 3);
    let candidates: Vec<i64> =
        column(&mut client, "SELECT candidates::bigint FROM s3vector_last_scan()");
    assert!(candidates[0] > 1000, "{candidates:?} candidates for one row of a thousand");
}

/// Without being told, the planner takes the index for a search of all rows, and not for one that
/// few rows pass.
#[test]
fn the_planner_chooses_by_the_filter() {
    let ground = Ground::new();
    let mut client = ground.client();
    let mut source = Source::new(503, DIMENSIONS);
    let docs = Docs::create(&mut client, "docs", Metric::L2, source.vectors(6000));
    flush(&mut client, "docs_embedding_idx");
    run(&mut client, "ANALYZE docs");
    let query = source.vector();
    let before = last_scan(&mut client);
    docs.search(&mut client, &query, PER_MILLE, 6);
    assert_eq!(last_scan(&mut client), before, "six rows of 6,000 by the index");
    docs.search(&mut client, &query, ALL, 10);
    assert_ne!(last_scan(&mut client), before, "10 nearest of 6,000 without the index");
}

/// Rows that are removed do not come back, those that are replaced come at their new place, by
/// every way, before and after VACUUM and a flush.
#[test]
fn removed_and_replaced_rows() {
    let ground = Ground::new();
    let mut client = ground.client();
    let mut source = Source::new(504, DIMENSIONS);
    let mut docs = Docs::create(&mut client, "docs", Metric::Cosine, source.vectors(600));
    flush(&mut client, "docs_embedding_idx");
    docs.add(&mut client, source.vectors(200));
    let removed: i64 = one(
        &mut client,
        r#"SELECT s3vector.remove_vectors('docs', filters => '{"of.rest": [0, 49]}')"#,
    );
    assert_eq!(removed, 400);
    let left = Filter { json: "{}", passes: |n| n % 100 >= 50 };
    // Rows 50, 150, … take the vector of their successor's mirror image.
    for n in (50..800).step_by(100) {
        docs.vectors[n] = docs.vectors[n].iter().map(|x| -x).collect();
        client
            .execute(
                "SELECT s3vector.add_vectors('docs', ARRAY[($1::text)::vector], ids => ARRAY[$2], \
                 update => true)",
                &[&harness::items::text(&docs.vectors[n]), &crate::docs::id(n)],
            )
            .expect("replaced");
    }
    let queries: Vec<_> = (50..800).step_by(100).map(|n| docs.vectors[n].clone()).collect();
    for moment in ["SELECT 1", "VACUUM docs", "SELECT s3vector_flush('docs_embedding_idx')"] {
        run(&mut client, moment);
        for (way, floor) in [(EXACT, 1.0), (BY_VECTOR, 0.95)] {
            run(&mut client, &format!("RESET ALL; {way}"));
            assert!(docs.recall(&mut client, &queries, left, 10) >= floor, "{moment}, {way}");
            // The replaced rows kept their metadata.
            let replaced = Filter { json: r#"{"of.rest": 50}"#, passes: |n| n % 100 == 50 };
            assert!(docs.recall(&mut client, &queries, replaced, 8) >= floor, "{moment}, {way}");
        }
    }
}

/// A vector of zeros has no direction: where cosines are compared it is refused, as a row and as a
/// query, instead of coming by one plan and not by another.
#[test]
fn a_vector_of_zeros() {
    let ground = Ground::new();
    let mut client = ground.client();
    run(&mut client, "SELECT s3vector.create_collection('docs', 2)");
    run(&mut client, "SELECT s3vector.add_vectors('docs', ARRAY[[1,2],[3,1],[-1,2]])");
    for (arguments, words) in [
        ("ARRAY[[1,1],[0,0]]", ["vector 2", "direction"]),
        ("ARRAY[[-0.0,0],[1,1]]::real[]", ["vector 1", "direction"]),
        ("ARRAY['[1,1]','[1,1]','[0,0]']::vector[]", ["vector 3", "direction"]),
        (r#"items => '[{"vector": [0, 0]}]'"#, ["vector 1", "direction"]),
    ] {
        refused(&mut client, &format!("SELECT s3vector.add_vectors('docs', {arguments})"))
            .expect("22000", &words);
    }
    for function in ["search_vectors", "search_vectors_page"] {
        refused(&mut client, &format!("SELECT s3vector.{function}('docs', '[0,0]')"))
            .expect("22000", &["query vector", "direction"]);
    }
    assert_eq!(count(&mut client, "docs"), 3);
    for metric in ["l2", "ip"] {
        run(&mut client, &format!("SELECT s3vector.create_collection('{metric}', 2, '{metric}')"));
        run(&mut client, &format!("SELECT s3vector.add_vectors('{metric}', ARRAY[[0,0],[1,1]])"));
        for way in [EXACT, BY_VECTOR] {
            run(&mut client, &format!("RESET ALL; {way}"));
            let found = format!("SELECT id FROM s3vector.search_vectors('{metric}', '[0,0]')");
            assert_eq!(texts(&mut client, &found).len(), 2, "{metric}, {way}");
        }
    }
}
