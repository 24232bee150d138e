//! What `add_vectors` is given, in its several forms, as three arrays of one length.
//!
//! Rows are counted from 1, as SQL counts elements of arrays: errors name them so.

use std::collections::HashMap;
use std::ffi::CString;

use exchange::Batch;
use pgrx::pg_sys;
use pgrx::prelude::*;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::call::{Call, json_text};
use super::query::{self, Access, Param};
use super::table::Collection;
use crate::errors::raise;
use crate::index::vector::{self, Vector};

/// Longest id, in bytes: it must fit into an entry of a B-tree.
const MAX_ID: usize = 2048;
/// Largest metadata of a row, in bytes as PostgreSQL stores it uncompressed.
const MAX_METADATA: usize = 1 << 20;
/// In the header of a `jsonb`: it is an object.
const JSON_OBJECT: u32 = 0x2000_0000;

/// Rows to be added.
#[derive(Default)]
pub struct Input {
    /// What errors call the first row.
    pub first: u64,
    /// Ids; those that were missing have been generated.
    pub ids: Vec<String>,
    /// Values of the collection's vector type.
    pub vectors: Vec<pg_sys::Datum>,
    /// `jsonb` objects; `None` when no row came with metadata.
    pub metadata: Option<Vec<pg_sys::Datum>>,
}

/// Raises an error about a row.
fn refuse(code: PgSqlErrorCode, message: String, detail: &str, hint: &str) -> ! {
    raise(code, message, detail, hint)
}

fn invalid(message: String, detail: &str, hint: &str) -> ! {
    refuse(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message, detail, hint)
}

impl Input {
    /// From `add_vectors(collection, vectors, metadata, ids, update)`.
    pub fn from_arrays(call: Call, collection: &Collection) -> Self {
        let Some(array) = call.datum(1) else {
            refuse(
                PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                "vectors must not be null".into(),
                "",
                "",
            )
        };
        let vectors = vectors(array, call.type_of(1), collection);
        let metadata = call.datum(2).map(|value| metadata(value, call.type_of(2), vectors.len()));
        let ids = match call.get::<Vec<Option<String>>>(3) {
            Some(ids) => {
                same_length(ids.len(), "ids", vectors.len());
                ids
            }
            None => vec![None; vectors.len()],
        };
        Self { first: 1, ids: with_ids(ids, 1), vectors, metadata }
    }

    /// From an import: its rows are counted from 0, and without ids are called by their numbers.
    pub fn from_batch(batch: Batch, collection: &Collection) -> Self {
        let Batch { first_row, rows, dimensions, vectors, ids, metadata } = batch;
        let numbers = first_row..first_row + rows as u64;
        let ids = ids.unwrap_or_else(|| numbers.clone().map(|row| row.to_string()).collect());
        let metadata = metadata.map(|texts| {
            let objects = numbers.clone().zip(texts).map(|(number, text)| {
                let object = json(&text);
                check_metadata(number, object);
                object
            });
            objects.collect()
        });
        let vectors = numbers.zip(vectors.chunks_exact(dimensions));
        Self {
            first: first_row,
            ids: with_ids(ids.into_iter().map(Some).collect(), first_row),
            vectors: vectors.map(|(number, row)| built(number, row, collection)).collect(),
            metadata,
        }
    }

    /// From `add_vectors(collection, items, update)`: a JSON array of `{id, vector, metadata}`.
    pub fn from_items(items: &str, collection: &Collection) -> Self {
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(items) else {
            invalid(
                "items must be a JSON array".into(),
                "",
                "Pass [{\"id\": …, \"vector\": […], \"metadata\": {…}}, …].",
            )
        };
        let mut input = Self { first: 1, ..Self::default() };
        let (mut ids, mut metadata, mut any) = (Vec::new(), Vec::new(), false);
        for (number, item) in (1..).zip(items) {
            let item: Item = serde_json::from_str(item.get()).unwrap_or_else(|error| {
                invalid(
                    format!("item {number} is not {{id, vector, metadata}}"),
                    &sentence(&error.to_string()),
                    "",
                )
            });
            input.vectors.push(built(number, &item.vector, collection));
            ids.push(item.id.filter(|id| id.get() != "null").map(|id| id_of(number, id)));
            let given = item.metadata.filter(|metadata| metadata.get() != "null");
            any |= given.is_some();
            let object = json(given.map_or("{}", RawValue::get));
            check_metadata(number, object);
            metadata.push(object);
        }
        input.ids = with_ids(ids, 1);
        input.metadata = any.then_some(metadata);
        input
    }
}

