//! The slow and obvious twin: it writes down every chain there is and picks by definition.
//!
//! Exponential, so it refuses journeys above [`MOST_EVENTS`] events. It shares no matching logic with the engine: it reads
//! the question itself, tests rules one event at a time, and checks each condition of SEMANTICS.md §2 on
//! whole chains. The tests hold the engine against it.
//!
//! [`Journeys`] is the twin of sessions, marks and what is counted of them.

mod chains;
mod journeys;
mod tally;
mod verdict;

pub use self::journeys::{Journeys, Look};

use self::chains::{Chain, Search};
use self::verdict::{Verdict, verdict};
use crate::counts::Counts;
use crate::outcome::{State, UnitOutcome};
use crate::plan::Plan;
use crate::question::{ExclusionEffect, Question, Reentry, Rule, Unit};
use crate::slice::{Columns, Slice};

/// Most visible events of a visitor that the twin looks at.
pub const MOST_EVENTS: usize = 14;

/// A visitor has more than [`MOST_EVENTS`] events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyEvents {
    /// Index of the visitor in the slice.
    pub visitor: usize,
    /// How many visible events it has.
    pub events: usize,
}

/// One event and all that is asked of it.
#[derive(Debug, Clone)]
struct Event {
    /// Its place in the slice.
    order: usize,
    /// As the question reads it, and as it is.
    time: i64,
    exact: i64,
    off_site: bool,
    /// Per step whether the event matches it.
    steps: Vec<bool>,
    /// Per exclusion whether the event excludes.
    excludes: Vec<bool>,
    scope: bool,
    hold: u32,
    value: u32,
}

/// As [`Plan::outcomes`].
pub fn outcomes(
    plan: &Plan,
    slice: &Slice<'_>,
    columns: &Columns<'_>,
    visitor: usize,
) -> Result<Vec<UnitOutcome>, TooManyEvents> {
    if slice.skipped(visitor) {
        return Ok(Vec::new());
    }
    let events = events(plan, slice, columns, visitor);
    if events.len() > MOST_EVENTS {
        return Err(TooManyEvents { visitor, events: events.len() });
    }
    let all = Search::new(plan, &events, &events, i64::MIN);
    Ok(match plan.question().unit {
        Unit::Visitor => unit(&all, None, 0, true).into_iter().collect(),
        Unit::Held => {
            let mut codes: Vec<u32> = events.iter().map(|event| event.hold).collect();
            codes.sort_unstable();
            codes.dedup();
            codes.into_iter().filter_map(|code| unit(&all, Some(code), 0, true)).collect()
        }
        Unit::Session { gap_ms } => {
            // Sessions are made of events on the site; each of those off the site then goes to the latest session near enough.
            let mut sessions: Vec<Vec<Event>> = Vec::new();
            for event in events.iter().filter(|event| !event.off_site) {
                match sessions.last_mut() {
                    Some(session) if event.exact - session[session.len() - 1].exact <= gap_ms => {
                        session.push(event.clone());
                    }
                    _ => sessions.push(vec![event.clone()]),
                }
            }
            let ends: Vec<i64> = sessions.iter().map(|session| session[session.len() - 1].exact).collect();
            for event in events.iter().filter(|event| event.off_site) {
                let before = events.iter().filter(|one| !one.off_site && one.order < event.order);
                let Some(before) = before.max_by_key(|one| one.order) else { continue };
                let home = sessions.iter_mut().find(|one| one.iter().any(|one| one.order == before.order));
                if let Some(home) = home.filter(|_| event.exact - before.exact <= gap_ms) {
                    home.push(event.clone());
                    home.sort_by_key(|event| event.order);
                }
            }
            let count = sessions.len();
            let units = sessions.iter().enumerate().filter_map(|(ordinal, session)| {
                let search = Search::new(plan, session, &events, i64::MIN);
                let open = ordinal + 1 == count && plan.question().as_of_ms <= ends[ordinal] + gap_ms;
                unit(&search, None, ordinal, open)
            });
            units.collect()
        }
        Unit::Entry => attempts(plan, &events),
    })
}

/// As [`Plan::run`].
pub fn counts(plan: &Plan, slice: &Slice<'_>, columns: &Columns<'_>) -> Result<Counts, TooManyEvents> {
    let mut all = Vec::new();
    for visitor in 0..slice.visitors() {
        all.extend(outcomes(plan, slice, columns, visitor)?);
    }
    Ok(tally::counts(plan, &all))
}

fn events(plan: &Plan, slice: &Slice<'_>, columns: &Columns<'_>, visitor: usize) -> Vec<Event> {
    let question = plan.question();
    let bit = |column: &[u64], at: usize| column[at / 64] & (1 << (at % 64)) != 0;
    let matches = |rule: &Rule, at: usize| {
        rule.any_of.iter().any(|alternative| {
            alternative.kind.is_none_or(|kind| kind == slice.kind(at))
                && alternative.predicate.is_none_or(|column| bit(columns.predicates[usize::from(column)], at))
        })
    };
    let mut seen = vec![false; question.steps.len()];
    let mut events = Vec::new();
    for at in slice.range(visitor).filter(|at| slice.time(*at) < plan.visible_until_ms) {
        let mut steps = Vec::new();
        for (step, seen) in question.steps.iter().zip(&mut seen) {
            let holds = matches(&step.rule, at);
            steps.push(holds && !(step.first_ever && *seen));
            *seen |= holds;
        }
        let serves = steps.contains(&true);
        let excludes = |rule: &Rule| matches(rule, at) && !serves;
        events.push(Event {
            order: at,
            time: slice.time(at) - slice.time(at).rem_euclid(question.grain_ms),
            exact: slice.time(at),
            off_site: columns.off_site.is_some_and(|off_site| bit(off_site, at)),
            excludes: question.exclusions.iter().map(|exclusion| excludes(&exclusion.rule)).collect(),
            steps,
            scope: columns.scope.is_none_or(|scope| bit(scope, at)),
            hold: columns.hold.map_or(0, |hold| hold.get(at).unwrap_or(0)),
            value: columns.break_down.map_or(0, |values| values.get(at).unwrap_or(0)),
        });
    }
    events
}

