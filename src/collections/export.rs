//! `export_zarr`: a collection as a Zarr group that anybody can open.

use exchange::ExportInfo;
use pgrx::prelude::*;

use super::call::{json_text, sql_function};
use super::pipe::{self, Outgoing};
use super::query::{Cursor, Row};
use super::table::{Collection, find};
use crate::errors::raise;
use crate::index::vector::Vector;

/// Bytes of vectors that are read from the table at a time.
const BATCH_BYTES: usize = 4 << 20;

sql_function!(
    /// `s3vector.export_zarr(collection, url)`.
    s3vector_export_zarr, pg_finfo_s3vector_export_zarr, |call| {
        let collection = find(&call.require::<String>(0, "collection"));
        let url = call.require::<String>(1, "url");
        let info = ExportInfo {
            collection: collection.name.clone(),
            distance_metric: collection.metric.name().to_owned(),
            dimensions: collection.dimensions,
        };
        let mut cursor = Cursor::open(&format!(
            "SELECT t.id, t.embedding, t.metadata FROM {} t",
            collection.qualified
        ));
        let rows = BATCH_BYTES / (4 * collection.dimensions);
        let exported =
            pipe::export(&url, info, || next(&mut cursor, rows.max(1), &collection));
        cursor.close();
        (exported.rows as i64).into_datum()
    }
);

/// The next rows, if there are any.
fn next(cursor: &mut Cursor, rows: usize, collection: &Collection) -> Option<Outgoing> {
    let mut out = Outgoing { vectors: Vec::new(), ids: Vec::new(), metadata: Vec::new() };
    cursor.fetch(rows, |row| take(&row, collection, &mut out));
    (!out.ids.is_empty()).then_some(out)
}

fn take(row: &Row, collection: &Collection, out: &mut Outgoing) {
    let id = row.get::<String>(1).unwrap_or_default();
    let Some(embedding) = row.datum(2) else {
        raise(
            PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            format!("the row with id \"{id}\" of collection \"{}\" has no vector", collection.name),
            "",
            "",
        )
    };
    // SAFETY: a value of the collection's column, read while the row is there.
    let vector = unsafe { Vector::new(embedding) };
    out.vectors.extend_from_slice(vector.as_slice());
    out.ids.push(id);
    out.metadata.push(row.datum(3).map_or_else(|| "{}".to_owned(), json_text));
}