/// An element of the JSON form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    vector: Vec<f32>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

/// What serde says, without the place in a text that the user has not seen.
fn sentence(error: &str) -> String {
    let (what, _) = error.rsplit_once(" at line ").unwrap_or((error, ""));
    let mut letters = what.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

/// An id that is a string or a number.
fn id_of(number: u64, id: &RawValue) -> String {
    let text = id.get();
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).unwrap_or_default(),
        Some(b'-' | b'0'..=b'9') => text.to_owned(),
        _ => invalid(format!("the id of item {number} is neither a string nor a number"), "", ""),
    }
}

fn same_length(given: usize, what: &str, rows: usize) {
    if given != rows {
        invalid(
            format!("there are {given} {what} for {rows} vectors"),
            "",
            "Give one for each vector, NULL where there is none.",
        );
    }
}

/// Every id, checked; those that are missing are generated, so that later ones sort behind.
fn with_ids(ids: Vec<Option<String>>, first: u64) -> Vec<String> {
    let mut seen = HashMap::with_capacity(ids.len());
    for (number, id) in (first..).zip(&ids) {
        let Some(id) = id else { continue };
        if id.is_empty() || id.len() > MAX_ID {
            invalid(
                format!("the id of row {number} has {} bytes", id.len()),
                &format!("An id has 1 to {MAX_ID} bytes."),
                "",
            );
        }
        if let Some(before) = seen.insert(id.clone(), number) {
            refuse(
                PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
                format!("rows {before} and {number} have the same id \"{id}\""),
                "",
                "",
            );
        }
    }
    ids.into_iter().map(|id| id.unwrap_or_else(|| Uuid::now_v7().to_string())).collect()
}

/// The vectors in an array of vectors, or in a matrix of numbers.
fn vectors(
    array: pg_sys::Datum,
    array_type: pg_sys::Oid,
    collection: &Collection,
) -> Vec<pg_sys::Datum> {
    // SAFETY: looks into the catalogs.
    let element = unsafe { pg_sys::get_element_type(array_type) };
    if element == collection.vector_type {
        return vector_elements(array, collection);
    }
    let numbers = [
        pg_sys::FLOAT4OID,
        pg_sys::FLOAT8OID,
        pg_sys::NUMERICOID,
        pg_sys::INT2OID,
        pg_sys::INT4OID,
        pg_sys::INT8OID,
    ];
    if !numbers.contains(&element) {
        refuse(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            "vectors are given in an array of another type".into(),
            "",
            "Cast it to vector[] or real[].",
        );
    }
    if element == pg_sys::FLOAT4OID {
        return matrix_rows::<f32>(array, element, collection);
    }
    let array = if element == pg_sys::FLOAT8OID {
        Some(array)
    } else {
        let cast = "SELECT $1::pg_catalog.float8[]";
        query::fetch_value(cast, &[Param::of(array_type, Some(array))], Access::Read)
    };
    array.map_or_else(Vec::new, |array| matrix_rows::<f64>(array, pg_sys::FLOAT8OID, collection))
}

/// The elements of a `vector[]`.
fn vector_elements(array: pg_sys::Datum, collection: &Collection) -> Vec<pg_sys::Datum> {
    let elements = elements(array, collection.vector_type);
    for (number, element) in (1..).zip(&elements) {
        let Some(datum) = element else { missing(number) };
        // SAFETY: an element of an array of vectors.
        let vector = unsafe { Vector::new(*datum) };
        collection.check_vector(&format!("vector {number}"), vector.as_slice());
    }
    elements.into_iter().flatten().collect()
}

fn missing(number: u64) -> ! {
    refuse(
        PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
        format!("vector {number} is null"),
        "",
        "",
    )
}

