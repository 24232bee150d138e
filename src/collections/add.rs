//! `add_vectors`: many rows in one statement, all of them or none.

use std::collections::HashSet;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::call::sql_function;
use super::input::{self, Input};
use super::query::{self, Access, Param};
use super::table::{Collection, find};
use crate::errors::raise;

sql_function!(
    /// `s3vector.add_vectors(collection, vectors, metadata, ids, update)`.
    s3vector_add_vectors, pg_finfo_s3vector_add_vectors, |call| {
        let collection = find(&call.require::<String>(0, "collection"));
        let input = Input::from_arrays(call, &collection);
        add(&collection, input, call.get(4).unwrap_or(false)).into_datum()
    }
);

sql_function!(
    /// `s3vector.add_vectors(collection, items, update)`.
    s3vector_add_items, pg_finfo_s3vector_add_items, |call| {
        let collection = find(&call.require::<String>(0, "collection"));
        let items = call.json(1).unwrap_or_else(|| {
            raise(
                PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                "items must not be null",
                "",
                "",
            )
        });
        let input = Input::from_items(&items, &collection);
        add(&collection, input, call.get(2).unwrap_or(false)).into_datum()
    }
);

/// Inserts rows, or replaces those whose ids are there; returns the ids.
///
/// A row that is replaced keeps its metadata when none came with any row.
pub fn add(collection: &Collection, input: Input, update: bool) -> Vec<String> {
    // An import has no such argument, and counts from 0.
    let hint = match input.first {
        0 => "",
        _ => "Pass update => true to replace rows that exist.",
    };
    let Input { first, ids, mut vectors, metadata } = input;
    if ids.is_empty() {
        return ids;
    }
    let mut values = metadata.clone().unwrap_or_else(|| vec![input::json("{}"); ids.len()]);
    let params = [
        Param::new(ids.clone()),
        Param::of(
            array_type(collection.vector_type),
            Some(input::array(&mut vectors, collection.vector_type)),
        ),
        Param::of(pg_sys::JSONBARRAYOID, Some(input::array(&mut values, pg_sys::JSONBOID))),
    ];
    let conflict = match (update, metadata.is_some()) {
        (false, _) => "NOTHING",
        (true, false) => "UPDATE SET embedding = excluded.embedding",
        (true, true) => "UPDATE SET embedding = excluded.embedding, metadata = excluded.metadata",
    };
    let sql = format!(
        "INSERT INTO {} AS t (id, embedding, metadata)
         SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3))
         ON CONFLICT (id) DO {conflict} RETURNING t.id",
        collection.qualified
    );
    let (added, _) = query::fetch(&sql, &params, Access::Write, |row| row.get::<String>(1));
    if added.len() < ids.len() && !update {
        let added: HashSet<_> = added.into_iter().flatten().collect();
        let at = ids.iter().position(|id| !added.contains(id)).unwrap_or_default();
        raise(
            PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
            format!(
                "the id of row {} is already in collection \"{}\"",
                first + at as u64,
                collection.name
            ),
            format!("It is \"{}\". No row has been added.", ids[at]),
            hint,
        );
    }
    ids
}

fn array_type(element: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: looks into the catalogs.
    unsafe { pg_sys::get_array_type(element) }
}
