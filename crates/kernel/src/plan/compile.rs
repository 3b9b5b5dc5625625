//! From a question to a plan: limits, what is undefined, then the funnels.

use super::{EXCLUSIONS, Edge, Funnel, LONGEST_MS, Matcher, OpenWith, Plan, PlanError, STEPS, Segment, Span};
use crate::question::{BreakDown, Question, Rule, Tie, Unit};
use crate::slice::INSTANT_BOUND_MS;

pub(super) fn plan(mut question: Question) -> Result<Plan, PlanError> {
    limits(&question)?;
    groups(&question)?;
    optional_steps(&question)?;
    exclusions(&question)?;
    combinations(&question)?;
    for instant in [&mut question.from_ms, &mut question.until_ms, &mut question.as_of_ms] {
        *instant = (*instant).clamp(-INSTANT_BOUND_MS, INSTANT_BOUND_MS);
    }
    if let Some(trend) = &mut question.trend {
        trend.origin_ms = trend.origin_ms.clamp(-INSTANT_BOUND_MS, INSTANT_BOUND_MS);
    }
    question.groups.sort_by_key(|group| group.start);
    let mut group_of = vec![0; question.steps.len()];
    for group in &question.groups {
        let bits = group.clone().fold(0u32, |bits, step| bits | 1 << step);
        group_of[group.clone()].fill(bits);
    }
    let first_ever = question
        .steps
        .iter()
        .enumerate()
        .filter(|(_, step)| step.first_ever)
        .fold(0, |bits, (at, _)| bits | 1 << at);
    let last_entering = if question.open { question.steps.len() } else { 1 };
    let funnels: Vec<_> = (0..last_entering).map(|entering| funnel(&question, entering)).collect();
    let steps_until_ms = if question.steps_until { i64::MAX } else { question.until_ms };
    Ok(Plan {
        visible_until_ms: question.as_of_ms.min(steps_until_ms),
        steps_until_ms,
        matcher: Matcher::new(&question),
        group_of,
        first_ever,
        needs_scope: question.steps.iter().any(|step| step.direct),
        required: funnels[0].length(),
        funnels,
        question,
    })
}

fn limits(question: &Question) -> Result<(), PlanError> {
    let steps = question.steps.len();
    if !STEPS.contains(&steps) {
        return Err(PlanError::Steps { value: steps });
    }
    if question.exclusions.len() > EXCLUSIONS {
        return Err(PlanError::Exclusions { value: question.exclusions.len() });
    }
    duration("window", question.window_ms, 0)?;
    duration("grace", question.grace_ms, 0)?;
    duration("grain", question.grain_ms, 1)?;
    if let Unit::Session { gap_ms } = question.unit {
        duration("session gap", gap_ms, 0)?;
    }
    for step in &question.steps {
        duration("step maximum", step.max_ms.unwrap_or(0), 0)?;
    }
    if let Some(trend) = question.trend {
        duration("trend bucket", trend.bucket_ms, 1)?;
    }
    if question.from_ms > question.until_ms {
        return Err(PlanError::Range { from_ms: question.from_ms, until_ms: question.until_ms });
    }
    match question.break_down {
        Some(BreakDown::AtStep(step)) if step >= steps => Err(PlanError::BreakDownStep { step }),
        _ => Ok(()),
    }
}

fn duration(of: &'static str, value_ms: i64, least: i64) -> Result<(), PlanError> {
    if (least..=LONGEST_MS).contains(&value_ms) { Ok(()) } else { Err(PlanError::Duration { of, value_ms }) }
}

fn groups(question: &Question) -> Result<(), PlanError> {
    let steps = &question.steps;
    for (at, group) in question.groups.iter().enumerate() {
        let overlaps = |other: &std::ops::Range<usize>| group.start < other.end && other.start < group.end;
        if group.len() < 2 || group.end > steps.len() || question.groups[..at].iter().any(overlaps) {
            return Err(PlanError::Group { group: at });
        }
        for inside in group.clone() {
            if steps[inside].optional {
                return Err(PlanError::OptionalConstrained { step: inside });
            }
            if steps[inside].direct || steps[inside].max_ms.is_some() {
                return Err(PlanError::EdgeInGroup { step: inside });
            }
            let shares = |outside: &usize| share_a_kind(&steps[inside].rule, &steps[*outside].rule);
            if let Some(outside) = (0..steps.len()).filter(|step| !group.contains(step)).find(shares) {
                return Err(PlanError::SharedWithGroup { inside, outside });
            }
        }
    }
    Ok(())
}

