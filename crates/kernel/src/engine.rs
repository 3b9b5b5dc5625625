//! The general engine: every question, exactly, one visitor at a time.
//!
//! A visitor's events are matched once ([`journey`]), cut into units, and each unit's chains are followed
//! by [`stream`] (or by [`grace`], where steps may lie out of order). [`canonical`] then finds the instants of the chosen
//! chain's steps and [`resolve`] what became of the unit.

mod attempts;
mod canonical;
mod frontier;
mod grace;
mod group;
mod journey;
mod points;
mod resolve;
mod stream;

use std::ops::Range;

use self::grace::{Grace, TooMuchWork, WORK_LIMIT};
use self::journey::Journey;
use self::points::Points;
use self::resolve::{Chosen, resolve};
use self::stream::{Reached, Stream};
use crate::outcome::{RunError, UnitOutcome};
use crate::plan::{Funnel, Plan};
use crate::question::{Reentry, Unit};
use crate::slice::{Columns, Slice};

/// A plan with the scratch memory to follow it.
pub(crate) struct Engine<'p> {
    plan: &'p Plan,
    journey: Journey,
    points: Points,
    /// The range and held code of the events in `points`, if they are of the visitor at hand.
    built: Option<(Range<usize>, Option<u32>)>,
    /// Union of the entry masks of all funnels.
    entries: u32,
    /// Bits of a visitor's kind set one of which is set if it has an entry.
    entry_kinds: u64,
}

/// The part of a visitor that is one unit.
struct Part {
    /// Events, as indexes into the journey.
    range: Range<usize>,
    /// Position among the visitor's sessions or attempts.
    ordinal: usize,
    /// Nothing after this instant belongs to the unit.
    end_ms: i64,
    /// Whether the unit can still grow.
    growing: bool,
}

/// The best chain of one funnel over events that carry one held code.
#[derive(Clone, Copy)]
struct Candidate {
    funnel: usize,
    code: u32,
    reached: Reached,
}

impl Candidate {
    /// Whether this chain counts rather than `other`: furthest step of the question, then earliest entering step, then
    /// earliest completion, latest entry, lowest code.
    fn beats(&self, other: &Self) -> bool {
        let rank = |candidate: &Self| {
            let Candidate { funnel, code, reached } = *candidate;
            let furthest = funnel + reached.level;
            (std::cmp::Reverse(furthest), funnel, reached.completion, std::cmp::Reverse(reached.entry), code)
        };
        rank(self) < rank(other)
    }
}

impl<'p> Engine<'p> {
    pub(crate) fn new(plan: &'p Plan) -> Self {
        let entries = plan.funnels.iter().fold(0, |mask, funnel| mask | funnel.entry_mask());
        let entry_kinds = plan.matcher.kind_set(entries);
        Self {
            plan,
            journey: Journey::default(),
            points: Points::default(),
            built: None,
            entries,
            entry_kinds,
        }
    }

    /// Appends what becomes of every unit of a visitor. Columns must fit the slice.
    pub(crate) fn visit(
        &mut self,
        slice: &Slice<'_>,
        columns: &Columns<'_>,
        visitor: usize,
        outcomes: &mut Vec<UnitOutcome>,
    ) -> Result<(), RunError> {
        if slice.kind_set(visitor) & self.entry_kinds == 0 {
            return Ok(());
        }
        self.journey.gather(self.plan, slice, columns, visitor);
        self.built = None;
        let mut work = 0;
        self.units(columns, &mut work, outcomes)
            .map_err(|TooMuchWork| RunError::Cost { visitor, limit: WORK_LIMIT })
    }

    fn units(
        &mut self,
        columns: &Columns<'_>,
        work: &mut u64,
        outcomes: &mut Vec<UnitOutcome>,
    ) -> Result<(), TooMuchWork> {
        let all = 0..self.journey.times.len();
        if self.first_entry(self.entries, all.clone(), columns, None).is_none() {
            return Ok(());
        }
        let whole = Part { range: all.clone(), ordinal: 0, end_ms: i64::MAX, growing: true };
        match self.plan.question.unit {
            Unit::Visitor => {
                let codes = self.codes(&whole, columns);
                outcomes.extend(self.unit(&whole, &codes, columns, work)?);
            }
            Unit::Held => {
                for code in self.codes(&whole, columns) {
                    outcomes.extend(self.unit(&whole, &[code], columns, work)?);
                }
            }
            Unit::Session { gap_ms } => {
                let parts = self.journey.sessions(columns, gap_ms);
                let count = parts.len();
                for (ordinal, (range, last_ms)) in parts.into_iter().enumerate() {
                    let growing = ordinal + 1 == count && self.plan.question.as_of_ms <= last_ms + gap_ms;
                    let end_ms = self.journey.times[range.end - 1];
                    let part = Part { range, ordinal, end_ms, growing };
                    let codes = self.codes(&part, columns);
                    outcomes.extend(self.unit(&part, &codes, columns, work)?);
                }
            }
            Unit::Entry => self.attempts(columns, outcomes),
        }
        Ok(())
    }

