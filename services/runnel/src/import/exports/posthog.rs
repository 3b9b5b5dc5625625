//! PostHog, as its batch and file exports write events in the format JSONLines. Documented at <https://posthog.com/docs/data-pipelines/batch-exports/s3>;
//! properties at <https://posthog.com/docs/references/posthog-js/types/Properties>, ids at <https://posthog.com/docs/product-analytics/identify>.

use super::{
    row::Draft,
    rules::{
        CAMPAIGN_ID, CAMPAIGN_NAME, CONTENT, MEDIUM, Product, Rule, SOURCE, TERM, Times, To, as_it_is, rule,
    },
    tree::Node,
};

const P: &str = "properties";

pub(super) const POSTHOG: Product = Product {
    name: "PostHog",
    has_ids: true,
    times: Times::Rfc3339,
    holders: &[&[P]],
    rules: RULES,
    prepare: as_it_is,
    judge,
};

const RULES: &[Rule] = &[
    rule(&["uuid"], To::EventId),
    rule(&["event"], To::Name),
    rule(&["timestamp"], To::Time),
    rule(&[P, "$user_id"], To::Known),
    rule(&["distinct_id"], To::Anonymous),
    rule(&[P, "distinct_id"], To::Anonymous),
    rule(&[P, "$device_id"], To::Anonymous),
    rule(&[P, "$anon_distinct_id"], To::Pair),
    rule(&[P, "alias"], To::Pair),
    rule(&[P, "utm_source"], SOURCE),
    rule(&[P, "$utm_source"], SOURCE),
    rule(&[P, "utm_medium"], MEDIUM),
    rule(&[P, "$utm_medium"], MEDIUM),
    rule(&[P, "utm_campaign"], CAMPAIGN_NAME),
    rule(&[P, "$utm_campaign"], CAMPAIGN_NAME),
    rule(&[P, "utm_term"], TERM),
    rule(&[P, "$utm_term"], TERM),
    rule(&[P, "utm_content"], CONTENT),
    rule(&[P, "$utm_content"], CONTENT),
    rule(&[P, "utm_id"], CAMPAIGN_ID),
    rule(&[P, "gclid"], To::Click),
    rule(&[P, "$gclid"], To::Click),
    rule(&[P, "gbraid"], To::Click),
    rule(&[P, "wbraid"], To::Click),
    rule(&[P, "dclid"], To::Click),
    rule(&[P, "msclkid"], To::Click),
    rule(&[P, "fbclid"], To::Click),
    rule(&[P, "ttclid"], To::Click),
    rule(&[P, "twclid"], To::Click),
    rule(&[P, "li_fat_id"], To::Click),
    rule(&[P, "currency"], To::Currency),
    rule(&[P, "revenue"], To::Amount),
    rule(&[P, "value"], To::Amount),
    rule(&[P, "total"], To::Amount),
    rule(&[P, "$pathname"], To::Property("page")),
    rule(&[P, "$current_url"], To::Property("page")),
    rule(&[P, "$screen_name"], To::Property("page")),
    rule(&[P, "$referrer"], To::Property("referrer")),
    rule(&[P, "$device_type"], To::Property("device")),
];

fn judge<'r>(row: &'r Node<'_>, draft: &mut Draft<'r>) {
    let id = |name| row.id_at(&[P, name]);
    let person = row.id_at(&["distinct_id"]);
    match draft.name {
        Some("$identify") => draft.is_only_identity(id("$anon_distinct_id"), person),
        Some("$create_alias" | "$merge_dangerously") => draft.is_only_identity(id("alias"), person),
        // They say something about a person or a group, not that anything happened.
        Some("$set" | "$groupidentify") => draft.is_only_identity(id("$device_id"), draft.known),
        _ => {
            draft.identifies(id("$device_id"), draft.known);
            draft.identifies(person, draft.known);
        }
    }
}
