//! Storage parameters (`WITH (…)`) and the parameters of an index they lead to.

use std::ffi::{CStr, c_int};
use std::mem::offset_of;
use std::ptr;

use distance::{Metric, Payload};
use pgrx::pg_sys;
use pgrx::prelude::*;
use segment::{Compression, default_chunk_rows, default_shard_rows};

use super::handler::METRIC_PROC;
use crate::errors::raise;
use crate::pages::meta::Parameters;
use crate::random::random_seed;
use crate::shared::payload_cache::MAX_CHUNK;

/// Most elements a vector can have, as in pgvector's type.
pub const MAX_DIMENSIONS: usize = 16_000;

const DEFAULT_M: i32 = 16;
/// `docs/benchmarks.md` has the measurement behind it.
const DEFAULT_EF_CONSTRUCTION: i32 = 64;
/// Stands for "choose by dimensions".
const AUTO: i32 = 0;

static mut KIND: pg_sys::relopt_kind::Type = 0;

/// The parsed form PostgreSQL keeps with the relation.
#[repr(C)]
struct Stored {
    length: i32,
    m: c_int,
    ef_construction: c_int,
    bits: c_int,
    payload: c_int,
    compression: c_int,
    compression_level: c_int,
    chunk_rows: c_int,
    shard_rows: c_int,
}

/// An enumeration's text and number, as PostgreSQL wants it: static and zero-terminated.
struct Members<const N: usize>([pg_sys::relopt_enum_elt_def; N]);
// SAFETY: literals and numbers, never changed.
unsafe impl<const N: usize> Sync for Members<N> {}

const fn member(text: &'static CStr, number: i32) -> pg_sys::relopt_enum_elt_def {
    pg_sys::relopt_enum_elt_def { string_val: text.as_ptr(), symbol_val: number }
}

const END: pg_sys::relopt_enum_elt_def =
    pg_sys::relopt_enum_elt_def { string_val: ptr::null(), symbol_val: 0 };

static BITS: Members<5> =
    Members([member(c"1", 1), member(c"2", 2), member(c"4", 4), member(c"8", 8), END]);
static PAYLOADS: Members<3> = Members([
    member(c"float32", Payload::Float32 as i32),
    member(c"float16", Payload::Float16 as i32),
    END,
]);
static COMPRESSIONS: Members<4> = Members([
    member(c"none", Compression::None as i32),
    member(c"zstd", Compression::Zstd as i32),
    member(c"lz4", Compression::Lz4 as i32),
    END,
]);

/// Defines the storage parameters. Called once, from `_PG_init`.
pub fn register() {
    // SAFETY: called on the main thread; PostgreSQL copies names and keeps the static members.
    unsafe {
        KIND = pg_sys::add_reloption_kind();
        add_int(c"m", c"Neighbours a node keeps on upper levels", DEFAULT_M, 2, 100);
        add_int(
            c"ef_construction",
            c"Candidates kept while a node is linked",
            DEFAULT_EF_CONSTRUCTION,
            4,
            1000,
        );
        add_enum(
            c"bits",
            c"Bits of a code per dimension",
            &BITS,
            AUTO,
            c"Valid values are \"1\", \"2\", \"4\" and \"8\".",
        );
        add_enum(
            c"payload",
            c"Element type of the stored vectors",
            &PAYLOADS,
            Payload::Float32 as i32,
            c"Valid values are \"float32\" and \"float16\".",
        );
        add_enum(
            c"compression",
            c"Compression of the stored vectors",
            &COMPRESSIONS,
            Compression::None as i32,
            c"Valid values are \"none\", \"zstd\" and \"lz4\".",
        );
        add_int(c"compression_level", c"Effort of the compression", AUTO, 0, 9);
        add_int(c"chunk_rows", c"Rows fetched together", AUTO, 0, 65_536);
        add_int(c"shard_rows", c"Rows of one object", AUTO, 0, 1 << 30);
    }
}

unsafe fn add_int(name: &CStr, description: &CStr, default: i32, min: i32, max: i32) {
    // SAFETY: KIND is set; the strings are copied.
    unsafe {
        pg_sys::add_int_reloption(
            KIND,
            name.as_ptr(),
            description.as_ptr(),
            default,
            min,
            max,
            pg_sys::AccessExclusiveLock as i32,
        );
    }
}

unsafe fn add_enum<const N: usize>(
    name: &CStr,
    description: &CStr,
    members: &'static Members<N>,
    default: i32,
    detail: &'static CStr,
) {
    // SAFETY: KIND is set; members and detail are static, as PostgreSQL keeps pointers to them
    // and never writes through.
    unsafe {
        pg_sys::add_enum_reloption(
            KIND,
            name.as_ptr(),
            description.as_ptr(),
            members.0.as_ptr().cast_mut(),
            default,
            detail.as_ptr(),
            pg_sys::AccessExclusiveLock as i32,
        );
    }
}

