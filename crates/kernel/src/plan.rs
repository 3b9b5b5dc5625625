//! A question that is defined, compiled into the form that the engine follows.
//!
//! Vocabulary: a *level* is a number of required steps done, so the *edge* into level `k` leads from the event of
//! required step `k - 1` to that of required step `k`. Optional steps are no part of chains. A *funnel* is a chain
//! of required steps; an open question has one funnel per step at which a chain may begin.

mod compile;
mod error;
mod matcher;

use crate::fast::Fast;
use crate::outcome::{RunError, UnitOutcome};
use crate::question::Question;
use crate::simd::Width;
use crate::slice::{Columns, Slice, bit, words};
use crate::{Counts, engine};

pub use error::{OpenWith, PlanError};
pub(crate) use matcher::{EXCLUSION_BIT, Matcher};

/// Longest window, and longest of every other duration of a question: 366 days in milliseconds.
pub const LONGEST_MS: i64 = 366 * 86_400_000;
/// Fewest and most steps of a question.
pub const STEPS: std::ops::RangeInclusive<usize> = 2..=32;
/// Most exclusions of a question.
pub const EXCLUSIONS: usize = 16;

/// A compiled question.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) question: Question,
    /// Events at or after this instant are invisible. It stays where it is when a matured question moves `until_ms`.
    pub(crate) visible_until_ms: i64,
    /// Later steps must lie before this instant, or the bound on instants if they may lie anywhere.
    pub(crate) steps_until_ms: i64,
    /// One funnel, or one per entering step of an open question.
    pub(crate) funnels: Vec<Funnel>,
    pub(crate) matcher: Matcher,
    /// Per step whether it is a member of an any-order group, as the bits of all steps of that group.
    pub(crate) group_of: Vec<u32>,
    /// Bits of the steps that only the first event ever matches.
    pub(crate) first_ever: u32,
    /// Whether any edge is direct, so that the events of the scope matter.
    pub(crate) needs_scope: bool,
    required: usize,
}

/// A chain of required steps.
#[derive(Debug, Clone)]
pub(crate) struct Funnel {
    /// Question steps of the levels: level `k` is step `steps[k - 1]`.
    pub(crate) steps: Vec<usize>,
    /// Conditions on the edge into level `k`, at index `k`; index 0 and 1 carry none.
    pub(crate) edges: Vec<Edge>,
    /// Partition of the levels into runs of ordered steps and any-order groups.
    pub(crate) segments: Vec<Segment>,
}

/// Conditions on an edge.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edge {
    pub(crate) direct: bool,
    pub(crate) max_ms: Option<i64>,
    pub(crate) spans: Vec<Span>,
}

/// An exclusion that spans an edge.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) exclusion: usize,
    /// Whether the exclusion ends with this edge. If not, an excluding event at the very instant of the
    /// edge's end still lies before the step that ends the exclusion, and taints.
    pub(crate) closes: bool,
}

/// Levels `start + 1..=end` of a funnel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) any_order: bool,
}

impl Funnel {
    /// Number of required steps.
    pub(crate) fn length(&self) -> usize {
        self.steps.len()
    }

    /// Mask of the question steps whose event can be an entry.
    pub(crate) fn entry_mask(&self) -> u32 {
        match self.segments.first() {
            Some(segment) if segment.any_order => self.mask(*segment),
            _ => 1 << self.steps[0],
        }
    }

    /// Mask of the question steps of a segment.
    pub(crate) fn mask(&self, segment: Segment) -> u32 {
        self.steps[segment.start..segment.end].iter().fold(0, |mask, step| mask | 1 << step)
    }

    /// Mask of the question step of a level.
    pub(crate) fn bit(&self, level: usize) -> u32 {
        1 << self.steps[level - 1]
    }
}

impl Plan {
    /// Checks a question against the limits of SEMANTICS.md §2 and against what is defined, and compiles it.
    pub fn new(question: Question) -> Result<Self, PlanError> {
        compile::plan(question)
    }

    /// The question as asked, instants brought into [`crate::slice::INSTANT_BOUND_MS`].
    pub fn question(&self) -> &Question {
        &self.question
    }

    /// Number of required steps, which is the highest level.
    pub fn required_steps(&self) -> usize {
        self.required
    }

    /// The same question about entries whose window is over at `as_of`, for the matured rate: `until` becomes
    /// `min(until, as_of - window)`. `None` when that changes nothing. Which events are visible does not
    /// change: where later steps must lie before `until`, they must lie before the original one.
    pub fn matured(&self) -> Option<Self> {
        let until_ms = (self.question.as_of_ms - self.question.window_ms).max(self.question.from_ms);
        (until_ms < self.question.until_ms).then(|| {
            let mut matured = self.clone();
            matured.question.until_ms = until_ms;
            matured
        })
    }

    /// Length of the follow-up of an entry: its window, or less where `as_of` (or, where later steps
    /// must lie before `until`, that) comes first. In milliseconds.
    pub fn follow_up_ms(&self, entry_ms: i64) -> i64 {
        self.question.window_ms.min(self.visible_until_ms - entry_ms)
    }

    /// What becomes of every unit of one visitor, in the order of time, or of held codes. Empty for a visitor that
    /// has no unit, is skipped, or is not in the slice.
    pub fn outcomes(
        &self,
        slice: &Slice<'_>,
        columns: &Columns<'_>,
        visitor: usize,
    ) -> Result<Vec<UnitOutcome>, RunError> {
        self.check(slice, columns)?;
        let mut outcomes = Vec::new();
        if !slice.skipped(visitor) {
            engine::Engine::new(self).visit(slice, columns, visitor, &mut outcomes)?;
        }
        Ok(outcomes)
    }

