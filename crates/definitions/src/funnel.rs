//! A funnel's definition: checked against every limit, its open choices filled by the profile, ready to be turned into a kernel question once names have codes.

use runnel_contracts::{
    proto::{
        funnel::v1 as wire,
        query::v1::{EventMatch, Predicate, Selector, TimeRange, predicate::Node, selector::Column},
    },
    question::selector,
    refusal::{Reason, Refusal},
};
use runnel_journeys::{ColumnsFor, Condition, Names};
use runnel_kernel::{
    BreakDown, Choices, Exclusion, ExclusionEffect, Match, Profile, Question, Reentry, Resolved, Rule, Step,
    Tie, Trend, Unit, ValueOf,
};
use runnel_model::{Operator, limits};

use crate::{catalogue::Catalogue, counted};

const HOUR_MS: i64 = 3_600_000;
/// A Monday, 1970-01-05, from which weeks are counted, in milliseconds since the Unix epoch.
const MONDAY_MS: i64 = 4 * 24 * HOUR_MS;

/// A definition that was checked.
#[derive(Debug, Clone)]
pub struct Checked {
    definition: wire::FunnelDefinition,
    /// Choices as the profile filled them.
    pub choices: Resolved,
    /// For each step the ways to do it.
    pub steps: Vec<Vec<Alternative>>,
    /// Events that must not happen, each between two steps, counted from 0.
    pub exclusions: Vec<(Vec<Alternative>, usize, usize)>,
    /// Columns that the question names.
    pub columns: ColumnsFor,
    break_down: Option<ValueOf>,
    trend: Option<Trend>,
    unit: Unit,
}

/// One way to do a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternative {
    /// The event's name; `None` for any.
    pub event: Option<String>,
    /// The index of a condition.
    pub condition: Option<u16>,
}

/// What a request asks about, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// Entries from here on count.
    pub from_ms: i64,
    /// Entries before this instant count.
    pub until_ms: i64,
    /// Events before this instant exist.
    pub as_of_ms: i64,
}

fn invalid(field: impl Into<String>, text: impl Into<String>) -> Refusal {
    Refusal::field(Reason::FunnelInvalid, field, text)
}

/// Fills a range: from the first event, until `as_of`, as of now.
pub fn range(asked: Option<&TimeRange>, as_of_ms: Option<i64>, now_ms: i64) -> Result<Range, Refusal> {
    let bound = |field: &str, time: i64| {
        if limits::TIME_RANGE_MS.contains(&time) {
            return Ok(time);
        }
        Err(Refusal::field(
            Reason::EventTimeOutOfRange,
            field,
            format!("{field} lies in the years 1 to 9999; it is {time}."),
        ))
    };
    let as_of_ms = bound("as_of_ms", as_of_ms.unwrap_or(now_ms))?;
    let from_ms = bound(
        "range.from_ms",
        asked.and_then(|range| range.from_ms).unwrap_or(*limits::TIME_RANGE_MS.start()),
    )?;
    let until_ms = bound("range.until_ms", asked.and_then(|range| range.until_ms).unwrap_or(as_of_ms))?;
    if from_ms > until_ms {
        let text = format!("range.from_ms ({from_ms}) lies after range.until_ms ({until_ms}).");
        return Err(invalid("range", text));
    }
    Ok(Range { from_ms, until_ms, as_of_ms })
}

/// Whether a question means something else with another catalogue.
pub fn needs_catalogue(definition: &wire::FunnelDefinition, break_down: Option<&wire::BreakDown>) -> bool {
    let events = definition.steps.iter().flat_map(|step| &step.any_of);
    let mut events = events.chain(definition.exclusions.iter().filter_map(|one| one.event.as_ref()));
    let of_sessions = |column: &Selector| matches!(column.column, Some(Column::Dimension(_)));
    let mut columns = definition.hold.iter().chain(break_down.and_then(|asked| asked.column.as_ref()));
    columns.any(of_sessions)
        || events.any(|event| {
            !event.conversion.is_empty() || event.r#where.as_ref().is_some_and(|one| names(one, &of_sessions))
        })
        || definition.steps.iter().any(|step| step.direct)
        || !definition.counted.is_empty()
        || (definition.unit() == wire::Unit::Session && definition.session_gap_ms.is_none())
}

