//! Rules, and what they decide.

use crate::{
    Device, Kind, RulesError, limits,
    patterns::{Patterns, Set},
};

#[cfg(test)]
mod tests;

/// Rules that are checked and ready to classify. Cloning copies them; share them in an
/// [`Arc`](std::sync::Arc).
#[derive(Debug, Clone)]
pub struct Rules {
    pub(crate) patterns: Patterns,
    pub(crate) kinds: Vec<Rule<Kind>>,
    pub(crate) systems: Vec<Rule<&'static str>>,
    pub(crate) browsers: Vec<Rule<&'static str>>,
}

/// A rule: what is so when every condition holds.
#[derive(Debug, Clone)]
pub(crate) struct Rule<T> {
    pub(crate) answer: T,
    pub(crate) all_of: Vec<Condition>,
}

/// A condition: that some of the patterns stand in the header, or when negated, that none of them does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Condition {
    pub(crate) negated: bool,
    pub(crate) any_of: Set,
}

impl Rules {
    /// The rules of `rules/*.txt`. Reading them takes a fraction of a millisecond: read them once and share
    /// them.
    ///
    /// # Errors
    /// Never, as a test proves; what reads rules can refuse them.
    pub fn standard() -> Result<Rules, RulesError> {
        Rules::empty()
            .read(include_str!("../rules/bots.txt"))?
            .read(include_str!("../rules/kinds.txt"))?
            .read(include_str!("../rules/systems.txt"))?
            .read(include_str!("../rules/browsers.txt"))
    }

    pub(crate) fn empty() -> Rules {
        Rules { patterns: Patterns::new(), kinds: Vec::new(), systems: Vec::new(), browsers: Vec::new() }
    }

    /// What a `User-Agent` header says; absent is empty. Any text is allowed.
    ///
    /// Only the first [`limits::USER_AGENT_BYTES`] are looked at. The case of letters does not matter. The
    /// three answers are found one by one, except that a bot has neither a system nor a browser: those that
    /// it names say which pages it asks for, and would count as visitors' wherever bots are not left out.
    #[must_use]
    pub fn classify(&self, user_agent: &str) -> Device {
        let found = self.found_in(user_agent);
        let kind = first(&self.kinds, &found).unwrap_or_default();
        if kind == Kind::Bot {
            return Device { kind, ..Device::default() };
        }
        let name = |table| first(table, &found).unwrap_or_default();
        Device { kind, os: name(&self.systems), browser: name(&self.browsers) }
    }

    fn found_in(&self, user_agent: &str) -> Set {
        let mut room = [0; limits::USER_AGENT_BYTES];
        let length = user_agent.len().min(room.len());
        let (text, _) = room.split_at_mut(length);
        // Patterns are ASCII, so that a character cut in two does not matter.
        text.copy_from_slice(&user_agent.as_bytes()[..length]);
        text.make_ascii_lowercase();
        self.patterns.found_in(text)
    }
}

/// The answer of the first rule that holds.
fn first<T: Copy>(table: &[Rule<T>], found: &Set) -> Option<T> {
    table.iter().find(|rule| rule.holds(found)).map(|rule| rule.answer)
}

impl<T> Rule<T> {
    fn holds(&self, found: &Set) -> bool {
        self.all_of.iter().all(|condition| condition.holds(found))
    }
}

impl Condition {
    fn holds(&self, found: &Set) -> bool {
        self.any_of.meets(found) != self.negated
    }
}