/// A number that PostgreSQL's arrays hold as it is.
trait Number: Copy {
    /// The nearest element of a vector, infinite when it is beyond all of them.
    fn narrow(self) -> f32;
}

impl Number for f32 {
    fn narrow(self) -> f32 {
        self
    }
}

impl Number for f64 {
    fn narrow(self) -> f32 {
        self as f32
    }
}

/// The rows of a matrix of that element type, which is `T`; an array of one dimension is one row.
fn matrix_rows<T: Number>(
    array: pg_sys::Datum,
    element: pg_sys::Oid,
    collection: &Collection,
) -> Vec<pg_sys::Datum> {
    // SAFETY: an array of that type, detoasted; without NULLs its elements lie side by side.
    let (lengths, values) = unsafe {
        let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let count = (*array).ndim.max(0) as usize;
        let lengths = std::slice::from_raw_parts(array.add(1).cast::<i32>(), count);
        let total: usize =
            if count == 0 { 0 } else { lengths.iter().map(|&n| n as usize).product() };
        if pg_sys::array_contains_nulls(array) {
            let nulls = elements(pg_sys::Datum::from(array), element);
            let at = nulls.iter().position(Option::is_none).unwrap_or(0);
            let columns = lengths.last().map_or(1, |&n| n.max(1) as usize);
            let row = if count < 2 { 1 } else { at / columns + 1 };
            refuse(
                PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                format!("element {} of vector {row} is null", at % columns + 1),
                "",
                "",
            );
        }
        // Without a bitmap of NULLs they begin behind lengths and lower bounds.
        let header = size_of::<pg_sys::ArrayType>() + 2 * count * size_of::<i32>();
        let data = array.cast::<u8>().add(header.next_multiple_of(8)).cast::<T>();
        (lengths, std::slice::from_raw_parts(data, total))
    };
    let columns = match *lengths {
        [] => return Vec::new(),
        [columns] | [_, columns] => columns as usize,
        _ => invalid(
            format!("vectors are given in an array of {} dimensions", lengths.len()),
            "",
            "Give one row for each vector.",
        ),
    };
    let mut vector = Vec::with_capacity(columns);
    (1..)
        .zip(values.chunks_exact(columns))
        .map(|(number, row)| {
            vector.clear();
            vector.extend(row.iter().map(|element| element.narrow()));
            built(number, &vector, collection)
        })
        .collect()
}

/// A vector value made of numbers, which are checked.
fn built(number: u64, elements: &[f32], collection: &Collection) -> pg_sys::Datum {
    collection.check_vector(&format!("vector {number}"), elements);
    if let Some(at) = elements.iter().position(|element| !element.is_finite()) {
        refuse(
            PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
            format!("element {} of vector {number} is {}", at + 1, elements[at]),
            "A vector has finite elements only.",
            "",
        );
    }
    vector::make(elements)
}

/// Metadata of each row: a `jsonb[]`, or a JSON array as `jsonb`, `json` or text.
fn metadata(value: pg_sys::Datum, given: pg_sys::Oid, rows: usize) -> Vec<pg_sys::Datum> {
    let list = "SELECT pg_catalog.array_agg(value ORDER BY ordinality) \
                FROM pg_catalog.jsonb_array_elements($1::pg_catalog.jsonb) WITH ORDINALITY";
    let text = shown(value, given).unwrap_or_default();
    let is_json = || serde_json::from_str::<IgnoredAny>(&text).is_ok();
    let sql = match given {
        pg_sys::JSONBARRAYOID => None,
        pg_sys::JSONBOID | pg_sys::JSONOID | pg_sys::TEXTOID
            if text.trim_start().starts_with('[') =>
        {
            Some(list)
        }
        pg_sys::JSONBOID | pg_sys::JSONOID | pg_sys::TEXTOID if is_json() => invalid(
            "metadata must be a JSON array".into(),
            "",
            "Give an object for each vector, as jsonb[] or in a JSON array.",
        ),
        pg_sys::TEXTOID | pg_sys::TEXTARRAYOID | pg_sys::JSONARRAYOID => {
            Some("SELECT $1::pg_catalog.jsonb[]")
        }
        _ => refuse(
            PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
            "metadata is given in another type than jsonb[] or jsonb".into(),
            "",
            "Cast it to jsonb[], or pass a JSON array.",
        ),
    };
    let array = match sql {
        None => Some(value),
        Some(sql) => query::fetch_value(sql, &[Param::of(given, Some(value))], Access::Read),
    };
    let elements = array.map(|array| elements(array, pg_sys::JSONBOID)).unwrap_or_default();
    same_length(elements.len(), "metadata", rows);
    let mut empty = None;
    (1..)
        .zip(elements)
        .map(|(number, element)| {
            let object = element.unwrap_or_else(|| *empty.get_or_insert_with(|| json("{}")));
            check_metadata(number, object);
            object
        })
        .collect()
}

