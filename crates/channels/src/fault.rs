//! Why rules are refused.

use std::fmt;

/// Rules that are refused: where, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place} {at}: {fault}")]
pub struct RulesError {
    /// What `at` counts.
    pub place: Place,
    /// Which one, from 1.
    pub at: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What the place of a fault counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Lines of a text.
    Line,
    /// Rules of a list.
    Rule,
    /// Hosts of a list.
    Host,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Line => "line",
            Self::Rule => "rule",
            Self::Host => "host",
        })
    }
}

/// What is wrong with a rule or a statement.
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
    /// The line does not begin with the name of a statement.
    #[error("{0:?} is no statement; there are channel, set, hosts, medium, click and blank")]
    Statement(String),
    /// Something that the statement needs is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A name is empty, or has a control character.
    #[error("{0:?} is no name")]
    Name(String),
    /// No such field.
    #[error("there is no field {0:?}")]
    Field(String),
    /// A named set that was not defined before.
    #[error("there is no set {0:?} before this line")]
    Set(String),
    /// A category that no hosts have.
    #[error("there are no hosts of the category {0:?} before this")]
    Category(String),
    /// A click identifier that is not known.
    #[error("there is no click identifier {0:?} before this")]
    Click(String),
    /// A quotation mark without its partner, or text beside a quotation.
    #[error("a quotation must be a whole value: {0:?}")]
    Quote(String),
    /// An asterisk elsewhere than at the ends, or nothing beside it.
    #[error("an asterisk stands before or after a text only: {0:?}")]
    Asterisk(String),
    /// Not the name of a host.
    #[error("{0:?} is no host")]
    Host(String),
    /// A host or click identifier that already means something else.
    #[error("{0:?} already stands for something else")]
    Taken(String),
}

impl Fault {
    pub(crate) fn at(self, place: Place, at: usize) -> RulesError {
        RulesError { place, at, fault: self }
    }

    /// Refuses more of something than there may be.
    pub(crate) fn over(of: &'static str, most: usize, value: usize) -> Result<(), Fault> {
        if value > most { Err(Fault::Limit { of, most, value }) } else { Ok(()) }
    }
}

/// As much of a text as belongs into a message.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