/// Parses the storage parameters of an index.
#[pg_guard]
pub unsafe extern "C-unwind" fn amoptions(
    reloptions: pg_sys::Datum,
    validate: bool,
) -> *mut pg_sys::bytea {
    use pg_sys::relopt_type::{RELOPT_TYPE_ENUM as ENUM, RELOPT_TYPE_INT as INT};
    let element = |name: &'static CStr, opttype, offset: usize| pg_sys::relopt_parse_elt {
        optname: name.as_ptr(),
        opttype,
        offset: offset as i32,
        ..Default::default()
    };
    let elements = [
        element(c"m", INT, offset_of!(Stored, m)),
        element(c"ef_construction", INT, offset_of!(Stored, ef_construction)),
        element(c"bits", ENUM, offset_of!(Stored, bits)),
        element(c"payload", ENUM, offset_of!(Stored, payload)),
        element(c"compression", ENUM, offset_of!(Stored, compression)),
        element(c"compression_level", INT, offset_of!(Stored, compression_level)),
        element(c"chunk_rows", INT, offset_of!(Stored, chunk_rows)),
        element(c"shard_rows", INT, offset_of!(Stored, shard_rows)),
    ];
    // SAFETY: KIND is set at load; the elements describe `Stored`.
    unsafe {
        pg_sys::build_reloptions(
            reloptions,
            validate,
            KIND,
            size_of::<Stored>(),
            elements.as_ptr(),
            elements.len() as i32,
        )
        .cast()
    }
}

/// The parameters a new index gets: its operator class, its column, its storage parameters and,
/// for what they leave open, defaults by dimension.
///
/// # Safety
/// `index` is an open relation of this access method.
pub unsafe fn parameters(index: pg_sys::Relation) -> Parameters {
    // SAFETY: by the contract; `rd_options` is null or what `amoptions` returned.
    let (dimensions, metric, stored) = unsafe {
        (dimensions(index), metric(index), ((*index).rd_options.cast::<Stored>()).as_ref())
    };
    let option = |get: fn(&Stored) -> c_int, default: i32| stored.map_or(default, get);
    let payload = Payload::from_u8(option(|s| s.payload, Payload::Float32 as i32) as u8)
        .unwrap_or(Payload::Float32);
    let compression =
        Compression::from_u8(option(|s| s.compression, Compression::None as i32) as u8)
            .unwrap_or(Compression::None);
    let bits = match option(|s| s.bits, AUTO) {
        AUTO => default_bits(dimensions),
        bits => bits as u8,
    };
    let chunk_rows = match option(|s| s.chunk_rows, AUTO) {
        AUTO => default_chunk_rows(dimensions as u32, payload) as usize,
        rows => rows as usize,
    };
    let shard_rows = match option(|s| s.shard_rows, AUTO) {
        AUTO => default_shard_rows(dimensions as u32, payload, chunk_rows as u32) as usize,
        rows => rows as usize,
    };
    check_layout(dimensions, payload, chunk_rows, shard_rows);
    Parameters {
        dimensions,
        metric,
        m: option(|s| s.m, DEFAULT_M) as usize,
        ef_construction: option(|s| s.ef_construction, DEFAULT_EF_CONSTRUCTION) as usize,
        bits,
        payload,
        compression,
        compression_level: option(|s| s.compression_level, AUTO) as u8,
        chunk_rows,
        shard_rows,
        rotation_seed: random_seed(),
    }
}

/// Bits of a code per dimension when nobody says: 4, and 8 below 64 dimensions, where codes are
/// short anyway and estimates need them to tell near rows apart.
fn default_bits(dimensions: usize) -> u8 {
    if dimensions < 64 { 8 } else { 4 }
}

/// Refuses chunks the payload cache could not hold and shards that are not made of whole chunks.
fn check_layout(dimensions: usize, payload: Payload, chunk_rows: usize, shard_rows: usize) {
    let row_bytes = dimensions * payload.element_bytes();
    let most = (MAX_CHUNK / row_bytes).max(1);
    if chunk_rows > most {
        raise(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("value {chunk_rows} out of bounds for option \"chunk_rows\""),
            format!(
                "A chunk holds at most {MAX_CHUNK} bytes: {most} rows of {dimensions} dimensions \
                 as {}.",
                payload.name()
            ),
            "",
        );
    }
    if shard_rows < chunk_rows || !shard_rows.is_multiple_of(chunk_rows) {
        raise(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("value {shard_rows} is not valid for option \"shard_rows\""),
            format!("It must be a multiple of chunk_rows, which is {chunk_rows}."),
            "",
        );
    }
}

/// Elements of the indexed column's vectors, from its type modifier.
///
/// # Safety
/// `index` is an open relation of this access method.
unsafe fn dimensions(index: pg_sys::Relation) -> usize {
    // SAFETY: an index of this access method has exactly one column.
    let typmod = unsafe { (*pg_sys::TupleDescAttr((*index).rd_att, 0)).atttypmod };
    match usize::try_from(typmod) {
        Ok(dimensions) if (1..=MAX_DIMENSIONS).contains(&dimensions) => dimensions,
        Ok(dimensions) => raise(
            PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("column cannot have more than {MAX_DIMENSIONS} dimensions for s3vector index"),
            format!("It has {dimensions}."),
            "",
        ),
        Err(_) => raise(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            "column does not have dimensions",
            "",
            "Declare the column as vector(n), or index the expression (column::vector(n)).",
        ),
    }
}

/// What the index's operator class orders by.
///
/// # Safety
/// `index` is an open relation of this access method.
unsafe fn metric(index: pg_sys::Relation) -> Metric {
    // SAFETY: every operator class of this access method has the support function, which takes
    // no argument and returns an integer.
    let number = unsafe {
        let function = pg_sys::index_getprocinfo(index, 1, METRIC_PROC);
        pg_sys::FunctionCall0Coll(function, pg_sys::InvalidOid).value() as u8
    };
    Metric::from_u8(number).unwrap_or_else(|| {
        raise(
            PgSqlErrorCode::ERRCODE_INVALID_OBJECT_DEFINITION,
            format!("support function {METRIC_PROC} of the operator class names no metric"),
            format!("It returned {number}."),
            "Use one of vector_l2_ops, vector_ip_ops and vector_cosine_ops.",
        )
    })
}