/// The text of one JSON value, or of what may be one.
fn shown(value: pg_sys::Datum, given: pg_sys::Oid) -> Option<String> {
    match given {
        pg_sys::JSONBOID => Some(json_text(value)),
        pg_sys::JSONOID | pg_sys::TEXTOID => Some(text_of(value)),
        _ => None,
    }
}

fn text_of(value: pg_sys::Datum) -> String {
    // SAFETY: a text value.
    unsafe { String::from_datum(value, false) }.unwrap_or_default()
}

/// A `jsonb` value from its text.
pub fn json(text: &str) -> pg_sys::Datum {
    let text = CString::new(text).unwrap_or_else(|_| pgrx::error!("a zero byte in JSON"));
    // SAFETY: `jsonb_in` takes a string and returns a value, or raises an error.
    let datum = unsafe {
        pgrx::direct_function_call::<pg_sys::Datum>(
            pg_sys::jsonb_in,
            &[text.as_c_str().into_datum()],
        )
    };
    datum.unwrap_or_else(|| pgrx::error!("jsonb_in returned null"))
}

/// Raises an error unless metadata is an object of a sensible size.
fn check_metadata(number: u64, value: pg_sys::Datum) {
    // SAFETY: a jsonb value: behind the length of the varlena comes the header of its root.
    let (bytes, header) = unsafe {
        let plain = pg_sys::pg_detoast_datum(value.cast_mut_ptr());
        let bytes = pgrx::varsize_any_exhdr(plain);
        (bytes, pgrx::vardata_any(plain).cast::<u32>().read_unaligned())
    };
    if header & JSON_OBJECT == 0 {
        let shown: String = json_text(value).chars().take(60).collect();
        invalid(
            format!("metadata of row {number} is not a JSON object"),
            &format!("It is {shown}."),
            "",
        );
    }
    if bytes > MAX_METADATA {
        refuse(
            PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("metadata of row {number} has {bytes} bytes"),
            &format!("A row has at most {MAX_METADATA} bytes of metadata."),
            "Keep large documents in a table of their own, and their keys in the metadata.",
        );
    }
}

/// The elements of an array, NULLs among them.
fn elements(array: pg_sys::Datum, element: pg_sys::Oid) -> Vec<Option<pg_sys::Datum>> {
    // SAFETY: an array of that element type; what is returned lies in its detoasted form, which
    // lives as long as the statement's memory.
    unsafe {
        let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let (mut length, mut by_value, mut align) = (0i16, false, 0 as std::ffi::c_char);
        pg_sys::get_typlenbyvalalign(element, &mut length, &mut by_value, &mut align);
        let (mut values, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        pg_sys::deconstruct_array(
            array,
            element,
            length.into(),
            by_value,
            align,
            &mut values,
            &mut nulls,
            &mut count,
        );
        (0..count as usize).map(|at| (!*nulls.add(at)).then_some(*values.add(at))).collect()
    }
}

/// An array of values that are not null.
pub fn array(values: &mut [pg_sys::Datum], element: pg_sys::Oid) -> pg_sys::Datum {
    // SAFETY: values of that type; they are copied.
    unsafe {
        let (mut length, mut by_value, mut align) = (0i16, false, 0 as std::ffi::c_char);
        pg_sys::get_typlenbyvalalign(element, &mut length, &mut by_value, &mut align);
        let array = pg_sys::construct_array(
            values.as_mut_ptr(),
            values.len() as i32,
            element,
            length.into(),
            by_value,
            align,
        );
        pg_sys::Datum::from(array)
    }
}
