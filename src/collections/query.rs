//! Statements over a collection's table, run by SPI with the caller's privileges.
//!
//! Identifiers in their texts are quoted and qualified; every value is a parameter.

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::ptr;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::call::Call;
use crate::errors::raise;

/// A parameter's type and value.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its type.
    pub oid: pg_sys::Oid,
    /// Its value; `None` is NULL.
    pub datum: Option<pg_sys::Datum>,
}

impl Param {
    /// A value of a type that pgrx knows.
    pub fn new<T: IntoDatum>(value: T) -> Self {
        Self { oid: T::type_oid(), datum: value.into_datum() }
    }

    /// A value that has come from PostgreSQL.
    pub fn of(oid: pg_sys::Oid, datum: Option<pg_sys::Datum>) -> Self {
        Self { oid, datum }
    }
}

/// Whether a statement sees the world as the calling query does, or as it is now and may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// With the calling query's snapshot.
    Read,
    /// With a snapshot of its own, changes included.
    Write,
}

/// When a plan is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planning {
    /// Once, whatever the parameters are.
    Once,
    /// Each time, with the parameters' values: where estimates depend on them.
    EachTime,
}

thread_local! {
    /// Plans that nobody uses any more. They are freed before the next is made, not when they are
    /// dropped: that can be in the middle of PostgreSQL's handling of an invalidation.
    static UNUSED: RefCell<Vec<pg_sys::SPIPlanPtr>> = RefCell::default();
}

/// A prepared statement that outlives its transaction.
#[derive(Debug)]
pub struct Plan(pg_sys::SPIPlanPtr);

impl Plan {
    /// Prepares `sql` with parameters of these types.
    pub fn prepare(sql: &str, types: &[pg_sys::Oid], planning: Planning) -> Self {
        let option = match planning {
            Planning::Once => pg_sys::CURSOR_OPT_GENERIC_PLAN,
            Planning::EachTime => pg_sys::CURSOR_OPT_CUSTOM_PLAN,
        };
        let unused = UNUSED.with(|unused| unused.take());
        // SAFETY: SPI functions in their order; the types are as many as said, and the pointers
        // of unused plans are known here only.
        unsafe {
            connect();
            for plan in unused {
                pg_sys::SPI_freeplan(plan);
            }
            let plan = prepare(sql, types, option as i32);
            pg_sys::SPI_keepplan(plan);
            pg_sys::SPI_finish();
            Self(plan)
        }
    }

    /// Runs it; the rows become the result of `call`.
    pub fn answer(&self, call: Call, params: &[Param]) {
        // SAFETY: the plan is alive, and a call of a function that returns a set.
        unsafe {
            let receiver = receiver(call);
            connect();
            execute(self.0, params, Access::Read, receiver);
            pg_sys::SPI_finish();
        }
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // At the end of the process the list may be gone already, and so may be the plan.
        let _ = UNUSED.try_with(|unused| unused.borrow_mut().push(self.0));
    }
}

/// Runs a statement once; the rows become the result of `call`.
pub fn answer(call: Call, sql: &str, params: &[Param]) {
    // SAFETY: as `Plan::answer`; the plan ends with the connection.
    unsafe {
        let receiver = receiver(call);
        connect();
        let plan = prepare(sql, &types(params), 0);
        execute(plan, params, Access::Read, receiver);
        pg_sys::SPI_finish();
    }
}

/// Calls `work` with a search_path of nothing but the catalogs: its statements mean what they say.
pub fn with_plain_path<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: an error ends the level together with its transaction.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        pg_sys::set_config_option(
            c"search_path".as_ptr(),
            c"pg_catalog, pg_temp".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
        let result = work();
        pg_sys::AtEOXact_GUC(false, level);
        result
    }
}

/// Calls `work`, whose statements see what is committed by now.
pub fn with_latest_snapshot<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: an error pops the snapshot together with its transaction.
    unsafe {
        // Beside parallel workers there are no new snapshots.
        if pg_sys::IsInParallelMode() {
            return work();
        }
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let result = work();
        pg_sys::PopActiveSnapshot();
        result
    }
}

