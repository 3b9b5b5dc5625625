//! What became of the unit whose chain is chosen, by definition.

use super::Event;
use super::chains::{Chain, Search};
use crate::outcome::State;
use crate::question::{BreakDown, Tie};

pub(super) struct Verdict {
    pub(super) state: State,
    pub(super) step_ms: Vec<Option<i64>>,
    pub(super) break_down: u32,
}

/// `open` says whether any chain of the unit can still advance; nothing after `end_ms` belongs to the unit.
pub(super) fn verdict(search: &Search<'_>, best: &Chain, open: bool, end_ms: i64) -> Verdict {
    let levels = search.levels(best.entered);
    let state = if best.times.len() == levels.len() {
        State::Converted
    } else if open {
        State::Open
    } else if excluded(search, best) {
        State::Excluded
    } else {
        State::Dropped
    };
    let step_ms = steps(search, best, end_ms);
    let break_down = break_down(search, best, &step_ms);
    Verdict { state, step_ms, break_down }
}

fn excluded(search: &Search<'_>, best: &Chain) -> bool {
    let last = best.times[best.times.len() - 1];
    // What happens after the last event of a session is not of the session.
    let unit_end = search.events.iter().map(|event| event.time).max().unwrap_or(last);
    let deadline = search.patience(best).min(unit_end);
    search.taint(best.entered, best.times.len() + 1, last).is_some_and(|at| at <= deadline)
}

fn steps(search: &Search<'_>, best: &Chain, end_ms: i64) -> Vec<Option<i64>> {
    let question = search.plan.question();
    let levels = search.levels(best.entered);
    let grouped = |step: usize| question.groups.iter().any(|group| group.contains(&step));
    let mut step_ms = vec![None; question.steps.len()];
    let mut served: Vec<(i64, usize)> = Vec::new();
    for (step, time) in levels.iter().zip(&best.times) {
        step_ms[*step] = Some(*time);
        if !grouped(*step) {
            served.push((*time, *step));
        }
    }
    let strict = question.tie == Tie::StrictlyAfter;
    for step in (0..question.steps.len()).filter(|step| question.steps[*step].optional) {
        let level = levels.iter().filter(|level| **level < step).count();
        if best.times.len() < level {
            continue;
        }
        // Optional steps between the same two required ones follow each other.
        let from = (levels[level - 1]..step).filter_map(|earlier| step_ms[earlier]).next_back();
        let window_end = best.times[0] + question.window_ms;
        let fits = |event: &&Event| {
            let after = from.is_none_or(|from| if strict { event.time > from } else { event.time >= from });
            let before = match best.times.get(level) {
                Some(next) if strict => event.time < *next,
                Some(next) => event.time <= *next,
                None => event.time <= window_end && event.time <= end_ms,
            };
            event.steps[step] && carries(best, event) && after && before
        };
        let possible = |time: &i64| {
            let here: Vec<&Event> =
                search.events.iter().filter(|event| event.time == *time && carries(best, event)).collect();
            let mut wanted: Vec<usize> =
                served.iter().filter(|(other, _)| other == time).map(|(_, step)| *step).collect();
            wanted.push(step);
            question.reuse || distinct(&here, &wanted, &mut Vec::new())
        };
        let done = search.events.iter().filter(fits).map(|event| event.time).filter(possible).min();
        if let Some(time) = done {
            step_ms[step] = Some(time);
            served.push((time, step));
        }
    }
    step_ms
}

fn carries(best: &Chain, event: &Event) -> bool {
    best.code.is_none_or(|code| event.hold == code)
}

/// Whether distinct events can serve all the steps wanted.
fn distinct(events: &[&Event], wanted: &[usize], used: &mut Vec<usize>) -> bool {
    let Some((step, rest)) = wanted.split_first() else {
        return true;
    };
    (0..events.len()).any(|at| {
        if used.contains(&at) || !events[at].steps[*step] {
            return false;
        }
        used.push(at);
        let possible = distinct(events, rest, used);
        used.pop();
        possible
    })
}

fn break_down(search: &Search<'_>, best: &Chain, step_ms: &[Option<i64>]) -> u32 {
    let question = search.plan.question();
    let at_step = |step: usize| {
        let group = question.groups.iter().find(|group| group.contains(&step)).cloned();
        let steps = group.unwrap_or(step..step + 1);
        let mut here = search.events.iter().filter(|event| Some(event.time) == step_ms[step]);
        let event = here.find(|event| carries(best, event) && steps.clone().any(|step| event.steps[step]));
        event.map(|event| event.value)
    };
    let touches = search.visitor.iter().map(|event| event.value).filter(|value| *value != 0);
    let value = match question.break_down {
        None => None,
        Some(BreakDown::AtStep(step)) => at_step(step),
        Some(BreakDown::FirstDefined) => (0..step_ms.len()).filter_map(at_step).find(|value| *value != 0),
        Some(BreakDown::FirstTouch) => touches.into_iter().next(),
        Some(BreakDown::LastTouch) => touches.fold(None, |_, value| Some(value)),
    };
    value.unwrap_or(0)
}
