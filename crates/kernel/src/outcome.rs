//! What becomes of one unit, and why a run may be refused.

use std::fmt;

/// The four states of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Every required step is done.
    Converted,
    /// The window of its furthest step is over.
    Dropped,
    /// Its chosen chain was tainted by an exclusion.
    Excluded,
    /// A chain can still pass its furthest step.
    Open,
}

impl State {
    /// All states, in the order of the columns of [`crate::counts::Levels`].
    pub const ALL: [Self; 4] = [Self::Converted, Self::Dropped, Self::Excluded, Self::Open];
}

/// The answer for one unit; summed over all units these are the [`crate::Counts`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitOutcome {
    /// The step at which the chosen chain begins: 0 unless the funnel is open.
    pub entered_step: usize,
    /// Furthest required step reached, as a count of required steps from the start of the funnel.
    pub level: usize,
    /// What has become of the unit.
    pub state: State,
    /// Instant of the chosen entry.
    pub entry_ms: i64,
    /// Instant at which the furthest required step was completed.
    pub completion_ms: i64,
    /// Per step of the question the instant at which the chosen chain did it, optional steps included.
    /// Inside an any-order group the q-th position holds the instant at which the q-th of its steps was done.
    pub step_ms: Vec<Option<i64>>,
    /// Code of the break-down value; 0 is unset.
    pub break_down: u32,
    /// Code of the held tuple of the chosen chain; 0 if a held property is missing or nothing is held.
    pub hold_code: u32,
    /// Position of the session or attempt among the visitor's; 0 for other units. Sessions without an entry count.
    pub ordinal: usize,
    /// Whether an exclusion takes the unit out of every count.
    pub removed: bool,
    /// Instant of the unit's first entry in the range (of the sub-funnel that the chosen chain entered).
    pub first_entry_ms: i64,
    /// Instant at which a chain from the first entry converted.
    pub first_converted_ms: Option<i64>,
}

/// Why a run is refused. Nothing is ever truncated instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunError {
    /// A visitor needs more work than the limit allows. Only questions with grace have such a limit.
    Cost {
        /// Index of the visitor in the slice.
        visitor: usize,
        /// The limit, in looks at an event.
        limit: u64,
    },
    /// A column that the question needs is missing or too short.
    Column {
        /// Name of the column.
        column: &'static str,
        /// Its length, in elements (in columns for `predicates`), 0 if it is missing.
        got: usize,
        /// The least length that it must have.
        want: usize,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cost { visitor, limit } => {
                write!(f, "with grace, visitor {visitor} needs a look at more than {limit} events")
            }
            Self::Column { column, got, want } => {
                write!(f, "column {column} has {got} elements where {want} are needed")
            }
        }
    }
}

impl std::error::Error for RunError {}
