//! What a filter asks of a row, free of JSON and of jsonpath's grammar.

use crate::like::Like;
use crate::literal::Literal;

/// A condition on an object, or below [`Condition::Under`] on a value of one.
///
/// Make combinations with [`all`](Self::all), [`any`](Self::any), [`not`](Self::not) and
/// [`under`](Self::under): they fold constants, so that a constant is never a part of anything.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    /// Every row, or none.
    Constant(bool),
    /// All of them hold.
    All(Vec<Condition>),
    /// At least one of them holds.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// It holds for the value that these accessors lead to.
    Under(String, Box<Condition>),
    /// The value itself satisfies a test.
    Value(Test),
}

/// A test of one value. All but [`Test::Exists`] look at the elements of an array instead of the
/// array, and want one that passes; arrays inside it they leave alone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    /// There is a value.
    Exists,
    /// It is equal to one of these, of which there is at least one.
    OneOf(Vec<Literal>),
    /// It has the literal's type and this order to it.
    Order(Order, Literal),
    /// It lies between the literals, both of its type, or is equal to one of them.
    Between(Literal, Literal),
    /// It is a string that matches.
    Like(Like),
    /// It is a string in which this expression finds something.
    Regex(String),
}

/// How a value compares with an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Condition {
    /// All of `parts` hold; every row when there is none.
    pub(crate) fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        Self::combine(parts, true, Self::All)
    }

    /// At least one of `parts` holds; no row when there is none.
    pub(crate) fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        Self::combine(parts, false, Self::Any)
    }

    /// `neutral` is the constant that changes nothing; the other one decides.
    fn combine(
        parts: impl IntoIterator<Item = Self>,
        neutral: bool,
        combination: fn(Vec<Self>) -> Self,
    ) -> Self {
        let mut kept = Vec::new();
        for part in parts {
            match part {
                Self::Constant(value) if value == neutral => {}
                Self::Constant(value) => return Self::Constant(value),
                part => kept.push(part),
            }
        }
        match kept.len() {
            0 => Self::Constant(neutral),
            1 => kept.remove(0),
            _ => combination(kept),
        }
    }

    /// `part` does not hold.
    pub(crate) fn not(part: Self) -> Self {
        match part {
            Self::Constant(value) => Self::Constant(!value),
            Self::Not(part) => *part,
            part => Self::Not(Box::new(part)),
        }
    }

    /// `part` holds for the value that `steps` lead to.
    pub(crate) fn under(steps: String, part: Self) -> Self {
        match part {
            Self::Constant(_) => part,
            part => Self::Under(steps, Box::new(part)),
        }
    }

    /// The value is equal to one of `literals`.
    pub(crate) fn one_of(literals: Vec<Literal>) -> Self {
        if literals.is_empty() {
            return Self::Constant(false);
        }
        Self::Value(Test::OneOf(literals))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_fold() {
        let exists = || Condition::Value(Test::Exists);
        let (every, none) = (|| Condition::Constant(true), || Condition::Constant(false));
        assert_eq!(Condition::all([]), every());
        assert_eq!(Condition::any([]), none());
        assert_eq!(Condition::all([every(), exists()]), exists());
        assert_eq!(Condition::all([exists(), none()]), none());
        assert_eq!(Condition::any([none(), exists()]), exists());
        assert_eq!(Condition::any([exists(), every()]), every());
        assert_eq!(Condition::not(every()), none());
        assert_eq!(Condition::not(Condition::not(exists())), exists());
        assert_eq!(Condition::under(".\"a\"".to_owned(), none()), none());
        assert_eq!(Condition::one_of(Vec::new()), none());
    }
}