/// Whether a condition names such a column. The message's decoder bounds its depth.
fn names(condition: &Predicate, such: &impl Fn(&Selector) -> bool) -> bool {
    match &condition.node {
        Some(Node::All(parts) | Node::Any(parts)) => parts.parts.iter().any(|part| names(part, such)),
        Some(Node::Not(part)) => names(part, such),
        Some(Node::Comparison(comparison)) => comparison.column.as_ref().is_some_and(such),
        None => false,
    }
}

/// Checks a definition together with the parts of a request that refer to it.
pub fn check(
    definition: &wire::FunnelDefinition,
    break_down: Option<&wire::BreakDown>,
    trend: wire::TrendInterval,
    catalogue: &Catalogue,
) -> Result<Checked, Refusal> {
    let mut columns = ColumnsFor { settings: catalogue.settings.clone(), ..ColumnsFor::default() };
    if definition.steps.iter().any(|step| step.direct) && !catalogue.conversions.is_empty() {
        let all = catalogue.conversions.values();
        columns.scope = Some(all.map(|known| known.conversion.clone()).collect());
    }
    if !limits::STEPS.contains(&definition.steps.len()) {
        let (least, most) = (limits::STEPS.start(), limits::STEPS.end());
        let text = format!("A funnel has {least} to {most} steps; this one has {}.", definition.steps.len());
        return Err(invalid("definition.steps", text));
    }
    if definition.exclusions.len() > limits::EXCLUSIONS {
        let text = format!(
            "A funnel has at most {} exclusions; this one has {}.",
            limits::EXCLUSIONS,
            definition.exclusions.len()
        );
        return Err(invalid("definition.exclusions", text));
    }
    if definition.hold.len() > limits::HOLDS {
        let text = format!(
            "A funnel holds at most {} columns; this one holds {}.",
            limits::HOLDS,
            definition.hold.len()
        );
        return Err(invalid("definition.hold", text));
    }
    counted::check(definition)?;
    duration("definition.window_ms", definition.window_ms, limits::WINDOW_MS)?;
    duration("definition.grace_ms", definition.grace_ms, limits::GRACE_MS)?;
    duration("definition.session_gap_ms", definition.session_gap_ms, limits::WINDOW_MS)?;
    let mut steps = Vec::new();
    for (at, step) in definition.steps.iter().enumerate() {
        let field = format!("definition.steps[{at}]");
        duration(&format!("{field}.max_ms"), step.max_ms, limits::WINDOW_MS)?;
        if step.any_of.is_empty() || step.any_of.len() > limits::ALTERNATIVES {
            let text = format!(
                "A step has 1 to {} alternatives; this one has {}.",
                limits::ALTERNATIVES,
                step.any_of.len()
            );
            return Err(invalid(format!("{field}.any_of"), text));
        }
        known(&field, "occurrence", step.occurrence, wire::Occurrence::try_from(step.occurrence).is_ok())?;
        let mut done = Vec::new();
        for (at, event) in step.any_of.iter().enumerate() {
            done.extend(alternatives(&format!("{field}.any_of[{at}]"), event, catalogue, &mut columns)?);
        }
        steps.push(done);
    }
    let mut exclusions = Vec::new();
    for (at, exclusion) in definition.exclusions.iter().enumerate() {
        let field = format!("definition.exclusions[{at}]");
        let Some(event) = &exclusion.event else {
            return Err(Refusal::field(
                Reason::FieldMissing,
                format!("{field}.event"),
                "The exclusion has no event.",
            ));
        };
        let last = definition.steps.len() as u32;
        let after = exclusion.after_step.max(1);
        let before = if exclusion.before_step == 0 { last } else { exclusion.before_step };
        if after >= before || before > last {
            let text = format!(
                "An exclusion lies after one step and before a later one of the {last}; this one runs from {after} to {before}."
            );
            return Err(invalid(field, text));
        }
        let event = alternatives(&format!("{field}.event"), event, catalogue, &mut columns)?;
        exclusions.push((event, after as usize - 1, before as usize - 1));
    }
    for (at, held) in definition.hold.iter().enumerate() {
        columns.hold.push(selector(&format!("definition.hold[{at}]"), Some(held))?);
    }
    let unit = unit(definition, catalogue.settings.session_gap_ms)?;
    columns.sessions = matches!(unit, Unit::Session { .. });
    let break_down = match break_down {
        None => None,
        Some(asked) => {
            columns.break_down = Some(selector("break_down.column", asked.column.as_ref())?);
            Some(self::break_down(asked, definition.steps.len())?)
        }
    };
    let choices = resolve(definition, break_down.flatten())?;
    Ok(Checked {
        definition: resolved(definition, &choices, unit),
        break_down: break_down.map(|_| choices.break_down),
        choices,
        steps,
        exclusions,
        columns,
        trend: self::trend(trend),
        unit,
    })
}

