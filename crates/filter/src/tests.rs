//! Each form of the language, and each way to break its rules.

use crate::{FilterError, MAX_BYTES, MAX_DEPTH, MAX_VALUES, compile};

/// The condition of a filter that some rows match: what stands in `$ ? (…)`.
#[track_caller]
fn path(filter: &str) -> String {
    let path = compile(filter).expect("a filter").expect("not every row matches");
    let condition = path.strip_prefix("$ ? (").and_then(|path| path.strip_suffix(')'));
    condition.expect("one filter expression").to_owned()
}

#[test]
fn values() {
    for (filter, expected) in [
        (r#"{"a": 5}"#, r#"@."a" == 5"#),
        (r#"{"a": -0.50}"#, r#"@."a" == -0.50"#),
        (r#"{"a": "x"}"#, r#"@."a" == "x""#),
        (r#"{"a": true}"#, r#"@."a" == true"#),
        (r#"{"a": null}"#, r#"@."a" == null"#),
        (r#"{"a": {"b.c": 1, "d": 2}}"#, r#"@."a"."b"."c" == 1 && @."a"."d" == 2"#),
        (r#"{"a": [1, 2]}"#, r#"exists(@."a" ? (@.type() == "number" && @ >= 1 && @ <= 2))"#),
        (r#"{"a": ["x", null]}"#, r#"@."a" >= "x""#),
        (r#"{"a": [null, 2]}"#, r#"@."a" <= 2"#),
        (r#"{"a": 1, "a": 2}"#, r#"@."a" == 1 && @."a" == 2"#),
    ] {
        assert_eq!(path(filter), expected, "{filter}");
    }
    let digits = "-12345678901234567890123456789.000000000000000000000000010";
    assert_eq!(path(&format!("{{\"a\": {digits}}}")), format!("@.\"a\" == {digits}"));
}

#[test]
fn operators() {
    for (operand, expected) in [
        (r#"{"$eq": 1}"#, r#"@."a" == 1"#),
        (r#"{"$ne": 1}"#, r#"!exists(@ ? (@."a" == 1))"#),
        (r#"{"$gt": 1, "$lt": "x"}"#, r#"@."a" > 1 && @."a" < "x""#),
        (r#"{"$gte": 1, "$lte": 2}"#, r#"@."a" >= 1 && @."a" <= 2"#),
        (r#"{"$in": [1]}"#, r#"@."a" == 1"#),
        (
            r#"{"$in": [1, "x"]}"#,
            r#"exists(@."a" ? (@.type() != "array" && (@ == 1 || @ == "x")))"#,
        ),
        (
            r#"{"$nin": [1, null]}"#,
            r#"!exists(@."a" ? (@.type() != "array" && (@ == 1 || @ == null)))"#,
        ),
        (r#"{"$all": [1, 2]}"#, r#"@."a" == 1 && @."a" == 2"#),
        (r#"{"$like": "x"}"#, r#"@."a" == "x""#),
        (r#"{"$like": "x%"}"#, r#"@."a" starts with "x""#),
        (r#"{"$like": "%.x"}"#, r#"@."a" like_regex "\\.x$" flag "s""#),
        (r#"{"$regex": "\\d"}"#, r#"@."a" like_regex "\\d""#),
        (r#"{"$exists": true}"#, r#"exists(@."a")"#),
        (r#"{"$exists": false}"#, r#"!exists(@."a")"#),
        (r#"{"$not": 1}"#, r#"!exists(@ ? (@."a" == 1))"#),
        (
            r#"{"$not": {"$gt": 1, "$lt": 5}}"#,
            r#"!exists(@ ? (@."a" > 1)) || !exists(@ ? (@."a" < 5))"#,
        ),
        (r#"{"$not": {"b": {"$not": {"c": 2}}}}"#, r#"@."a"."b"."c" == 2"#),
    ] {
        let filter = format!("{{\"a\": {operand}}}");
        assert_eq!(path(&filter), expected, "{filter}");
    }
}

#[test]
fn logic() {
    for (filter, expected) in [
        (r#"{"$or": [{"a": 1}, {"b": 2, "c": 3}]}"#, r#"@."a" == 1 || (@."b" == 2 && @."c" == 3)"#),
        (
            r#"{"$not": {"$or": [{"a": 1}, {"b": {"$ne": 2}}]}}"#,
            r#"!exists(@ ? (@."a" == 1)) && @."b" == 2"#,
        ),
        (r#"{"x": 1, "$or": []}"#, "1 == 0"),
        (r#"{"$not": {}}"#, "1 == 0"),
        (r#"{"a": {"$in": []}}"#, "1 == 0"),
        (r#"{"$or": [{"a": 1}, {"$or": []}]}"#, r#"@."a" == 1"#),
    ] {
        assert_eq!(path(filter), expected, "{filter}");
    }
    for filter in [
        "{}",
        " { } ",
        r#"{"$and": []}"#,
        r#"{"$and": [{}, {}]}"#,
        r#"{"$or": [{"a": 1}, {}]}"#,
        r#"{"a": {"$nin": []}}"#,
        r#"{"a": {"$all": []}}"#,
        r#"{"$not": {"$or": []}}"#,
    ] {
        assert_eq!(compile(filter), Ok(None), "{filter}");
    }
}

#[test]
fn many_operands_are_split() {
    let operands: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    let path = path(&format!("{{\"a\": {{\"$in\": [{}]}}}}", operands.join(",")));
    let deepest = path.chars().scan(0_i32, |depth, character| {
        *depth += i32::from(character == '(') - i32::from(character == ')');
        Some(*depth)
    });
    // exists, filter, the alternatives, and two levels of halves.
    assert_eq!(deepest.max(), Some(5));
    assert_eq!(path.matches("@ == ").count(), 40);
}

/// Message, detail and hint.
#[track_caller]
fn refused(filter: &str) -> [String; 3] {
    let error = compile(filter).expect_err(filter);
    [error.message(), error.detail().unwrap_or_default(), error.hint().unwrap_or_default()]
}

#[test]
fn refusals() {
    for (filter, message, detail, hint) in [
        ("", "filter is not valid JSON", "EOF", ""),
        ("{} x", "filter is not valid JSON", "trailing characters", ""),
        (r#"{"a": "\ud800"}"#, "filter is not valid JSON", "hex escape", ""),
        (r#"{"a\u0000": 1}"#, "filter must not contain the character \\u0000", "", ""),
        (r#"{"a": "\u0000"}"#, "filter must not contain the character \\u0000", "\"a\"", ""),
        ("[1]", "filter must be a JSON object", "It is an array.", "example"),
        (r#"{"$or": [{}, 1]}"#, "filter must be a JSON object", "a number at \"$or[1]\"", ""),
        (r#"{"$foo": 1}"#, "unknown filter operator \"$foo\"", "\"$foo\"", "$nin"),
        (r#"{"year": {"$foo": 1}}"#, "unknown filter operator \"$foo\"", "\"year.$foo\"", "$nin"),
        (r#"{"$gt": 1}"#, "filter operator \"$gt\" must stand below a key", "", "year"),
        (
            r#"{"a": {"$or": []}}"#,
            "filter operator \"$or\" must not stand below a key",
            "\"a.$or\"",
            "combines",
        ),
        (
            r#"{"a": {"$gt": 1, "b": 1}}"#,
            "filter operators and keys must not be mixed in one object",
            "\"a\"",
            "key.nested",
        ),
        (r#"{"a": {}}"#, "filter object below a key must not be empty", "\"a\"", "$exists"),
        (
            r#"{"a": {"$eq": [1]}}"#,
            "filter operator \"$eq\" requires a number, a string, a boolean or null",
            "an array at \"a.$eq\"",
            "$all",
        ),
        (
            r#"{"$and": [{}, {"a": {"$gt": null}}]}"#,
            "filter operator \"$gt\" requires a number or a string",
            "null at \"$and[1].a.$gt\"",
            "",
        ),
        (
            r#"{"a": {"$in": 1}}"#,
            "filter operator \"$in\" requires an array of numbers, strings, booleans or nulls",
            "a number at \"a.$in\"",
            "",
        ),
        (
            r#"{"a": {"$all": [1, {}]}}"#,
            "filter operator \"$all\" requires an array of numbers, strings, booleans or nulls",
            "an object at \"a.$all[1]\"",
            "",
        ),
        (r#"{"a": {"$like": 1}}"#, "filter operator \"$like\" requires a string", "a number", ""),
        (r#"{"a": {"$regex": 1}}"#, "filter operator \"$regex\" requires a string", "a number", ""),
        (
            r#"{"a": {"$exists": 1}}"#,
            "filter operator \"$exists\" requires true or false",
            "a number",
            "",
        ),
        (r#"{"$and": {}}"#, "filter operator \"$and\" requires an array of filters", "object", ""),
        (r#"{"$not": []}"#, "filter must be a JSON object", "an array at \"$not\"", ""),
        (
            r#"{"a": {"$like": "x\\"}}"#,
            "LIKE pattern must not end with escape character",
            "\"a.$like\"",
            "",
        ),
        (r#"{"a\\b": 1}"#, "invalid escape in filter key \"a\\b\"", "", "backslash"),
    ] {
        let [is, its_detail, its_hint] = refused(filter);
        assert_eq!(is, message, "{filter}");
        assert!(its_detail.contains(detail), "{filter}: {its_detail}");
        assert!(its_hint.contains(hint), "{filter}: {its_hint}");
    }
}

#[test]
fn ranges_that_are_none() {
    for (range, problem) in [
        ("[]", "two elements"),
        ("[1]", "two elements"),
        ("[1, 2, 3]", "two elements"),
        ("[null, null]", "Both ends are null"),
        (r#"[1, "x"]"#, "One end is a number"),
        ("[true, 1]", "An end is neither"),
        ("[1, [2]]", "An end is neither"),
    ] {
        let [message, detail, hint] = refused(&format!("{{\"a\": {range}}}"));
        assert_eq!(message, "filter range must be an array of a minimum and a maximum");
        assert!(detail.contains(problem) && detail.contains("\"a\""), "{range}: {detail}");
        assert!(hint.contains("$in") && hint.contains("$all"), "{hint}");
    }
}

#[test]
fn limits() {
    let nested = |levels: usize| {
        format!("{}{{\"a\": 1}}{}", "{\"$not\": ".repeat(levels), "}".repeat(levels))
    };
    assert!(compile(&nested(MAX_DEPTH - 1)).is_ok());
    assert_eq!(compile(&nested(MAX_DEPTH)), Err(FilterError::TooDeep));
    let dotted = |keys: usize| format!("{{\"{}\": 1}}", vec!["a"; keys].join("."));
    assert!(compile(&dotted(MAX_DEPTH)).is_ok());
    assert_eq!(compile(&dotted(MAX_DEPTH + 1)), Err(FilterError::TooDeep));
    // However deep, it is refused before the stack is full.
    assert_eq!(compile(&nested(100_000)), Err(FilterError::TooDeep));
    assert_eq!(compile(&format!("{{\"$and\": {}", "[".repeat(1_000_000))).map_err(|_| ()), Err(()));

    let long = format!("{{\"a\": \"{}\"}}", "x".repeat(MAX_BYTES));
    assert_eq!(compile(&long), Err(FilterError::TooLong { bytes: long.len() }));
    let conditions: Vec<_> = (0..1000).map(|number| format!("\"{number}\": 1")).collect();
    let shared = format!("{{\"{}\": {{{}}}}}", "x".repeat(10_000), conditions.join(","));
    assert_eq!(compile(&shared), Err(FilterError::TooComplex));
    // A key that nothing repeats may be as long as a filter.
    let values = |count: usize| {
        let values: Vec<_> = (0..count).map(|number| number.to_string()).collect();
        format!("{{\"{}\": {{\"$in\": [{}]}}}}", "x".repeat(500_000), values.join(","))
    };
    assert!(compile(&values(MAX_VALUES)).is_ok());
    assert_eq!(compile(&values(MAX_VALUES + 1)), Err(FilterError::TooManyValues));
}
