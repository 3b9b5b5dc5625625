//! What denied consent keeps from the counts, and between which numbers the truth lies.
//!
//! Of people who denied consent to analytics only the names, hours and channels of their events are known. Each such event is one person's, so that each can change
//! a count of visitors by at most one. Where sessions matter it may be any event at all, whenever it happened. Whoever is counted more than is observed did at least
//! one of the steps up to there unobserved. Whoever is counted less was kept from it by an unobserved event that can do so: an exclusion, something in between where
//! nothing may be, or an earlier happening where only the first counts.

use std::ops::Range as Instants;

use runnel_contracts::proto::{
    funnel::v1 as funnel,
    query::v1::{self as query, Bounds},
};
use runnel_definitions::funnel::{Alternative, Checked, Range};
use runnel_journeys::{Condition, Loaded, Names, Unobserved};
use runnel_kernel::{Reentry, Unit};
use runnel_model::{Conversion, Counting, EventMatch, Predicate, Rule, Selector};

/// A name, or any, and whether something else is asked of the event.
type Wanted<'a> = (Option<&'a str>, bool);

/// Events that may match one of these, and those of them that do for certain.
fn count(unobserved: &Unobserved, names: &Names, wanted: &[Wanted<'_>], range: Instants<i64>) -> (u64, u64) {
    let matches = |code: u16, more: bool| {
        wanted.iter().any(|(name, conditions)| {
            let named = name.is_none_or(|name| names.find(name) == Some(code));
            named && (more || !conditions)
        })
    };
    let may = unobserved.count(range.clone(), |code| matches(code, true));
    (may, unobserved.count_within(range, |code| matches(code, false)))
}

/// As it is told; `None` when there is nothing to tell.
fn told((events, certain): (u64, u64), observed: u64) -> Option<query::Unobserved> {
    let share = events as f64 / (events + observed) as f64;
    (events > 0).then_some(query::Unobserved { events, certain, share })
}

fn bounds(low: u64, high: u64) -> Bounds {
    Bounds { low: low as f64, high: high as f64 }
}

fn matches(any_of: &[EventMatch]) -> Vec<Wanted<'_>> {
    any_of.iter().map(|one| (one.event.as_deref(), one.condition.is_some())).collect()
}

/// Whether a condition depends on where sessions begin.
fn asks_of_sessions(predicate: &Predicate) -> bool {
    let mut asks = false;
    predicate.columns(&mut |column: &Selector| asks |= matches!(column, Selector::Session(_)));
    asks
}

/// All events in a range.
pub(crate) fn of_all(
    unobserved: &Unobserved,
    names: &Names,
    range: Range,
    observed: u64,
) -> Option<query::Unobserved> {
    told(count(unobserved, names, &[(None, false)], range.from_ms..range.until_ms), observed)
}

/// The events that may change how often a conversion happens.
fn asked(conversion: &Conversion) -> Vec<Wanted<'_>> {
    let own = matches(conversion.matches());
    let any = own.is_empty() && !matches!(conversion.rule, Rule::Event(_));
    if any { vec![(None, true)] } else { own }
}

/// How many events that may be a conversion's are not in its counts.
pub(crate) fn may(unobserved: &Unobserved, names: &Names, conversion: &Conversion, range: Range) -> u64 {
    count(unobserved, names, &asked(conversion), range.from_ms..range.until_ms).0
}

/// The same for each bucket between ascending edges.
pub(crate) fn may_each(
    unobserved: &Unobserved,
    names: &Names,
    conversion: &Conversion,
    edges: &[i64],
) -> Vec<u64> {
    let wanted = asked(conversion);
    unobserved.in_buckets(edges, |code| {
        wanted.iter().any(|(name, _)| name.is_none_or(|name| names.find(name) == Some(code)))
    })
}

/// What is not in the counts of a conversion.
#[derive(Default)]
pub(crate) struct OfConversion {
    pub(crate) told: Option<query::Unobserved>,
    /// Between which numbers its happenings lie; `None` where nothing is unobserved, or one event may change any number of them.
    pub(crate) events: Option<Bounds>,
    /// Between which numbers its visitors lie; `None` where nothing is unobserved.
    pub(crate) visitors: Option<Bounds>,
}

