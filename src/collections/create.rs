//! `create_collection` and `delete_collection`: a table with its indexes.
//!
//! Both hold a lock on the name until their transaction ends, so that of several at once the first
//! has its way and the others are told.

use std::ffi::{CStr, CString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ptr;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::call::sql_function;
use super::config::Config;
use super::query::{self, Access, Param};
use super::table::{self, Collection, MAX_NAME, describe, find, literal, namespace_name, quote};
use crate::errors::raise;
use crate::index::options::MAX_DIMENSIONS;

/// Dimensions of a collection when nobody says.
const DEFAULT_DIMENSIONS: i32 = 384;

sql_function!(
    /// `s3vector.create_collection(name, dimension, distance_metric, overwrite, config)`.
    s3vector_create_collection, pg_finfo_s3vector_create_collection, |call| {
        let name = call.require::<String>(0, "name");
        let metric = call.get::<String>(2).unwrap_or_else(|| "cosine".into());
        let config = call.json(4).unwrap_or_else(|| "{}".into());
        let table = create(&New {
            name: &name,
            dimensions: call.get(1).unwrap_or(DEFAULT_DIMENSIONS),
            metric: &metric,
            overwrite: call.get(3).unwrap_or(false),
            config: &config,
        });
        Some(table.into())
    }
);

sql_function!(
    /// `s3vector.delete_collection(collection)`.
    s3vector_delete_collection, pg_finfo_s3vector_delete_collection, |call| {
        let name = call.require::<String>(0, "collection");
        refuse_when_read_only(c"delete_collection()");
        // SAFETY: looks into the catalogs.
        let schema = unsafe { pg_sys::get_rel_namespace(find(&name).table) };
        lock_name(schema, &name);
        // Somebody else may have deleted it while this waited.
        query::run(&format!("DROP TABLE {}", find(&name).qualified), &[], Access::Write);
        None
    }
);

/// A collection to be created.
pub struct New<'a> {
    /// Its name.
    pub name: &'a str,
    /// Elements of a vector.
    pub dimensions: i32,
    /// What it is ordered by: `cosine`, `l2`, `ip`, or another name of one of them.
    pub metric: &'a str,
    /// Whether a collection of that name is dropped first.
    pub overwrite: bool,
    /// Options of the index, a JSON object.
    pub config: &'a str,
}

/// Creates a collection; returns its table.
pub fn create(new: &New<'_>) -> pg_sys::Oid {
    draft(new).finish()
}

/// A new collection's table, without its indexes: rows are added to it faster.
pub struct Draft {
    collection: Collection,
    indexes: [String; 2],
}

impl Draft {
    /// What can be added to.
    pub fn collection(&self) -> &Collection {
        &self.collection
    }

    /// Creates the indexes; returns the table.
    pub fn finish(self) -> pg_sys::Oid {
        for statement in self.indexes {
            query::run(&statement, &[], Access::Write);
        }
        self.collection.table
    }
}

/// Creates the table of a collection.
pub fn draft(new: &New<'_>) -> Draft {
    table::require_utf8();
    refuse_when_read_only(c"create_collection()");
    check_name(new.name);
    if !(1..=MAX_DIMENSIONS as i32).contains(&new.dimensions) {
        raise(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("dimension must be between 1 and {MAX_DIMENSIONS}"),
            format!("It is {}.", new.dimensions),
            "",
        );
    }
    let metric = metric(new.metric);
    let types = Types::of_metric(metric);
    let options = Config::parse(new.config, new.dimensions as usize).options();
    let schema = creation_schema(new.name);
    lock_name(schema, new.name);
    make_way(schema, new);
    let Some(schema_name) = namespace_name(schema) else {
        pgrx::error!("the schema to create a collection in has just been dropped")
    };
    let table = format!("{}.{}", quote(&schema_name), quote(new.name));
    let statement = format!(
        "CREATE TABLE {table} (
            id pg_catalog.text COLLATE pg_catalog.\"C\" PRIMARY KEY,
            embedding {}({}) NOT NULL,
            metadata pg_catalog.jsonb NOT NULL DEFAULT '{{}}'
                CHECK (pg_catalog.jsonb_typeof(metadata) OPERATOR(pg_catalog.=) 'object'),
            created_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now())",
        types.vector, new.dimensions
    );
    query::run(&statement, &[], Access::Write);
    let options = if options.is_empty() {
        String::new()
    } else {
        let list = options.iter().map(|(name, value)| format!("{name} = {}", literal(value)));
        format!("WITH ({})", list.collect::<Vec<_>>().join(", "))
    };
    let indexes = [
        format!("CREATE INDEX ON {table} USING s3vector (embedding {}) {options}", types.class),
        format!("CREATE INDEX ON {table} USING gin (metadata pg_catalog.jsonb_path_ops)"),
    ];
    let created = relation_in(schema, new.name);
    if table::find_relation(new.name) != Some(created) {
        raise(
            PgSqlErrorCode::ERRCODE_RESERVED_NAME,
            format!("a collection called \"{}\" could not be found", new.name),
            "Another relation of that name comes before it in search_path.",
            "Choose another name.",
        );
    }
    let names = (new.name.to_owned(), schema_name);
    Draft { collection: Collection::new(created, names, new.dimensions, metric, &types), indexes }
}

