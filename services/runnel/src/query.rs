//! From the options of `ask` to the request.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use runnel_contracts::proto::{
    event::v1::{OffSite, Value, value::Kind},
    funnel::v1::{
        AnyOrderGroup, BreakDown, BreakDownAt, CountedStep, Exclusion, ExclusionEffect, FunnelDefinition,
        Profile, Reentry, Step, Tie, TrendInterval, Unit,
    },
    query::v1::{
        Comparison, Dimension, EventMatch, Operator, Predicate, Predicates, Selector, TimeRange,
        predicate::Node, selector::Column,
    },
};
use runnel_model::parse_duration_ms;

use crate::{json, when::parse_instant};

/// Which funnel, over which range.
#[derive(Debug, Clone, Args)]
pub(crate) struct FunnelArgs {
    /// Steps in order, separated by commas. Each is an event name; `@a` is a conversion of the catalogue; `a|b` is either; `a?` may be
    /// skipped; `a[price>=10][channel=email]` adds conditions (=, !=, <, <=, >, >=, ^= starts with, *= contains).
    #[arg(long, value_delimiter = ',', required_unless_present_any = ["name", "definition"])]
    pub(crate) steps: Vec<String>,
    /// What happened before the first step and is known by daily counts only, separated by commas: ad_impression, ad_click and the like, each also with
    /// [source=…][medium=…][campaign=…].
    #[arg(long, value_delimiter = ',', conflicts_with = "name")]
    pub(crate) counted: Vec<String>,
    /// A saved funnel instead of steps.
    #[arg(long, conflicts_with_all = ["steps", "definition"])]
    pub(crate) name: Option<String>,
    /// A file with a FunnelDefinition in JSON instead of steps; it can say everything.
    #[arg(long, conflicts_with = "steps")]
    pub(crate) definition: Option<PathBuf>,
    /// Time from the entry within which steps count: a number and ms, s, m, h or d. Default: the profile's, 7d.
    #[arg(long, value_parser = duration, allow_hyphen_values = true)]
    pub(crate) window: Option<i64>,
    /// What is counted.
    #[arg(long, value_enum)]
    pub(crate) unit: Option<UnitArg>,
    /// How steps follow each other.
    #[arg(long, value_enum, default_value = "loose")]
    pub(crate) order: OrderArg,
    /// Whose habits fill what is left out.
    #[arg(long, value_enum)]
    pub(crate) profile: Option<ProfileArg>,
    /// Which entry of a unit counts.
    #[arg(long, value_enum)]
    pub(crate) reentry: Option<ReentryArg>,
    /// How events of the same millisecond are ordered.
    #[arg(long, value_enum)]
    pub(crate) tie: Option<TieArg>,
    /// An event that must not happen between first and last step; `event:2-3` between these steps. May be repeated.
    #[arg(long)]
    pub(crate) exclude: Vec<String>,
    /// Take excluded visitors out instead of counting them as excluded.
    #[arg(long)]
    pub(crate) remove_excluded: bool,
    /// A property that must be equal through the chain. May be repeated, up to 3.
    #[arg(long)]
    pub(crate) hold: Vec<String>,
    /// Units may enter at any step.
    #[arg(long)]
    pub(crate) open: bool,
    /// Longest gap inside a session, with --unit session. Else the tenant's setting, 30m unless it is set.
    #[arg(long, value_parser = duration, allow_hyphen_values = true)]
    pub(crate) session_gap: Option<i64>,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
}

/// Over which range.
#[derive(Debug, Clone, Args)]
pub(crate) struct RangeArgs {
    /// What happens from this instant on counts: 2026-03-01, 2026-03-01T12:00:00Z, or milliseconds since 1970.
    #[arg(long)]
    from: Option<String>,
    /// What happens before this instant counts.
    #[arg(long)]
    until: Option<String>,
    /// As if it were this instant. Default: now.
    #[arg(long)]
    as_of: Option<String>,
}

impl RangeArgs {
    /// Whether anything is said of it.
    pub(crate) fn is_said(&self) -> bool {
        self.from.is_some() || self.until.is_some() || self.as_of.is_some()
    }

    /// The range and the instant of the answer.
    pub(crate) fn read(&self, now_ms: i64) -> anyhow::Result<(TimeRange, Option<i64>)> {
        let instant = |name: &str, text: &Option<String>| {
            let parse =
                |text: &String| parse_instant(text, now_ms).with_context(|| format!("--{name} {text}"));
            text.as_ref().map(parse).transpose()
        };
        let range =
            TimeRange { from_ms: instant("from", &self.from)?, until_ms: instant("until", &self.until)? };
        Ok((range, instant("as-of", &self.as_of)?))
    }
}