    /// The held codes of a part's events that serve a step, ascending; one `None` if nothing is held.
    fn codes(&self, part: &Part, columns: &Columns<'_>) -> Vec<Option<u32>> {
        if !self.plan.question.hold {
            return vec![None];
        }
        let serving = part.range.clone().filter(|event| self.journey.steps[*event] != 0);
        let mut codes: Vec<_> = serving.map(|event| Some(self.hold_code(columns, event))).collect();
        codes.sort_unstable();
        codes.dedup();
        codes
    }

    fn hold_code(&self, columns: &Columns<'_>, event: usize) -> u32 {
        columns.hold.and_then(|hold| hold.get(self.journey.base + event)).unwrap_or(0)
    }

    /// Instant of the first entry of a part within the range of the question.
    fn first_entry(
        &self,
        entries: u32,
        range: Range<usize>,
        columns: &Columns<'_>,
        code: Option<u32>,
    ) -> Option<i64> {
        let in_range = self.plan.question.from_ms..self.plan.question.until_ms;
        let enters = |event: &usize| {
            self.journey.steps[*event] & entries != 0
                && in_range.contains(&self.journey.times[*event])
                && code.is_none_or(|code| code == self.hold_code(columns, *event))
        };
        range.into_iter().find(enters).map(|event| self.journey.times[event])
    }

    fn build_points(&mut self, part: &Part, code: Option<u32>, columns: &Columns<'_>) {
        let wanted = Some((part.range.clone(), code));
        if self.built == wanted {
            return;
        }
        self.built = wanted;
        let mut points = std::mem::take(&mut self.points);
        let carries = |event: &usize| code.is_none_or(|code| code == self.hold_code(columns, *event));
        points.build(&self.journey, part.range.clone().filter(carries));
        self.points = points;
    }

    /// What becomes of one unit; `None` if it has no entry in the range.
    fn unit(
        &mut self,
        part: &Part,
        codes: &[Option<u32>],
        columns: &Columns<'_>,
        work: &mut u64,
    ) -> Result<Option<UnitOutcome>, TooMuchWork> {
        let plan = self.plan;
        // A unit of one code has its own first entry; where codes compete, the unit's first entry is theirs.
        let own_code = if plan.question.unit == Unit::Held { codes[0] } else { None };
        let first_entry = |engine: &Self, funnel: &Funnel| {
            engine.first_entry(funnel.entry_mask(), part.range.clone(), columns, own_code)
        };
        let (mut best, mut any_alive): (Option<Candidate>, bool) = (None, false);
        for code in codes {
            self.build_points(part, *code, columns);
            for (at, funnel) in plan.funnels.iter().enumerate() {
                let only = match plan.question.reentry {
                    Reentry::BestChain => None,
                    Reentry::FirstEntry => match first_entry(self, funnel) {
                        Some(first) => Some(first),
                        None => continue,
                    },
                };
                let (reached, alive) = self.follow(funnel, only, work)?;
                any_alive |= alive;
                if let Some(reached) = reached {
                    let candidate = Candidate { funnel: at, code: code.unwrap_or(0), reached };
                    if best.as_ref().is_none_or(|best| candidate.beats(best)) {
                        best = Some(candidate);
                    }
                }
            }
        }
        let Some(Candidate { funnel: at, code, reached }) = best else {
            return Ok(None);
        };
        let funnel = &plan.funnels[at];
        let first_entry_ms = first_entry(self, funnel).unwrap_or(reached.entry);
        let converts = |reached: &Reached| reached.level == funnel.length();
        let mut first_converted_ms = None;
        if converts(&reached) {
            for code in codes {
                self.build_points(part, *code, columns);
                let (from_first, _) = self.follow(funnel, Some(first_entry_ms), work)?;
                let converted = from_first.filter(converts).map(|reached| reached.completion);
                first_converted_ms = [first_converted_ms, converted].into_iter().flatten().min();
            }
        }
        let code = plan.question.hold.then_some(code);
        self.build_points(part, code, columns);
        let times = if plan.question.grace_ms > 0 {
            self.grace(funnel, work).times(reached)?
        } else {
            canonical::times(plan, funnel, &self.journey, &self.points, reached)
        };
        let alive = any_alive && part.growing;
        let chosen = Chosen { funnel: at, code, reached, times, alive, first_entry_ms, first_converted_ms };
        Ok(Some(resolve(plan, &self.journey, &self.points, columns, part, chosen)))
    }

    /// The level that counts in one funnel over the points, and whether a chain can still advance.
    fn follow(
        &mut self,
        funnel: &Funnel,
        only_entry: Option<i64>,
        work: &mut u64,
    ) -> Result<(Option<Reached>, bool), TooMuchWork> {
        if self.plan.question.grace_ms > 0 {
            return self.grace(funnel, work).best(only_entry);
        }
        let mut stream = Stream::new(self.plan, funnel, &self.journey, only_entry);
        (0..self.points.len()).for_each(|at| stream.feed(&self.points, at));
        Ok((stream.best(), stream.alive()))
    }

    fn grace<'a>(&'a self, funnel: &'a Funnel, work: &'a mut u64) -> Grace<'a> {
        Grace::new(self.plan, funnel, &self.journey, &self.points, work)
    }
}
