//! `s3vector_collections`: the collections there are, behind `list_collections` and
//! `get_collection_info`.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::table::{all, find_locked};

extension_sql_file!(
    "../../sql/collections.sql",
    name = "collections",
    requires = ["access_method", s3vector_collections, s3vector_index_info]
);

/// Collections of this database, or the one of that name.
#[pg_extern(stable, parallel_restricted)]
fn s3vector_collections(
    collection: default!(Option<&str>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(table_oid, pg_sys::Oid),
        name!(index_oid, pg_sys::Oid),
        name!(name, String),
        name!(schema, String),
        name!(dimension, i32),
        name!(distance_metric, String),
    ),
> {
    let tables = all(collection.map(|name| find_locked(name).table));
    TableIterator::new(tables.into_iter().map(|collection| {
        (
            collection.table,
            collection.index,
            collection.name,
            collection.schema,
            collection.dimensions as i32,
            collection.metric.name().to_owned(),
        )
    }))
}
