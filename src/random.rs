//! Random numbers from PostgreSQL's strong random source.

use pgrx::pg_sys;
use pgrx::prelude::*;
use uuid::Uuid;

use crate::errors::raise;

/// A random (version 4) uuid.
pub fn random_uuid() -> Uuid {
    uuid::Builder::from_random_bytes(random_bytes()).into_uuid()
}

/// A random seed.
pub fn random_seed() -> u64 {
    u64::from_le_bytes(random_bytes())
}

fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    // SAFETY: the buffer is N bytes long.
    if !unsafe { pg_sys::pg_strong_random(bytes.as_mut_ptr().cast(), N) } {
        raise(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "could not generate random bytes", "", "");
    }
    bytes
}
