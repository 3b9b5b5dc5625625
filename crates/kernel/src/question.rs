//! What may be asked: every choice of a funnel question, as plain data.
//!
//! A question is only a description; [`crate::Plan::new`] decides whether it is defined. Step indexes are
//! 0-based everywhere in this crate; instants and durations are milliseconds.

use std::ops::Range;

/// One funnel question over the journeys of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The steps in order, 2 to 32 of them.
    pub steps: Vec<Step>,
    /// Total window from the chosen entry, inclusive, 0 to 366 days.
    pub window_ms: i64,
    /// Which entries may begin the chain that counts.
    pub reentry: Reentry,
    /// Ranges of steps whose order does not matter; disjoint, each of at least two steps.
    pub groups: Vec<Range<usize>>,
    /// How steps at the same instant relate.
    pub tie: Tie,
    /// How far a step may lie *before* the previous one and still follow it; 0 is off.
    pub grace_ms: i64,
    /// Instants count as the beginning of the grain they lie in, grains being counted from the Unix epoch: 1 leaves them as they
    /// are. Sessions, and whether an event exists, are told from the instants themselves.
    pub grain_ms: i64,
    /// Whether one event may serve several steps of a chain.
    pub reuse: bool,
    /// Events that taint a chain when they occur between two of its steps; at most 16.
    pub exclusions: Vec<Exclusion>,
    /// What becomes of a unit whose chosen chain is tainted.
    pub exclusion_effect: ExclusionEffect,
    /// What is counted.
    pub unit: Unit,
    /// Whether a chain must carry one held tuple throughout; `Columns::hold` must then be given.
    pub hold: bool,
    /// Whether a chain may begin at any step.
    pub open: bool,
    /// First instant at which an entry counts.
    pub from_ms: i64,
    /// Entries at or after this instant do not count.
    pub until_ms: i64,
    /// Events before this instant exist; nothing else does.
    pub as_of_ms: i64,
    /// Whether later steps may lie at or after `until_ms`. If not, such events are invisible.
    pub steps_until: bool,
    /// The value that units are broken down by; `Columns::break_down` must then be given.
    pub break_down: Option<BreakDown>,
    /// Buckets of the entry time.
    pub trend: Option<Trend>,
    /// Whether the histograms of the time from step to step are wanted.
    pub step_times: bool,
}

impl Question {
    /// The plain question: ordered `steps` within `window_ms`, every choice at its default, over
    /// entries in `[from_ms, until_ms)` as known at `as_of_ms`.
    pub fn new(steps: Vec<Step>, window_ms: i64, from_ms: i64, until_ms: i64, as_of_ms: i64) -> Self {
        Self {
            steps,
            window_ms,
            reentry: Reentry::BestChain,
            groups: Vec::new(),
            tie: Tie::FavourOrder,
            grace_ms: 0,
            grain_ms: 1,
            reuse: false,
            exclusions: Vec::new(),
            exclusion_effect: ExclusionEffect::DropAtStep,
            unit: Unit::Visitor,
            hold: false,
            open: false,
            from_ms,
            until_ms,
            as_of_ms,
            steps_until: true,
            break_down: None,
            trend: None,
            step_times: true,
        }
    }
}

impl Question {
    /// An instant as the question reads it.
    #[must_use]
    pub fn read(&self, time_ms: i64) -> i64 {
        if self.grain_ms == 1 { time_ms } else { time_ms.div_euclid(self.grain_ms) * self.grain_ms }
    }
}

/// One step of a funnel and the conditions on the edge that leads into it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Which events match the step.
    pub rule: Rule,
    /// Whether chains may leave the step out; never the first or the last step. It is done if, between the instants of
    /// the required steps around it, an event is left for it when all other steps of that instant have theirs.
    pub optional: bool,
    /// Whether no event of the direct scope may lie strictly between the previous step and this one.
    /// Without meaning, and ignored, on the first step.
    pub direct: bool,
    /// Longest time since the previous step, inclusive. Ignored on the first step.
    pub max_ms: Option<i64>,
    /// Whether only the first such event of the visitor, over the whole history before `as_of_ms`, matches.
    pub first_ever: bool,
}

impl Step {
    /// A step that every event of `kind` matches.
    pub fn of_kind(kind: u16) -> Self {
        Self { rule: Rule::of_kind(kind), ..Self::default() }
    }
}

/// A condition on one event: it holds if any [`Match`] does. An empty rule matches nothing, which is
/// how a name that never occurred is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// The alternatives.
    pub any_of: Vec<Match>,
}

impl Rule {
    /// The rule that every event of `kind` satisfies.
    pub fn of_kind(kind: u16) -> Self {
        Self { any_of: vec![Match { kind: Some(kind), predicate: None }] }
    }
}

/// One alternative of a [`Rule`]; both parts must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Code of the event name; `None` is any event.
    pub kind: Option<u16>,
    /// Index of a bit column in `Columns::predicates` whose bit must be set.
    pub predicate: Option<u16>,
}

/// Which entries may begin the chain that counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reentry {
    /// Every entry is tried: furthest step, then earliest completion of it, then latest entry.
    #[default]
    BestChain,
    /// Only chains from the first entry of the unit in the range.
    FirstEntry,
}

/// How two steps at the same instant relate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tie {
    /// At the same instant the order of steps is satisfied if it can be.
    #[default]
    FavourOrder,
    /// A step must be strictly later than the one before it.
    StrictlyAfter,
}

/// Events that must not occur strictly between two steps of a chain.
///
/// An excluding event taints every edge of a chain that it spans, at once: a chain that is past `after_step` goes no
/// further, and later steps before `before_step` no longer count for it. At the very instant of a step between the two
/// it taints; at the instants of the two themselves it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusion {
    /// Which events exclude; an event that matches any step never does.
    pub rule: Rule,
    /// The step after which the exclusion begins.
    pub after_step: usize,
    /// The step before which it ends; greater than `after_step`.
    pub before_step: usize,
}

/// What becomes of a unit whose chosen chain is tainted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExclusionEffect {
    /// It stays at the step it had reached, in a state of its own.
    #[default]
    DropAtStep,
    /// It is taken out of every count and only counted as removed.
    RemoveVisitor,
}

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unit {
    /// One unit per visitor with an entry in the range.
    #[default]
    Visitor,
    /// One unit per session with an entry; a gap of more than `gap_ms` starts a new session.
    Session {
        /// Longest gap inside one session, inclusive, in milliseconds.
        gap_ms: i64,
    },
    /// One unit per attempt; attempts of a visitor do not overlap. An attempt ends when it converts, or when no clean
    /// chain of its entries can advance any more; everything up to that instant belongs to it.
    Entry,
    /// One unit per visitor and held tuple.
    Held,
}

/// Which value of the break-down column a unit is counted under. Code 0 is *unset*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakDown {
    /// The value at the first event that serves this step at the step's instant; unset if the chain does not reach
    /// it. For a step of an any-order group the events of any of the group's steps serve its position.
    AtStep(usize),
    /// The value at the first step of the chain at which it is set.
    FirstDefined,
    /// The first value set on any event of the visitor.
    FirstTouch,
    /// The last value set on any event of the visitor.
    LastTouch,
}

/// Buckets of the entry time: bucket `floor((entry - origin_ms) / bucket_ms)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trend {
    /// Where bucket 0 begins.
    pub origin_ms: i64,
    /// Width of a bucket, at least 1.
    pub bucket_ms: i64,
}
