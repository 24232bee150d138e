//! What lies in the store: whose it is, and what nobody needs any more. Runs on threads: nothing
//! here calls PostgreSQL.
//!
//! ```text
//!   <storage_url>/<index uuid>/owner.json             whose folder this is      (claims)
//!                             /readers/<name>.json    a copy that still reads   (claims)
//!                             /retired                first seen unused then    (inventory)
//!                             /<segment uuid>/…       a segment
//!                             /<segment uuid>/retired first seen unused then    (inventory)
//! ```
//!
//! Only an owner deletes. What it no longer needs it marks first, and deletes when the mark is older
//! than `s3vector.gc_grace`: until then a replica that lags, a backup that is restored or a copy that
//! has said that it reads finds everything in place. Nor does an index write where its folders are not
//! ([`place`]).

pub mod claims;
pub mod inventory;
pub mod place;
