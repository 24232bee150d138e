//! Where in a filter something is, for messages and for the limit of depth.

use std::fmt;

/// Longest part of a key that a message shows, in characters.
const SHOWN: usize = 64;

/// A place in a filter: a list from the inside out that lives on the stack of the parser.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
    depth: usize,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    /// The filter itself.
    Root,
    /// A key or an operator of an object, as written.
    Key(&'a str),
    /// An element of an array.
    Element(usize),
}

impl<'a> Place<'a> {
    /// The whole filter.
    pub(crate) const ROOT: Place<'static> = Place { parent: None, step: Step::Root, depth: 0 };

    /// The value at `key`, which leads `levels` levels down.
    pub(crate) fn key(&'a self, key: &'a str, levels: usize) -> Self {
        Self { parent: Some(self), step: Step::Key(key), depth: self.depth + levels }
    }

    /// The element `index` of an array, from 0.
    pub(crate) fn element(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Element(index), depth: self.depth + 1 }
    }

    /// Levels from the filter to here.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }
}

/// Such as `$or[1].year.$gt`; empty for the whole filter.
impl fmt::Display for Place<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(out)?;
            if matches!((parent.step, self.step), (Step::Key(_) | Step::Element(_), Step::Key(_))) {
                out.write_str(".")?;
            }
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Key(key) => out.write_str(&shown(key)),
            Step::Element(index) => write!(out, "[{index}]"),
        }
    }
}

/// A key or an operator as a message shows it: not much longer than the message.
pub(crate) fn shown(key: &str) -> String {
    match key.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &key[..end]),
        None => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_a_path() {
        let or = Place::ROOT.key("$or", 1);
        let element = or.element(1);
        let key = element.key("a.b", 2);
        let place = key.key("$gt", 1);
        assert_eq!(place.to_string(), "$or[1].a.b.$gt");
        assert_eq!(place.depth(), 5);
        assert_eq!(Place::ROOT.to_string(), "");
    }

    #[test]
    fn long_keys_are_cut() {
        let key = "é".repeat(1000);
        let place = Place::ROOT.key(&key, 1);
        assert_eq!(place.to_string(), format!("{}…", "é".repeat(64)));
    }
}
