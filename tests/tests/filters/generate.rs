//! Random metadata and random filters over the same few keys and values, so that they meet.

use proptest::prelude::*;
use proptest::sample::select;

use crate::json::Json;
use crate::semantics::EXPRESSIONS;

/// Keys that rows have: plain ones often, and those that mean something in some language.
const KEYS: &[&str] = &["a", "b", "c", "a.b", "$eq", "\"", "\\", "", "é", "a\nb", "' OR ''='"];

/// Numbers some of which double precision cannot tell from each other.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "2",
    "5",
    "-1",
    "0.1",
    "0.10000000000000001",
    "9007199254740992",
    "9007199254740993",
    "123456789012345678.000000000000000001",
    "-0.000000000000000001",
];

/// Strings that look like other types, patterns, code and ends of lines.
const TEXTS: &[&str] = &[
    "",
    "a",
    "b",
    "ab",
    "aB",
    "ba",
    "aa",
    "a\nb",
    "\n",
    "a\n",
    "1",
    "true",
    "null",
    "%",
    "_",
    "\\",
    "a%b",
    "a.b",
    "\"",
    "é",
    "\u{1F600}",
    "x\u{1}y",
    "' OR ''='",
    "$",
    "@.\"a\" == 1",
    "\" || 1 == 1 || \"",
    "\\\" || 1 == 1",
    "\\u0022",
    "[]",
    "(a|b)*",
];

const PATTERNS: &[&str] = &[
    "", "a", "a%", "%a", "%b%", "_", "__", "a_b", "a%b", "%\n%", "%.%", r"\%", r"%\_", r"\\",
    r"a\%b", "%\"", "é", "%_", "_%_", "(a|b)%", "%*", "%%a%%", r"\a",
];

/// Metadata of a row.
pub fn metadata() -> impl Strategy<Value = Json> {
    let value = scalar().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            2 => prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            3 => prop::collection::btree_map(key(), inner, 0..4).prop_map(Json::Object),
        ]
    });
    prop::collection::btree_map(key(), value, 0..8).prop_map(Json::Object)
}

/// A filter that keeps to the rules.
pub fn filter() -> impl Strategy<Value = Json> {
    let simple = prop::collection::btree_map(path(), operand(), 1..3).prop_map(Json::Object);
    simple.prop_recursive(3, 16, 3, |inner| {
        let filters = || prop::collection::vec(inner.clone(), 0..3).prop_map(Json::Array);
        let member = prop_oneof![
            filters().prop_map(|filters| ("$and".to_owned(), filters)),
            filters().prop_map(|filters| ("$or".to_owned(), filters)),
            inner.clone().prop_map(|filter| ("$not".to_owned(), filter)),
            (path(), operand()),
        ];
        prop::collection::vec(member, 1..3)
            .prop_map(|members| Json::Object(members.into_iter().collect()))
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![6 => select(&KEYS[..3]), 1 => select(KEYS)].prop_map(str::to_owned)
}

/// A path of one key or more.
fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => key().prop_map(|key| escaped(&key)),
        1 => prop::collection::vec(key(), 2..4).prop_map(|keys| {
            keys.iter().map(|key| escaped(key)).collect::<Vec<_>>().join(".")
        }),
    ]
}

/// A key as a filter has it.
pub fn escaped(key: &str) -> String {
    let key = key.replace('\\', r"\\").replace('.', r"\.");
    match key.strip_prefix('$') {
        Some(rest) => format!(r"\${rest}"),
        None => key,
    }
}

fn scalar() -> impl Strategy<Value = Json> + Clone {
    prop_oneof![
        1 => Just(Json::Null),
        1 => any::<bool>().prop_map(Json::Boolean),
        4 => ordered(),
    ]
}

fn number() -> impl Strategy<Value = Json> + Clone {
    prop_oneof![3 => select(&NUMBERS[..4]), 1 => select(NUMBERS)].prop_map(Json::number)
}

fn text() -> impl Strategy<Value = Json> + Clone {
    prop_oneof![3 => select(&TEXTS[..5]), 1 => select(TEXTS)].prop_map(Json::text)
}

fn ordered() -> impl Strategy<Value = Json> + Clone {
    prop_oneof![number(), text()]
}

/// What stands below a key.
fn operand() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![2 => scalar(), 1 => range(), 4 => operators(operator())];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            operators(inner.clone().prop_map(|operand| ("$not".to_owned(), operand))),
            prop::collection::btree_map(path(), inner, 1..3).prop_map(Json::Object),
        ]
    })
}

fn range() -> impl Strategy<Value = Json> {
    let two = prop_oneof![[number(), number()], [text(), text()]];
    (two, 0..4).prop_map(|([low, high], open)| {
        Json::Array(match open {
            0 => vec![Json::Null, high],
            1 => vec![low, Json::Null],
            _ => vec![low, high],
        })
    })
}

fn operators(operator: impl Strategy<Value = (String, Json)>) -> impl Strategy<Value = Json> {
    prop::collection::vec(operator, 1..3)
        .prop_map(|operators| Json::Object(operators.into_iter().collect()))
}

fn operator() -> impl Strategy<Value = (String, Json)> {
    let scalars = || prop::collection::vec(scalar(), 0..4).prop_map(Json::Array);
    let expressions: Vec<_> = EXPRESSIONS.iter().map(|(expression, _)| *expression).collect();
    prop_oneof![
        (select(vec!["$eq", "$ne"]), scalar()),
        (select(vec!["$gt", "$gte", "$lt", "$lte"]), ordered()),
        (select(vec!["$in", "$nin", "$all"]), scalars()),
        (Just("$like"), select(PATTERNS).prop_map(Json::text)),
        (Just("$regex"), select(expressions).prop_map(Json::text)),
        (Just("$exists"), any::<bool>().prop_map(Json::Boolean)),
    ]
    .prop_map(|(operator, operand)| (operator.to_owned(), operand))
}

/// Any text at all that PostgreSQL can hold.
pub fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        select(TEXTS).prop_map(str::to_owned),
        any::<char>().prop_filter("no NUL", |c| *c != '\0').prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}