/// Whether one event could match both rules as far as its kind is concerned.
fn share_a_kind(left: &Rule, right: &Rule) -> bool {
    left.any_of.iter().any(|left| {
        right
            .any_of
            .iter()
            .any(|right| left.kind.is_none() || right.kind.is_none() || left.kind == right.kind)
    })
}

fn optional_steps(question: &Question) -> Result<(), PlanError> {
    let last = question.steps.len() - 1;
    for (at, step) in question.steps.iter().enumerate() {
        if step.optional && (at == 0 || at == last) {
            return Err(PlanError::OptionalAtEnd { step: at });
        }
        if step.optional && (step.direct || step.max_ms.is_some()) {
            return Err(PlanError::OptionalConstrained { step: at });
        }
        if at > 0 && step.direct && question.steps[at - 1].optional {
            return Err(PlanError::DirectAfterOptional { step: at });
        }
    }
    Ok(())
}

fn exclusions(question: &Question) -> Result<(), PlanError> {
    for (at, exclusion) in question.exclusions.iter().enumerate() {
        let (after, before) = (exclusion.after_step, exclusion.before_step);
        if after >= before || before >= question.steps.len() {
            return Err(PlanError::ExclusionSteps { exclusion: at });
        }
        // A group is covered whole or not at all: it may end where an exclusion begins and begin where one ends.
        let splits_after =
            question.groups.iter().any(|group| group.contains(&after) && after + 1 != group.end);
        let splits_before =
            question.groups.iter().any(|group| group.contains(&before) && before != group.start);
        for (step, splits) in [(after, splits_after), (before, splits_before)] {
            if splits || question.steps[step].optional {
                return Err(PlanError::ExclusionEndpoint { exclusion: at, step });
            }
        }
    }
    Ok(())
}

fn combinations(question: &Question) -> Result<(), PlanError> {
    let refusals = [
        (question.open && !question.groups.is_empty(), PlanError::Open { with: OpenWith::Groups }),
        (
            question.open && question.steps.iter().any(|step| step.optional),
            PlanError::Open { with: OpenWith::OptionalSteps },
        ),
        (question.open && question.unit == Unit::Entry, PlanError::Open { with: OpenWith::EntryUnit }),
        (question.open && question.grace_ms > 0, PlanError::Open { with: OpenWith::Grace }),
        (question.unit == Unit::Held && !question.hold, PlanError::HeldWithoutHold),
        (question.unit == Unit::Entry && question.hold, PlanError::EntryWithHold),
        (question.grace_ms > 0 && !question.groups.is_empty(), PlanError::GraceWithGroups),
        (question.grace_ms > 0 && question.tie == Tie::StrictlyAfter, PlanError::GraceWithStrictlyAfter),
        (question.grace_ms > 0 && question.unit == Unit::Entry, PlanError::GraceWithEntry),
    ];
    match refusals.into_iter().find(|(refused, _)| *refused) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// The chain of required steps from `entering` on. Exclusions that begin before it are no part of it.
fn funnel(question: &Question, entering: usize) -> Funnel {
    let steps: Vec<usize> =
        (entering..question.steps.len()).filter(|step| !question.steps[*step].optional).collect();
    let level_of = |step: usize| steps.iter().position(|of| *of == step).map(|at| at + 1);
    let mut edges = vec![Edge::default(); steps.len() + 1];
    for (edge, step) in edges.iter_mut().skip(2).zip(steps.iter().skip(1)) {
        edge.direct = question.steps[*step].direct;
        edge.max_ms = question.steps[*step].max_ms;
    }
    for (exclusion, asked) in question.exclusions.iter().enumerate() {
        if let (Some(after), Some(before)) = (level_of(asked.after_step), level_of(asked.before_step)) {
            for (level, edge) in edges.iter_mut().enumerate().take(before + 1).skip(after + 1) {
                edge.spans.push(Span { exclusion, closes: level == before });
            }
        }
    }
    let mut segments: Vec<Segment> = Vec::new();
    for (level, step) in steps.iter().enumerate() {
        let group = question.groups.iter().find(|group| group.contains(step));
        match segments.last_mut() {
            Some(segment) if group.is_none() && !segment.any_order => segment.end += 1,
            Some(segment) if segment.any_order && group.is_some_and(|group| *step != group.start) => {
                segment.end += 1;
            }
            _ => segments.push(Segment { start: level, end: level + 1, any_order: group.is_some() }),
        }
    }
    Funnel { steps, edges, segments }
}
