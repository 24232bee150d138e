//! What a filter means, straight from docs/filters.md: no jsonpath, no SQL.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::json::Json;

/// Says whether an expression finds something in a text.
type Finds = fn(&str) -> bool;

/// Expressions for `$regex`, and what each finds.
pub const EXPRESSIONS: &[(&str, Finds)] = &[
    ("", |_| true),
    ("b", |text| text.contains('b')),
    ("^a", |text| text.starts_with('a')),
    ("a$", |text| text.ends_with('a')),
    ("^$", str::is_empty),
    ("^.$", |text| text.chars().count() == 1 && text != "\n"),
    ("[0-9]", |text| text.contains(|c: char| c.is_ascii_digit())),
    (r"\.", |text| text.contains('.')),
    (r"\\", |text| text.contains('\\')),
    ("\"", |text| text.contains('"')),
    ("(?i)ab", |text| text.to_ascii_lowercase().contains("ab")),
];

/// Whether a row's metadata match a filter.
pub fn matches(filter: &Json, metadata: &Json) -> bool {
    members(filter, &[metadata])
}

/// Whether all members of a filter hold, whose keys lead away from `values`.
fn members(filter: &Json, values: &[&Json]) -> bool {
    let Json::Object(filter) = filter else { panic!("a filter is an object") };
    filter.iter().all(|(key, operand)| match key.as_str() {
        "$and" => elements(operand).iter().all(|filter| members(filter, values)),
        "$or" => elements(operand).iter().any(|filter| members(filter, values)),
        "$not" => !members(operand, values),
        key => holds(operand, &follow(values, key)),
    })
}

/// Whether an operand holds for the values that its key leads to.
fn holds(operand: &Json, values: &[&Json]) -> bool {
    match operand {
        Json::Object(parts) if parts.keys().any(|key| key.starts_with('$')) => {
            parts.iter().all(|(operator, operand)| self::operator(operator, operand, values))
        }
        Json::Object(_) => members(operand, values),
        Json::Array(ends) => some(values, |value| {
            let [low, high] = ends.as_slice() else { panic!("a range has two ends") };
            let above = || compare(value, low).is_some_and(Ordering::is_ge);
            let below = || compare(value, high).is_some_and(Ordering::is_le);
            (*low == Json::Null || above()) && (*high == Json::Null || below())
        }),
        scalar => some(values, |value| value == scalar),
    }
}

fn operator(name: &str, operand: &Json, values: &[&Json]) -> bool {
    let like = |pattern: &Json, value: &Json| match (pattern, value) {
        (Json::Text(pattern), Json::Text(text)) => {
            let pattern: Vec<_> = pattern.chars().collect();
            let text: Vec<_> = text.chars().collect();
            like(&pattern, &text)
        }
        _ => false,
    };
    match name {
        "$eq" => some(values, |value| value == operand),
        "$ne" => !some(values, |value| value == operand),
        "$gt" => some(values, |value| compare(value, operand).is_some_and(Ordering::is_gt)),
        "$gte" => some(values, |value| compare(value, operand).is_some_and(Ordering::is_ge)),
        "$lt" => some(values, |value| compare(value, operand).is_some_and(Ordering::is_lt)),
        "$lte" => some(values, |value| compare(value, operand).is_some_and(Ordering::is_le)),
        "$in" => elements(operand).iter().any(|one| some(values, |value| value == one)),
        "$nin" => !elements(operand).iter().any(|one| some(values, |value| value == one)),
        "$all" => elements(operand).iter().all(|one| some(values, |value| value == one)),
        "$like" => some(values, |value| like(operand, value)),
        "$regex" => some(values, |value| match (operand, value) {
            (Json::Text(expression), Json::Text(text)) => finds(expression, text),
            _ => false,
        }),
        "$exists" => (*operand == Json::Boolean(true)) != values.is_empty(),
        "$not" => !holds(operand, values),
        other => panic!("no operator {other}"),
    }
}

/// Whether a value, or an element of a value that is an array, passes.
fn some(values: &[&Json], mut passes: impl FnMut(&Json) -> bool) -> bool {
    values.iter().any(|value| match value {
        Json::Array(elements) => elements.iter().any(&mut passes),
        other => passes(other),
    })
}

/// What a dotted path leads to, through the objects of arrays.
fn follow<'a>(values: &[&'a Json], path: &str) -> Vec<&'a Json> {
    let mut values = values.to_vec();
    for key in keys(path) {
        let objects = values.into_iter().flat_map(|value| match value {
            Json::Array(elements) => elements.iter().collect(),
            other => vec![other],
        });
        values = objects
            .filter_map(|value| match value {
                Json::Object(members) => members.get(&key),
                _ => None,
            })
            .collect();
    }
    values
}

/// The keys of a dotted path. Two characters that no key has here stand for what is escaped.
fn keys(path: &str) -> Vec<String> {
    let path = path.replace(r"\\", "\u{e000}").replace(r"\.", "\u{e001}").replace(r"\$", "$");
    path.split('.').map(|key| key.replace('\u{e000}', "\\").replace('\u{e001}', ".")).collect()
}

/// How values of one type that has an order compare: numbers by value, strings by code points.
fn compare(left: &Json, right: &Json) -> Option<Ordering> {
    match (left, right) {
        (Json::Number(left), Json::Number(right)) => Some(left.cmp(right)),
        (Json::Text(left), Json::Text(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

/// SQL's LIKE.
fn like(pattern: &[char], text: &[char]) -> bool {
    match (pattern, text) {
        ([], text) => text.is_empty(),
        (['%', pattern @ ..], text) => (0..=text.len()).any(|skip| like(pattern, &text[skip..])),
        (['_', pattern @ ..], [_, text @ ..]) => like(pattern, text),
        (['\\', escaped, pattern @ ..], [first, text @ ..]) => {
            first == escaped && like(pattern, text)
        }
        (['_' | '\\', ..], _) => false,
        ([literal, pattern @ ..], [first, text @ ..]) => first == literal && like(pattern, text),
        _ => false,
    }
}

fn finds(expression: &str, text: &str) -> bool {
    let (_, finds) =
        EXPRESSIONS.iter().find(|(known, _)| *known == expression).expect("a known expression");
    finds(text)
}

fn elements(array: &Json) -> &[Json] {
    let Json::Array(elements) = array else { panic!("{array} is an array") };
    elements
}

/// The examples of docs/filters.md's rules that are easily got wrong.
#[test]
fn the_evaluator_itself() {
    let row = |text: &str| Json::object("a", Json::text(text));
    let like = |pattern: &str| Json::object("a", Json::object("$like", Json::text(pattern)));
    assert!(matches(&like("a%c"), &row("a\nb\nc")));
    assert!(!matches(&like("a%c"), &row("abcd")));
    assert!(matches(&like(r"1\%"), &row("1%")) && !matches(&like(r"1\%"), &row("1x")));
    let ne = Json::object("a", Json::object("$ne", Json::number("1")));
    assert!(matches(&ne, &Json::Object(BTreeMap::new())) && matches(&ne, &row("1")));
    assert!(!matches(&ne, &Json::object("a", Json::Array(vec![Json::number("1")]))));
    let nested = Json::Array(vec![Json::Array(vec![Json::number("1")])]);
    assert!(matches(&ne, &Json::object("a", nested)));
    assert_eq!(keys(r"a\.b.\$c.\\.d\\\."), ["a.b", "$c", "\\", r"d\."]);
}
