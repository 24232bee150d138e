//! Arguments and results of SQL functions that PostgreSQL calls by its own convention.
//!
//! These functions take polymorphic arguments and return sets whose rows come straight out of a
//! query: `sql/collections.sql` declares them, and this reads what they are called with.

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::errors::raise;

/// Defines a C function for `CREATE FUNCTION … LANGUAGE c`: its body gets a [`Call`] and returns an
/// `Option<pg_sys::Datum>`.
macro_rules! sql_function {
    ($(#[$doc:meta])* $name:ident, $info:ident, |$call:ident| $body:expr) => {
        /// PostgreSQL looks for this beside every C function: it follows calling convention 1.
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $info() -> &'static pgrx::pg_sys::Pg_finfo_record {
            static CONVENTION: pgrx::pg_sys::Pg_finfo_record =
                pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &CONVENTION
        }

        $(#[$doc])*
        #[pgrx::pg_guard]
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(
            info: pgrx::pg_sys::FunctionCallInfo,
        ) -> pgrx::pg_sys::Datum {
            let $call = $crate::collections::call::Call::new(info);
            let result: Option<pgrx::pg_sys::Datum> = $body;
            $call.finish(result)
        }
    };
}
pub(super) use sql_function;

/// A call of an SQL function.
#[derive(Clone, Copy)]
pub struct Call(pg_sys::FunctionCallInfo);

impl Call {
    /// The call that PostgreSQL passed.
    pub fn new(info: pg_sys::FunctionCallInfo) -> Self {
        Self(info)
    }

    /// What PostgreSQL passed.
    pub fn info(self) -> pg_sys::FunctionCallInfo {
        self.0
    }

    /// Hands the result over.
    pub fn finish(self, result: Option<pg_sys::Datum>) -> pg_sys::Datum {
        // SAFETY: PostgreSQL passes a valid structure, ours to fill in.
        unsafe { (*self.0).isnull = result.is_none() };
        result.unwrap_or(pg_sys::Datum::null())
    }

    /// Argument number `index`, from 0.
    pub fn datum(self, index: usize) -> Option<pg_sys::Datum> {
        // SAFETY: the SQL declaration has as many arguments as the functions here ask for.
        unsafe {
            let arguments = (*self.0).args.as_slice((*self.0).nargs as usize);
            let argument = arguments[index];
            (!argument.isnull).then_some(argument.value)
        }
    }

    /// The type an argument was called with, for arguments declared with a polymorphic one.
    pub fn type_of(self, index: usize) -> pg_sys::Oid {
        // SAFETY: looks at the call's expression.
        unsafe { pg_sys::get_fn_expr_argtype((*self.0).flinfo, index as i32) }
    }

    /// An argument of a type that pgrx knows.
    pub fn get<T: FromDatum>(self, index: usize) -> Option<T> {
        // SAFETY: the caller knows what the SQL declaration says.
        self.datum(index).and_then(|datum| unsafe { T::from_datum(datum, false) })
    }

    /// An argument that must be there; `what` names it in the error.
    pub fn require<T: FromDatum>(self, index: usize, what: &str) -> T {
        self.get(index).unwrap_or_else(|| {
            raise(
                PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
                format!("{what} must not be null"),
                "",
                "",
            )
        })
    }

    /// The text of a `jsonb` argument.
    pub fn json(self, index: usize) -> Option<String> {
        self.datum(index).map(json_text)
    }
}

/// PostgreSQL's text of a `jsonb` value.
pub fn json_text(datum: pg_sys::Datum) -> String {
    // SAFETY: `jsonb_out` takes a jsonb value and returns a string.
    let text =
        unsafe { pgrx::direct_function_call::<&std::ffi::CStr>(pg_sys::jsonb_out, &[Some(datum)]) };
    text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}
