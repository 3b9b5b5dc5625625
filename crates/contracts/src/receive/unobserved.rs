//! Events of people who denied consent to analytics.

use std::sync::LazyLock;

use runnel_channels::{Rules, Touch};
use runnel_model::{Dictionary, Field, UNOBSERVED_CHANNEL, ValueRef};

use super::event::{Cell, Scratch};

/// The usual rules. What a tenant sets instead is not known here.
static RULES: LazyLock<Option<Rules>> = LazyLock::new(|| Rules::standard().ok());

/// Whether the sender says that consent to analytics was denied.
#[inline]
pub(super) fn is_denied(fields: &[(Field, ValueRef<'_>)]) -> bool {
    fields.iter().any(|field| matches!(field, (Field::ConsentAnalytics, ValueRef::String("DENIED"))))
}

/// The channel that an event came by: what it says itself, if that is one of the usual channels and nothing else, or what its tags and the page that led here do.
pub(super) fn channel(scratch: &Scratch<'_>, strings: &Dictionary) -> String {
    let property = |wanted: &str| {
        let mut all = scratch.properties.iter();
        let found = all.find(|property| scratch.names.text(property.name) == wanted)?;
        match found.cell {
            Cell::Known(code) => Some(strings.get(code)),
            Cell::New(ValueRef::String(text)) => Some(text),
            Cell::New(_) => None,
        }
    };
    let is_usual =
        |sent: &&str| RULES.as_ref().is_some_and(|rules| rules.channels().any(|usual| usual == *sent));
    if let Some(sent) = property(UNOBSERVED_CHANNEL).filter(is_usual) {
        return sent.to_owned();
    }
    let field = |wanted: Field| {
        scratch.fields.iter().find_map(|(field, value)| match value {
            ValueRef::String(text) if *field == wanted => Some(*text),
            _ => None,
        })
    };
    let tag = |of: Field, name: &str| field(of).or_else(|| property(name)).unwrap_or_default();
    let touch = Touch {
        source: tag(Field::CampaignSource, "utm_source"),
        medium: tag(Field::CampaignMedium, "utm_medium"),
        campaign: tag(Field::CampaignName, "utm_campaign"),
        term: tag(Field::CampaignTerm, "utm_term"),
        content: tag(Field::CampaignContent, "utm_content"),
        click_id: tag(Field::CampaignClickId, "click_id"),
        referrer: property("referrer").unwrap_or_default(),
        ..Touch::default()
    };
    RULES.as_ref().map_or_else(String::new, |rules| rules.classify(&touch).channel.to_owned())
}
