//! `order_by`: the field that rows of a page are ordered by.

use pgrx::prelude::*;

use crate::errors::raise;

/// A field and a direction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Order {
    key: Key,
    descending: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// A column of the result, or `created_at`.
    Column(&'static str),
    /// A path into the metadata.
    Path(Vec<String>),
}

const COLUMNS: [&str; 3] = ["id", "score", "created_at"];

impl Order {
    /// Reads `field`, `field asc` or `field desc`: a field is `id`, `score`, `created_at`, or the
    /// path of one in the metadata, with dots. `metadata.` in front tells `metadata.id` from `id`.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let (field, descending) = match text.rsplit_once(char::is_whitespace) {
            Some((field, word)) if word.eq_ignore_ascii_case("desc") => (field.trim(), true),
            Some((field, word)) if word.eq_ignore_ascii_case("asc") => (field.trim(), false),
            _ => (text, false),
        };
        if let Some(column) = COLUMNS.into_iter().find(|column| *column == field) {
            return Self { key: Key::Column(column), descending };
        }
        let path = field.strip_prefix("metadata.").unwrap_or(field);
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            raise(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("order_by \"{text}\" names no field"),
                "",
                "Give id, score, created_at or a path in the metadata such as \"author.name\", \
                 with \"desc\" behind it for the reverse order.",
            );
        }
        Self { key: Key::Path(path), descending }
    }

    /// The path into the metadata, which is passed as a parameter.
    pub fn path(&self) -> Option<&[String]> {
        match &self.key {
            Key::Path(path) => Some(path),
            Key::Column(_) => None,
        }
    }

    /// `ORDER BY …`; the path is in parameter `$place`. Rows without the field come last, equal
    /// ones by id.
    pub fn clause(&self, place: usize) -> String {
        let direction = if self.descending { "DESC NULLS LAST" } else { "ASC NULLS LAST" };
        match &self.key {
            Key::Column(column) => format!("ORDER BY {column} {direction}, id"),
            Key::Path(_) => {
                format!("ORDER BY metadata OPERATOR(pg_catalog.#>) ${place} {direction}, id")
            }
        }
    }
}
