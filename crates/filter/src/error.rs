//! What can be wrong with a filter.

/// Why a filter is refused.
///
/// `Display` is a primary message in PostgreSQL's style; [`detail`](Self::detail) and
/// [`hint`](Self::hint) go with it. A `place` is a path into the filter such as `$or[1].year.$gt`,
/// empty for the filter itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The text is not JSON.
    #[error("filter is not valid JSON")]
    Json {
        /// What the JSON parser says.
        problem: String,
    },
    /// A key or a string has a NUL character, which neither `jsonb` nor `text` can hold.
    #[error("filter must not contain the character \\u0000")]
    Nul {
        /// Where.
        place: String,
    },
    /// Something else where a filter must be.
    #[error("filter must be a JSON object")]
    NotAnObject {
        /// Where.
        place: String,
        /// What is there, with an article.
        found: &'static str,
    },
    /// There is no such operator.
    #[error("unknown filter operator \"{operator}\"")]
    UnknownOperator {
        /// The operator.
        operator: String,
        /// Where.
        place: String,
    },
    /// An operator for values that is not below a key.
    #[error("filter operator \"{operator}\" must stand below a key")]
    NeedsKey {
        /// The operator.
        operator: String,
        /// Where.
        place: String,
    },
    /// An operator for filters that is below a key.
    #[error("filter operator \"{operator}\" must not stand below a key")]
    BelowKey {
        /// The operator.
        operator: String,
        /// Where.
        place: String,
    },
    /// An object below a key that has both operators and keys.
    #[error("filter operators and keys must not be mixed in one object")]
    Mixed {
        /// Where.
        place: String,
    },
    /// An object below a key that has neither operators nor keys.
    #[error("filter object below a key must not be empty")]
    Empty {
        /// Where.
        place: String,
    },
    /// An operator with an operand that it cannot use.
    #[error("filter operator \"{operator}\" requires {expected}")]
    Operand {
        /// The operator.
        operator: &'static str,
        /// Where the operand is.
        place: String,
        /// What it can use, with an article.
        expected: &'static str,
        /// What is there, with an article.
        found: &'static str,
    },
    /// An array below a key that is not a range.
    #[error("filter range must be an array of a minimum and a maximum")]
    Range {
        /// Where.
        place: String,
        /// A full sentence about what is wrong.
        problem: &'static str,
    },
    /// A backslash in a key that escapes nothing.
    #[error("invalid escape in filter key \"{key}\"")]
    Escape {
        /// The key.
        key: String,
        /// Where.
        place: String,
    },
    /// A LIKE pattern that ends with a backslash.
    #[error("LIKE pattern must not end with escape character")]
    Pattern {
        /// Where.
        place: String,
    },
    /// More levels than [`MAX_DEPTH`](crate::MAX_DEPTH).
    #[error("filter is nested too deep")]
    TooDeep,
    /// More bytes than [`MAX_BYTES`](crate::MAX_BYTES).
    #[error("filter is too long")]
    TooLong {
        /// Bytes of the filter.
        bytes: usize,
    },
    /// More values than [`MAX_VALUES`](crate::MAX_VALUES).
    #[error("filter compares with too many values")]
    TooManyValues,
    /// Its path would have more bytes than [`MAX_PATH_BYTES`](crate::MAX_PATH_BYTES).
    #[error("filter is too complex")]
    TooComplex,
}

/// Operators that stand below a key, in the order in which they are listed to users.
pub(crate) const VALUE_OPERATORS: &[&str] = &[
    "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$all", "$like", "$regex",
    "$exists", "$not",
];

/// Operators that stand where keys do.
pub(crate) const FILTER_OPERATORS: &[&str] = &["$and", "$or", "$not"];

impl FilterError {
    /// The primary message.
    pub fn message(&self) -> String {
        self.to_string()
    }

    /// Full sentences for a `DETAIL` line.
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Json { problem } => Some(format!("The JSON parser says: {problem}.")),
            Self::NotAnObject { place, found } | Self::Operand { place, found, .. } => {
                Some(match place.as_str() {
                    "" => format!("It is {found}."),
                    place => format!("Found {found} at \"{place}\"."),
                })
            }
            Self::Range { place, problem } => {
                Some(format!("{problem} The range is at \"{place}\"."))
            }
            Self::Nul { place }
            | Self::UnknownOperator { place, .. }
            | Self::NeedsKey { place, .. }
            | Self::BelowKey { place, .. }
            | Self::Mixed { place }
            | Self::Empty { place }
            | Self::Escape { place, .. }
            | Self::Pattern { place } => {
                Some(format!("It is at \"{place}\".")).filter(|_| !place.is_empty())
            }
            Self::TooDeep => Some(format!(
                "Keys, operators and array elements may lead {} levels down.",
                crate::MAX_DEPTH
            )),
            Self::TooLong { bytes } => {
                Some(format!("It has {bytes} bytes, the limit is {}.", crate::MAX_BYTES))
            }
            Self::TooManyValues => {
                Some(format!("The limit is {} in all operators together.", crate::MAX_VALUES))
            }
            Self::TooComplex => Some(format!(
                "The jsonpath for it would be longer than {} bytes.",
                crate::MAX_PATH_BYTES
            )),
        }
    }

    /// Full sentences for a `HINT` line.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::UnknownOperator { .. } => {
                return Some(format!(
                    "Below a key there are {}; instead of a key {}. A key that starts with a \
                     dollar sign is written with a backslash before it.",
                    VALUE_OPERATORS.join(", "),
                    FILTER_OPERATORS.join(", ")
                ));
            }
            Self::NotAnObject { .. } => "An example is {\"lang\": \"en\"}.",
            Self::NeedsKey { .. } => "An example is {\"year\": {\"$gt\": 2020}}.",
            Self::BelowKey { .. } => {
                "It combines filters: {\"$or\": [{\"lang\": \"en\"}, {\"lang\": \"de\"}]}."
            }
            Self::Mixed { .. } => "Give the nested key a dotted path beside them: \"key.nested\".",
            Self::Empty { .. } => "Use {\"$exists\": true} to ask whether a key is there.",
            Self::Operand { operator: "$eq" | "$ne", .. } => {
                "Use $all for an array of values, and keys or a dotted path for an object."
            }
            Self::Range { .. } => {
                "An array is a range [min, max] of two numbers or two strings, null for an open \
                 end. Use $in for one of several values, $all for each of several."
            }
            Self::Escape { .. } => {
                "A backslash stands before a dot, a backslash or a dollar sign that is part of the \
                 key."
            }
            Self::TooComplex => "Long keys that many conditions share make it so.",
            _ => return None,
        };
        Some(text.to_owned())
    }
}
