//! Conversions, matches of events and settings: from the wire to the model, within limits.

use std::fmt::Debug;

use runnel_model::{
    ChannelSettings, Conversion, Counting, CurrencyOf, EventMatch, Rule, SessionThreshold, Settings, Visit,
    Worth, limits,
};

use crate::{
    proto::{
        catalog::v1 as wire,
        event::v1::Money,
        query::v1::{self as query, Selector},
    },
    question::{predicate, selector},
    refusal::{Reason, Refusal},
};

fn invalid(at: impl Into<String>, text: impl Into<String>) -> Refusal {
    Refusal::field(Reason::ConversionInvalid, at, text)
}

fn missing(at: &str) -> Refusal {
    Refusal::field(Reason::FieldMissing, at, format!("{at} is missing."))
}

fn within<T: PartialOrd + Debug>(
    at: &str,
    unit: &str,
    value: T,
    bounds: &std::ops::RangeInclusive<T>,
) -> Result<T, Refusal> {
    if bounds.contains(&value) {
        return Ok(value);
    }
    let (least, most) = (bounds.start(), bounds.end());
    let text = format!("{at} is {least:?} to {most:?}{unit}; it is {value:?}.");
    Err(Refusal::field(Reason::NumberOutOfRange, at, text))
}

/// A number of an enum that the contract knows.
pub fn known<E: TryFrom<i32>>(at: &str, number: i32) -> Result<E, Refusal> {
    E::try_from(number)
        .map_err(|_| Refusal::field(Reason::EnumUnknown, at, format!("{at} has no value number {number}.")))
}

/// A name that a tenant chose for something of its own.
pub fn chosen_name(at: &str, what: &str, name: &str, most: usize) -> Result<(), Refusal> {
    if !name.is_empty() && name.len() <= most && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let text = format!(
        "The name of {what} has 1 to {most} bytes without control characters; this one has {} bytes.",
        name.len()
    );
    Err(Refusal::field(Reason::NameInvalid, at, text))
}

/// A match that names an event, not a conversion. `at` names the place in the request.
pub fn event_match(at: &str, one: &query::EventMatch) -> Result<EventMatch, Refusal> {
    if !one.conversion.is_empty() {
        return Err(invalid(format!("{at}.conversion"), "Events are meant here, not conversions."));
    }
    if one.event.len() > limits::ID_BYTES {
        let text = format!(
            "An event's name has at most {} bytes; this one has {}.",
            limits::ID_BYTES,
            one.event.len()
        );
        return Err(Refusal::field(Reason::TextTooLong, format!("{at}.event"), text));
    }
    let condition =
        one.r#where.as_ref().map(|condition| predicate(&format!("{at}.where"), condition)).transpose()?;
    Ok(EventMatch { event: (!one.event.is_empty()).then(|| one.event.clone()), condition })
}

/// A conversion, everything about it checked. `at` names the place in the request.
pub fn conversion(at: &str, wire: &wire::Conversion) -> Result<Conversion, Refusal> {
    chosen_name(&format!("{at}.name"), "a conversion", &wire.name, limits::CONVERSION_NAME_BYTES)?;
    if wire.description.len() > limits::DESCRIPTION_BYTES {
        let text = format!(
            "A description has at most {} bytes; this one has {}.",
            limits::DESCRIPTION_BYTES,
            wire.description.len()
        );
        return Err(Refusal::field(Reason::TextTooLong, format!("{at}.description"), text));
    }
    kind(at, wire)?;
    let field = format!("{at}.rule");
    let rule = rule(&field, wire.rule.as_ref().ok_or_else(|| missing(&field))?)?;
    let counting = match known(&format!("{at}.counting"), wire.counting)? {
        wire::Counting::Unspecified | wire::Counting::EveryTime => Counting::EveryTime,
        wire::Counting::OnceASession => Counting::OnceASession,
        wire::Counting::OnceAVisitor => Counting::OnceAVisitor,
    };
    let field = format!("{at}.value");
    let worth = match &wire.value {
        None => Worth::OfEvent,
        Some(value) => worth(&field, value.value.as_ref().ok_or_else(|| missing(&field))?)?,
    };
    Ok(Conversion { rule, counting, worth })
}

