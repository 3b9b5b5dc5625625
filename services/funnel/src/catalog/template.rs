//! Templates: catalogues for a kind of business, matched to the events that a tenant already sends.

use std::{collections::BTreeSet, sync::LazyLock};

use runnel_contracts::{
    proto::{
        catalog::v1::{
            CatalogDocument, Conversion, ConversionValue, Counting, EventRule, Family, FitTemplateResponse,
            NamedFunnel, Part, ProgressRule, Role, Rule, SessionRule, Stage, TemplateGap, ValueOfProperty,
            VisitRule, conversion_value, rule::Rule as Kind, session_rule::AtLeast, visit_rule::Visit,
        },
        funnel::v1::{FunnelDefinition, Step},
        query::v1::{EventMatch, Selector, selector::Column},
    },
    refusal::{Reason, Refusal},
};
use runnel_journeys::Loaded;
use runnel_model::{Settings, ValueType, limits};
use serde::Deserialize;

/// The templates by name.
const TEMPLATES: [(&str, &str); 4] = [
    ("shop", include_str!("../../templates/shop.json")),
    ("saas", include_str!("../../templates/saas.json")),
    ("content", include_str!("../../templates/content.json")),
    ("leads", include_str!("../../templates/leads.json")),
];

static READ: LazyLock<Vec<(&str, Result<Template, String>)>> = LazyLock::new(|| {
    let read = |text| serde_json::from_str(text).map_err(|fault| fault.to_string());
    TEMPLATES.iter().map(|(name, text)| (*name, read(text))).collect()
});

/// A catalogue for a kind of business.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Template {
    conversions: Vec<Entry>,
    funnels: Vec<Way>,
}

/// A conversion of a template. Enums have the names of the contract without their prefix.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    description: String,
    role: String,
    #[serde(default)]
    part: String,
    #[serde(default)]
    family: String,
    #[serde(default)]
    stage: String,
    #[serde(default)]
    counting: String,
    when: When,
    /// Names of numeric properties that say what one is worth, the best first; where there is none of them, or none of the currency, its events say so.
    #[serde(default)]
    worth: Vec<String>,
}

/// Names of the property that has the currency of an amount.
const CURRENCY: [&str; 3] = ["currency", "currency_code", "currency_iso"];

/// When a conversion of a template happens.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum When {
    /// Names by which the event is known; case and punctuation do not matter.
    Events(Vec<String>),
    /// Names of events, a numeric property, how far, and the property that names what is followed.
    Progress { events: Vec<String>, property: String, at_least: f64, item: String },
    /// Milliseconds.
    SessionDurationMs(i64),
    /// Pages.
    SessionPages(u32),
    /// Milliseconds.
    ReturningWithinMs(i64),
    /// Which session.
    Visit(u32),
}

/// A funnel of a template: conversions in order.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Way {
    name: String,
    steps: Vec<String>,
    window_ms: i64,
}

