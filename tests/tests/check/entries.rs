//! Entries of rows that the index must not have.

use crate::Ground;

#[test]
fn placeholder() {
    drop(Ground::new(100, ""));
}