/// A micro-conversion has part, family and stage, a macro-conversion none of them.
fn kind(at: &str, wire: &wire::Conversion) -> Result<(), Refusal> {
    let role: wire::Role = known(&format!("{at}.role"), wire.role)?;
    let said = [
        ("part", known::<wire::Part>(&format!("{at}.part"), wire.part)? as i32),
        ("family", known::<wire::Family>(&format!("{at}.family"), wire.family)? as i32),
        ("stage", known::<wire::Stage>(&format!("{at}.stage"), wire.stage)? as i32),
    ];
    let odd = |wanted: bool| said.iter().find(|(_, number)| (*number != 0) != wanted);
    match role {
        wire::Role::Unspecified => Err(missing(&format!("{at}.role"))),
        wire::Role::Macro => odd(false).map_or(Ok(()), |(name, _)| {
            let text = format!(
                "{:?} is a macro-conversion, the goal; only a micro-conversion has a {name}.",
                wire.name
            );
            Err(invalid(format!("{at}.{name}"), text))
        }),
        wire::Role::Micro => odd(true).map_or(Ok(()), |(name, _)| {
            let text = format!("{:?} is a micro-conversion, which needs a {name}.", wire.name);
            Err(Refusal::field(Reason::FieldMissing, format!("{at}.{name}"), text))
        }),
    }
}

fn rule(at: &str, wire: &wire::Rule) -> Result<Rule, Refusal> {
    use wire::{rule::Rule as Wire, session_rule::AtLeast, visit_rule::Visit as WireVisit};
    match wire.rule.as_ref().ok_or_else(|| missing(at))? {
        Wire::Event(event) => Ok(Rule::Event(matches(&format!("{at}.event.any_of"), &event.any_of)?)),
        Wire::Session(session) => {
            let at = format!("{at}.session");
            let threshold = match session.at_least.as_ref().ok_or_else(|| missing(&at))? {
                AtLeast::DurationMs(ms) => SessionThreshold::DurationMs(within(
                    &format!("{at}.duration_ms"),
                    " milliseconds",
                    *ms,
                    &limits::SESSION_DURATION_MS,
                )?),
                AtLeast::Events(events) => SessionThreshold::Events(within(
                    &format!("{at}.events"),
                    "",
                    *events,
                    &limits::SESSION_EVENTS,
                )?),
                AtLeast::Pages(pages) => {
                    let field = format!("{at}.pages");
                    SessionThreshold::Pages(within(&field, "", *pages, &limits::SESSION_EVENTS)?)
                }
            };
            Ok(Rule::Session(threshold))
        }
        Wire::Visit(visit) => {
            let at = format!("{at}.visit");
            Ok(Rule::Visit(match visit.visit.as_ref().ok_or_else(|| missing(&at))? {
                WireVisit::Number(number) => {
                    Visit::Number(within(&format!("{at}.number"), "", *number, &limits::VISIT_NUMBER)?)
                }
                WireVisit::ReturningWithinMs(ms) => Visit::ReturningWithinMs(within(
                    &format!("{at}.returning_within_ms"),
                    " milliseconds",
                    *ms,
                    &(1..=limits::WINDOW_MS),
                )?),
            }))
        }
        Wire::Progress(progress) => {
            let at = format!("{at}.progress");
            let event = progress.event.as_ref().ok_or_else(|| missing(&format!("{at}.event")))?;
            if !progress.at_least.is_finite() {
                let text = format!("{at}.at_least is {}.", progress.at_least);
                return Err(Refusal::field(Reason::NumberNotFinite, format!("{at}.at_least"), text));
            }
            let item = |item: &Selector| selector(&format!("{at}.item"), Some(item));
            Ok(Rule::Progress {
                event: event_match(&format!("{at}.event"), event)?,
                progress: selector(&format!("{at}.progress"), progress.progress.as_ref())?,
                at_least: progress.at_least,
                item: progress.item.as_ref().map(item).transpose()?,
            })
        }
    }
}