/// Makes a catalogue of a template for a tenant with these events, whose settings say what a page is.
pub(crate) fn fit(name: &str, loaded: &Loaded, settings: &Settings) -> Result<FitTemplateResponse, Refusal> {
    let Some((_, read)) = READ.iter().find(|(known, _)| *known == name) else {
        let known = TEMPLATES.map(|(name, _)| name).join(", ");
        let text = format!("There is no template {name:?}; there are {known}.");
        return Err(Refusal::field(Reason::NotFound, "template", text));
    };
    let template = read.as_ref().map_err(|fault| {
        tracing::error!(name, fault, "a template cannot be read");
        Refusal::new(Reason::Internal, "The template cannot be read.")
    })?;
    let sent: Vec<String> = (0..loaded.names.len()).map(|kind| loaded.names.name(kind as u16)).collect();
    let types = loaded.properties.page("", limits::PROPERTY_NAMES);
    let is_number =
        |types: &[ValueType]| types.iter().any(|of| matches!(of, ValueType::Int | ValueType::Double));
    let numbers: Vec<String> =
        types.iter().filter(|(_, types)| is_number(types)).map(|(name, _)| name.clone()).collect();
    let properties: BTreeSet<String> = types.into_iter().map(|(name, _)| name).collect();
    let mut fitted = FitTemplateResponse::default();
    let mut document = CatalogDocument::default();
    for entry in &template.conversions {
        match rule(&entry.when, &sent, &properties, settings) {
            Some(kind) => {
                let worth = worth(&entry.worth, &numbers, &properties);
                document.conversions.push(conversion(entry, kind, worth));
            }
            None => fitted.missing.push(TemplateGap {
                name: entry.name.clone(),
                description: entry.description.clone(),
                event_names: names(&entry.when, settings),
            }),
        }
    }
    document.conversions.sort_by(|left, right| left.name.cmp(&right.name));
    for way in &template.funnels {
        let has = |name: &&String| document.conversions.iter().any(|one| one.name == **name);
        let steps: Vec<&String> = way.steps.iter().filter(has).collect();
        if limits::STEPS.contains(&steps.len()) {
            let step = |name: &String| Step {
                any_of: vec![EventMatch { conversion: name.clone(), ..EventMatch::default() }],
                ..Step::default()
            };
            let definition = FunnelDefinition {
                steps: steps.into_iter().map(step).collect(),
                window_ms: Some(way.window_ms),
                ..FunnelDefinition::default()
            };
            let definition = Some(definition);
            document.funnels.push(NamedFunnel { name: way.name.clone(), definition });
        }
    }
    fitted.document = Some(document);
    Ok(fitted)
}