/// Of which visitors.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct VisitorsArgs {
    /// Leave out visitors who are bots, as the property device or the user agent says.
    #[arg(long)]
    pub(crate) without_bots: bool,
}

/// Splits of an answer.
#[derive(Debug, Clone, Args)]
pub(crate) struct SplitArgs {
    /// Break down by this property, or by session.channel, session.first_channel, session.last_channel, session.device, session.os, session.browser, session.visit.
    #[arg(long)]
    pub(crate) by: Option<String>,
    /// Where the break-down takes its value.
    #[arg(long, value_enum, requires = "by")]
    pub(crate) by_at: Option<AtArg>,
    /// At which step, from 1, with --by-at step.
    #[arg(long, requires = "by")]
    pub(crate) by_step: Option<u32>,
    /// How many values get a row of their own. Default 10.
    #[arg(long, requires = "by")]
    pub(crate) top: Option<u32>,
    /// Add a trend by entry time.
    #[arg(long, value_enum)]
    pub(crate) trend: Option<TrendArg>,
}

macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident -> $wire:ident { $($(#[$text:meta])* $variant:ident => $to:ident),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
        pub(crate) enum $name { $($(#[$text])* $variant),* }

        impl From<$name> for $wire {
            fn from(choice: $name) -> $wire {
                match choice { $($name::$variant => $wire::$to),* }
            }
        }
    )*};
}

choices! {
    /// What is counted.
    UnitArg -> Unit {
        /// Visitors.
        Visitor => Visitor,
        /// Sessions.
        Session => Session,
        /// Attempts: each ends on conversion, time-out or exclusion.
        Entry => Entry,
        /// Pairs of visitor and held values.
        Held => Held,
    }
    /// Whose habits fill what is left out.
    ProfileArg -> Profile {
        /// This product's.
        Runnel => Runnel,
        /// PostHog's.
        Posthog => Posthog,
        /// Mixpanel's.
        Mixpanel => Mixpanel,
        /// ClickHouse's windowFunnel.
        Clickhouse => Clickhouse,
        /// Amplitude's.
        Amplitude => Amplitude,
        /// Google Analytics 4's.
        Ga4 => Ga4,
    }
    /// Which entry of a unit counts.
    ReentryArg -> Reentry {
        /// The one that gets furthest.
        BestChain => BestChain,
        /// The first.
        FirstEntry => FirstEntry,
    }
    /// How events of the same millisecond are ordered.
    TieArg -> Tie {
        /// As the steps need it.
        FavourOrder => FavourOrder,
        /// Not at all: a step must be later.
        StrictlyAfter => StrictlyAfter,
    }
    /// Where a break-down takes its value.
    AtArg -> BreakDownAt {
        /// From the event that did a step.
        Step => Step,
        /// The visitor's first value.
        FirstTouch => FirstTouch,
        /// The visitor's last value.
        LastTouch => LastTouch,
        /// From each step's own event.
        EachStep => EachStep,
    }
    /// The width of a trend's buckets.
    TrendArg -> TrendInterval {
        /// Hours.
        Hour => Hour,
        /// Days.
        Day => Day,
        /// Weeks from Monday.
        Week => Week,
    }
}

/// How steps follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OrderArg {
    /// In order, anything may happen between them.
    Loose,
    /// In order, nothing may happen between them.
    Direct,
    /// In any order.
    Any,
}

/// A number and ms, s, m, h or d, in milliseconds.
pub(crate) fn duration(text: &str) -> Result<i64, String> {
    parse_duration_ms(text).map_err(|fault| fault.to_string())
}

impl FunnelArgs {
    /// The definition, or `None` when a saved funnel is named.
    pub(crate) fn definition(&self) -> anyhow::Result<Option<FunnelDefinition>> {
        if self.name.is_some() {
            return Ok(None);
        }
        let mut definition = match &self.definition {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("{} cannot be read", path.display()))?;
                let read = json::from_json("runnel.funnel.v1.FunnelDefinition", &text);
                read.with_context(|| format!("{} is no FunnelDefinition in JSON", path.display()))?
            }
            None => FunnelDefinition {
                steps: self.steps.iter().map(|text| step(text)).collect::<anyhow::Result<_>>()?,
                ..FunnelDefinition::default()
            },
        };
        let steps = definition.steps.len() as u32;
        match self.order {
            OrderArg::Loose => {}
            OrderArg::Direct => definition.steps.iter_mut().skip(1).for_each(|step| step.direct = true),
            OrderArg::Any => definition.any_order = vec![AnyOrderGroup { first: 1, last: steps }],
        }
        definition.window_ms = self.window.or(definition.window_ms);
        definition.session_gap_ms = self.session_gap.or(definition.session_gap_ms);
        definition.open |= self.open;
        for text in &self.counted {
            definition.counted.push(counted(text)?);
        }
        definition.hold.extend(self.hold.iter().map(|name| column(name)));
        for text in &self.exclude {
            definition.exclusions.push(exclusion(text)?);
        }
        if let Some(unit) = self.unit {
            definition.set_unit(unit.into());
        }
        if let Some(profile) = self.profile {
            definition.set_profile(profile.into());
        }
        if let Some(reentry) = self.reentry {
            definition.set_reentry(reentry.into());
        }
        if let Some(tie) = self.tie {
            definition.set_tie(tie.into());
        }
        if self.remove_excluded {
            definition.set_exclusion_effect(ExclusionEffect::RemoveVisitor);
        }
        Ok(Some(definition))
    }
}

