//! Can a key or a string of a filter end its literal, or do anything but be one?

use filter::compile;
use proptest::prelude::*;

/// What is left of a jsonpath without its string literals, each of which is a `□`, and what they
/// denote. Knows only how a double-quoted literal ends and what its escapes mean; `None` when one
/// does not end, or has an escape that is not among them.
fn take_apart(path: &str) -> Option<(String, Vec<String>)> {
    let (mut rest, mut literals) = (String::new(), Vec::new());
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        if character != '"' {
            rest.push(character);
            continue;
        }
        rest.push('□');
        let mut literal = String::new();
        loop {
            match characters.next()? {
                '"' => break,
                '\\' => match characters.next()? {
                    plain @ ('"' | '\\') => literal.push(plain),
                    'u' => {
                        let digits: String = characters.by_ref().take(4).collect();
                        literal.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                    }
                    _ => return None,
                },
                plain => literal.push(plain),
            }
        }
        literals.push(literal);
    }
    Some((rest, literals))
}

/// A JSON string; every character as an escape or as itself.
fn json(text: &str, escaped: bool) -> String {
    if !escaped {
        return serde_json::to_string(text).expect("a string");
    }
    let units = text.encode_utf16().map(|unit| format!("\\u{unit:04X}"));
    format!("\"{}\"", units.collect::<String>())
}

/// A key that means exactly this text.
fn key(text: &str) -> String {
    let escaped = text.replace('\\', r"\\").replace('.', r"\.");
    match escaped.strip_prefix('$') {
        Some(rest) => format!(r"\${rest}"),
        None => escaped,
    }
}

/// Text that would like to be more than text.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "\"", "\\", "'", "\\\"", "\\u0022", "\\x22", "\\u{22}", "$", "@", ".", "..", "\u{1}",
            "\n", "\r\n", "\u{7f}", "\u{8}", "/*", "*/", "--", ";", ")", " ? (", "|| 1 == 1", "é",
            "\u{1F600}", "\u{202e}", "\u{feff}", "□", "%", "_", "^", "(?i)", "***=", "' OR 1=1 --",
        ]).prop_map(str::to_owned),
        1 => any::<char>().prop_filter("no NUL", |c| *c != '\0').prop_map(|c| c.to_string()),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_text_is_one_literal(
        keys in prop::collection::vec(hostile(), 1..4),
        texts in prop::collection::vec(hostile(), 3),
        escaped in any::<bool>(),
    ) {
        let path: Vec<_> = keys.iter().map(|text| key(text)).collect();
        let path = json(&path.join("."), escaped);
        let [equal, one, other] = [0, 1, 2].map(|index| json(&texts[index], escaped));
        let accessors = ".□".repeat(keys.len());
        let expect = |operand: String, condition: String, literals: &[&String]| {
            let filter = format!("{{{path}: {operand}}}");
            let compiled = compile(&filter).expect("a filter").expect("a condition");
            let (rest, found) = take_apart(&compiled).expect("literals that end");
            assert_eq!(rest, format!("$ ? ({condition})"), "{filter}");
            let expected: Vec<_> = keys.iter().chain(literals.iter().copied()).collect();
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter}");
        };
        let [equal_text, one_text, other_text] = [0, 1, 2].map(|index| &texts[index]);
        expect(equal.clone(), format!("@{accessors} == □"), &[equal_text]);
        expect(
            format!("{{\"$not\": {{\"$regex\": {equal}}}}}"),
            format!("!exists(@ ? (@{accessors} like_regex □))"),
            &[equal_text],
        );
        expect(
            format!("{{\"$in\": [{one}, {other}]}}"),
            format!("exists(@{accessors} ? (@.type() != □ && (@ == □ || @ == □)))"),
            &[&"array".to_owned(), one_text, other_text],
        );
        expect(
            format!("[{one}, {other}]"),
            format!("exists(@{accessors} ? (@.type() == □ && @ >= □ && @ <= □))"),
            &[&"string".to_owned(), one_text, other_text],
        );
    }

    /// Whatever is given, a path comes out that has only known parts, or an error that is told.
    #[test]
    fn nothing_else_gets_through(filter in hostile_filter()) {
        match compile(&filter) {
            Ok(None) => {}
            Ok(Some(path)) => {
                let (rest, _) = take_apart(&path).expect("literals that end");
                let mut rest = rest;
                for known in [
                    "like_regex □ flag □", "like_regex □", "starts with □", "exists", "type",
                    "true", "false", "null", "□", "$ ?",
                ] {
                    rest = rest.replace(known, "");
                }
                let known = |c: char| c.is_ascii_digit() || " @.()!=<>&|-?".contains(c);
                prop_assert!(rest.chars().all(known), "{rest}");
            }
            Err(error) => prop_assert!(!error.message().is_empty()),
        }
    }
}

fn object(members: Vec<(String, String)>) -> String {
    let members: Vec<_> = members
        .into_iter()
        .map(|(name, value)| format!("{}: {value}", json(&name, false)))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// Filters right and wrong, of parts that mean something.
fn hostile_filter() -> impl Strategy<Value = String> {
    let names = vec![
        "$eq", "$ne", "$gt", "$lt", "$in", "$nin", "$all", "$like", "$regex", "$exists", "$not",
        "$and", "$or", "$foo", "a", "b.c", "\\$d", "\"",
    ];
    let name = prop::sample::select(names).prop_map(str::to_owned);
    let scalar = prop_oneof![
        2 => Just("[\"\", null]".to_owned()),
        2 => prop::sample::select(vec!["null", "true", "false", "0", "-1.5"]).prop_map(str::to_owned),
        4 => hostile().prop_map(|text| json(&text, false)),
    ];
    let outer = prop::sample::select(vec!["a", "\\$b.c"]).prop_map(str::to_owned);
    let operand = scalar.prop_recursive(4, 24, 3, move |inner| {
        let member = (name.clone(), inner.clone());
        prop_oneof![
            1 => prop::collection::vec(inner, 0..4).prop_map(|parts| format!("[{}]", parts.join(","))),
            4 => prop::collection::vec(member, 1..3).prop_map(object),
        ]
    });
    prop::collection::vec((outer, operand), 1..3).prop_map(object)
}
