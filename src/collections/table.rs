//! What a collection is: an ordinary table with certain columns and an s3vector index.
//!
//! There is no list of collections beside PostgreSQL's catalogs, so a table that is renamed, moved,
//! dumped, restored or dropped takes its collection with it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::ptr;
use std::rc::Rc;
use std::sync::Once;

use distance::Metric;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::create::Types;
use super::query::{self, Access, Param, Plan, Row};
use super::search::Shape;
use crate::errors::raise;

/// Longest name of a table, in bytes.
pub const MAX_NAME: usize = pg_sys::NAMEDATALEN as usize - 1;

/// What readers of a table hold.
const LOCK: i32 = pg_sys::AccessShareLock as i32;

/// Prepared searches kept for a collection; more shapes than that are rare.
const MAX_PLANS: usize = 64;

/// A table that is a collection.
#[derive(Debug)]
pub struct Collection {
    /// The table.
    pub table: pg_sys::Oid,
    /// Its s3vector index.
    pub index: pg_sys::Oid,
    /// Its name, which is the collection's.
    pub name: String,
    /// The schema it is in.
    pub schema: String,
    /// Schema and name, quoted.
    pub qualified: String,
    /// Elements of a vector.
    pub dimensions: usize,
    /// What the index orders by.
    pub metric: Metric,
    /// pgvector's type in this database.
    pub vector_type: pg_sys::Oid,
    /// That type's qualified name.
    pub vector_type_name: String,
    /// The operator that the index orders by, qualified.
    pub operator: String,
    plans: RefCell<HashMap<Shape, Rc<Plan>>>,
}

thread_local! {
    /// Collections this session has used, by table.
    static KNOWN: RefCell<HashMap<pg_sys::Oid, Rc<Collection>>> = RefCell::default();
    /// How often something was announced that can make it old.
    static FORGOTTEN: Cell<u64> = const { Cell::new(0) };
}

/// The collection called `name`, looked for as tables are. Raises an error when there is none.
pub fn find(name: &str) -> Rc<Collection> {
    require_utf8();
    loop {
        let Some(table) = find_relation(name) else { absent(name) };
        if let Some(collection) = describe(table) {
            return collection;
        }
        // SAFETY: in a transaction. The table may have been dropped since its name was looked up.
        unsafe { pg_sys::AcceptInvalidationMessages() };
        if find_relation(name) == Some(table) {
            refuse(name);
        }
    }
}

fn absent(name: &str) -> ! {
    raise(
        PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
        format!("collection \"{name}\" does not exist"),
        "",
        "Create it with s3vector.create_collection(), or add its schema to search_path; \
         s3vector.list_collections() shows those there are.",
    )
}

/// The collection called `name`, which cannot be dropped or changed until the transaction ends.
pub fn find_locked(name: &str) -> Rc<Collection> {
    loop {
        let found = find(name);
        check_privilege(&found);
        // SAFETY: in a transaction. Getting a lock brings the news of what has happened before.
        unsafe {
            pg_sys::LockRelationOid(found.table, LOCK);
            if find_relation(name) == Some(found.table) {
                return find(name);
            }
            pg_sys::UnlockRelationOid(found.table, LOCK);
        }
    }
}

/// Raises an error unless the user may read something of the table: a lock would be in others' way.
fn check_privilege(collection: &Collection) {
    // SAFETY: looks into the catalogs.
    let allowed = unsafe {
        let (user, select) = (pg_sys::GetUserId(), pg_sys::AclMode::from(pg_sys::ACL_SELECT));
        let any = pg_sys::AclMaskHow::ACLMASK_ANY;
        pg_sys::pg_class_aclcheck(collection.table, user, select) == pg_sys::AclResult::ACLCHECK_OK
            || pg_sys::pg_attribute_aclcheck_all(collection.table, user, select, any)
                == pg_sys::AclResult::ACLCHECK_OK
    };
    if !allowed {
        raise(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            format!("permission denied for table {}", collection.name),
            "",
            "",
        );
    }
}

/// Raises an error in a database of another encoding: names, ids and filters are UTF-8 here.
pub fn require_utf8() {
    // SAFETY: reads the database's encoding; its name is a static string.
    let name = unsafe {
        let encoding = pg_sys::GetDatabaseEncoding();
        if encoding == pg_sys::pg_enc::PG_UTF8 as i32 {
            return;
        }
        CStr::from_ptr(pg_sys::GetDatabaseEncodingName()).to_string_lossy().into_owned()
    };
    raise(
        PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        "collections need a database with the encoding UTF8",
        format!("The encoding of this one is {name}."),
        "s3vector indexes on tables of your own work in any encoding.",
    )
}

