//! What stands below a key: a scalar, a range, operators, or a nested filter.

use serde_json::value::RawValue;

use crate::FilterError;
use crate::condition::{Condition, Order, Test};
use crate::json::{Json, Members};
use crate::like;
use crate::literal::Literal;
use crate::parse::{self, is_operator};
use crate::place::Place;

/// The condition on a value that an operand is.
pub(crate) fn operand(json: &Json<'_>, place: &Place<'_>) -> Result<Condition, FilterError> {
    if let Some(literal) = json.literal() {
        return Ok(Condition::one_of(vec![literal]));
    }
    match json {
        Json::Array(elements) => range(elements, place),
        Json::Object(members) if members.is_empty() => {
            Err(FilterError::Empty { place: place.to_string() })
        }
        Json::Object(members) => match members.iter().filter(|(key, _)| is_operator(key)).count() {
            0 => parse::members(members, place),
            count if count == members.len() => operators(members, place),
            _ => Err(FilterError::Mixed { place: place.to_string() }),
        },
        _ => unreachable!("scalars have literals"),
    }
}

/// Operators below one key, all of which must hold.
fn operators(members: &Members<'_>, place: &Place<'_>) -> Result<Condition, FilterError> {
    let conditions: Result<Vec<_>, _> = members
        .iter()
        .map(|(operator, value)| {
            let place = place.key(operator, 1);
            self::operator(operator, &Json::read(value, &place)?, &place)
        })
        .collect();
    Ok(Condition::all(conditions?))
}

fn operator(name: &str, json: &Json<'_>, place: &Place<'_>) -> Result<Condition, FilterError> {
    let test = |test| Ok(Condition::Value(test));
    match name {
        "$eq" => Ok(Condition::one_of(vec![scalar("$eq", json, place)?])),
        "$ne" => Ok(Condition::not(Condition::one_of(vec![scalar("$ne", json, place)?]))),
        "$gt" => test(Test::Order(Order::Greater, ordered("$gt", json, place)?)),
        "$gte" => test(Test::Order(Order::GreaterOrEqual, ordered("$gte", json, place)?)),
        "$lt" => test(Test::Order(Order::Less, ordered("$lt", json, place)?)),
        "$lte" => test(Test::Order(Order::LessOrEqual, ordered("$lte", json, place)?)),
        "$in" => Ok(Condition::one_of(scalars("$in", json, place)?)),
        "$nin" => Ok(Condition::not(Condition::one_of(scalars("$nin", json, place)?))),
        "$all" => {
            let literals = scalars("$all", json, place)?;
            Ok(Condition::all(literals.into_iter().map(|literal| Condition::one_of(vec![literal]))))
        }
        "$like" => {
            let like = like::translate(string("$like", json, place)?)
                .ok_or_else(|| FilterError::Pattern { place: place.to_string() })?;
            test(Test::Like(like))
        }
        "$regex" => test(Test::Regex(string("$regex", json, place)?.to_owned())),
        "$exists" => match json {
            Json::Boolean(true) => test(Test::Exists),
            Json::Boolean(false) => Ok(Condition::not(Condition::Value(Test::Exists))),
            other => Err(unfit("$exists", "true or false", other, place)),
        },
        "$not" => Ok(Condition::not(operand(json, place)?)),
        "$and" | "$or" => {
            Err(FilterError::BelowKey { operator: name.to_owned(), place: place.to_string() })
        }
        _ => Err(parse::unknown(name, place)),
    }
}

/// A range from the first element to the second, both included, `null` for an open end.
fn range(elements: &[&RawValue], place: &Place<'_>) -> Result<Condition, FilterError> {
    let invalid = |problem| Err(FilterError::Range { place: place.to_string(), problem });
    let [low, high] = elements else {
        return invalid("The array does not have two elements.");
    };
    let mut ends = Vec::with_capacity(2);
    for (index, end) in [low, high].into_iter().enumerate() {
        ends.push(match Json::read(end, &place.element(index))? {
            Json::Null => None,
            end @ (Json::Number(_) | Json::String(_)) => end.literal(),
            _ => return invalid("An end is neither a number, a string nor null."),
        });
    }
    let test = match (ends.remove(0), ends.remove(0)) {
        (None, None) => return invalid("Both ends are null."),
        (Some(low), None) => Test::Order(Order::GreaterOrEqual, low),
        (None, Some(high)) => Test::Order(Order::LessOrEqual, high),
        (Some(low), Some(high)) if low.kind == high.kind => Test::Between(low, high),
        (Some(_), Some(_)) => return invalid("One end is a number, the other a string."),
    };
    Ok(Condition::Value(test))
}

/// An operand to be equal to.
fn scalar(
    operator: &'static str,
    json: &Json<'_>,
    place: &Place<'_>,
) -> Result<Literal, FilterError> {
    json.literal()
        .ok_or_else(|| unfit(operator, "a number, a string, a boolean or null", json, place))
}

/// Operands to be equal to.
fn scalars(
    operator: &'static str,
    json: &Json<'_>,
    place: &Place<'_>,
) -> Result<Vec<Literal>, FilterError> {
    const EXPECTED: &str = "an array of numbers, strings, booleans or nulls";
    let Json::Array(elements) = json else {
        return Err(unfit(operator, EXPECTED, json, place));
    };
    let literals = elements.iter().enumerate().map(|(index, element)| {
        let place = place.element(index);
        let element = Json::read(element, &place)?;
        element.literal().ok_or_else(|| unfit(operator, EXPECTED, &element, &place))
    });
    literals.collect()
}

/// An operand that other values are less and greater than.
fn ordered(
    operator: &'static str,
    json: &Json<'_>,
    place: &Place<'_>,
) -> Result<Literal, FilterError> {
    json.literal()
        .filter(|_| matches!(json, Json::Number(_) | Json::String(_)))
        .ok_or_else(|| unfit(operator, "a number or a string", json, place))
}

/// A pattern.
fn string<'a>(
    operator: &'static str,
    json: &'a Json<'_>,
    place: &Place<'_>,
) -> Result<&'a str, FilterError> {
    match json {
        Json::String(text) => Ok(text),
        other => Err(unfit(operator, "a string", other, place)),
    }
}

fn unfit(
    operator: &'static str,
    expected: &'static str,
    json: &Json<'_>,
    place: &Place<'_>,
) -> FilterError {
    FilterError::Operand { operator, place: place.to_string(), expected, found: json.described() }
}
