//! The collections API inside one transaction: what comes back, and what is said of bad input. What
//! needs several sessions or another server is in `tests/tests/collections`.

use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use super::super::support::*;
    use pgrx::prelude::*;

    /// The collection `docs` with three rows.
    fn docs() {
        run("SELECT s3vector.create_collection('docs', 2, 'l2')");
        run("SELECT s3vector.add_vectors('docs', ARRAY[[0,0],[0,1],[0,2]],
             '[{\"n\": 1}, {\"n\": 2}, {\"n\": 3}]', '{a,b,c}')");
    }

    /// The first column of a query, joined.
    fn joined(sql: &str) -> String {
        get(&format!("SELECT coalesce(string_agg(x.a::text, ' '), '') FROM ({sql}) AS x(a)"))
    }

    #[pg_test]
    fn every_call() {
        docs();
        assert_eq!(joined("SELECT id FROM s3vector.search_vectors('docs', '[0,3]')"), "c b a");
        assert_eq!(
            joined("SELECT id FROM s3vector.search_vectors('docs', '[0,3]', '{\"n\": [1, 2]}', 1)"),
            "b"
        );
        assert_eq!(
            joined("SELECT s3vector.search_vectors_page('docs', '[0,3]', '{}', 1) ->> 'total'"),
            "3"
        );
        assert_eq!(joined("SELECT metadata ->> 'n' FROM s3vector.get_vector('docs', 'b')"), "2");
        assert_eq!(joined("SELECT id FROM s3vector.list_vectors('docs', after => 'a')"), "b c");
        assert_eq!(get::<i64>("SELECT s3vector.remove_vectors('docs', '{a,x}')"), 1);
        assert_eq!(get::<i64>("SELECT s3vector.count_vectors('docs')"), 2);
        assert_eq!(joined("SELECT name FROM s3vector.list_collections()"), "docs");
        assert_eq!(joined("SELECT vectors FROM s3vector.get_collection_info('docs')"), "2");
        run("SELECT s3vector.delete_collection('docs')");
        assert_eq!(joined("SELECT name FROM s3vector.list_collections()"), "");
    }

    #[pg_test]
    fn many_in_one_transaction() {
        for dimensions in 1..40 {
            run(&format!(
                "SELECT s3vector.create_collection('docs', {dimensions}, overwrite => true)"
            ));
            run(&format!(
                "SELECT s3vector.add_vectors('docs', ARRAY[array_agg(i)]) FROM generate_series(1, {dimensions}) i"
            ));
            assert_eq!(
                joined(&format!(
                    "SELECT round(score) FROM s3vector.search_vectors('docs',
                     (SELECT array_agg(i)::vector FROM generate_series(1, {dimensions}) i))"
                )),
                "1"
            );
        }
    }

    #[pg_test(error = "collection \"nothing\" does not exist")]
    fn no_such_collection() {
        run("SELECT s3vector.count_vectors('nothing')");
    }

    #[pg_test(error = "\"plain\" is not a collection")]
    fn no_collection() {
        run("CREATE TABLE plain (id text)");
        run("SELECT s3vector.count_vectors('plain')");
    }

    #[pg_test(error = "collection \"docs\" already exists")]
    fn created_twice() {
        docs();
        docs();
    }

    #[pg_test(error = "unknown key \"lists\" in config")]
    fn no_such_config_key() {
        run("SELECT s3vector.create_collection('docs', config => '{\"lists\": 5}')");
    }

    #[pg_test(error = "vector 2 has 3 dimensions, not 2")]
    fn wrong_dimensions() {
        docs();
        run("SELECT s3vector.add_vectors('docs', ARRAY['[1,2]', '[1,2,3]']::vector[])");
    }

    #[pg_test(error = "the query vector has 3 dimensions, not 2")]
    fn wrong_dimensions_of_a_query() {
        docs();
        run("SELECT s3vector.search_vectors('docs', '[1,2,3]')");
    }

    #[pg_test(error = "the id of row 2 is already in collection \"docs\"")]
    fn an_id_that_is_taken() {
        docs();
        run("SELECT s3vector.add_vectors('docs', ARRAY[[1,2],[3,4]], ids => '{x,a}')");
    }

    #[pg_test(error = "unknown filter operator \"$near\"")]
    fn no_such_operator() {
        docs();
        run("SELECT s3vector.count_vectors('docs', '{\"n\": {\"$near\": 1}}')");
    }
}
