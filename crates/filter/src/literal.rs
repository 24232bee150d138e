//! Literals of jsonpath.

/// A scalar that a value is compared with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Literal {
    /// Its type, as jsonpath's `type()` calls it.
    pub(crate) kind: &'static str,
    /// How it is written: all but strings as in JSON.
    pub(crate) text: String,
}

/// A jsonpath string literal: double quotes around the text, the escapes of JSON inside.
pub(crate) fn quote(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => literal.extend(['\\', character]),
            control if control.is_ascii_control() => {
                literal.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            plain => literal.push(plain),
        }
    }
    literal.push('"');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes() {
        assert_eq!(quote(r#"a"b\c"#), r#""a\"b\\c""#);
        assert_eq!(quote("\n\u{7f}é\u{1F600}'"), "\"\\u000a\\u007fé\u{1F600}'\"");
        assert_eq!(quote(""), "\"\"");
    }
}
