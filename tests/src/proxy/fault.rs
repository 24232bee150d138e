//! What a proxy does wrong, and to which requests.

use std::collections::HashSet;
use std::time::Duration;

use fastrand::Rng;

/// What happens to a request.
///
/// The three effects on bodies leave an answer alone that has none, or that reports an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// `500 InternalError`.
    InternalError,
    /// `503 SlowDown`, with the seconds of a `Retry-After` header if there is to be one.
    SlowDown(Option<u32>),
    /// `403 ExpiredToken`.
    Expired,
    /// `404 NoSuchKey`.
    Missing,
    /// The connection is reset instead of an answer.
    Reset,
    /// The whole length is announced, half of the body is sent, and the connection ends.
    HalfBody,
    /// The body is as long as it should be, and some of its bytes are others.
    WrongBody,
    /// The body is the first half of what was asked for, and the headers say so, as if the object
    /// ended there.
    ShortBody,
    /// The request is taken and nothing comes back before the proxy is healed.
    Stall,
    /// The answer comes so much later.
    Late(Duration),
}

/// Which of the matching requests are hit.
#[derive(Clone, Debug)]
enum When {
    Always,
    First(u64),
    Every(u64),
    Once(HashSet<String>),
    Chance(f64, Rng),
}

/// An effect and the requests that have it.
#[derive(Clone, Debug)]
pub struct Fault {
    effect: Effect,
    method: Option<&'static str>,
    path: String,
    when: When,
    matched: u64,
}

impl Fault {
    /// The effect on every request.
    pub fn new(effect: Effect) -> Self {
        Self { effect, method: None, path: String::new(), when: When::Always, matched: 0 }
    }

    /// Only requests with this method.
    #[must_use]
    pub fn method(mut self, method: &'static str) -> Self {
        self.method = Some(method);
        self
    }

    /// Only requests whose path and query contain `text`.
    #[must_use]
    pub fn path(mut self, text: &str) -> Self {
        text.clone_into(&mut self.path);
        self
    }

    /// Only the first `count` matching requests.
    #[must_use]
    pub fn first(mut self, count: u64) -> Self {
        self.when = When::First(count);
        self
    }

    /// Only every `period`th matching request: that one, and not those before it.
    #[must_use]
    pub fn every(mut self, period: u64) -> Self {
        self.when = When::Every(period);
        self
    }

    /// Only the first of the matching requests for the same bytes of the same object: asked again, they
    /// are delivered, however many others are asked for in between.
    #[must_use]
    pub fn once_each(mut self) -> Self {
        self.when = When::Once(HashSet::new());
        self
    }

    /// Every matching request with this probability; the same seed makes the same choices.
    #[must_use]
    pub fn chance(mut self, probability: f64, seed: u64) -> Self {
        self.when = When::Chance(probability, Rng::with_seed(seed));
        self
    }

    /// The effect on a request for a range of an object, if it has one; counts those that match.
    pub(super) fn strike(&mut self, method: &str, path: &str, range: &str) -> Option<Effect> {
        if self.method.is_some_and(|wanted| wanted != method) || !path.contains(&self.path) {
            return None;
        }
        self.matched += 1;
        let hit = match &mut self.when {
            When::Always => true,
            When::First(count) => self.matched <= *count,
            When::Every(period) => self.matched.is_multiple_of(*period),
            When::Once(seen) => seen.insert(format!("{method} {path} {range}")),
            When::Chance(probability, rng) => rng.f64() < *probability,
        };
        hit.then_some(self.effect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(mut fault: Fault, requests: usize) -> Vec<usize> {
        (1..=requests).filter(|_| fault.strike("GET", "/bucket/a", "").is_some()).collect()
    }

    #[test]
    fn requests_are_picked_by_what_they_ask_for() {
        let mut fault = Fault::new(Effect::Reset).method("GET").path("/a?");
        assert_eq!(fault.strike("GET", "/a?b", ""), Some(Effect::Reset));
        assert_eq!(fault.strike("PUT", "/a?b", ""), None);
        assert_eq!(fault.strike("GET", "/b", ""), None);
    }

    #[test]
    fn requests_are_picked_by_their_number() {
        assert_eq!(hits(Fault::new(Effect::Reset), 3), [1, 2, 3]);
        assert_eq!(hits(Fault::new(Effect::Reset).first(2), 5), [1, 2]);
        assert_eq!(hits(Fault::new(Effect::Reset).every(3), 7), [3, 6]);
    }

    #[test]
    fn requests_are_picked_once_each() {
        let mut fault = Fault::new(Effect::Reset).once_each();
        let mut hit = |range| fault.strike("GET", "/a", range).is_some();
        assert_eq!([hit("0-9"), hit("10-19"), hit("0-9"), hit("0-19")], [true, true, false, true]);
    }

    #[test]
    fn requests_are_picked_by_chance() {
        let fault = || Fault::new(Effect::Reset).chance(0.25, 7);
        let hit = hits(fault(), 1000);
        assert!((180..320).contains(&hit.len()), "{} of 1000", hit.len());
        assert_eq!(hit, hits(fault(), 1000));
    }
}