fn duration(field: &str, value: Option<i64>, most: i64) -> Result<(), Refusal> {
    match value {
        Some(value) if !(0..=most).contains(&value) => {
            let text = format!("{field} is 0 to {most} milliseconds; it is {value}.");
            Err(Refusal::field(Reason::FunnelInvalid, field, text))
        }
        _ => Ok(()),
    }
}

fn known(at: &str, name: &str, number: i32, known: bool) -> Result<(), Refusal> {
    if known {
        return Ok(());
    }
    Err(Refusal::field(
        Reason::EnumUnknown,
        format!("{at}.{name}"),
        format!("{name} has no value number {number}."),
    ))
}

/// The ways in which an event of a request can happen: by its name and condition, or as a conversion does.
fn alternatives(
    at: &str,
    event: &EventMatch,
    catalogue: &Catalogue,
    columns: &mut ColumnsFor,
) -> Result<Vec<Alternative>, Refusal> {
    let conversion = catalogue.happening(at, event)?;
    // What depends on single events only is asked for by name, which is the fastest way.
    Ok(match conversion.events() {
        Some(any_of) => any_of.iter().map(|one| alternative(one.clone(), columns)).collect(),
        None => {
            let condition = Some(condition(Condition::Happens(conversion.clone().into()), columns));
            vec![Alternative { event: None, condition }]
        }
    })
}

fn alternative(one: runnel_model::EventMatch, columns: &mut ColumnsFor) -> Alternative {
    let condition = one.condition.map(|asked| condition(Condition::Where(asked), columns));
    Alternative { event: one.event, condition }
}

/// The index of a condition; equal ones have one.
fn condition(asked: Condition, columns: &mut ColumnsFor) -> u16 {
    let known = columns.conditions.iter().position(|known| *known == asked);
    let index = known.unwrap_or(columns.conditions.len());
    if index == columns.conditions.len() {
        columns.conditions.push(asked);
    }
    index as u16
}

/// Regular expressions are compiled once here, so that a bad one is refused before anything is loaded.
pub fn patterns(at: &str, condition: &runnel_model::Predicate) -> Result<(), Refusal> {
    use runnel_model::Predicate as Condition;
    match condition {
        Condition::All(parts) | Condition::Any(parts) => parts.iter().try_for_each(|part| patterns(at, part)),
        Condition::Not(part) => patterns(at, part),
        Condition::Compare { operator: Operator::Regex, values, .. } => values.iter().try_for_each(|value| {
            let compiled = runnel_journeys::regex(&value.show());
            compiled
                .map(drop)
                .map_err(|fault| Refusal::field(Reason::PredicateInvalid, at, format!("{fault}.")))
        }),
        Condition::Compare { .. } => Ok(()),
    }
}

fn unit(definition: &wire::FunnelDefinition, session_gap_ms: i64) -> Result<Unit, Refusal> {
    known("definition", "unit", definition.unit, wire::Unit::try_from(definition.unit).is_ok())?;
    Ok(match definition.unit() {
        wire::Unit::Unspecified | wire::Unit::Visitor => Unit::Visitor,
        wire::Unit::Session => Unit::Session { gap_ms: definition.session_gap_ms.unwrap_or(session_gap_ms) },
        wire::Unit::Entry => Unit::Entry,
        wire::Unit::Held => Unit::Held,
    })
}

fn break_down(asked: &wire::BreakDown, steps: usize) -> Result<Option<ValueOf>, Refusal> {
    if asked.top as usize > limits::BREAK_DOWN_ROWS {
        let text = format!(
            "A break-down has at most {} rows; {} were asked for.",
            limits::BREAK_DOWN_ROWS,
            asked.top
        );
        return Err(Refusal::field(Reason::NumberOutOfRange, "break_down.top", text));
    }
    if asked.step as usize > steps {
        let text = format!("The funnel has {steps} steps; the break-down names step {}.", asked.step);
        return Err(Refusal::field(Reason::NumberOutOfRange, "break_down.step", text));
    }
    known("break_down", "at", asked.at, wire::BreakDownAt::try_from(asked.at).is_ok())?;
    Ok(match asked.at() {
        wire::BreakDownAt::Unspecified if asked.step == 0 => None,
        wire::BreakDownAt::Unspecified | wire::BreakDownAt::Step => {
            Some(ValueOf::Unit(BreakDown::AtStep(asked.step.max(1) as usize - 1)))
        }
        wire::BreakDownAt::FirstTouch => Some(ValueOf::Unit(BreakDown::FirstTouch)),
        wire::BreakDownAt::LastTouch => Some(ValueOf::Unit(BreakDown::LastTouch)),
        wire::BreakDownAt::EachStep => Some(ValueOf::EachStep),
    })
}

