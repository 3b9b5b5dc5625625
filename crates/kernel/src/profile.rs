//! Profiles fill the choices of a question as another product would, so that its answers can be reconciled.

use std::fmt;

use crate::{
    plan::LONGEST_MS,
    question::{BreakDown, ExclusionEffect, Reentry, Tie},
};

const DAY_MS: i64 = 86_400_000;

/// Whose defaults fill the choices that a caller left open (SEMANTICS.md §2, table of profiles).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Profile {
    /// The defaults of this product.
    #[default]
    Runnel,
    /// PostHog.
    Posthog,
    /// Mixpanel.
    Mixpanel,
    /// Amplitude.
    Amplitude,
    /// Google Analytics 4.
    Ga4,
    /// ClickHouse's `windowFunnel`.
    Clickhouse,
}

/// By which value units are broken down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueOf {
    /// A unit has one value, under which all of it counts.
    Unit(BreakDown),
    /// Each step of a unit counts under the value at that step, so that a row is not a set of units.
    EachStep,
}

/// The choices that a caller made; `None` is left to the profile.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choices {
    /// Total window in milliseconds.
    pub window_ms: Option<i64>,
    /// Which entries may begin the chain that counts.
    pub reentry: Option<Reentry>,
    /// How steps at the same instant relate.
    pub tie: Option<Tie>,
    /// Tolerance for steps out of order, in milliseconds.
    pub grace_ms: Option<i64>,
    /// Whether one event may serve several steps.
    pub reuse: Option<bool>,
    /// What becomes of a tainted unit.
    pub exclusion_effect: Option<ExclusionEffect>,
    /// Whether later steps may lie at or after the end of the range.
    pub steps_until: Option<bool>,
    /// The value that units are broken down by, if they are.
    pub break_down: Option<ValueOf>,
}

/// Every choice made, by the caller or by the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// Total window in milliseconds.
    pub window_ms: i64,
    /// Which entries may begin the chain that counts.
    pub reentry: Reentry,
    /// How steps at the same instant relate.
    pub tie: Tie,
    /// Tolerance for steps out of order, in milliseconds; 0 is off.
    pub grace_ms: i64,
    /// What instants are rounded down to, in milliseconds; 1 leaves them as they are.
    pub grain_ms: i64,
    /// Whether one event may serve several steps.
    pub reuse: bool,
    /// What becomes of a tainted unit.
    pub exclusion_effect: ExclusionEffect,
    /// Whether later steps may lie at or after the end of the range.
    pub steps_until: bool,
    /// The value that units are broken down by, if they are.
    pub break_down: ValueOf,
}

/// The profile has no default window and none was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowMissing {
    /// The profile.
    pub profile: Profile,
}

impl fmt::Display for WindowMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "profile {:?} has no default window: one must be given", self.profile)
    }
}

impl std::error::Error for WindowMissing {}

impl Profile {
    /// All profiles.
    pub const ALL: [Self; 6] =
        [Self::Runnel, Self::Posthog, Self::Mixpanel, Self::Amplitude, Self::Ga4, Self::Clickhouse];

    /// Fills what the caller left open. Refuses only a missing window where the profile has no default.
    ///
    /// A caller who asks the Mixpanel profile for [`Tie::StrictlyAfter`] and leaves grace open gets no grace,
    /// because the two contradict each other.
    pub fn resolve(self, choices: &Choices) -> Result<Resolved, WindowMissing> {
        let window_ms = match self {
            Self::Runnel | Self::Mixpanel => Some(7 * DAY_MS),
            Self::Posthog => Some(14 * DAY_MS),
            Self::Amplitude => Some(DAY_MS),
            // It has none; this is as long as any may be.
            Self::Ga4 => Some(LONGEST_MS),
            Self::Clickhouse => None,
        };
        let reentry = if self == Self::Mixpanel { Reentry::FirstEntry } else { Reentry::BestChain };
        let tie = choices.tie.unwrap_or(Tie::FavourOrder);
        let grace_ms = if self == Self::Mixpanel && tie == Tie::FavourOrder { 2_000 } else { 0 };
        let exclusion_effect =
            if self == Self::Posthog { ExclusionEffect::RemoveVisitor } else { ExclusionEffect::DropAtStep };
        let break_down = match self {
            Self::Runnel | Self::Amplitude | Self::Clickhouse => ValueOf::Unit(BreakDown::AtStep(0)),
            Self::Posthog => ValueOf::Unit(BreakDown::FirstTouch),
            Self::Mixpanel => ValueOf::Unit(BreakDown::FirstDefined),
            Self::Ga4 => ValueOf::EachStep,
        };
        Ok(Resolved {
            window_ms: choices.window_ms.or(window_ms).ok_or(WindowMissing { profile: self })?,
            reentry: choices.reentry.unwrap_or(reentry),
            tie,
            grace_ms: choices.grace_ms.unwrap_or(grace_ms),
            grain_ms: if self == Self::Amplitude { 1_000 } else { 1 },
            reuse: choices.reuse.unwrap_or(self == Self::Clickhouse),
            exclusion_effect: choices.exclusion_effect.unwrap_or(exclusion_effect),
            steps_until: choices
                .steps_until
                .unwrap_or(matches!(self, Self::Runnel | Self::Mixpanel | Self::Amplitude)),
            break_down: choices.break_down.unwrap_or(break_down),
        })
    }
}
