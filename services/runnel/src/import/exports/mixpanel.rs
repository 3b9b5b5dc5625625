//! Mixpanel, as its raw export API writes events. Documented at <https://docs.mixpanel.com/reference/raw-event-export>; ids at
//! <https://docs.mixpanel.com/docs/tracking-methods/id-management>.
//!
//! Projects made before 2023 export times as seconds on the clock of the project's time zone, which `--project-time-zone` sets right; newer ones are in UTC. An
//! anonymous visitor is `$device:` and the device's id in `distinct_id`, and the bare id in `$device_id`: here both are the bare id.

use super::{
    row::Draft,
    rules::{
        CAMPAIGN_ID, CAMPAIGN_NAME, CONTENT, MEDIUM, Product, Rule, SOURCE, TERM, Times, To, as_it_is, rule,
    },
    tree::Node,
};

const P: &str = "properties";

pub(super) const MIXPANEL: Product = Product {
    name: "Mixpanel",
    has_ids: true,
    times: Times::SecondsOrMillis,
    holders: &[&[P]],
    rules: RULES,
    prepare: as_it_is,
    judge,
};

const RULES: &[Rule] = &[
    rule(&["event"], To::Name),
    rule(&[P, "time"], To::Time),
    rule(&[P, "$insert_id"], To::EventId),
    rule(&[P, "$user_id"], To::Known),
    rule(&[P, "distinct_id"], To::Anonymous),
    rule(&[P, "$device_id"], To::Anonymous),
    rule(&[P, "$anon_id"], To::Pair),
    rule(&[P, "$identified_id"], To::Pair),
    rule(&[P, "alias"], To::Pair),
    rule(&[P, "$distinct_ids"], To::Pair),
    rule(&[P, "utm_source"], SOURCE),
    rule(&[P, "utm_medium"], MEDIUM),
    rule(&[P, "utm_campaign"], CAMPAIGN_NAME),
    rule(&[P, "utm_term"], TERM),
    rule(&[P, "utm_content"], CONTENT),
    rule(&[P, "utm_id"], CAMPAIGN_ID),
    rule(&[P, "gclid"], To::Click),
    rule(&[P, "dclid"], To::Click),
    rule(&[P, "wbraid"], To::Click),
    rule(&[P, "msclkid"], To::Click),
    rule(&[P, "fbclid"], To::Click),
    rule(&[P, "ttclid"], To::Click),
    rule(&[P, "twclid"], To::Click),
    rule(&[P, "li_fat_id"], To::Click),
    rule(&[P, "currency"], To::Currency),
    rule(&[P, "revenue"], To::Amount),
    rule(&[P, "value"], To::Amount),
    rule(&[P, "total"], To::Amount),
    rule(&[P, "current_url_path"], To::Property("page")),
    rule(&[P, "$current_url"], To::Property("page")),
    rule(&[P, "$referrer"], To::Property("referrer")),
    rule(&[P, "$device"], To::Property("device")),
];

const DEVICE: &str = "$device:";

fn bare(id: &str) -> &str {
    id.strip_prefix(DEVICE).filter(|id| !id.is_empty()).unwrap_or(id)
}

fn judge<'r>(row: &'r Node<'_>, draft: &mut Draft<'r>) {
    let id = |name| row.id_at(&[P, name]).map(bare);
    draft.anonymous = draft.anonymous.map(bare);
    match draft.name {
        Some("$identify") => draft.is_only_identity(id("$anon_id"), id("$identified_id").or(draft.known)),
        // Somebody signs up: so far `distinct_id`, from now on `alias`.
        Some("$create_alias") => draft.is_only_identity(id("distinct_id"), id("alias")),
        Some("$merge") => {
            let ids = row.at(&[P, "$distinct_ids"]).map(Node::elements).unwrap_or_default();
            let both = |at: usize| ids.get(at).and_then(Node::id).map(bare);
            draft.is_only_identity(both(0), both(1));
        }
        _ => {
            draft.identifies(id("$device_id"), draft.known);
            draft.identifies(draft.anonymous, draft.known);
        }
    }
}
