//! Why a question is refused.

use std::fmt;

/// A question that is over a limit or not defined. Step, exclusion and group numbers are 0-based; its
/// text counts from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanError {
    /// The number of steps is not within 2..=32.
    Steps {
        /// The number asked for.
        value: usize,
    },
    /// More than 16 exclusions.
    Exclusions {
        /// The number asked for.
        value: usize,
    },
    /// A duration is negative or longer than 366 days; a trend bucket is shorter than 1 ms.
    Duration {
        /// Which duration.
        of: &'static str,
        /// Its value in milliseconds.
        value_ms: i64,
    },
    /// `from_ms` is after `until_ms`.
    Range {
        /// First instant of the range.
        from_ms: i64,
        /// End of the range.
        until_ms: i64,
    },
    /// A group has fewer than two steps, leaves the funnel, or overlaps another one.
    Group {
        /// The group.
        group: usize,
    },
    /// The first or the last step is optional.
    OptionalAtEnd {
        /// The step.
        step: usize,
    },
    /// An optional step has a direct or timed edge of its own, or lies inside an any-order group.
    OptionalConstrained {
        /// The step.
        step: usize,
    },
    /// A direct step follows an optional one: it is not defined which events lie between.
    DirectAfterOptional {
        /// The direct step.
        step: usize,
    },
    /// A step inside an any-order group has a direct or timed edge: it has no previous step.
    EdgeInGroup {
        /// The step.
        step: usize,
    },
    /// An event could serve a step inside an any-order group and one outside it.
    SharedWithGroup {
        /// The step inside.
        inside: usize,
        /// The step outside.
        outside: usize,
    },
    /// An exclusion does not run from a step to a later one.
    ExclusionSteps {
        /// The exclusion.
        exclusion: usize,
    },
    /// An exclusion begins or ends at an optional step, or covers a part of an any-order group.
    ExclusionEndpoint {
        /// The exclusion.
        exclusion: usize,
        /// The step at which it begins or ends.
        step: usize,
    },
    /// Open funnels are not defined together with this choice.
    Open {
        /// The choice.
        with: OpenWith,
    },
    /// Units per held tuple without anything held.
    HeldWithoutHold,
    /// Attempts with something held: whether attempts of two tuples overlap is not defined.
    EntryWithHold,
    /// Grace inside a funnel with any-order groups.
    GraceWithGroups,
    /// Grace and strict order contradict each other.
    GraceWithStrictlyAfter,
    /// Attempts with grace: an attempt could end before the last of its own events.
    GraceWithEntry,
    /// The break-down names a step that the funnel does not have.
    BreakDownStep {
        /// The step asked for.
        step: usize,
    },
}

/// A choice that excludes an open funnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenWith {
    /// Any-order groups.
    Groups,
    /// Optional steps.
    OptionalSteps,
    /// Attempts as units.
    EntryUnit,
    /// Grace.
    Grace,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps { value } => write!(f, "a funnel has 2 to 32 steps, not {value}"),
            Self::Exclusions { value } => write!(f, "a funnel has at most 16 exclusions, not {value}"),
            Self::Duration { of, value_ms } => {
                write!(
                    f,
                    "{of} must be within 0 ms (1 ms for a trend bucket) and 366 days, not {value_ms} ms"
                )
            }
            Self::Range { from_ms, until_ms } => {
                write!(f, "the range begins at {from_ms} ms, after its end at {until_ms} ms")
            }
            Self::Group { group } => {
                write!(
                    f,
                    "any-order group {} overlaps another, leaves the funnel, or has fewer than two steps",
                    group + 1
                )
            }
            Self::OptionalAtEnd { step } => {
                write!(f, "step {} is the first or the last one and cannot be optional", step + 1)
            }
            Self::OptionalConstrained { step } => {
                write!(
                    f,
                    "optional step {} can be neither direct nor timed nor inside an any-order group",
                    step + 1
                )
            }
            Self::DirectAfterOptional { step } => {
                write!(f, "step {} is direct but follows an optional step", step + 1)
            }
            Self::EdgeInGroup { step } => {
                write!(
                    f,
                    "step {} is inside an any-order group and can be neither direct nor timed",
                    step + 1
                )
            }
            Self::SharedWithGroup { inside, outside } => {
                write!(
                    f,
                    "an event could serve step {} inside an any-order group and step {} outside it",
                    inside + 1,
                    outside + 1
                )
            }
            Self::ExclusionSteps { exclusion } => {
                write!(f, "exclusion {} must run from a step of the funnel to a later one", exclusion + 1)
            }
            Self::ExclusionEndpoint { exclusion, step } => {
                write!(
                    f,
                    "exclusion {} cannot begin or end at step {}, which is optional or inside a group",
                    exclusion + 1,
                    step + 1
                )
            }
            Self::Open { with } => write!(f, "an open funnel cannot have {with}"),
            Self::HeldWithoutHold => f.write_str("units per held tuple need held properties"),
            Self::EntryWithHold => f.write_str("attempts cannot be counted with held properties"),
            Self::GraceWithGroups => f.write_str("grace is not defined with any-order groups"),
            Self::GraceWithStrictlyAfter => f.write_str("grace contradicts strictly increasing times"),
            Self::GraceWithEntry => f.write_str("attempts cannot be counted with grace"),
            Self::BreakDownStep { step } => {
                write!(f, "the break-down names step {}, which the funnel lacks", step + 1)
            }
        }
    }
}

impl std::error::Error for PlanError {}

impl fmt::Display for OpenWith {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Groups => "any-order groups",
            Self::OptionalSteps => "optional steps",
            Self::EntryUnit => "attempts as units",
            Self::Grace => "grace",
        })
    }
}
