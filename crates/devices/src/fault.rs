//! Why rules are refused.

use crate::limits;

/// Rules that are refused: where, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct RulesError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Over a limit of [`crate::limits`].
    #[error("{value} {of}, at most {most} are allowed")]
    Limit {
        /// What is limited.
        of: &'static str,
        /// The limit.
        most: usize,
        /// What was given.
        value: usize,
    },
    /// The line does not begin with the name of a table.
    #[error("{0:?} is no table; there are kind, os and browser")]
    Table(String),
    /// There is no colon behind the name, or no name.
    #[error("a rule is: table, name, colon, conditions")]
    Shape,
    /// Not a kind of device.
    #[error("there is no kind {0:?}")]
    Kind(String),
    /// A pattern that is too short, is not in lower case, or has a mark where none may be.
    #[error("{0:?} is no pattern: ASCII in lower case, {least} bytes or more", least = limits::PATTERN_BYTES)]
    Pattern(String),
}

impl Fault {
    /// Refuses more of something than there may be.
    pub(crate) fn over(of: &'static str, most: usize, value: usize) -> Result<(), Fault> {
        if value > most { Err(Fault::Limit { of, most, value }) } else { Ok(()) }
    }
}

/// As much of a text as belongs into a message.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