/// Raises the error about something that is no collection.
pub fn refuse(name: &str) -> ! {
    raise(
        PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
        format!("\"{name}\" is not a collection"),
        "A collection is a table with the columns id text, embedding vector(n), metadata jsonb and \
         created_at timestamptz, and a valid s3vector index on embedding.",
        "",
    )
}

/// The relation called `name` that search_path finds first. Names are taken literally.
pub fn find_relation(name: &str) -> Option<pg_sys::Oid> {
    let c_name = CString::new(name).ok().filter(|_| name.len() <= MAX_NAME && !name.is_empty())?;
    // SAFETY: in a transaction; no lock is taken, the statements that follow take theirs.
    let oid = unsafe {
        let range = pg_sys::makeRangeVar(ptr::null_mut(), c_name.as_ptr().cast_mut(), -1);
        pg_sys::RangeVarGetRelidExtended(
            range,
            pg_sys::NoLock as i32,
            pg_sys::RVROption::RVR_MISSING_OK,
            None,
            ptr::null_mut(),
        )
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// Tables that are collections, with what must be known about them: the one definition of what a
/// collection is. Takes no lock, so that a table somebody is dropping is not waited for.
const DEFINITION: &str = "
    SELECT DISTINCT ON (c.oid) c.oid, i.indexrelid, c.relname::text, n.nspname::text, a.atttypmod,
           f.proname::text, a.atttypid, pg_catalog.format('%I.%I', tn.nspname, t.typname),
           pg_catalog.format('OPERATOR(%I.%s)', rn.nspname, r.oprname)
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute a
      ON a.attrelid = c.oid AND a.attname = 'embedding' AND NOT a.attisdropped
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
    JOIN pg_catalog.pg_index i
      ON i.indrelid = c.oid AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
    JOIN pg_catalog.pg_am m ON m.oid = x.relam AND m.amname = 's3vector'
    JOIN pg_catalog.pg_opclass k ON k.oid = i.indclass[0]
    JOIN pg_catalog.pg_amproc p ON p.amprocfamily = k.opcfamily AND p.amprocnum = 1
    JOIN pg_catalog.pg_proc f ON f.oid = p.amproc
    JOIN pg_catalog.pg_amop o ON o.amopfamily = k.opcfamily AND o.amopstrategy = 1
    JOIN pg_catalog.pg_operator r ON r.oid = o.amopopr
    JOIN pg_catalog.pg_namespace rn ON rn.oid = r.oprnamespace
    WHERE c.relkind = 'r' AND ($1 IS NULL OR c.oid = $1) AND 3 = (
        SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute b
        WHERE b.attrelid = c.oid AND NOT b.attisdropped
          AND (b.attname = 'id' AND b.atttypid = 'pg_catalog.text'::pg_catalog.regtype
               OR b.attname = 'metadata' AND b.atttypid = 'pg_catalog.jsonb'::pg_catalog.regtype
               OR b.attname = 'created_at'
                  AND b.atttypid = 'pg_catalog.timestamptz'::pg_catalog.regtype))
    ORDER BY c.oid, x.relname";

/// What a table is as a collection; `None` when it is none.
pub fn describe(table: pg_sys::Oid) -> Option<Rc<Collection>> {
    if let Some(known) = KNOWN.with(|known| known.borrow().get(&table).cloned()) {
        return Some(known);
    }
    static CALLBACKS: Once = Once::new();
    CALLBACKS.call_once(|| {
        let nothing = pg_sys::Datum::null();
        // SAFETY: on the main thread, once a process.
        unsafe {
            pg_sys::CacheRegisterRelcacheCallback(Some(forget), nothing);
            for names in [
                pg_sys::SysCacheIdentifier::NAMESPACEOID,
                pg_sys::SysCacheIdentifier::OPEROID,
                pg_sys::SysCacheIdentifier::TYPEOID,
            ] {
                pg_sys::CacheRegisterSyscacheCallback(names as i32, Some(forget_all), nothing);
            }
        }
    });
    let before = FORGOTTEN.get();
    let collection = Rc::new(all(Some(table)).pop()?);
    // What changed while it was looked at is looked at again the next time; so is what an old snapshot
    // may have shown.
    // SAFETY: reads the transaction's state.
    if FORGOTTEN.get() == before && !unsafe { pg_sys::IsInParallelMode() } {
        KNOWN.with(|known| known.borrow_mut().insert(table, Rc::clone(&collection)));
    }
    Some(collection)
}

/// Tables change: what is known about them is forgotten.
#[pg_guard]
unsafe extern "C-unwind" fn forget(_argument: pg_sys::Datum, table: pg_sys::Oid) {
    FORGOTTEN.set(FORGOTTEN.get() + 1);
    KNOWN.with(|known| {
        let mut known = known.borrow_mut();
        if table == pg_sys::InvalidOid {
            known.clear();
        } else {
            known.remove(&table);
        }
    });
}

/// Schemas, operators and types get new names.
#[pg_guard]
unsafe extern "C-unwind" fn forget_all(_argument: pg_sys::Datum, _cache: i32, _hash: u32) {
    FORGOTTEN.set(FORGOTTEN.get() + 1);
    KNOWN.with(|known| known.borrow_mut().clear());
}

/// The collections of this database, or the one that a table is.
pub fn all(table: Option<pg_sys::Oid>) -> Vec<Collection> {
    let params = [Param::of(pg_sys::OIDOID, table.map(Into::into))];
    // As PostgreSQL looks for tables: what is there now, whenever the transaction began.
    let (collections, _) = query::with_latest_snapshot(|| {
        query::with_plain_path(|| query::fetch(DEFINITION, &params, Access::Read, read))
    });
    collections.into_iter().flatten().collect()
}

fn read(row: Row) -> Option<Collection> {
    let (name, schema) = (row.get::<String>(3)?, row.get::<String>(4)?);
    Some(Collection {
        table: row.get(1)?,
        index: row.get(2)?,
        qualified: format!("{}.{}", quote(&schema), quote(&name)),
        name,
        schema,
        dimensions: row.get::<i32>(5)?.max(0) as usize,
        metric: match row.get::<String>(6)?.as_str() {
            "s3vector_metric_l2" => Metric::L2,
            "s3vector_metric_ip" => Metric::InnerProduct,
            "s3vector_metric_cosine" => Metric::Cosine,
            _ => return None,
        },
        vector_type: row.get(7)?,
        vector_type_name: row.get(8)?,
        operator: row.get(9)?,
        plans: RefCell::default(),
    })
}

/// The name of a schema.
pub fn namespace_name(schema: pg_sys::Oid) -> Option<String> {
    // SAFETY: looks into the catalogs; what is returned is copied and freed.
    unsafe {
        let name = pg_sys::get_namespace_name(schema);
        if name.is_null() {
            return None;
        }
        let copy = CStr::from_ptr(name).to_string_lossy().into_owned();
        pg_sys::pfree(name.cast());
        Some(copy)
    }
}

/// An identifier as it is written in SQL.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string as it is written in SQL, whatever standard_conforming_strings is.
pub fn literal(text: &str) -> String {
    let escape = if text.contains('\\') { "E" } else { "" };
    format!("{escape}'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

impl Collection {
    /// A collection whose table has just been created, and which has no index yet: rows can be added.
    pub fn new(
        table: pg_sys::Oid,
        (name, schema): (String, String),
        dimensions: i32,
        metric: &str,
        types: &Types,
    ) -> Self {
        Self {
            table,
            index: pg_sys::InvalidOid,
            qualified: format!("{}.{}", quote(&schema), quote(&name)),
            name,
            schema,
            dimensions: dimensions as usize,
            metric: Metric::from_name(metric).unwrap_or(Metric::Cosine),
            vector_type: types.vector_type,
            vector_type_name: types.vector.clone(),
            operator: String::new(),
            plans: RefCell::default(),
        }
    }

    /// The prepared search of this shape, made by `prepare` when there is none.
    pub fn plan(&self, shape: &Shape, prepare: impl FnOnce() -> Plan) -> Rc<Plan> {
        if let Some(plan) = self.plans.borrow().get(shape) {
            return Rc::clone(plan);
        }
        let plan = Rc::new(prepare());
        let mut plans = self.plans.borrow_mut();
        if plans.len() >= MAX_PLANS {
            plans.clear();
        }
        plans.insert(shape.clone(), Rc::clone(&plan));
        plan
    }

    /// Raises an error unless a vector has as many elements as the collection's, and a direction where
    /// that is what is compared.
    pub fn check_vector(&self, what: &str, vector: &[f32]) {
        self.check_dimensions(what, vector.len());
        if self.metric == Metric::Cosine && vector.iter().all(|&element| element == 0.0) {
            raise(
                PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
                format!("{what} has no direction"),
                format!(
                    "All its elements are 0, and collection \"{}\" compares by cosine.",
                    self.name
                ),
                "",
            );
        }
    }

    /// Raises an error unless a vector has as many elements as the collection's.
    pub fn check_dimensions(&self, what: &str, dimensions: usize) {
        if dimensions != self.dimensions {
            raise(
                PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
                format!("{what} has {dimensions} dimensions, not {}", self.dimensions),
                format!("Collection \"{}\" holds vectors of {}.", self.name, self.dimensions),
                "",
            );
        }
    }
}
