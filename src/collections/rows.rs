//! Rows of a collection by id or by filter: `get_vector`, `list_vectors`, `remove_vectors`,
//! `count_vectors`.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::call::sql_function;
use super::filters;
use super::query::{self, Access, Param};
use super::search::not_negative;
use super::table::find;
use crate::errors::raise;

sql_function!(
    /// `s3vector.get_vector(collection, id)`: the row with that id, if there is one.
    s3vector_get_vector, pg_finfo_s3vector_get_vector, |call| {
        let collection = find(&call.require::<String>(0, "collection"));
        let id = call.require::<String>(1, "id");
        let sql = format!(
            "SELECT t.id, t.embedding, t.metadata, t.created_at FROM {} t \
             WHERE t.id OPERATOR(pg_catalog.=) $1",
            collection.qualified
        );
        query::answer(call, &sql, &[Param::new(id)]);
        None
    }
);

sql_function!(
    /// `s3vector.list_vectors(collection, limit, after, filters, include_vectors)`: rows in order of id,
    /// from behind the id `after`.
    s3vector_list_vectors, pg_finfo_s3vector_list_vectors, |call| {
        let collection = find(&call.require::<String>(0, "collection"));
        let limit = not_negative(call, 1, "limit").unwrap_or(100);
        let (conditions, params) =
            conditions(call.get::<String>(2).map(OnIds::after), filters::argument(call, 3));
        let vector = if call.get(4).unwrap_or(false) {
            "t.embedding".to_owned()
        } else {
            format!("NULL::{}", collection.vector_type_name)
        };
        let sql = format!(
            "SELECT t.id, t.metadata, {vector}, t.created_at FROM {} t {conditions} \
             ORDER BY t.id LIMIT {limit}",
            collection.qualified
        );
        query::answer(call, &sql, &params);
        None
    }
);

sql_function!(
    /// `s3vector.remove_vectors(collection, ids, filters)`: deletes rows; returns how many there were.
    s3vector_remove_vectors, pg_finfo_s3vector_remove_vectors, |call| {
        let collection = find(&call.require::<String>(0, "collection"));
        let ids = call.datum(1);
        if ids.is_none() && call.datum(2).is_none() {
            raise(
                PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                "neither ids nor filters say what to remove",
                "",
                "Pass filters => '{}' to remove every row.",
            );
        }
        let (conditions, params) = conditions(ids.map(OnIds::among), filters::argument(call, 2));
        let sql = format!("DELETE FROM {} t {conditions}", collection.qualified);
        (query::run(&sql, &params, Access::Write) as i64).into_datum()
    }
);

sql_function!(
    /// `s3vector.count_vectors(collection, filters)`: how many rows pass.
    s3vector_count_vectors, pg_finfo_s3vector_count_vectors, |call| {
        let collection = find(&call.require::<String>(0, "collection"));
        let (conditions, params) = conditions(None, filters::argument(call, 1));
        let sql =
            format!("SELECT pg_catalog.count(*) FROM {} t {conditions}", collection.qualified);
        query::fetch_value(&sql, &params, Access::Read)
    }
);

/// A condition on ids, with its parameter as `$1`.
struct OnIds {
    sql: &'static str,
    param: Param,
}

impl OnIds {
    /// Ids greater than this one.
    fn after(id: String) -> Self {
        Self { sql: "t.id OPERATOR(pg_catalog.>) $1", param: Param::new(id) }
    }

    /// Ids in this `text[]`.
    fn among(ids: pg_sys::Datum) -> Self {
        let param = Param::of(pg_sys::TEXTARRAYOID, Some(ids));
        Self { sql: "t.id OPERATOR(pg_catalog.=) ANY ($1)", param }
    }
}

/// `WHERE …` and its parameters.
fn conditions(ids: Option<OnIds>, filter: Option<Param>) -> (String, Vec<Param>) {
    match (ids, filter) {
        (None, None) => (String::new(), Vec::new()),
        (Some(ids), None) => (format!("WHERE {}", ids.sql), vec![ids.param]),
        (None, Some(filter)) => (filters::condition("t", 1), vec![filter]),
        (Some(ids), Some(filter)) => {
            let sql = format!("{} AND {}", filters::condition("t", 2), ids.sql);
            (sql, vec![ids.param, filter])
        }
    }
}
