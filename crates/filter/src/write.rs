//! A condition as a jsonpath.

use crate::condition::{Condition, Order, Test};
use crate::like::Like;
use crate::literal::{Literal, quote};
use crate::{FilterError, MAX_PATH_BYTES, MAX_VALUES};

/// Operands joined side by side. More are split in halves, because PostgreSQL goes as deep into
/// recursion as a chain is long.
const JOINED: usize = 16;

/// The path of a condition; `None` when every row fulfils it.
pub(crate) fn jsonpath(condition: &Condition) -> Result<Option<String>, FilterError> {
    let mut writer = Writer { text: String::new(), value: "@".to_owned(), values: 0 };
    match condition {
        Condition::Constant(true) => return Ok(None),
        Condition::Constant(false) => writer.text.push_str("$ ? (1 == 0)"),
        condition => {
            writer.text.push_str("$ ? (");
            writer.condition(condition, true)?;
            writer.text.push(')');
        }
    }
    Ok(Some(writer.text))
}

struct Writer {
    text: String,
    /// The path from the row's object to the value in question.
    value: String,
    /// Values compared with so far.
    values: usize,
}

type Written = Result<(), FilterError>;

impl Writer {
    /// Writes the condition, or what is true exactly where it is not. Negations stop at the tests.
    fn condition(&mut self, condition: &Condition, holds: bool) -> Written {
        match condition {
            Condition::Constant(_) => unreachable!("constants are folded"),
            Condition::All(parts) => self.combination(parts, holds, holds),
            Condition::Any(parts) => self.combination(parts, !holds, holds),
            Condition::Not(part) => self.condition(part, !holds),
            Condition::Under(steps, part) => {
                let length = self.value.len();
                self.value.push_str(steps);
                let written = self.condition(part, holds);
                self.value.truncate(length);
                written
            }
            Condition::Value(test) => self.test(test, holds),
        }
    }

    /// Writes parts of which all must hold, or (`all` false) one. Each is in parentheses when it is
    /// a combination of its own.
    fn combination(&mut self, parts: &[Condition], all: bool, holds: bool) -> Written {
        self.joined(parts, if all { " && " } else { " || " }, &mut |writer, part| {
            let combined = part.is_combination();
            if combined {
                writer.text.push('(');
            }
            writer.condition(part, holds)?;
            if combined {
                writer.text.push(')');
            }
            Ok(())
        })
    }

    /// Writes items with `between` between them.
    fn joined<T>(
        &mut self,
        items: &[T],
        between: &str,
        write: &mut impl FnMut(&mut Self, &T) -> Written,
    ) -> Written {
        if items.len() > JOINED {
            let (left, right) = items.split_at(items.len() / 2);
            self.text.push('(');
            self.joined(left, between, write)?;
            self.text.push(')');
            self.text.push_str(between);
            self.text.push('(');
            self.joined(right, between, write)?;
            self.text.push(')');
            return Ok(());
        }
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.text.push_str(between);
            }
            write(self, item)?;
        }
        Ok(())
    }

    /// Writes a test of the value, or its exact complement.
    fn test(&mut self, test: &Test, holds: bool) -> Written {
        self.values += match test {
            Test::OneOf(literals) => literals.len(),
            _ => 1,
        };
        if self.values > MAX_VALUES {
            return Err(FilterError::TooManyValues);
        }
        match test {
            Test::OneOf(literals) if literals.len() > 1 => {
                self.element(holds, "!= \"array\"", |writer| {
                    writer.text.push('(');
                    writer.joined(literals, " || ", &mut |writer, literal: &Literal| {
                        writer.push(&["@ == ", &literal.text])
                    })?;
                    writer.push(&[")"])
                })
            }
            Test::Between(low, high) => {
                self.element(holds, &format!("== \"{}\"", low.kind), |writer| {
                    writer.push(&["@ >= ", &low.text, " && @ <= ", &high.text])
                })
            }
            // `exists` is never unknown.
            Test::Exists => self.around_value(&[not(holds), "exists("], &[")"]),
            test if holds => self.around_value(&[], &[" ", &comparison(test)]),
            test => self.around_value(&["!exists(@ ? ("], &[" ", &comparison(test), "))"]),
        }
    }

    /// Writes that the value, or an element of it when it is an array, passes a test that names it
    /// more than once; or the complement. A filter looks into arrays once more than a comparison
    /// does: the guard on the type keeps arrays inside the array out.
    fn element(
        &mut self,
        holds: bool,
        guard: &str,
        test: impl FnOnce(&mut Self) -> Written,
    ) -> Written {
        self.around_value(&[not(holds), "exists("], &[" ? (@.type() ", guard, " && "])?;
        test(self)?;
        self.push(&["))"])
    }

    /// Appends the path to the value, with texts before and after it.
    fn around_value(&mut self, before: &[&str], after: &[&str]) -> Written {
        self.push(before)?;
        self.text.push_str(&self.value);
        self.push(after)
    }

    /// Appends text, within the limit.
    fn push(&mut self, parts: &[&str]) -> Written {
        for part in parts {
            self.text.push_str(part);
        }
        if self.text.len() > MAX_PATH_BYTES {
            return Err(FilterError::TooComplex);
        }
        Ok(())
    }
}

fn not(holds: bool) -> &'static str {
    if holds { "" } else { "!" }
}

/// The right side of a test that names the value once: jsonpath looks into an array by itself.
fn comparison(test: &Test) -> String {
    let equal = |literal: &str| format!("== {literal}");
    match test {
        Test::OneOf(literals) => equal(&literals[0].text),
        Test::Order(order, literal) => format!("{} {}", order.symbol(), literal.text),
        Test::Like(Like::Exact(text)) => equal(&quote(text)),
        Test::Like(Like::Prefix(text)) => format!("starts with {}", quote(text)),
        Test::Like(Like::Regex(regex)) => format!("like_regex {} flag \"s\"", quote(regex)),
        Test::Regex(regex) => format!("like_regex {}", quote(regex)),
        Test::Exists | Test::Between(..) => unreachable!("written otherwise"),
    }
}

impl Order {
    fn symbol(self) -> &'static str {
        match self {
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
        }
    }
}

impl Condition {
    /// Whether it is written with an operator between parts.
    fn is_combination(&self) -> bool {
        match self {
            Self::All(_) | Self::Any(_) => true,
            Self::Not(part) | Self::Under(_, part) => part.is_combination(),
            Self::Constant(_) | Self::Value(_) => false,
        }
    }
}