/// One unit other than an attempt. Chains carry `code` throughout if one is given; if none is but something is
/// held, every code is tried.
fn unit(search: &Search<'_>, code: Option<u32>, ordinal: usize, open: bool) -> Option<UnitOutcome> {
    let question = search.plan.question();
    let mut codes: Vec<Option<u32>> = match (question.hold, code) {
        (false, _) => vec![None],
        (true, Some(code)) => vec![Some(code)],
        (true, None) => search.events.iter().map(|event| Some(event.hold)).collect(),
    };
    codes.sort_unstable();
    codes.dedup();
    let entering = if question.open { question.steps.len() } else { 1 };
    let mut all: Vec<Chain> = Vec::new();
    for entered in 0..entering {
        let mut chains: Vec<Chain> = codes.iter().flat_map(|code| search.chains(entered, *code)).collect();
        if question.reentry == Reentry::FirstEntry {
            let first = chains.iter().map(|chain| chain.times[0]).min();
            chains.retain(|chain| Some(chain.times[0]) == first);
        }
        all.extend(chains);
    }
    let best = best(&all)?;
    let same_funnel = codes.iter().flat_map(|code| search.chains(best.entered, *code)).collect();
    Some(outcome(search, &all, same_funnel, best, ordinal, i64::MAX, open))
}

/// Furthest step, earliest entering step, earliest completion, latest entry, lowest code, earliest instants.
fn best(chains: &[Chain]) -> Option<Chain> {
    let furthest = |chain: &Chain| chain.entered + chain.times.len();
    let rank = |chain: &Chain| {
        let completion = chain.times[chain.times.len() - 1];
        let late = std::cmp::Reverse(chain.times[0]);
        (std::cmp::Reverse(furthest(chain)), chain.entered, completion, late, chain.code, chain.times.clone())
    };
    chains.iter().min_by_key(|chain| rank(chain)).cloned()
}

fn outcome(
    search: &Search<'_>,
    all: &[Chain],
    same_funnel: Vec<Chain>,
    best: Chain,
    ordinal: usize,
    end_ms: i64,
    open: bool,
) -> UnitOutcome {
    let question = search.plan.question();
    let first_entry_ms = same_funnel.iter().map(|chain| chain.times[0]).min().unwrap_or(0);
    let complete = search.levels(best.entered).len();
    let from_first =
        same_funnel.iter().filter(|chain| chain.times[0] == first_entry_ms && chain.times.len() == complete);
    let first_converted_ms = from_first.map(|chain| chain.times[complete - 1]).min();
    let Verdict { state, step_ms, break_down } =
        verdict(search, &best, open && all.iter().any(|chain| search.alive(chain)), end_ms);
    UnitOutcome {
        entered_step: best.entered,
        level: best.entered + best.times.len(),
        state,
        entry_ms: best.times[0],
        completion_ms: best.times[best.times.len() - 1],
        step_ms,
        break_down,
        hold_code: best.code.unwrap_or(0),
        ordinal,
        removed: removed(question, state),
        first_entry_ms,
        first_converted_ms,
    }
}

fn removed(question: &Question, state: State) -> bool {
    question.exclusion_effect == ExclusionEffect::RemoveVisitor && state == State::Excluded
}

fn attempts(plan: &Plan, events: &[Event]) -> Vec<UnitOutcome> {
    let mut outcomes = Vec::new();
    let mut ended = i64::MIN;
    loop {
        let search = Search::new(plan, events, events, ended);
        let chains = search.chains(0, None);
        let mut entries: Vec<i64> = chains.iter().map(|chain| chain.times[0]).collect();
        entries.sort_unstable();
        entries.dedup();
        let Some(first) = entries.first().copied() else {
            return outcomes;
        };
        if plan.question().reentry == Reentry::FirstEntry {
            entries.truncate(1);
        }
        let complete = search.levels(0).len();
        let (mut end, mut converted) = (first, i64::MAX);
        let mut members = Vec::new();
        for entry in entries {
            if entry > end || entry > converted {
                break;
            }
            for chain in chains.iter().filter(|chain| chain.times[0] == entry) {
                if chain.times.len() == complete {
                    converted = converted.min(chain.times[complete - 1]);
                } else {
                    end = end.max(search.alive_until(chain));
                }
                members.push(chain.clone());
            }
        }
        end = if converted < i64::MAX { converted } else { end };
        members.retain(|chain| chain.times[chain.times.len() - 1] <= end);
        let of_first = members.iter().filter(|chain| chain.times[0] == first).cloned().collect();
        if let Some(best) = best(&members) {
            outcomes.push(outcome(&search, &members, of_first, best, outcomes.len(), end, true));
        }
        ended = end;
    }
}
