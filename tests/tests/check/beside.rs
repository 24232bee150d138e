//! Beside others.
