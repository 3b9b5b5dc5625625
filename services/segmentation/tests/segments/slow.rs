//! The slow way: looks at every event of every visitor, and tries every chain.

use std::collections::{BTreeMap, BTreeSet};

use runnel_contracts::proto::{
    event::v1::value::Kind,
    funnel::v1::UnitState,
    query::v1::{Comparison, Operator, predicate},
    segmentation::v1::{
        Condition, CountOf, Occurrence, Reached, SegmentDefinition, Touch, condition::Node, occurrence::What,
        reached,
    },
};

use crate::world::{Event, GAP, NAMES, World};

impl World {
    /// The slow way.
    pub(crate) fn expected(
        &self,
        definition: &SegmentDefinition,
        saved: &Saved,
        as_of_ms: i64,
    ) -> BTreeSet<String> {
        let belongs = |(id, events): (&String, &Vec<Event>)| {
            let sessions = sessions(events);
            let exist = events.iter().zip(sessions).filter(|(event, _)| event.time_ms < as_of_ms);
            let exist: Vec<(Event, Option<usize>)> = exist.map(|(event, at)| (event.clone(), at)).collect();
            let condition = definition.condition.as_ref().unwrap();
            let on = |list: &str| self.lists[list].contains(id);
            (!exist.is_empty() && holds(condition, &exist, (saved, &on), as_of_ms)).then(|| id.clone())
        };
        self.visitors.iter().filter_map(belongs).collect()
    }
}

pub(crate) type Saved = BTreeMap<String, SegmentDefinition>;

/// The session that each event belongs to.
fn sessions(events: &[Event]) -> Vec<Option<usize>> {
    let (mut last, mut number) = (None::<i64>, 0);
    let mut found = Vec::new();
    for event in events {
        let near = last.is_some_and(|last| event.time_ms - last <= GAP);
        if event.off_site {
            found.push(near.then_some(number));
            continue;
        }
        number += usize::from(last.is_some() && !near);
        last = Some(event.time_ms);
        found.push(Some(number));
    }
    found
}

fn is(event: &Event, any_of: &[Occurrence]) -> bool {
    any_of.iter().any(|one| match &one.what {
        Some(What::Event(wanted)) => {
            let value = wanted.r#where.as_ref().and_then(|condition| match &condition.node {
                Some(predicate::Node::Comparison(comparison)) => Some(compares(comparison, event.plan)),
                _ => None,
            });
            NAMES[event.name] == wanted.event && value.unwrap_or(true)
        }
        _ => unreachable!("only events are asked for"),
    })
}

fn compares(comparison: &Comparison, plan: Option<i64>) -> bool {
    let constant = comparison.values.first().and_then(|value| match value.kind {
        Some(Kind::IntValue(number)) => Some(number),
        _ => None,
    });
    match (comparison.operator(), plan, constant) {
        (Operator::Missing, plan, _) => plan.is_none(),
        (Operator::Exists, plan, _) => plan.is_some(),
        (Operator::NotEqual, plan, constant) => plan != constant,
        (Operator::Equal, plan, constant) => plan.is_some() && plan == constant,
        (Operator::Greater, plan, constant) => plan.zip(constant).is_some_and(|(plan, than)| plan > than),
        _ => unreachable!("only these are asked for"),
    }
}

