//! Keys of a filter: dotted paths into the metadata.

use crate::literal::quote;

/// A path from an object to a value below it, as jsonpath text such as `."a"."b"`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Steps {
    /// The accessors.
    pub(crate) text: String,
    /// How many there are, at least one.
    pub(crate) count: usize,
}

/// Reads a key as a path: dots separate its steps, and a backslash takes the dot, the backslash or
/// the `$` behind it literally. Steps may be empty, as keys of JSON may. `None` when a backslash
/// stands before anything else.
pub(crate) fn steps(key: &str) -> Option<Steps> {
    let mut steps = Steps { text: String::with_capacity(key.len() + 3), count: 0 };
    let mut step = String::new();
    let mut characters = key.chars();
    while let Some(character) = characters.next() {
        match character {
            '.' => {
                steps.push(&step);
                step.clear();
            }
            '\\' => match characters.next() {
                Some(literal @ ('.' | '\\' | '$')) => step.push(literal),
                _ => return None,
            },
            plain => step.push(plain),
        }
    }
    steps.push(&step);
    Some(steps)
}

impl Steps {
    fn push(&mut self, key: &str) {
        self.text.push('.');
        self.text.push_str(&quote(key));
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_and_escapes() {
        for (key, text, count) in [
            ("a", r#"."a""#, 1),
            ("a.b", r#"."a"."b""#, 2),
            (r"a\.b", r#"."a.b""#, 1),
            (r"\\.b", r#"."\\"."b""#, 2),
            (r"\$gt", r#"."$gt""#, 1),
            ("", ".\"\"", 1),
            ("a..", r#"."a".""."""#, 3),
            (r#"a" == 1 || @."b"#, r#"."a\" == 1 || @"."\"b""#, 2),
        ] {
            let text = text.to_owned();
            assert_eq!(steps(key), Some(Steps { text, count }), "{key}");
        }
        for key in [r"a\", r"\n", r"a\ b"] {
            assert_eq!(steps(key), None, "{key}");
        }
    }
}
