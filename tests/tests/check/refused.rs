//! What cannot be checked.