/// Whether a condition holds of a visitor's events, where it is known what segments are saved and which lists the visitor is on.
fn holds(
    condition: &Condition,
    events: &[(Event, Option<usize>)],
    known: (&Saved, &dyn Fn(&str) -> bool),
    as_of_ms: i64,
) -> bool {
    let near = |event: &Event, within_ms: Option<i64>| {
        within_ms.is_none_or(|within_ms| as_of_ms - event.time_ms <= within_ms)
    };
    match condition.node.as_ref().unwrap() {
        Node::All(list) => list.parts.iter().all(|part| holds(part, events, known, as_of_ms)),
        Node::Any(list) => list.parts.iter().any(|part| holds(part, events, known, as_of_ms)),
        Node::Not(part) => !holds(part, events, known, as_of_ms),
        Node::Segment(name) => holds(known.0[name].condition.as_ref().unwrap(), events, known, as_of_ms),
        Node::List(name) => known.1(name),
        Node::Happened(asked) => {
            let counted =
                events.iter().filter(|(event, _)| is(event, &asked.any_of) && near(event, asked.within_ms));
            let count = match asked.count() {
                CountOf::Sessions => {
                    counted.filter_map(|(_, session)| *session).collect::<BTreeSet<_>>().len()
                }
                _ => counted.count(),
            };
            let at_least = asked.at_least.unwrap_or(u32::from(asked.at_most.is_none()));
            (at_least..=asked.at_most.unwrap_or(u32::MAX)).contains(&(count as u32))
        }
        Node::Absent(asked) => {
            let counted: Vec<&Event> =
                events.iter().map(|(event, _)| event).filter(|event| near(event, asked.within_ms)).collect();
            counted.iter().rposition(|event| is(event, &asked.after)).is_some_and(|latest| {
                as_of_ms - counted[latest].time_ms > asked.for_ms
                    && !counted[latest + 1..].iter().any(|event| is(event, &asked.without))
            })
        }
        Node::Has(asked) => {
            let comparison = asked.value.as_ref().unwrap();
            let mut valued = events.iter().filter_map(|(event, _)| event.plan);
            match asked.touch() {
                Touch::Any => events.iter().any(|(event, _)| compares(comparison, event.plan)),
                Touch::First => compares(comparison, valued.next()),
                _ => compares(comparison, valued.next_back()),
            }
        }
        Node::Reached(asked) => reached(asked, events, as_of_ms),
        Node::InStage(_) => unreachable!("the catalogue is empty"),
    }
}

/// How far a chain of the funnel's steps comes, by trying every entry, and whether one can come further.
fn reached(asked: &Reached, events: &[(Event, Option<usize>)], as_of_ms: i64) -> bool {
    let Some(reached::Funnel::Inline(funnel)) = &asked.funnel else { unreachable!("only inline") };
    let (window, last) = (funnel.window_ms.unwrap(), funnel.steps.len());
    let near = |event: &Event| asked.within_ms.is_none_or(|within_ms| as_of_ms - event.time_ms <= within_ms);
    let does = |event: &Event, step: usize| {
        let any_of = funnel.steps.get(step).into_iter().flat_map(|step| step.any_of.iter().cloned());
        let any_of: Vec<Occurrence> =
            any_of.map(|event| Occurrence { what: Some(What::Event(event)) }).collect();
        is(event, &any_of)
    };
    let (mut level, mut open) = (0, false);
    for (entry, (first, _)) in events.iter().enumerate() {
        if does(first, 0) && near(first) {
            level = level.max(depths(events, &does, (first.time_ms, window), &mut vec![entry]));
            open |= as_of_ms <= first.time_ms + window;
        }
    }
    let state = match level {
        0 => return false,
        level if level == last => UnitState::Converted,
        _ if open => UnitState::Open,
        _ => UnitState::Dropped,
    };
    let step = if asked.step == 0 { last } else { asked.step as usize };
    let not_step = if asked.not_step == 0 { usize::MAX } else { asked.not_step as usize };
    level >= step && level < not_step && (asked.states.is_empty() || asked.states().any(|one| one == state))
}

/// The most steps that a chain can do which begins with these events. Events of one instant may be taken in any order.
fn depths(
    events: &[(Event, Option<usize>)],
    does: &impl Fn(&Event, usize) -> bool,
    (first_ms, window): (i64, i64),
    chain: &mut Vec<usize>,
) -> usize {
    let mut most = chain.len();
    let last_ms = events[*chain.last().unwrap()].0.time_ms;
    for next in 0..events.len() {
        let time_ms = events[next].0.time_ms;
        let fits = time_ms >= last_ms && time_ms <= first_ms + window && !chain.contains(&next);
        if fits && does(&events[next].0, chain.len()) {
            chain.push(next);
            most = most.max(depths(events, does, (first_ms, window), chain));
            chain.pop();
        }
    }
    most
}