fn trend(interval: wire::TrendInterval) -> Option<Trend> {
    match interval {
        wire::TrendInterval::Unspecified => None,
        wire::TrendInterval::Hour => Some(Trend { origin_ms: 0, bucket_ms: HOUR_MS }),
        wire::TrendInterval::Day => Some(Trend { origin_ms: 0, bucket_ms: 24 * HOUR_MS }),
        wire::TrendInterval::Week => Some(Trend { origin_ms: MONDAY_MS, bucket_ms: 7 * 24 * HOUR_MS }),
    }
}

fn resolve(definition: &wire::FunnelDefinition, break_down: Option<ValueOf>) -> Result<Resolved, Refusal> {
    for (name, number, is_known) in [
        ("profile", definition.profile, wire::Profile::try_from(definition.profile).is_ok()),
        ("reentry", definition.reentry, wire::Reentry::try_from(definition.reentry).is_ok()),
        ("tie", definition.tie, wire::Tie::try_from(definition.tie).is_ok()),
        (
            "exclusion_effect",
            definition.exclusion_effect,
            wire::ExclusionEffect::try_from(definition.exclusion_effect).is_ok(),
        ),
    ] {
        known("definition", name, number, is_known)?;
    }
    let profile = match definition.profile() {
        wire::Profile::Unspecified | wire::Profile::Runnel => Profile::Runnel,
        wire::Profile::Posthog => Profile::Posthog,
        wire::Profile::Mixpanel => Profile::Mixpanel,
        wire::Profile::Clickhouse => Profile::Clickhouse,
        wire::Profile::Amplitude => Profile::Amplitude,
        wire::Profile::Ga4 => Profile::Ga4,
    };
    let choices = Choices {
        window_ms: definition.window_ms,
        reentry: match definition.reentry() {
            wire::Reentry::Unspecified => None,
            wire::Reentry::BestChain => Some(Reentry::BestChain),
            wire::Reentry::FirstEntry => Some(Reentry::FirstEntry),
        },
        tie: match definition.tie() {
            wire::Tie::Unspecified => None,
            wire::Tie::FavourOrder => Some(Tie::FavourOrder),
            wire::Tie::StrictlyAfter => Some(Tie::StrictlyAfter),
        },
        grace_ms: definition.grace_ms,
        reuse: None,
        exclusion_effect: match definition.exclusion_effect() {
            wire::ExclusionEffect::Unspecified => None,
            wire::ExclusionEffect::DropAtStep => Some(ExclusionEffect::DropAtStep),
            wire::ExclusionEffect::RemoveVisitor => Some(ExclusionEffect::RemoveVisitor),
        },
        steps_until: None,
        break_down,
    };
    profile.resolve(&choices).map_err(|fault| {
        Refusal::field(Reason::FieldMissing, "definition.window_ms", format!("The {fault}."))
    })
}

/// The definition with every choice written out.
fn resolved(definition: &wire::FunnelDefinition, choices: &Resolved, unit: Unit) -> wire::FunnelDefinition {
    let mut resolved = definition.clone();
    resolved.window_ms = Some(choices.window_ms);
    resolved.grace_ms = Some(choices.grace_ms);
    resolved.set_profile(if definition.profile == 0 { wire::Profile::Runnel } else { definition.profile() });
    resolved.set_reentry(match choices.reentry {
        Reentry::BestChain => wire::Reentry::BestChain,
        Reentry::FirstEntry => wire::Reentry::FirstEntry,
    });
    resolved.set_tie(match choices.tie {
        Tie::FavourOrder => wire::Tie::FavourOrder,
        Tie::StrictlyAfter => wire::Tie::StrictlyAfter,
    });
    resolved.set_exclusion_effect(match choices.exclusion_effect {
        ExclusionEffect::DropAtStep => wire::ExclusionEffect::DropAtStep,
        ExclusionEffect::RemoveVisitor => wire::ExclusionEffect::RemoveVisitor,
    });
    if let Unit::Session { gap_ms } = unit {
        resolved.session_gap_ms = Some(gap_ms);
    }
    resolved.set_unit(match unit {
        Unit::Visitor => wire::Unit::Visitor,
        Unit::Session { .. } => wire::Unit::Session,
        Unit::Entry => wire::Unit::Entry,
        Unit::Held => wire::Unit::Held,
    });
    for step in &mut resolved.steps {
        if step.label.is_empty() {
            step.label = label(step);
        }
        if step.occurrence == 0 {
            step.set_occurrence(wire::Occurrence::Any);
        }
    }
    for step in resolved.counted.iter_mut().filter(|step| step.label.is_empty()) {
        step.label = counted::label(step);
    }
    for exclusion in &mut resolved.exclusions {
        exclusion.after_step = exclusion.after_step.max(1);
        if exclusion.before_step == 0 {
            exclusion.before_step = definition.steps.len() as u32;
        }
    }
    resolved
}