    /// What becomes of every unit of all visitors, with the position of its visitor: [`Plan::outcomes`] of each, one after the other.
    pub fn outcomes_of_all(
        &self,
        slice: &Slice<'_>,
        columns: &Columns<'_>,
        each: impl FnMut(usize, UnitOutcome),
    ) -> Result<(), RunError> {
        self.check(slice, columns)?;
        self.visit(slice, columns, None, each)
    }

    /// The counts over all visitors of a slice: the sum of [`Plan::outcomes`], found faster.
    pub fn run(&self, slice: &Slice<'_>, columns: &Columns<'_>) -> Result<Counts, RunError> {
        self.run_within(slice, columns, Width::ANY)
    }

    /// As [`Plan::run`], with instructions that are `most` so wide. Tests and benchmarks compare with it.
    pub fn run_within(
        &self,
        slice: &Slice<'_>,
        columns: &Columns<'_>,
        most: Width,
    ) -> Result<Counts, RunError> {
        self.check(slice, columns)?;
        match Fast::new(self, slice, columns, self.seen(slice).as_deref(), most) {
            Some(fast) => fast.run(self, None),
            None => self.sum(slice, columns, None),
        }
    }

    /// A bit per event that is seen; `None` when all are.
    fn seen(&self, slice: &Slice<'_>) -> Option<Vec<u64>> {
        (slice.layout().span_ms.1 >= self.visible_until_ms).then(|| slice.before(self.visible_until_ms))
    }

    /// [`Plan::run`] of this question, and of [`Plan::matured`] if that is another one.
    ///
    /// A visitor without an event that only the first has as a possible entry gives both the same counts, so only the
    /// others are looked at twice.
    pub fn run_with_matured(
        &self,
        slice: &Slice<'_>,
        columns: &Columns<'_>,
    ) -> Result<(Counts, Option<Counts>), RunError> {
        let Some(matured) = self.matured() else {
            return Ok((self.run(slice, columns)?, None));
        };
        self.check(slice, columns)?;
        let fast = Fast::new(self, slice, columns, self.seen(slice).as_deref(), Width::ANY);
        let run = |plan: &Self, skip: Option<&[u64]>| match &fast {
            Some(fast) => fast.run(plan, skip),
            None => plan.sum(slice, columns, skip),
        };
        let young = slice.visitors_since(matured.question.until_ms);
        if young.iter().all(|word| *word == 0) {
            let counts = run(self, None)?;
            return Ok((counts.clone(), Some(counts)));
        }
        let old: Vec<u64> = young.iter().map(|word| !word).collect();
        let mut counts = run(self, Some(&young))?;
        let mut matured_counts = counts.clone();
        counts.merge(&run(self, Some(&old))?);
        matured_counts.merge(&run(&matured, Some(&old))?);
        Ok((counts, Some(matured_counts)))
    }

    /// As [`Plan::run`], by the general engine alone. It is the reference for the fast path and what benchmarks
    /// compare with.
    pub fn run_general(&self, slice: &Slice<'_>, columns: &Columns<'_>) -> Result<Counts, RunError> {
        self.check(slice, columns)?;
        self.sum(slice, columns, None)
    }

    /// The sum over the visitors of a slice, without those in `skip`.
    fn sum(
        &self,
        slice: &Slice<'_>,
        columns: &Columns<'_>,
        skip: Option<&[u64]>,
    ) -> Result<Counts, RunError> {
        let mut counts = Counts::empty(self);
        self.visit(slice, columns, skip, |_, outcome| counts.record(self, &outcome))?;
        Ok(counts)
    }

    /// Tells of every unit of the visitors of a slice, without those in `skip`.
    fn visit(
        &self,
        slice: &Slice<'_>,
        columns: &Columns<'_>,
        skip: Option<&[u64]>,
        mut each: impl FnMut(usize, UnitOutcome),
    ) -> Result<(), RunError> {
        let mut engine = engine::Engine::new(self);
        let mut outcomes = Vec::new();
        for visitor in 0..slice.visitors() {
            if !slice.skipped(visitor) && !skip.is_some_and(|skip| bit(skip, visitor)) {
                engine.visit(slice, columns, visitor, &mut outcomes)?;
                outcomes.drain(..).for_each(|outcome| each(visitor, outcome));
            }
        }
        Ok(())
    }

    /// Refuses columns that are missing or shorter than the slice.
    pub(crate) fn check(&self, slice: &Slice<'_>, columns: &Columns<'_>) -> Result<(), RunError> {
        let events = slice.events();
        let long_enough = |column, got, want| {
            if got >= want { Ok(()) } else { Err(RunError::Column { column, got, want }) }
        };
        long_enough("predicates", columns.predicates.len(), self.matcher.predicates())?;
        for predicate in columns.predicates.iter().take(self.matcher.predicates()) {
            long_enough("predicate", predicate.len(), words(events))?;
        }
        if self.question.hold {
            long_enough("hold", columns.hold.map_or(0, |hold| hold.len()), events)?;
        }
        if self.question.break_down.is_some() {
            long_enough("break_down", columns.break_down.map_or(0, |values| values.len()), events)?;
        }
        if let (Some(scope), true) = (columns.scope, self.needs_scope) {
            long_enough("scope", scope.len(), words(events))?;
        }
        Ok(())
    }
}