/// A name without case and punctuation.
fn folded(name: &str) -> String {
    name.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The names of events that a tenant sends among those by which an event is known.
fn found(known: &[String], sent: &[String]) -> Vec<EventMatch> {
    let known: BTreeSet<String> = known.iter().map(|name| folded(name)).collect();
    let mut found: Vec<&String> = sent.iter().filter(|name| known.contains(&folded(name))).collect();
    found.sort();
    found.truncate(limits::ALTERNATIVES);
    found.into_iter().map(|name| EventMatch { event: name.clone(), ..EventMatch::default() }).collect()
}

/// What a conversion is worth, as properties say that the tenant sends.
fn worth(known: &[String], numbers: &[String], properties: &BTreeSet<String>) -> Option<ConversionValue> {
    let same = |known: &str, name: &&String| folded(name) == folded(known);
    let amount = known.iter().find_map(|known| numbers.iter().find(|name| same(known, name)))?;
    let currency = CURRENCY.iter().find_map(|known| properties.iter().find(|name| same(known, name)))?;
    let property = ValueOfProperty {
        property: amount.clone(),
        currency_property: currency.clone(),
        ..ValueOfProperty::default()
    };
    Some(ConversionValue { value: Some(conversion_value::Value::Property(property)) })
}

fn rule(when: &When, sent: &[String], properties: &BTreeSet<String>, settings: &Settings) -> Option<Kind> {
    match when {
        When::Events(known) => {
            let any_of = found(known, sent);
            (!any_of.is_empty()).then_some(Kind::Event(EventRule { any_of }))
        }
        When::Progress { events, property, at_least, item } => {
            let event = found(events, sent).into_iter().next()?;
            let column = |name: &String| Selector { column: Some(Column::Property(name.clone())) };
            properties.contains(property).then(|| {
                Kind::Progress(ProgressRule {
                    event: Some(event),
                    progress: Some(column(property)),
                    at_least: *at_least,
                    item: properties.contains(item).then(|| column(item)),
                })
            })
        }
        When::SessionDurationMs(ms) => {
            Some(Kind::Session(SessionRule { at_least: Some(AtLeast::DurationMs(*ms)) }))
        }
        When::SessionPages(pages) => {
            let sends =
                settings.pages.iter().any(|page| page.event.as_ref().is_none_or(|name| sent.contains(name)));
            sends.then_some(Kind::Session(SessionRule { at_least: Some(AtLeast::Pages(*pages)) }))
        }
        When::ReturningWithinMs(ms) => {
            Some(Kind::Visit(VisitRule { visit: Some(Visit::ReturningWithinMs(*ms)) }))
        }
        When::Visit(number) => Some(Kind::Visit(VisitRule { visit: Some(Visit::Number(*number)) })),
    }
}

fn names(when: &When, settings: &Settings) -> Vec<String> {
    match when {
        When::Events(events) | When::Progress { events, .. } => events.clone(),
        When::SessionPages(_) => settings.pages.iter().filter_map(|page| page.event.clone()).collect(),
        When::SessionDurationMs(_) | When::ReturningWithinMs(_) | When::Visit(_) => Vec::new(),
    }
}

fn conversion(entry: &Entry, kind: Kind, worth: Option<ConversionValue>) -> Conversion {
    fn named<E: Copy + Into<i32>>(prefix: &str, name: &str, read: fn(&str) -> Option<E>) -> i32 {
        read(&format!("{prefix}_{name}")).map_or(0, Into::into)
    }
    Conversion {
        name: entry.name.clone(),
        description: entry.description.clone(),
        role: named("ROLE", &entry.role, Role::from_str_name),
        part: named("PART", &entry.part, Part::from_str_name),
        family: named("FAMILY", &entry.family, Family::from_str_name),
        stage: named("STAGE", &entry.stage, Stage::from_str_name),
        counting: named("COUNTING", &entry.counting, Counting::from_str_name),
        rule: Some(Rule { rule: Some(kind) }),
        value: worth,
        ..Conversion::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever sends everything that a template knows gets all of it, and all of it may be saved.
    #[test]
    fn templates_are_valid() {
        let settings = Settings::default();
        for (name, read) in READ.iter() {
            let template = read.as_ref().unwrap();
            let mut known = BTreeSet::new();
            for entry in &template.conversions {
                let sent: Vec<String> = names(&entry.when, &settings)
                    .iter()
                    .map(|name| name.to_uppercase().replace('_', " "))
                    .collect();
                let mut sent = sent;
                sent.extend(names(&entry.when, &settings));
                let properties = match &entry.when {
                    When::Progress { property, item, .. } => BTreeSet::from([property.clone(), item.clone()]),
                    _ => BTreeSet::new(),
                };
                let kind = rule(&entry.when, &sent, &properties, &settings).unwrap();
                let numbers: Vec<String> = entry.worth.first().cloned().into_iter().collect();
                let worth = worth(&entry.worth, &numbers, &BTreeSet::from(["Currency".to_owned()]));
                assert_eq!(worth.is_some(), !entry.worth.is_empty());
                let made = conversion(entry, kind, worth);
                super::super::conversions::check("conversion", &made)
                    .unwrap_or_else(|fault| panic!("{name}: {}: {fault}", entry.name));
                assert!(known.insert(&entry.name), "{name} has {} twice", entry.name);
            }
            assert!(template.conversions.iter().any(|one| one.role == "MACRO"), "{name} has no goal");
            for step in template.funnels.iter().flat_map(|way| &way.steps) {
                assert!(known.contains(step), "{name} has no {step}");
            }
        }
    }

    #[test]
    fn amounts_are_numbers_with_a_currency() {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let of = |numbers: &[&str], others: &[&str]| {
            let properties = all(numbers).into_iter().chain(all(others)).collect();
            let found = worth(&all(&["value", "revenue"]), &all(numbers), &properties)?.value?;
            let conversion_value::Value::Property(found) = found else { return None };
            Some((found.property, found.currency_property))
        };
        let said = |amount: &str, currency: &str| Some((amount.to_owned(), currency.to_owned()));
        assert_eq!(of(&["Revenue", "price", "value"], &["currency"]), said("value", "currency"));
        assert_eq!(of(&["Revenue"], &["Currency Code"]), said("Revenue", "Currency Code"));
        assert_eq!(of(&["Revenue"], &[]), None);
        assert_eq!(of(&["price"], &["value", "currency"]), None, "a text is worth nothing");
    }

    #[test]
    fn case_and_punctuation_do_not_matter() {
        let sent = ["Product Viewed", "view-item", "viewed"].map(str::to_owned);
        let known = ["view_item", "product_viewed"].map(str::to_owned);
        let names: Vec<_> = found(&known, &sent).into_iter().map(|one| one.event).collect();
        assert_eq!(names, ["Product Viewed", "view-item"]);
    }
}