fn label(step: &wire::Step) -> String {
    let name = |event: &EventMatch| match (event.conversion.as_str(), event.event.as_str()) {
        ("", "") => "any event".to_owned(),
        ("", name) | (name, _) => name.to_owned(),
    };
    step.any_of.iter().map(name).collect::<Vec<_>>().join(" or ")
}

impl Checked {
    /// What is counted.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Whether units may enter behind the first step.
    pub fn is_open(&self) -> bool {
        self.definition.open
    }

    /// The definition with every choice written out.
    pub fn resolved(&self) -> &wire::FunnelDefinition {
        &self.definition
    }

    /// Every duration after which an entry may count otherwise without new events, in milliseconds.
    pub fn durations_ms(&self) -> impl Iterator<Item = i64> {
        self.definition.steps.iter().filter_map(|step| step.max_ms).chain([self.choices.window_ms])
    }

    /// The break-down's column, if there is one.
    pub fn break_down(&self) -> Option<&runnel_model::Selector> {
        self.columns.break_down.as_ref()
    }

    /// The steps behind the first one under whose own value units count, if they count so.
    pub fn steps_of_their_own(&self) -> impl Iterator<Item = usize> {
        let each = self.break_down == Some(ValueOf::EachStep);
        let required = self.definition.steps.iter().enumerate().filter(|(_, step)| !step.optional);
        required.map(|(at, _)| at).filter(move |at| each && *at > 0)
    }

    /// The question for the kernel, with names as codes. A name that never occurred matches nothing.
    pub fn question(&self, names: &Names, range: Range) -> Question {
        let rule = |alternatives: &[Alternative]| Rule {
            any_of: alternatives
                .iter()
                .filter_map(|Alternative { event, condition }| {
                    let kind = match event {
                        Some(name) => Some(names.find(name)?),
                        None => None,
                    };
                    Some(Match { kind, predicate: *condition })
                })
                .collect(),
        };
        let steps = self.definition.steps.iter().zip(&self.steps).map(|(step, alternatives)| Step {
            rule: rule(alternatives),
            optional: step.optional,
            direct: step.direct,
            max_ms: step.max_ms,
            first_ever: step.occurrence() == wire::Occurrence::FirstEver,
        });
        let groups = self.definition.any_order.iter();
        let exclusions = self.exclusions.iter().map(|(event, after_step, before_step)| Exclusion {
            rule: rule(event),
            after_step: *after_step,
            before_step: *before_step,
        });
        Question {
            steps: steps.collect(),
            window_ms: self.choices.window_ms,
            reentry: self.choices.reentry,
            groups: groups
                .map(|group| (group.first as usize).saturating_sub(1)..group.last as usize)
                .collect(),
            tie: self.choices.tie,
            grace_ms: self.choices.grace_ms,
            grain_ms: self.choices.grain_ms,
            reuse: self.choices.reuse,
            exclusions: exclusions.collect(),
            exclusion_effect: self.choices.exclusion_effect,
            unit: self.unit,
            hold: !self.columns.hold.is_empty(),
            open: self.definition.open,
            from_ms: range.from_ms,
            until_ms: range.until_ms,
            as_of_ms: range.as_of_ms,
            steps_until: self.choices.steps_until,
            break_down: self.break_down.map(|value| match value {
                ValueOf::Unit(break_down) => break_down,
                ValueOf::EachStep => BreakDown::AtStep(0),
            }),
            trend: self.trend,
            step_times: true,
        }
    }
}
