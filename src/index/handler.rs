//! What PostgreSQL asks first: which abilities the access method has and where its verbs are.

use distance::Metric;
use pgrx::prelude::*;
use pgrx::{PgBox, pg_sys};

use super::{build, cost, insert, options, scan, vacuum};

/// Support function 1 of an operator class: tells the metric.
pub const METRIC_PROC: u16 = 1;

extension_sql_file!(
    "../../sql/access_method.sql",
    name = "access_method",
    requires = [s3vector_metric_l2, s3vector_metric_ip, s3vector_metric_cosine]
);

/// PostgreSQL looks for this beside every C function: it follows calling convention 1.
#[doc(hidden)]
#[unsafe(no_mangle)]
pub extern "C" fn pg_finfo_s3vector_handler() -> &'static pg_sys::Pg_finfo_record {
    static CONVENTION: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &CONVENTION
}

/// The SQL function `s3vector_handler(internal)`: the routines of the access method.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn s3vector_handler(_call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: allocates a zeroed node of that type in the current memory context.
    let mut routine =
        unsafe { PgBox::<pg_sys::IndexAmRoutine>::alloc_node(pg_sys::NodeTag::T_IndexAmRoutine) };
    routine.amstrategies = 0;
    routine.amsupport = METRIC_PROC;
    routine.amcanorderbyop = true;
    // Every row but NULLs and, under cosine, zero vectors has an entry: no key is needed.
    routine.amoptionalkey = true;
    routine.amusemaintenanceworkmem = true;
    routine.amcanbuildparallel = true;
    routine.amparallelvacuumoptions = pg_sys::VACUUM_OPTION_PARALLEL_BULKDEL as u8;
    routine.amkeytype = pg_sys::InvalidOid;

    routine.ambuild = Some(build::ambuild);
    routine.ambuildempty = Some(build::ambuildempty);
    routine.ambuildphasename = Some(build::ambuildphasename);
    routine.aminsert = Some(insert::aminsert);
    routine.aminsertcleanup = Some(insert::aminsertcleanup);
    routine.ambulkdelete = Some(vacuum::ambulkdelete);
    routine.amvacuumcleanup = Some(vacuum::amvacuumcleanup);
    routine.amcostestimate = Some(cost::amcostestimate);
    routine.amoptions = Some(options::amoptions);
    routine.amvalidate = Some(amvalidate);
    routine.ambeginscan = Some(scan::ambeginscan);
    routine.amrescan = Some(scan::amrescan);
    routine.amgettuple = Some(scan::amgettuple);
    routine.amendscan = Some(scan::amendscan);
    pg_sys::Datum::from(routine.into_pg())
}

/// Operator classes come with the extension; nothing about them is left to check.
#[pg_guard]
unsafe extern "C-unwind" fn amvalidate(_operator_class: pg_sys::Oid) -> bool {
    true
}

/// Marks an operator class as ordering by Euclidean distance.
#[pg_extern(immutable, parallel_safe)]
fn s3vector_metric_l2() -> i32 {
    Metric::L2 as i32
}

/// Marks an operator class as ordering by negative inner product.
#[pg_extern(immutable, parallel_safe)]
fn s3vector_metric_ip() -> i32 {
    Metric::InnerProduct as i32
}

/// Marks an operator class as ordering by cosine distance.
#[pg_extern(immutable, parallel_safe)]
fn s3vector_metric_cosine() -> i32 {
    Metric::Cosine as i32
}
