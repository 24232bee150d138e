//! Filters: JSON objects that become one condition on `metadata`, see the crate [`filter`].

use std::ffi::CString;

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::call::Call;
use super::query::Param;
use crate::errors::raise;

/// The filter in an argument as a `jsonpath` parameter; `None` when it lets every row pass. NULL
/// does.
pub fn argument(call: Call, index: usize) -> Option<Param> {
    call.json(index).and_then(|filter| compile(&filter))
}

/// The parameter for a filter; raises an error when it is none of the language.
fn compile(filter: &str) -> Option<Param> {
    let path = match ::filter::compile(filter) {
        Ok(path) => path?,
        Err(error) => raise(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            error.message(),
            error.detail().unwrap_or_default(),
            error.hint().unwrap_or_default(),
        ),
    };
    let text = CString::new(path).unwrap_or_else(|_| pgrx::error!("a zero byte in a filter"));
    // SAFETY: `jsonpath_in` takes a string; it raises an error for a regular expression that is none.
    let datum = unsafe {
        pgrx::direct_function_call::<pg_sys::Datum>(
            pg_sys::jsonpath_in,
            &[text.as_c_str().into_datum()],
        )
    };
    Some(Param::of(pg_sys::JSONPATHOID, datum))
}

/// The condition on table `alias`, with the filter in parameter `$place`.
pub fn condition(alias: &str, place: usize) -> String {
    format!("WHERE {alias}.metadata OPERATOR(pg_catalog.@?) ${place}")
}
