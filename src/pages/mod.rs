//! What the index relation itself holds: a few WAL-logged pages.
//!
//! ```text
//!   block 0  meta ──▶ manifest ──▶ … one entry a segment
//!              │          └──▶ tombstones ──▶ … one bit an entry of that segment
//!              ├────▶ delta ──▶ delta ──▶ … rows written since the last segment
//!              └────▶ free pages
//! ```
//!
//! Every page carries its kind, a format version and the number of the next page of its list in
//! its special space ([`page`]). Everything is written with generic WAL records ([`wal`]), so
//! crash recovery and replicas need none of this library's code.

//!
//! Readers take no lock on the whole: they read what they need page by page and then look whether
//! the meta page still tells the same epoch ([`consistent`]). That works on a replica too, where
//! pages change by replay.

use pgrx::pg_sys;

use meta::Meta;
use page::Damage;

pub mod delta;
pub mod manifest;
pub mod meta;
pub mod owner;
pub mod pack;
pub mod page;
pub mod space;
pub mod tombstones;
pub mod wal;

/// Reads pages that belong together: again when a publication has come in between, after which
/// pages may have been given another use. Damage counts only when none has.
pub fn consistent<T>(
    index: pg_sys::Relation,
    mut read: impl FnMut(&Meta) -> Result<T, Damage>,
) -> T {
    loop {
        let meta = Meta::read(index);
        let outcome = read(&meta);
        if Meta::read(index).manifest_epoch == meta.manifest_epoch {
            match outcome {
                Ok(value) => return value,
                Err(damage) => damage.raise(),
            }
        }
        pgrx::check_for_interrupts!();
    }
}