impl SplitArgs {
    /// The break-down, if one is asked for.
    pub(crate) fn break_down(&self) -> Option<BreakDown> {
        let mut asked = BreakDown {
            column: Some(column(self.by.as_ref()?)),
            step: self.by_step.unwrap_or(0),
            top: self.top.unwrap_or(0),
            ..BreakDown::default()
        };
        if let Some(at) = self.by_at {
            asked.set_at(at.into());
        }
        Some(asked)
    }

    /// The trend, if one is asked for.
    pub(crate) fn trend(&self) -> TrendInterval {
        self.trend.map_or(TrendInterval::Unspecified, Into::into)
    }
}

/// A property as a column, or a dimension of the session behind `session.`.
pub(crate) fn column(name: &str) -> Selector {
    let dimension = match name.strip_prefix("session.") {
        Some("channel") => Dimension::Channel,
        Some("device") => Dimension::Device,
        Some("visit") => Dimension::Visit,
        Some("first_channel") => Dimension::FirstChannel,
        Some("last_channel") => Dimension::LastChannel,
        Some("os") => Dimension::Os,
        Some("browser") => Dimension::Browser,
        _ => return property(name),
    };
    Selector { column: Some(Column::Dimension(dimension as i32)) }
}

fn property(name: &str) -> Selector {
    Selector { column: Some(Column::Property(name.to_owned())) }
}

/// `name`, `a|b`, `name?`, each with conditions in brackets.
pub(crate) fn step(text: &str) -> anyhow::Result<Step> {
    let (text, optional) = match text.trim().strip_suffix('?') {
        Some(rest) => (rest, true),
        None => (text.trim(), false),
    };
    let any_of = text.split('|').map(event).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Step { label: text.replace('@', ""), any_of, optional, ..Step::default() })
}

/// What happens away from the site, with a source, medium and campaign in brackets.
fn counted(text: &str) -> anyhow::Result<CountedStep> {
    let (name, rest) = text.split_at(text.find('[').unwrap_or(text.len()));
    let what = OffSite::from_str_name(&format!("OFF_SITE_{}", name.trim().to_uppercase()));
    let what = what.filter(|what| *what != OffSite::Unspecified);
    let what = what.with_context(|| format!("{name:?} is nothing that happens away from the site"))?;
    let mut step = CountedStep { what: what as i32, label: text.to_owned(), ..CountedStep::default() };
    for part in rest.split_terminator(']') {
        let said = part.strip_prefix('[').and_then(|part| part.split_once('='));
        let (name, value) = said.with_context(|| format!("write [campaign=spring], not {part:?}"))?;
        let place = match name.trim() {
            "source" => &mut step.source,
            "medium" => &mut step.medium,
            "campaign" => &mut step.campaign,
            other => bail!("daily counts have a source, a medium and a campaign, and no {other:?}"),
        };
        value.trim().clone_into(place);
    }
    Ok(step)
}