/// Runs a statement once; returns how many rows it has changed or returned.
pub fn run(sql: &str, params: &[Param], access: Access) -> u64 {
    fetch(sql, params, access, |_| ()).1
}

/// Runs a statement once and reads its rows; also returns how many there were.
pub fn fetch<T>(
    sql: &str,
    params: &[Param],
    access: Access,
    mut read: impl FnMut(Row) -> T,
) -> (Vec<T>, u64) {
    // SAFETY: SPI functions in their order; rows are read while they exist.
    unsafe {
        connect();
        let plan = prepare(sql, &types(params), 0);
        let processed = execute(plan, params, access, ptr::null_mut());
        let mut rows = Vec::new();
        if let Some(table) = pg_sys::SPI_tuptable.as_ref() {
            for number in 0..table.numvals as usize {
                rows.push(read(Row { tuple: *table.vals.add(number), shape: table.tupdesc }));
            }
        }
        pg_sys::SPI_finish();
        (rows, processed)
    }
}

/// The first column of the first row, copied into the caller's memory.
pub fn fetch_value(sql: &str, params: &[Param], access: Access) -> Option<pg_sys::Datum> {
    // SAFETY: as `fetch`; the copy is made in the memory context outside SPI's.
    unsafe {
        connect();
        let plan = prepare(sql, &types(params), 0);
        execute(plan, params, access, ptr::null_mut());
        let value =
            pg_sys::SPI_tuptable.as_ref().filter(|table| table.numvals > 0).and_then(|table| {
                let row = Row { tuple: *table.vals, shape: table.tupdesc };
                let attribute = pg_sys::TupleDescAttr(table.tupdesc, 0);
                let copy = |datum| {
                    pg_sys::SPI_datumTransfer(
                        datum,
                        (*attribute).attbyval,
                        (*attribute).attlen.into(),
                    )
                };
                row.datum(1).map(copy)
            });
        pg_sys::SPI_finish();
        value
    }
}

/// A result that is read bit by bit. Nothing else of SPI's is left open by this session meanwhile.
pub struct Cursor(pg_sys::Portal);

impl Cursor {
    /// Begins to run a statement without parameters.
    pub fn open(sql: &str) -> Self {
        // SAFETY: SPI functions in their order; the portal keeps what it needs of the plan.
        unsafe {
            connect();
            let plan = prepare(sql, &[], 0);
            let (values, nulls) = (ptr::null_mut(), ptr::null());
            Self(pg_sys::SPI_cursor_open(ptr::null(), plan, values, nulls, true))
        }
    }

    /// Reads the next rows, `count` at most.
    pub fn fetch(&mut self, count: usize, mut read: impl FnMut(Row)) {
        // SAFETY: the portal is open; rows are read while they exist.
        unsafe {
            pg_sys::SPI_cursor_fetch(self.0, true, count as _);
            let table = pg_sys::SPI_tuptable;
            if let Some(rows) = table.as_ref() {
                for number in 0..rows.numvals as usize {
                    read(Row { tuple: *rows.vals.add(number), shape: rows.tupdesc });
                }
                pg_sys::SPI_freetuptable(table);
            }
        }
    }

    /// Ends it. An error that comes before ends it as well.
    pub fn close(self) {
        // SAFETY: the portal is open, and SPI connected since then.
        unsafe {
            pg_sys::SPI_cursor_close(self.0);
            pg_sys::SPI_finish();
        }
    }
}

/// A row of a result, while it is read.
pub struct Row {
    tuple: pg_sys::HeapTuple,
    shape: pg_sys::TupleDesc,
}

