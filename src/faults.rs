//! Fault points: named places where a test can make a process fail.
//!
//! They exist in builds with the feature `fault_points` only. `s3vector.fault_point` names one
//! point and what happens there, as `point=action`:
//!
//! - `kill`: the process ends by SIGKILL, as if somebody had pulled the plug on it;
//! - `error`: the point raises an error;
//! - `block`: the process waits for the advisory lock 7331 in share mode, so that a test which
//!   holds the lock finds it standing at the point.

#[cfg(feature = "fault_points")]
pub use real::{fault_point, register};

/// Does nothing in this build.
#[cfg(not(feature = "fault_points"))]
#[inline(always)]
pub fn fault_point(_name: &str) {}

#[cfg(feature = "fault_points")]
mod real {
    use std::ffi::CString;

    use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
    use pgrx::pg_sys;
    use pgrx::prelude::*;

    use crate::errors::raise;

    static FAULT_POINT: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

    /// Key of the advisory lock that a blocked process waits for.
    const LOCK: i64 = 7331;

    /// Defines the parameter. Called once, from `_PG_init`.
    pub fn register() {
        GucRegistry::define_string_guc(
            c"s3vector.fault_point",
            c"Makes processes fail at a named point, for tests.",
            c"As point=action, where action is kill, error or block.",
            &FAULT_POINT,
            GucContext::Suset,
            GucFlags::default(),
        );
    }

    /// Fails here if this point has been chosen.
    pub fn fault_point(name: &str) {
        let setting = FAULT_POINT.get();
        let setting = setting.as_deref().map(|text| text.to_string_lossy());
        let Some((point, action)) = setting.as_deref().and_then(|text| text.split_once('=')) else {
            return;
        };
        if point != name {
            return;
        }
        pgrx::log!("fault point {name}: {action}");
        match action {
            // SAFETY: sends a signal to this very process.
            "kill" => unsafe {
                libc_kill(std::process::id() as i32, 9);
            },
            "block" => block(),
            _ => {
                raise(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, format!("fault point {name}"), "", "")
            }
        }
    }

    fn block() {
        // SAFETY: in a transaction, with no lock held that others need.
        unsafe {
            let key = pg_sys::Datum::from(LOCK);
            pgrx::direct_function_call_as_datum(pg_sys::pg_advisory_lock_shared_int8, &[Some(key)]);
            pgrx::direct_function_call_as_datum(
                pg_sys::pg_advisory_unlock_shared_int8,
                &[Some(key)],
            );
        }
    }

    unsafe extern "C" {
        /// `kill(2)`.
        #[link_name = "kill"]
        fn libc_kill(process: i32, signal: i32) -> i32;
    }
}
