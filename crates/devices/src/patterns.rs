//! Texts to look for in a header, all of them in one pass.

use crate::{fault::Fault, limits};

/// Chains of patterns are found by this many values of their first two bytes.
const BUCKETS: usize = 1024;
/// The end of a chain.
const NONE: u16 = u16::MAX;

/// A text to look for, and where it may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// The text, in lower case.
    pub(crate) text: &'static str,
    /// What must stand before it.
    pub(crate) before: Before,
    /// Whether a letter of ASCII behind it rules it out.
    pub(crate) ends_word: bool,
}

/// What must stand before a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// Anything.
    Any,
    /// No letter of ASCII.
    NoLetter,
    /// Nothing at all.
    Nothing,
}

impl Pattern {
    fn stands_at(&self, text: &[u8], at: usize) -> bool {
        let Some((before, from)) = text.split_at_checked(at) else { return false };
        let Some(behind) = from.strip_prefix(self.text.as_bytes()) else { return false };
        let free = match self.before {
            Before::Any => true,
            Before::NoLetter => !before.last().is_some_and(u8::is_ascii_alphabetic),
            Before::Nothing => before.is_empty(),
        };
        free && !(self.ends_word && behind.first().is_some_and(u8::is_ascii_alphabetic))
    }
}

/// Numbered patterns. Each is there once.
#[derive(Debug, Clone)]
pub(crate) struct Patterns {
    /// Each with the number of the next one in its chain, which is always a lower one.
    list: Vec<(Pattern, u16)>,
    /// The number of the first pattern of each chain.
    heads: Box<[u16; BUCKETS]>,
}

impl Patterns {
    pub(crate) fn new() -> Self {
        Self { list: Vec::new(), heads: Box::new([NONE; BUCKETS]) }
    }

    /// The number of a pattern, which is added when it is new. It has [`limits::PATTERN_BYTES`] or more.
    pub(crate) fn number_of(&mut self, pattern: Pattern) -> Result<u16, Fault> {
        if let Some(number) = self.list.iter().position(|(known, _)| *known == pattern) {
            return Ok(u16::try_from(number).unwrap_or(NONE));
        }
        Fault::over("patterns", limits::PATTERNS, self.list.len() + 1)?;
        let number = u16::try_from(self.list.len()).unwrap_or(NONE);
        if let [first, second, ..] = *pattern.text.as_bytes()
            && let Some(head) = self.heads.get_mut(bucket(first, second))
        {
            self.list.push((pattern, *head));
            *head = number;
        }
        Ok(number)
    }

    /// The patterns that stand somewhere in a text in lower case.
    pub(crate) fn found_in(&self, text: &[u8]) -> Set {
        let mut found = Set::default();
        for (at, pair) in text.windows(2).enumerate() {
            let &[first, second] = pair else { continue };
            let mut number = self.heads.get(bucket(first, second)).copied().unwrap_or(NONE);
            while let Some((pattern, next)) = self.list.get(usize::from(number)) {
                if pattern.stands_at(text, at) {
                    found.add(number);
                }
                number = *next;
            }
        }
        found
    }

    /// Every pattern with its number.
    #[cfg(test)]
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (u16, Pattern)> {
        (0..).zip(self.list.iter().map(|(pattern, _)| *pattern))
    }
}

/// The low five bits of a letter are its own, so that most chains hold one pair of letters.
fn bucket(first: u8, second: u8) -> usize {
    ((usize::from(first) << 5) ^ usize::from(second)) % BUCKETS
}

/// A set of patterns, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Set([u64; limits::PATTERNS / 64]);

impl Set {
    pub(crate) fn add(&mut self, number: u16) {
        if let Some(word) = self.0.get_mut(usize::from(number / 64)) {
            *word |= 1 << (number % 64);
        }
    }

    /// Whether some pattern is in both.
    pub(crate) fn meets(&self, other: &Set) -> bool {
        // All words without a branch between them: several times as fast as stopping at the first.
        self.0.iter().zip(&other.0).fold(0, |both, (one, another)| both | (one & another)) != 0
    }

    /// The set of one pattern.
    #[cfg(test)]
    pub(crate) fn of(number: u16) -> Self {
        let mut set = Self::default();
        set.add(number);
        set
    }
}
