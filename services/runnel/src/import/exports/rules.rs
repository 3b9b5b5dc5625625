//! What a product's export is made of, as data: which field becomes what. The reader obeys these tables and a dry run prints them.

use super::{row::Draft, tree::Node};

/// How a product writes down what happened.
#[derive(Debug)]
pub(super) struct Product {
    /// Its name for people.
    pub(super) name: &'static str,
    /// Whether its events have ids.
    pub(super) has_ids: bool,
    /// How it writes times.
    pub(super) times: Times,
    /// Objects whose members become properties; the empty path is the row itself.
    pub(super) holders: &'static [&'static [&'static str]],
    /// Which field becomes what. Of several fields for one purpose the first that has a value is used.
    pub(super) rules: &'static [Rule],
    /// Brings a row into a shape in which paths lead to everything.
    pub(super) prepare: for<'a> fn(&mut Node<'a>),
    /// Says what no table can: whether the row is an event, what it is called, and who is who by it.
    pub(super) judge: for<'r> fn(&'r Node<'_>, &mut Draft<'r>),
}

/// How times are written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Times {
    /// RFC 3339 with an offset.
    Rfc3339,
    /// Microseconds since 1970.
    Micros,
    /// Seconds since 1970, perhaps with a fraction.
    Seconds,
    /// Seconds since 1970, or milliseconds when the number is that large.
    SecondsOrMillis,
}

/// A field and what becomes of it.
#[derive(Debug)]
pub(super) struct Rule {
    /// The way to it.
    pub(super) from: &'static [&'static str],
    /// Its purpose.
    pub(super) to: To,
}

/// Purposes of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// The event's id.
    EventId,
    /// The visitor, once it is known who it is.
    Known,
    /// The visitor, as long as it is not known who it is.
    Anonymous,
    /// When it happened.
    Time,
    /// What happened.
    Name,
    /// A part of the campaign, by its place in [`CAMPAIGN`].
    Campaign(usize),
    /// The campaign's click identifier. The field's own name says which ad network it is of.
    Click,
    /// The currency of the amount.
    Currency,
    /// The amount that the event is worth, where there is a currency.
    Amount,
    /// The same in US dollars.
    AmountUsd,
    /// A property of this name.
    Property(&'static str),
    /// Which sort of row it is.
    Sort,
    /// An id on a row that does nothing but say who is who.
    Pair,
}

/// Parts of a campaign, in the order of the contract.
pub(super) const CAMPAIGN: [&str; 7] = ["source", "medium", "name", "term", "content", "id", "click_id"];
/// The place of the click identifier among them.
pub(super) const CLICK: usize = 6;

pub(super) const SOURCE: To = To::Campaign(0);
pub(super) const MEDIUM: To = To::Campaign(1);
pub(super) const CAMPAIGN_NAME: To = To::Campaign(2);
pub(super) const TERM: To = To::Campaign(3);
pub(super) const CONTENT: To = To::Campaign(4);
pub(super) const CAMPAIGN_ID: To = To::Campaign(5);

impl To {
    /// Whether fields of this purpose are no properties even where they are not used.
    pub(super) fn is_role(self) -> bool {
        matches!(self, To::EventId | To::Known | To::Anonymous | To::Time | To::Name | To::Sort)
    }

    /// How a dry run names it.
    pub(super) fn shown(self) -> String {
        match self {
            To::EventId => "event_id".to_owned(),
            To::Known => "visitor_id, known".to_owned(),
            To::Anonymous => "visitor_id, anonymous".to_owned(),
            To::Time => "time_ms".to_owned(),
            To::Name => "name".to_owned(),
            To::Campaign(part) => format!("campaign.{}", CAMPAIGN[part]),
            To::Click => "campaign.click_id".to_owned(),
            To::Currency => "value.currency".to_owned(),
            To::Amount => "value.micros".to_owned(),
            To::AmountUsd => "value.micros, in USD".to_owned(),
            To::Property(name) => format!("property {name}"),
            To::Sort => "what sort of row it is".to_owned(),
            To::Pair => "identification".to_owned(),
        }
    }
}

/// A line of a table: `rule(&["context", "ip"], To::Property("ip"))`.
pub(super) const fn rule(from: &'static [&'static str], to: To) -> Rule {
    Rule { from, to }
}

/// For exports that need no other shape.
pub(super) fn as_it_is(_: &mut Node<'_>) {}

/// For exports of which the table says everything: a row with both ids says who is who.
pub(super) fn by_the_table<'r>(_: &'r Node<'_>, draft: &mut Draft<'r>) {
    draft.identifies(draft.anonymous, draft.known);
}
