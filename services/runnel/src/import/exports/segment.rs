//! Segment, as its S3 destination archives calls: gzipped JSON, one call a line. Documented at
//! <https://segment.com/docs/connections/storage/catalog/amazon-s3/>; the fields at <https://segment.com/docs/connections/spec/common/>.
//!
//! Pages and screens have no event name of their own; they become `page` and `screen_view`, which count as pages unless the settings say otherwise.

use super::{
    row::Draft,
    rules::{
        CAMPAIGN_ID, CAMPAIGN_NAME, CONTENT, MEDIUM, Product, Rule, SOURCE, TERM, Times, To, as_it_is, rule,
    },
    tree::Node,
};

const P: &str = "properties";

pub(super) const SEGMENT: Product = Product {
    name: "Segment",
    has_ids: true,
    times: Times::Rfc3339,
    holders: &[&[P]],
    rules: RULES,
    prepare: as_it_is,
    judge,
};

const RULES: &[Rule] = &[
    rule(&["type"], To::Sort),
    rule(&["messageId"], To::EventId),
    rule(&["userId"], To::Known),
    rule(&["anonymousId"], To::Anonymous),
    rule(&["previousId"], To::Pair),
    rule(&["timestamp"], To::Time),
    rule(&["originalTimestamp"], To::Time),
    rule(&["event"], To::Name),
    rule(&["context", "campaign", "source"], SOURCE),
    rule(&["context", "campaign", "medium"], MEDIUM),
    rule(&["context", "campaign", "name"], CAMPAIGN_NAME),
    rule(&["context", "campaign", "term"], TERM),
    rule(&["context", "campaign", "content"], CONTENT),
    rule(&["context", "campaign", "id"], CAMPAIGN_ID),
    rule(&[P, "gclid"], To::Click),
    rule(&[P, "currency"], To::Currency),
    rule(&[P, "revenue"], To::Amount),
    rule(&[P, "value"], To::Amount),
    rule(&[P, "total"], To::Amount),
    rule(&[P, "path"], To::Property("page")),
    rule(&["context", "page", "path"], To::Property("page")),
    rule(&[P, "url"], To::Property("page")),
    rule(&["context", "page", "url"], To::Property("page")),
    rule(&[P, "referrer"], To::Property("referrer")),
    rule(&["context", "page", "referrer"], To::Property("referrer")),
    rule(&["context", "device", "type"], To::Property("device")),
    rule(&["name"], To::Property("page_name")),
];

fn judge<'r>(row: &'r Node<'_>, draft: &mut Draft<'r>) {
    match row.id_at(&["type"]) {
        Some("page") => draft.name = Some("page"),
        Some("screen") => draft.name = Some("screen_view"),
        Some("alias") => return draft.is_only_identity(row.id_at(&["previousId"]), draft.known),
        Some("identify" | "group") => return draft.is_only_identity(draft.anonymous, draft.known),
        // `track`, and what has no type but a name.
        _ => {}
    }
    draft.identifies(draft.anonymous, draft.known);
}