impl Row {
    /// The value of column `number`, from 1; it lives as long as the row.
    pub fn datum(&self, number: i32) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: the row is read while its result exists.
        let datum =
            unsafe { pg_sys::SPI_getbinval(self.tuple, self.shape, number, &raw mut is_null) };
        (!is_null).then_some(datum)
    }

    /// A value of a type that pgrx knows.
    pub fn get<T: FromDatum>(&self, number: i32) -> Option<T> {
        // SAFETY: the caller knows what its statement returns.
        self.datum(number).and_then(|datum| unsafe { T::from_datum(datum, false) })
    }
}

unsafe fn connect() {
    // SAFETY: any time in a transaction.
    if unsafe { pg_sys::SPI_connect() } != pg_sys::SPI_OK_CONNECT as i32 {
        pgrx::error!("SPI_connect failed");
    }
}

unsafe fn prepare(sql: &str, types: &[pg_sys::Oid], options: i32) -> pg_sys::SPIPlanPtr {
    let text = CString::new(sql).unwrap_or_else(|_| pgrx::error!("a zero byte in a statement"));
    // SAFETY: connected; SPI copies text and types.
    unsafe {
        let plan = pg_sys::SPI_prepare_cursor(
            text.as_ptr(),
            types.len() as i32,
            types.as_ptr().cast_mut(),
            options,
        );
        if plan.is_null() {
            failed("SPI_prepare", pg_sys::SPI_result);
        }
        plan
    }
}

unsafe fn execute(
    plan: pg_sys::SPIPlanPtr,
    params: &[Param],
    access: Access,
    receiver: *mut pg_sys::DestReceiver,
) -> u64 {
    // SAFETY: connected; the list has room for as many parameters as are set.
    unsafe {
        let list = pg_sys::makeParamList(params.len() as i32);
        let places = (*list).params.as_mut_ptr();
        for (number, param) in params.iter().enumerate() {
            *places.add(number) = pg_sys::ParamExternData {
                value: param.datum.unwrap_or(pg_sys::Datum::null()),
                isnull: param.datum.is_none(),
                pflags: pg_sys::PARAM_FLAG_CONST as u16,
                ptype: param.oid,
            };
        }
        let options = pg_sys::SPIExecuteOptions {
            params: list,
            read_only: access == Access::Read,
            dest: receiver,
            ..Default::default()
        };
        let outcome = pg_sys::SPI_execute_plan_extended(plan, &raw const options);
        if outcome < 0 {
            failed("SPI_execute_plan_extended", outcome);
        }
        pg_sys::SPI_processed
    }
}

fn failed(function: &str, outcome: i32) -> ! {
    // SAFETY: returns a static string.
    let name = unsafe { CStr::from_ptr(pg_sys::SPI_result_code_string(outcome)) };
    raise(
        PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
        format!("{function} failed: {}", name.to_string_lossy()),
        "",
        "",
    )
}

fn types(params: &[Param]) -> Vec<pg_sys::Oid> {
    params.iter().map(|param| param.oid).collect()
}

mod ffi {
    use pgrx::pg_sys;

    unsafe extern "C-unwind" {
        /// From `executor/tstoreReceiver.h`, which the bindings leave out.
        pub(super) fn SetTuplestoreDestReceiverParams(
            receiver: *mut pg_sys::DestReceiver,
            store: *mut pg_sys::Tuplestorestate,
            context: pg_sys::MemoryContext,
            detoast: bool,
            target: pg_sys::TupleDesc,
            mismatch: *const std::ffi::c_char,
        );
    }
}

/// Prepares `call` to return a set, and makes what puts rows into it.
///
/// # Safety
/// `call` is one of a function declared to return a set.
unsafe fn receiver(call: Call) -> *mut pg_sys::DestReceiver {
    // SAFETY: by the contract; `InitMaterializedSRF` raises an error where no set is accepted.
    unsafe {
        pg_sys::InitMaterializedSRF(call.info(), 0);
        let result = (*call.info()).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        let receiver = pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestTuplestore);
        ffi::SetTuplestoreDestReceiverParams(
            receiver,
            (*result).setResult,
            (*(*result).econtext).ecxt_per_query_memory,
            false,
            ptr::null_mut(),
            ptr::null(),
        );
        receiver
    }
}