fn matches(at: &str, any_of: &[query::EventMatch]) -> Result<Vec<EventMatch>, Refusal> {
    if any_of.is_empty() || any_of.len() > limits::ALTERNATIVES {
        let text = format!("{at} has 1 to {} parts; it has {}.", limits::ALTERNATIVES, any_of.len());
        return Err(invalid(at, text));
    }
    any_of.iter().enumerate().map(|(index, one)| event_match(&format!("{at}[{index}]"), one)).collect()
}

fn worth(at: &str, wire: &wire::conversion_value::Value) -> Result<Worth, Refusal> {
    use wire::conversion_value::Value;
    match wire {
        Value::Fixed(Money { micros, currency: code }) => {
            let currency = currency(&format!("{at}.fixed.currency"), code)?;
            Ok(Worth::Fixed { micros: *micros, currency })
        }
        Value::Property(property) => {
            let at = format!("{at}.property");
            property_name(&format!("{at}.property"), &property.property)?;
            let currency = match (property.currency.as_str(), property.currency_property.as_str()) {
                ("", "") => return Err(missing(&format!("{at}.currency"))),
                (code, "") => CurrencyOf::Fixed(currency(&format!("{at}.currency"), code)?),
                ("", name) => {
                    property_name(&format!("{at}.currency_property"), name)?;
                    CurrencyOf::Property(name.to_owned())
                }
                _ => {
                    let text = "The currency is either fixed or in a property, not both.";
                    return Err(invalid(format!("{at}.currency_property"), text));
                }
            };
            Ok(Worth::OfProperty { property: property.property.clone(), currency })
        }
    }
}

fn property_name(at: &str, name: &str) -> Result<(), Refusal> {
    let column = query::selector::Column::Property(name.to_owned());
    selector(at, Some(&Selector { column: Some(column) })).map(drop)
}

/// Checks a currency's code.
pub fn currency(at: &str, code: &str) -> Result<String, Refusal> {
    if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(code.to_owned());
    }
    let text = format!("A currency is three upper-case letters; this one is {code:?}.");
    Err(Refusal::field(Reason::CurrencyMalformed, at, text))
}

/// Settings, with what is absent filled in. Whether the time zone exists is for whoever has the database of time zones.
pub fn settings(at: &str, wire: &wire::Settings) -> Result<Settings, Refusal> {
    let usual = Settings::default();
    let session_gap_ms = match wire.session_gap_ms {
        None => usual.session_gap_ms,
        Some(ms) => within(&format!("{at}.session_gap_ms"), " milliseconds", ms, &limits::SESSION_GAPS_MS)?,
    };
    let pages =
        if wire.pages.is_empty() { usual.pages } else { matches(&format!("{at}.pages"), &wire.pages)? };
    let page_property = if wire.page_property.is_empty() {
        usual.page_property
    } else {
        property_name(&format!("{at}.page_property"), &wire.page_property)?;
        wire.page_property.clone()
    };
    let channels = channels(&format!("{at}.channels"), wire.channels.as_ref(), usual.channels)?;
    let time_zone = if wire.time_zone.is_empty() { usual.time_zone } else { wire.time_zone.clone() };
    Ok(Settings { session_gap_ms, time_zone, pages, page_property, channels })
}

