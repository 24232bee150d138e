//! Keeps the values of secret settings out of the server log.
//!
//! PostgreSQL itself never shows them (`SHOW` is masked), but on a reload the postmaster logs every
//! parameter that has changed with its new value, and `log_statement` logs `ALTER SYSTEM` as it was
//! typed.

use std::ffi::{CStr, CString, c_char};

use pgrx::pg_sys;
use pgrx::prelude::*;

/// Settings whose values hold a secret.
const SECRET: [&str; 3] =
    ["s3vector.s3_access_key_id", "s3vector.s3_secret_access_key", "s3vector.redis_url"];
/// What a log line has in place of all that follows such a name.
const MASK: &str = " … (what follows may hold a secret and is not logged)";

static mut PREVIOUS: pg_sys::emit_log_hook_type = None;

/// Hooks the server log. Called once, from `_PG_init`.
pub fn register() {
    // SAFETY: called on the main thread while the library is loaded.
    unsafe {
        PREVIOUS = pg_sys::emit_log_hook;
        pg_sys::emit_log_hook = Some(emit_log);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn emit_log(report: *mut pg_sys::ErrorData) {
    // SAFETY: PostgreSQL passes a report whose texts are null or strings of its own; new ones are
    // allocated in the memory context that is reset when the report has been dealt with. The global
    // holds the running statement, or null.
    unsafe {
        for text in [
            &mut (*report).message,
            &mut (*report).detail,
            &mut (*report).detail_log,
            &mut (*report).hint,
            &mut (*report).context,
        ] {
            if let Some(masked) = masked(*text) {
                *text = pg_sys::pstrdup(masked.as_ptr());
            }
        }
        if masked(pg_sys::debug_query_string).is_some() {
            (*report).hide_stmt = true;
        }
        if let Some(previous) = PREVIOUS {
            previous(report);
        }
    }
}

/// `text` up to the name of a secret setting; `None` when it names none.
///
/// # Safety
/// `text` is null or a string.
unsafe fn masked(text: *const c_char) -> Option<CString> {
    if text.is_null() {
        return None;
    }
    // SAFETY: by the contract.
    let bytes = unsafe { CStr::from_ptr(text) }.to_bytes();
    let end = end_of_name(bytes)?;
    let mut kept = bytes[..end].to_vec();
    kept.extend_from_slice(MASK.as_bytes());
    CString::new(kept).ok()
}

/// Where the first name of a secret setting ends, in whatever case it is written.
fn end_of_name(text: &[u8]) -> Option<usize> {
    // Nearly every line: no part of a name in it.
    if !text.windows(9).any(|part| part.eq_ignore_ascii_case(b"s3vector.")) {
        return None;
    }
    let ends = SECRET.iter().filter_map(|name| {
        let at = |part: &[u8]| part.eq_ignore_ascii_case(name.as_bytes());
        text.windows(name.len()).position(at).map(|start| start + name.len())
    });
    ends.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_secret_setting_is_cut() {
        for (text, end) in [
            ("parameter \"s3vector.redis_url\" changed to \"rediss://:hunter2@h\"", Some(29)),
            ("ALTER SYSTEM SET S3Vector.S3_Secret_Access_Key = 'hunter2'", Some(46)),
            ("parameter \"s3vector.cache_size\" changed to \"1GB\"", None),
            ("", None),
        ] {
            assert_eq!(end_of_name(text.as_bytes()), end, "{text}");
        }
    }
}
