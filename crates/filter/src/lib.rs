//! The language of metadata filters, compiled to SQL/JSON path.
//!
//! A filter is a JSON object such as `{"lang": "en", "year": {"$gte": 2020}}`; `docs/filters.md`
//! describes it for users. [`compile`] makes of it the text of one PostgreSQL *jsonpath*, for
//! `metadata @? path`: one operator, one parameter, and an index on `metadata` finds its
//! equalities.
//!
//! ```text
//!   {"lang": "en", "$not": {"year": [1990, 1999]}}
//!       │ json, parse, operand, path, like   JSON, read level by level; every rule and error
//!       ▼
//!   Condition: All[ Under ."lang" (Equal "en"), Not(Under ."year" (Range …)) ]
//!       │ condition                          constants folded away
//!       ▼ write                              negations moved down to the tests
//!   $ ? (@."lang" == "en" && !exists(@."year" ? (@.type() == "number" && @ >= 1990 && @ <= 1999)))
//! ```
//!
//! Three things decide the form of the path:
//!
//! - **Logic.** A jsonpath comparison of unlike types is *unknown*, and so is its negation; a filter
//!   knows true and false only. What is not negated may stay unknown: `&&` and `||` of unknowns are
//!   never true where two-valued logic says false, and the outermost filter drops what is not
//!   true. What is negated is made two-valued first, by `exists(@ ? (…))`.
//! - **The index.** GIN extracts `path == literal` below `&&`, `||` and `exists`, so equalities are
//!   written that way. It drops one side of a negated conjunction with a negation in it, and then
//!   misses rows (seen in PostgreSQL 18): no path has a negation inside a negation.
//! - **Literals.** Keys and strings of the filter are JSON string literals, whose escapes jsonpath
//!   shares, so none of them can end early; numbers are copied digit by digit.

mod condition;
mod error;
mod json;
mod like;
mod literal;
mod operand;
mod parse;
mod path;
mod place;
mod write;

pub use error::FilterError;

/// The longest filter, in bytes of its text.
pub const MAX_BYTES: usize = 1 << 20;

/// The longest path that a filter may be compiled to, in bytes. A key that many conditions share is
/// written for each of them, so that a path can be much longer than its filter.
pub const MAX_PATH_BYTES: usize = 4 << 20;

/// The most values that a filter may compare with. A GIN index takes a time that grows with the
/// square of it: under a second for this many.
pub const MAX_VALUES: usize = 10_000;

/// How many levels down a filter may go: every key (every step of a dotted path), operator and
/// array element is one.
pub const MAX_DEPTH: usize = 64;

/// Compiles a filter, the text of a JSON object, to the text of a jsonpath such that
/// `metadata @? path` holds for exactly the rows that match, given that `metadata` is an object.
/// `None` means that every row matches.
///
/// The expressions of `$regex` are not checked: PostgreSQL does when it reads the path.
///
/// # Errors
///
/// When `filter` is not JSON, breaks a rule of the language, or exceeds [`MAX_BYTES`],
/// [`MAX_PATH_BYTES`], [`MAX_VALUES`] or [`MAX_DEPTH`].
pub fn compile(filter: &str) -> Result<Option<String>, FilterError> {
    if filter.len() > MAX_BYTES {
        return Err(FilterError::TooLong { bytes: filter.len() });
    }
    let condition = parse::filter_text(filter)?;
    write::jsonpath(&condition)
}

#[cfg(test)]
mod tests;