/// An event's name with conditions in brackets, or `@` and a conversion's name.
pub(crate) fn event(text: &str) -> anyhow::Result<EventMatch> {
    let text = text.trim();
    if let Some(conversion) = text.strip_prefix('@') {
        if conversion.is_empty() {
            bail!("@ needs a conversion's name behind it")
        }
        return Ok(EventMatch { conversion: conversion.to_owned(), ..EventMatch::default() });
    }
    let (name, mut rest) = text.split_at(text.find('[').unwrap_or(text.len()));
    if name.is_empty() {
        bail!("a step needs an event's name; {text:?} has none")
    }
    let mut parts = Vec::new();
    while let Some(open) = rest.strip_prefix('[') {
        let close =
            open.find(']').with_context(|| format!("the condition in {text:?} is not closed with ]"))?;
        parts.push(condition(&open[..close])?);
        rest = &open[close + 1..];
    }
    if !rest.is_empty() {
        bail!("{text:?} goes on with {rest:?} behind its conditions")
    }
    let r#where = match parts.len() {
        0 => None,
        1 => parts.pop(),
        _ => Some(Predicate { node: Some(Node::All(Predicates { parts })) }),
    };
    Ok(EventMatch { event: name.trim().to_owned(), r#where, conversion: String::new() })
}

/// A column compared with a value, as in price>=10.
pub(crate) fn condition(text: &str) -> anyhow::Result<Predicate> {
    const OPERATORS: [(&str, Operator); 8] = [
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("^=", Operator::Prefix),
        ("*=", Operator::Contains),
        ("=", Operator::Equal),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ];
    let found = OPERATORS.iter().filter_map(|(sign, operator)| Some((text.find(sign)?, *sign, *operator)));
    let Some((at, sign, operator)) = found.min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len())))
    else {
        bail!("a condition compares a property with a value, for example [price>=10]; {text:?} does not")
    };
    let (name, value) = (text[..at].trim(), text[at + sign.len()..].trim());
    let texts = matches!(operator, Operator::Prefix | Operator::Contains);
    let equal = matches!(operator, Operator::Equal | Operator::NotEqual);
    let mut values = vec![if texts { constant_text(value) } else { constant(value) }];
    let mut operator = operator;
    // The shell has no types: an equal sign means the text as well as the number or truth value it may stand for.
    if equal && !matches!(values[0].kind, Some(Kind::StringValue(_))) {
        values.push(constant_text(value));
        operator = if operator == Operator::Equal { Operator::In } else { Operator::NotIn };
    }
    let comparison = Comparison { column: Some(column(name)), operator: operator as i32, values };
    Ok(Predicate { node: Some(Node::Comparison(comparison)) })
}

fn constant_text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.trim_matches('"').to_owned())) }
}

fn constant(text: &str) -> Value {
    let kind = if let Ok(number) = text.parse() {
        Kind::IntValue(number)
    } else if let Some(number) = text.parse().ok().filter(|number: &f64| number.is_finite()) {
        Kind::DoubleValue(number)
    } else if let Ok(truth) = text.parse() {
        Kind::BoolValue(truth)
    } else {
        return constant_text(text);
    };
    Value { kind: Some(kind) }
}

/// `event` or `event:2-3`.
fn exclusion(text: &str) -> anyhow::Result<Exclusion> {
    let Some((name, steps)) = text.rsplit_once(':') else {
        return Ok(Exclusion { event: Some(event(text)?), after_step: 0, before_step: 0 });
    };
    let Some((after, before)) = steps.split_once('-') else {
        bail!("write an exclusion as event or event:2-3; {text:?} is neither")
    };
    Ok(Exclusion {
        event: Some(event(name)?),
        after_step: after.trim().parse().with_context(|| format!("{after:?} in {text:?} is no step"))?,
        before_step: before.trim().parse().with_context(|| format!("{before:?} in {text:?} is no step"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_say_alternatives_options_and_conditions() {
        let read = step("view[price>=10][channel=email]|quickview?").unwrap();
        assert!(read.optional);
        assert_eq!(read.any_of.len(), 2);
        assert!(matches!(read.any_of[0].r#where.as_ref().unwrap().node, Some(Node::All(_))));
        let number = condition("zip=0815").unwrap();
        let Some(Node::Comparison(comparison)) = number.node else { panic!("a comparison") };
        assert_eq!((comparison.operator(), comparison.values.len()), (Operator::In, 2));
        assert_eq!(comparison.values[1], constant_text("0815"));
        let named = step("@cart|buy").unwrap();
        assert_eq!((named.label.as_str(), named.any_of[0].conversion.as_str()), ("cart|buy", "cart"));
        for bad in ["", "@", "[a=1]", "view[a=1", "view[a=1]x", "view[a]"] {
            assert!(step(bad).is_err(), "{bad}");
        }
        let spring = counted("ad_click[source=google][campaign=spring sale]").unwrap();
        assert_eq!((spring.what(), &*spring.campaign), (OffSite::AdClick, "spring sale"));
        for bad in ["", "page_view", "ad_click[campaign", "ad_click[term=a]", "ad_click[campaign=a]b"] {
            assert!(counted(bad).is_err(), "{bad}");
        }
        let between = exclusion("refund:2-3").unwrap();
        assert_eq!((between.after_step, between.before_step), (2, 3));
        assert!(exclusion("refund:2").is_err());
    }
}
