//! Does every call of the collections API do what its name says, whoever makes it and whatever
//! happened before?
//!
//! - [`calls`]: each call, and what is left of it after a restart, a crash, a dump.
//! - [`recall`], [`pages`]: which rows a search returns, and in which order.
//! - [`cached`]: searches in a session that made the same ones before a table changed.
//! - [`adding`], [`refused`]: what `add_vectors` takes, and what it does not.
//! - [`transactions`], [`concurrent`]: rollbacks, and many sessions at once.
//! - [`privileges`], [`paths`], [`injection`], [`names`]: users who want what they must not have.
//! - [`callers`]: where in SQL a call may stand.

mod adding;
mod cached;
mod callers;
mod calls;
mod concurrent;
mod docs;
mod ground;
mod injection;
mod names;
mod pages;
mod paths;
mod privileges;
mod recall;
mod refused;
mod servers;
mod transactions;
