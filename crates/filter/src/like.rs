//! SQL's LIKE in terms of jsonpath.

/// What a LIKE pattern asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Like {
    /// Exactly this string: the pattern has no wildcard.
    Exact(String),
    /// Any string that starts so: its only wildcard is `%` at the end.
    Prefix(String),
    /// Any string that matches this regular expression, in which a dot matches any character.
    Regex(String),
}

enum Part {
    Character(char),
    AnyCharacter,
    AnyString,
}

/// Translates a LIKE pattern. `None` when it ends with the escape character, which SQL refuses.
pub(crate) fn translate(pattern: &str) -> Option<Like> {
    let mut parts = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        parts.push(match character {
            '%' if matches!(parts.last(), Some(Part::AnyString)) => continue,
            '%' => Part::AnyString,
            '_' => Part::AnyCharacter,
            '\\' => Part::Character(characters.next()?),
            literal => Part::Character(literal),
        });
    }
    if let Some(exact) = literally(&parts) {
        return Some(Like::Exact(exact));
    }
    if let Some((Part::AnyString, start)) = parts.split_last()
        && let Some(prefix) = literally(start)
    {
        return Some(Like::Prefix(prefix));
    }
    Some(Like::Regex(regex(&parts)))
}

/// The string that the parts spell when there is no wildcard among them.
fn literally(parts: &[Part]) -> Option<String> {
    parts
        .iter()
        .map(|part| match part {
            Part::Character(character) => Some(*character),
            Part::AnyCharacter | Part::AnyString => None,
        })
        .collect()
}

/// An unanchored expression says `%` at an end by itself; elsewhere `^` and `$` are the ends of the
/// whole string, whatever newlines it has.
fn regex(parts: &[Part]) -> String {
    let (start, parts) = match parts {
        [Part::AnyString, rest @ ..] => ("", rest),
        parts => ("^", parts),
    };
    let (end, parts) = match parts {
        [rest @ .., Part::AnyString] => ("", rest),
        parts => ("$", parts),
    };
    let mut text = start.to_owned();
    for part in parts {
        match part {
            Part::AnyString => text.push_str(".*"),
            Part::AnyCharacter => text.push('.'),
            Part::Character(character) => {
                if character.is_ascii_punctuation() {
                    text.push('\\');
                }
                text.push(*character);
            }
        }
    }
    text + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form() {
        let regex = |text: &str| Some(Like::Regex(text.to_owned()));
        for (pattern, like) in [
            ("", Some(Like::Exact(String::new()))),
            (r"50\% \_\\", Some(Like::Exact(r"50% _\".to_owned()))),
            ("%", Some(Like::Prefix(String::new()))),
            (r"a.\%%", Some(Like::Prefix("a.%".to_owned()))),
            ("%b", regex("b$")),
            ("%b%", regex("b")),
            ("%%", Some(Like::Prefix(String::new()))),
            ("%%_%%", regex(".")),
            ("_", regex("^.$")),
            ("a_%", regex("^a.")),
            ("a%%b", regex("^a.*b$")),
            ("(?i)*%é", regex(r"^\(\?i\)\*.*é$")),
            (r"%\a", regex("a$")),
            (r"a%\", None),
        ] {
            assert_eq!(translate(pattern), like, "{pattern}");
        }
    }
}
