//! What became of a unit, once its chain is chosen: state, optional steps, break-down value.

use super::Part;
use super::journey::Journey;
use super::points::Points;
use super::stream::Reached;
use crate::outcome::{State, UnitOutcome};
use crate::plan::{Funnel, Plan};
use crate::question::{BreakDown, ExclusionEffect, Tie};
use crate::slice::Columns;

/// The chain that counts, and what else is known of its unit.
pub(super) struct Chosen {
    /// Index of the funnel.
    pub(super) funnel: usize,
    /// Held code, if something is held.
    pub(super) code: Option<u32>,
    pub(super) reached: Reached,
    /// Instants of levels `1..=reached.level`.
    pub(super) times: Vec<i64>,
    /// Whether any chain of the unit can still advance.
    pub(super) alive: bool,
    pub(super) first_entry_ms: i64,
    pub(super) first_converted_ms: Option<i64>,
}

pub(super) fn resolve(
    plan: &Plan,
    journey: &Journey,
    points: &Points,
    columns: &Columns<'_>,
    part: &Part,
    chosen: Chosen,
) -> UnitOutcome {
    let question = &plan.question;
    let funnel = &plan.funnels[chosen.funnel];
    let reached = chosen.reached;
    let state = if reached.level == funnel.length() {
        State::Converted
    } else if chosen.alive {
        State::Open
    } else if tainted(plan, funnel, journey, part, reached) {
        State::Excluded
    } else {
        State::Dropped
    };
    let step_ms = steps(plan, funnel, points, part, &chosen);
    let break_down = columns.break_down.map_or(0, |values| {
        let value = |event: usize| values.get(journey.base + event).unwrap_or(0);
        let at_step = |step: usize| {
            let time = step_ms[step]?;
            let mask = plan.group_of[step] | 1 << step;
            // An event of the same instant may lie before the part: one off the site, outside all sessions.
            let first = journey.times.partition_point(|other| *other < time).max(part.range.start);
            let events = first..part.range.end;
            let serves = |event: &usize| {
                journey.steps[*event] & mask != 0
                    && chosen.code.is_none_or(|code| {
                        columns.hold.and_then(|hold| hold.get(journey.base + event)) == Some(code)
                    })
            };
            events.into_iter().take_while(|event| journey.times[*event] == time).find(serves).map(value)
        };
        let mut touches = (0..journey.times.len()).map(value).filter(|code| *code != 0);
        match question.break_down {
            None => None,
            Some(BreakDown::AtStep(step)) => at_step(step),
            Some(BreakDown::FirstDefined) => (0..step_ms.len()).filter_map(at_step).find(|code| *code != 0),
            Some(BreakDown::FirstTouch) => touches.next(),
            Some(BreakDown::LastTouch) => touches.next_back(),
        }
        .unwrap_or(0)
    });
    UnitOutcome {
        entered_step: chosen.funnel,
        level: chosen.funnel + reached.level,
        state,
        entry_ms: reached.entry,
        completion_ms: reached.completion,
        step_ms,
        break_down,
        hold_code: chosen.code.unwrap_or(0),
        ordinal: part.ordinal,
        removed: state == State::Excluded && question.exclusion_effect == ExclusionEffect::RemoveVisitor,
        first_entry_ms: chosen.first_entry_ms,
        first_converted_ms: chosen.first_converted_ms,
    }
}

/// Whether an exclusion ended the chosen chain before its time was over.
fn tainted(plan: &Plan, funnel: &Funnel, journey: &Journey, part: &Part, reached: Reached) -> bool {
    let edge = &funnel.edges[reached.level + 1];
    let deadline = (reached.entry + plan.question.window_ms)
        .min(journey.patience(edge, reached.completion))
        .min(part.end_ms);
    journey.taint_after(edge, reached.completion).is_some_and(|at| at <= deadline)
}

/// Instants per step of the question: those of the chain, and those of the optional steps done beside it.
fn steps(plan: &Plan, funnel: &Funnel, points: &Points, part: &Part, chosen: &Chosen) -> Vec<Option<i64>> {
    let question = &plan.question;
    let mut step_ms = vec![None; question.steps.len()];
    // Events that serve the chain cannot serve an optional step too. Which events those are is open where several
    // match, so an optional step is done if distinct events exist for all that happens at its instant.
    let mut served: Vec<(i64, u32)> = Vec::new();
    for (step, time) in funnel.steps.iter().zip(&chosen.times) {
        step_ms[*step] = Some(*time);
        if plan.group_of[*step] == 0 {
            served.push((*time, 1 << step));
        }
    }
    let strict = question.tie == Tie::StrictlyAfter;
    let mut level = 0;
    let mut from = i64::MIN;
    for (step, asked) in question.steps.iter().enumerate() {
        if !asked.optional {
            level += usize::from(funnel.steps.contains(&step));
            from = step_ms[step].unwrap_or(i64::MAX);
            continue;
        }
        if level > chosen.times.len() {
            break;
        }
        let until = match chosen.times.get(level) {
            Some(next) => next - i64::from(strict),
            None => (chosen.reached.entry + question.window_ms).min(part.end_ms),
        };
        let begin = points.at_or_after(from.saturating_add(i64::from(strict)));
        let done = (begin..points.len()).take_while(|at| points.times[*at] <= until).find(|at| {
            let time = points.times[*at];
            let mut run = points.run(*at, question.reuse);
            served.iter().filter(|(other, _)| *other == time).for_each(|(_, bit)| {
                run.add(*bit);
            });
            run.add(1 << step)
        });
        if let Some(at) = done {
            from = points.times[at];
            served.push((from, 1 << step));
            step_ms[step] = Some(from);
        }
    }
    step_ms
}