/// How channels are told. Whether rules and hosts can be read is for whoever has the classifier.
fn channels(
    at: &str,
    wire: Option<&wire::ChannelSettings>,
    usual: ChannelSettings,
) -> Result<ChannelSettings, Refusal> {
    let Some(wire) = wire else { return Ok(usual) };
    let property = |name: &str, asked: &String, usual: String| -> Result<String, Refusal> {
        if asked.is_empty() {
            return Ok(usual);
        }
        property_name(&format!("{at}.{name}"), asked)?;
        Ok(asked.clone())
    };
    Ok(ChannelSettings {
        channel_property: property("channel_property", &wire.channel_property, usual.channel_property)?,
        device_property: property("device_property", &wire.device_property, usual.device_property)?,
        os_property: property("os_property", &wire.os_property, usual.os_property)?,
        browser_property: property("browser_property", &wire.browser_property, usual.browser_property)?,
        user_agent_property: property(
            "user_agent_property",
            &wire.user_agent_property,
            usual.user_agent_property,
        )?,
        referrer_property: property("referrer_property", &wire.referrer_property, usual.referrer_property)?,
        own_hosts: wire.own_hosts.clone(),
        rules: wire.rules.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micro() -> wire::Conversion {
        let event = query::EventMatch { event: "add_to_cart".to_owned(), ..query::EventMatch::default() };
        wire::Conversion {
            name: "cart".to_owned(),
            role: wire::Role::Micro as i32,
            part: wire::Part::Step as i32,
            family: wire::Family::Interaction as i32,
            stage: wire::Stage::Willingness as i32,
            rule: Some(wire::Rule {
                rule: Some(wire::rule::Rule::Event(wire::EventRule { any_of: vec![event] })),
            }),
            ..wire::Conversion::default()
        }
    }

    fn refused(change: impl FnOnce(&mut wire::Conversion)) -> (Reason, String) {
        let mut changed = micro();
        change(&mut changed);
        let refusal = conversion("conversion", &changed).unwrap_err();
        (refusal.reason, refusal.field)
    }

    fn session(at_least: wire::session_rule::AtLeast) -> Option<wire::Rule> {
        let rule = wire::SessionRule { at_least: Some(at_least) };
        Some(wire::Rule { rule: Some(wire::rule::Rule::Session(rule)) })
    }

    #[test]
    fn every_mistake_names_its_field() {
        use wire::session_rule::AtLeast;
        assert!(conversion("conversion", &micro()).is_ok());
        let said = |reason, field: &str| (reason, format!("conversion.{field}"));
        assert_eq!(refused(|one| one.name.clear()), said(Reason::NameInvalid, "name"));
        assert_eq!(refused(|one| one.role = 0), said(Reason::FieldMissing, "role"));
        assert_eq!(refused(|one| one.role = 9), said(Reason::EnumUnknown, "role"));
        assert_eq!(refused(|one| one.stage = 0), said(Reason::FieldMissing, "stage"));
        assert_eq!(refused(|one| one.set_role(wire::Role::Macro)), said(Reason::ConversionInvalid, "part"));
        assert_eq!(refused(|one| one.rule = None), said(Reason::FieldMissing, "rule"));
        assert_eq!(refused(|one| one.counting = 7), said(Reason::EnumUnknown, "counting"));
        assert_eq!(
            refused(|one| one.rule = session(AtLeast::Pages(1))),
            said(Reason::NumberOutOfRange, "rule.session.pages")
        );
        assert_eq!(
            refused(|one| one.rule = session(AtLeast::DurationMs(0))),
            said(Reason::NumberOutOfRange, "rule.session.duration_ms")
        );
        let fixed = Money { micros: 1, currency: "eur".to_owned() };
        let value = wire::ConversionValue { value: Some(wire::conversion_value::Value::Fixed(fixed)) };
        assert_eq!(
            refused(|one| one.value = Some(value)),
            said(Reason::CurrencyMalformed, "value.fixed.currency")
        );
    }

    #[test]
    fn settings_fill_what_is_absent() {
        let filled = settings("settings", &wire::Settings::default()).unwrap();
        assert_eq!(filled, Settings::default());
        let short = wire::Settings { session_gap_ms: Some(1), ..wire::Settings::default() };
        assert_eq!(settings("settings", &short).unwrap_err().field, "settings.session_gap_ms");
    }
}
