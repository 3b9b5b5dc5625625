//! Random definitions.

use runnel_contracts::proto::{
    event::v1::{Value, value::Kind},
    funnel::v1::{FunnelDefinition, Step, UnitState},
    query::v1::{Comparison, EventMatch, Operator, Predicate, Selector, predicate, selector::Column},
    segmentation::v1::{
        Absent, Condition, Conditions, CountOf, Happened, Has, Occurrence, Reached, SegmentDefinition,
        SegmentRef, Touch, condition::Node, occurrence::What, reached, segment_ref,
    },
};
use runnel_harness::Random;

use crate::{
    slow::Saved,
    world::{LISTS, NAMES, SECOND},
};

pub(crate) fn duration(random: &mut Random) -> i64 {
    (1 + random.below(30) as i64) * SECOND * [1, 60, 600][random.below(3) as usize]
}

fn comparison(random: &mut Random) -> Comparison {
    let operators =
        [Operator::Missing, Operator::Exists, Operator::NotEqual, Operator::Equal, Operator::Greater];
    let operator = operators[random.below(5) as usize];
    let constant = Value { kind: Some(Kind::IntValue(random.below(3) as i64)) };
    let values = match operator {
        Operator::Missing | Operator::Exists => Vec::new(),
        _ => vec![constant],
    };
    let column = Some(Selector { column: Some(Column::Property("plan".to_owned())) });
    Comparison { column, operator: operator as i32, values }
}

pub(crate) fn event(random: &mut Random) -> EventMatch {
    let condition = (random.below(4) == 0)
        .then(|| Predicate { node: Some(predicate::Node::Comparison(comparison(random))) });
    let event = NAMES[random.below(4) as usize].to_owned();
    EventMatch { event, r#where: condition, conversion: String::new() }
}

fn any_of(random: &mut Random) -> Vec<Occurrence> {
    (0..1 + random.below(2)).map(|_| Occurrence { what: Some(What::Event(event(random))) }).collect()
}

/// Two or three steps within a while.
pub(crate) fn funnel(random: &mut Random) -> FunnelDefinition {
    let count = 2 + random.below(2);
    let steps = (0..count).map(|_| Step { any_of: vec![event(random)], ..Step::default() }).collect();
    FunnelDefinition { steps, window_ms: Some(duration(random)), ..FunnelDefinition::default() }
}

pub(crate) fn condition(random: &mut Random, depth: u32, saved: &Saved) -> Condition {
    let parts = |random: &mut Random| Conditions {
        parts: (0..1 + random.below(3)).map(|_| condition(random, depth + 1, saved)).collect(),
    };
    let within_ms = (random.below(2) == 0).then(|| duration(random));
    let node = match random.below(if depth < 3 { 11 } else { 7 }) {
        0 | 1 => {
            let at_least = (random.below(2) == 0).then(|| random.below(4) as u32);
            let at_most = (random.below(3) == 0).then(|| at_least.unwrap_or(0) + random.below(2) as u32);
            let count = if random.below(3) == 0 { CountOf::Sessions } else { CountOf::Unspecified };
            Node::Happened(Happened {
                any_of: any_of(random),
                at_least,
                at_most,
                within_ms,
                count: count as i32,
            })
        }
        2 => {
            let for_ms = duration(random);
            let within_ms = within_ms.map(|within_ms| within_ms + for_ms);
            Node::Absent(Absent { after: any_of(random), without: any_of(random), for_ms, within_ms })
        }
        3 => {
            let touch = [Touch::Unspecified, Touch::First, Touch::Any][random.below(3) as usize];
            Node::Has(Has { value: Some(comparison(random)), touch: touch as i32 })
        }
        4 => {
            let funnel = funnel(random);
            let count = funnel.steps.len() as u32;
            let step = random.below(u64::from(count) + 1) as u32;
            let not_step = if step > 0 && step < count && random.below(2) == 0 { step + 1 } else { 0 };
            let states = [UnitState::Open, UnitState::Dropped, UnitState::Converted];
            let states = states.iter().filter(|_| random.below(3) == 0).map(|one| *one as i32).collect();
            let funnel = Some(reached::Funnel::Inline(funnel));
            Node::Reached(Box::new(Reached { funnel, step, not_step, states, within_ms }))
        }
        5 => match saved.keys().nth(random.below(saved.len() as u64 + 1) as usize) {
            Some(name) => Node::Segment(name.clone()),
            None => Node::Has(Has { value: Some(comparison(random)), touch: 0 }),
        },
        6 => Node::List(LISTS[random.below(2) as usize].to_owned()),
        7 | 8 => Node::All(parts(random)),
        9 => Node::Any(parts(random)),
        _ => Node::Not(Box::new(condition(random, depth + 1, saved))),
    };
    Condition { node: Some(node) }
}

pub(crate) fn inline(definition: &SegmentDefinition) -> SegmentRef {
    SegmentRef { segment: Some(segment_ref::Segment::Inline(definition.clone())) }
}