/// What is not in the counts of a conversion, and between which numbers its happenings and visitors lie.
pub(crate) fn of_conversion(
    unobserved: &Unobserved,
    names: &Names,
    conversion: &Conversion,
    range: Range,
    (events, visitors): (u64, u64),
) -> OfConversion {
    let within = range.from_ms..range.until_ms;
    let ever = i64::MIN..range.as_of_ms;
    let own = matches(conversion.matches());
    let of_sessions =
        conversion.matches().iter().any(|one| one.condition.as_ref().is_some_and(asks_of_sessions));
    let every = count(unobserved, names, &[(None, true)], ever.clone()).0;
    if of_sessions || !matches!(conversion.rule, Rule::Event(_)) {
        // Where sessions begin, which of a visitor's they are and how they are told depends on every event, before the range as well.
        let (may, _) = count(unobserved, names, &asked(conversion), within);
        let around = || bounds(visitors.saturating_sub(every), visitors + every);
        return OfConversion {
            told: told((may, 0), events),
            events: None,
            visitors: (every > 0).then(around),
        };
    }
    let (may, certain) = count(unobserved, names, &own, within);
    let (certain, fewer) = match conversion.counting {
        Counting::EveryTime => (certain, 0),
        // Sessions that run together count less often, and so does what was the first before.
        Counting::OnceASession => (0, every),
        Counting::OnceAVisitor => (0, count(unobserved, names, &own, ever).0),
    };
    let around = |observed: u64, certain: u64| {
        (may + fewer > 0).then(|| bounds(observed.saturating_sub(fewer) + certain, observed + may))
    };
    OfConversion {
        told: told((may, certain), events),
        events: around(events, certain),
        visitors: around(visitors, 0),
    }
}

/// Tells in a funnel's answer what is not in its counts.
pub(crate) fn tell(
    unobserved: &Unobserved,
    loaded: &Loaded,
    checked: &Checked,
    range: Range,
    answer: &mut funnel::QueryFunnelResponse,
) {
    if unobserved.is_empty() {
        return;
    }
    let names = &loaded.names;
    let asked = |any_of: &[Alternative], within: Instants<i64>| {
        let wanted: Vec<Wanted<'_>> =
            any_of.iter().map(|one| (one.event.as_deref(), one.condition.is_some())).collect();
        count(unobserved, names, &wanted, within)
    };
    // Later steps may come behind the range, up to the end of their window.
    let entries = range.from_ms..range.until_ms;
    let all = range.from_ms..range.as_of_ms;
    let ever = i64::MIN..range.as_of_ms;
    let of_steps: Vec<(u64, u64)> = (checked.steps.iter().enumerate())
        .map(|(at, any_of)| asked(any_of, if at == 0 { entries.clone() } else { all.clone() }))
        .collect();
    let every: Vec<Alternative> = checked.steps.iter().flatten().cloned().collect();
    let observed = answer.steps.iter().map(|step| step.reached).sum();
    answer.unobserved = told(asked(&every, all.clone()), observed);
    for (step, found) in answer.steps.iter_mut().zip(&of_steps) {
        step.unobserved = told(*found, step.reached);
    }
    if !matches!(checked.unit(), Unit::Visitor) || checked.is_open() {
        return;
    }
    let keeps: u64 = checked.exclusions.iter().map(|(any_of, ..)| asked(any_of, ever.clone()).0).sum();
    let steps = &checked.resolved().steps;
    let first = |at: usize| steps[at].occurrence() == funnel::Occurrence::FirstEver;
    let first_only = |at: &usize| first(*at) || (*at == 0 && checked.choices.reentry == Reentry::FirstEntry);
    let earlier: u64 =
        (0..steps.len()).filter(first_only).map(|at| asked(&checked.steps[at], ever.clone()).0).sum();
    // Where sessions begin, and so what is told from them, depends on every event.
    let of_sessions = |condition: &Condition| match condition {
        Condition::Happens(_) => true,
        Condition::Where(predicate) => asks_of_sessions(predicate),
    };
    let told_from_sessions = checked.columns.conditions.iter().any(of_sessions);
    let every = count(unobserved, names, &[(None, true)], ever).0;
    let between = if told_from_sessions || steps.iter().any(|step| step.direct) { every } else { 0 };
    let fewer = keeps + earlier + between;
    // Which step of a group is done first is not known, so that each of them may be what brings a visitor to the group's first.
    let end = |at: usize| {
        let groups = &checked.resolved().any_order;
        let group =
            groups.iter().find(|group| (group.first as usize..=group.last as usize).contains(&(at + 1)));
        group.map_or(at + 1, |group| group.last as usize)
    };
    for (at, step) in answer.steps.iter_mut().enumerate() {
        let up_to = of_steps.iter().take(end(at)).map(|(may, _)| *may).sum();
        let more = if told_from_sessions { every } else { up_to };
        step.reached_with_unobserved =
            Some(bounds(step.reached.saturating_sub(fewer), step.reached.saturating_add(more)));
    }
    if let (Some(entered), Some(converted)) = (
        answer.steps.first().and_then(|step| step.reached_with_unobserved),
        answer.steps.last().and_then(|step| step.reached_with_unobserved),
    ) && entered.high > 0.0
    {
        let low = converted.low / entered.high;
        let high = if entered.low > 0.0 { (converted.high / entered.low).min(1.0) } else { 1.0 };
        answer.rate_with_unobserved = Some(Bounds { low, high });
    }
}
