//! Filters: objects whose members must all hold.

use crate::FilterError;
use crate::condition::Condition;
use crate::error::VALUE_OPERATORS;
use crate::json::{self, Json, Members};
use crate::operand;
use crate::path;
use crate::place::{Place, shown};

/// Reads the text of a filter.
pub(crate) fn filter_text(text: &str) -> Result<Condition, FilterError> {
    filter(&Json::read(json::decode(text)?, &Place::ROOT)?, &Place::ROOT)
}

/// A filter, at the top or below `$and`, `$or` and `$not`.
fn filter(json: &Json<'_>, place: &Place<'_>) -> Result<Condition, FilterError> {
    match json {
        Json::Object(members) => self::members(members, place),
        other => {
            Err(FilterError::NotAnObject { place: place.to_string(), found: other.described() })
        }
    }
}

/// The members of a filter, or of an object below a key that has no operators.
pub(crate) fn members(members: &Members<'_>, place: &Place<'_>) -> Result<Condition, FilterError> {
    let mut conditions = Vec::with_capacity(members.len());
    for (key, value) in members {
        conditions.push(if is_operator(key) {
            let place = place.key(key, 1);
            let value = Json::read(value, &place)?;
            match key.as_str() {
                "$and" => Condition::all(filters("$and", &value, &place)?),
                "$or" => Condition::any(filters("$or", &value, &place)?),
                "$not" => Condition::not(filter(&value, &place)?),
                known if VALUE_OPERATORS.contains(&known) => {
                    return Err(FilterError::NeedsKey {
                        operator: key.clone(),
                        place: place.to_string(),
                    });
                }
                _ => return Err(unknown(key, &place)),
            }
        } else {
            let Some(steps) = path::steps(key) else {
                let place = place.key(key, 1).to_string();
                return Err(FilterError::Escape { key: shown(key), place });
            };
            let place = place.key(key, steps.count);
            Condition::under(steps.text, operand::operand(&Json::read(value, &place)?, &place)?)
        });
    }
    Ok(Condition::all(conditions))
}

/// The filters of a logical operator.
fn filters(
    operator: &'static str,
    json: &Json<'_>,
    place: &Place<'_>,
) -> Result<Vec<Condition>, FilterError> {
    let Json::Array(elements) = json else {
        return Err(FilterError::Operand {
            operator,
            place: place.to_string(),
            expected: "an array of filters",
            found: json.described(),
        });
    };
    let filters = elements.iter().enumerate().map(|(index, element)| {
        let place = place.element(index);
        filter(&Json::read(element, &place)?, &place)
    });
    filters.collect()
}

/// Whether a key is an operator rather than a path.
pub(crate) fn is_operator(key: &str) -> bool {
    key.starts_with('$')
}

/// There is no such operator.
pub(crate) fn unknown(operator: &str, place: &Place<'_>) -> FilterError {
    FilterError::UnknownOperator { operator: shown(operator), place: place.to_string() }
}