/// Raises PostgreSQL's own errors on a standby and in a read-only transaction.
fn refuse_when_read_only(call: &CStr) {
    // SAFETY: looks at the state of server and transaction.
    unsafe {
        pg_sys::PreventCommandDuringRecovery(call.as_ptr());
        if pg_sys::XactReadOnly {
            pg_sys::PreventCommandIfReadOnly(call.as_ptr());
        }
    }
}

/// Raises an error unless a collection can be called that.
fn check_name(name: &str) {
    if name.is_empty() || name.len() > MAX_NAME {
        raise(
            PgSqlErrorCode::ERRCODE_INVALID_NAME,
            format!("the name of a collection must have 1 to {MAX_NAME} bytes"),
            format!("This one has {}.", name.len()),
            "",
        );
    }
}

/// The part that metrics' names have in common with their support functions.
fn metric(name: &str) -> &'static str {
    match name.to_ascii_lowercase().as_str() {
        "cosine" => "cosine",
        "l2" | "euclidean" => "l2",
        "ip" | "inner_product" => "ip",
        _ => raise(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("unknown distance_metric \"{name}\""),
            "",
            "Use 'cosine', 'l2' or 'ip'.",
        ),
    }
}

/// Names of what a collection is made with, qualified and quoted.
pub struct Types {
    /// pgvector's type.
    pub vector_type: pg_sys::Oid,
    /// Its name.
    pub vector: String,
    class: String,
}

impl Types {
    /// Of this database's operator class for a metric.
    fn of_metric(metric: &str) -> Self {
        let sql = "
            SELECT t.oid, pg_catalog.format('%I.%I', tn.nspname, t.typname),
                   pg_catalog.format('%I.%I', kn.nspname, k.opcname)
            FROM pg_catalog.pg_am m
            JOIN pg_catalog.pg_opclass k ON k.opcmethod = m.oid
            JOIN pg_catalog.pg_namespace kn ON kn.oid = k.opcnamespace
            JOIN pg_catalog.pg_type t ON t.oid = k.opcintype
            JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
            JOIN pg_catalog.pg_amproc p ON p.amprocfamily = k.opcfamily AND p.amprocnum = 1
            JOIN pg_catalog.pg_proc f ON f.oid = p.amproc
            WHERE m.amname = 's3vector' AND f.proname::text = $1
            ORDER BY k.oid LIMIT 1";
        let params = [Param::new(format!("s3vector_metric_{metric}"))];
        let read = |row: query::Row| {
            Some(Self { vector_type: row.get(1)?, vector: row.get(2)?, class: row.get(3)? })
        };
        let (mut found, _) =
            query::with_plain_path(|| query::fetch(sql, &params, Access::Read, read));
        found.pop().flatten().unwrap_or_else(|| {
            pgrx::error!("there is no operator class of s3vector for the metric {metric}")
        })
    }
}

/// The schema that a new table of that name goes to.
fn creation_schema(name: &str) -> pg_sys::Oid {
    let name = CString::new(name).unwrap_or_else(|_| pgrx::error!("a zero byte in a name"));
    // SAFETY: in a transaction; raises an error when there is none.
    unsafe {
        let range = pg_sys::makeRangeVar(ptr::null_mut(), name.as_ptr().cast_mut(), -1);
        pg_sys::RangeVarGetCreationNamespace(range)
    }
}

/// Bytes of a name that say which others it gets in the way of: PostgreSQL cuts long names to make those
/// of indexes, and chooses among what is left without a lock.
const NAME_PREFIX: usize = 40;

/// Waits until nobody else creates or deletes that name, or one that begins so, and keeps others from
/// it until the transaction ends.
fn lock_name(schema: pg_sys::Oid, name: &str) {
    let mut hasher = DefaultHasher::new();
    name.as_bytes()[..name.len().min(NAME_PREFIX)].hash(&mut hasher);
    // Part 0 of a schema is what DROP SCHEMA locks.
    let part = (hasher.finish() as u16).max(1);
    // SAFETY: in a transaction; the lock ends with it.
    unsafe {
        pg_sys::LockDatabaseObject(
            pg_sys::NamespaceRelationId,
            schema,
            part,
            pg_sys::ShareUpdateExclusiveLock as i32,
        );
    }
}

/// Raises an error when the name is taken, or drops the collection that has it.
fn make_way(schema: pg_sys::Oid, new: &New<'_>) {
    let taken = relation_in(schema, new.name);
    if taken == pg_sys::InvalidOid {
        return;
    }
    let collection = describe(taken);
    if !new.overwrite {
        let (what, hint) = match collection {
            Some(_) => ("collection", "Pass overwrite => true to replace it and all it holds."),
            None => ("relation", "Choose another name."),
        };
        raise(
            PgSqlErrorCode::ERRCODE_DUPLICATE_TABLE,
            format!("{what} \"{}\" already exists", new.name),
            "",
            hint,
        );
    }
    let collection = collection.unwrap_or_else(|| table::refuse(new.name));
    query::run(&format!("DROP TABLE {}", collection.qualified), &[], Access::Write);
}

fn relation_in(schema: pg_sys::Oid, name: &str) -> pg_sys::Oid {
    let name = CString::new(name).unwrap_or_default();
    // SAFETY: looks into the catalogs.
    unsafe { pg_sys::get_relname_relid(name.as_ptr(), schema) }
}
