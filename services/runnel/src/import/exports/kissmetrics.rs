//! Kissmetrics, as its data export writes the files of `revisions/`. Documented at <https://support.kissmetrics.io/docs/data-export>; the fields of a line at
//! <https://support.kissmetrics.io/docs/json-files-as-an-external-data-source-1>, automatic properties at
//! <https://oldsupport.kissmetrics.com/apis/javascript/javascript-settings>.
//!
//! A line without `_n` sets properties of a person or joins two ids, and is no event. Events have no id.

use super::{
    row::Draft,
    rules::{CAMPAIGN_NAME, CONTENT, MEDIUM, Product, Rule, SOURCE, TERM, Times, To, as_it_is, rule},
    tree::Node,
};

pub(super) const KISSMETRICS: Product = Product {
    name: "Kissmetrics",
    has_ids: false,
    times: Times::Seconds,
    holders: &[&[]],
    rules: RULES,
    prepare: as_it_is,
    judge,
};

const RULES: &[Rule] = &[
    rule(&["_n"], To::Name),
    rule(&["_t"], To::Time),
    rule(&["_p"], To::Known),
    rule(&["_p2"], To::Anonymous),
    rule(&["campaign source"], SOURCE),
    rule(&["Campaign Source"], SOURCE),
    rule(&["campaign medium"], MEDIUM),
    rule(&["Campaign Medium"], MEDIUM),
    rule(&["campaign name"], CAMPAIGN_NAME),
    rule(&["Campaign Name"], CAMPAIGN_NAME),
    rule(&["campaign terms"], TERM),
    rule(&["Campaign Terms"], TERM),
    rule(&["campaign content"], CONTENT),
    rule(&["Campaign Content"], CONTENT),
    rule(&["currency"], To::Currency),
    rule(&["revenue"], To::Amount),
    rule(&["value"], To::Amount),
    rule(&["total"], To::Amount),
    rule(&["viewed url"], To::Property("page")),
    rule(&["Viewed URL"], To::Property("page")),
    rule(&["url"], To::Property("page")),
    rule(&["URL"], To::Property("page")),
    rule(&["referrer"], To::Property("referrer")),
    rule(&["Referrer"], To::Property("referrer")),
];

/// Ids that the product itself gives to visitors are 20 bytes in base64.
fn is_generated(id: &str) -> bool {
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    id.len() == 28 && id.strip_suffix('=').is_some_and(|start| start.bytes().all(base64))
}

fn judge<'r>(row: &'r Node<'_>, draft: &mut Draft<'r>) {
    let (person, alias) = (row.id_at(&["_p"]), row.id_at(&["_p2"]));
    // The alias belongs to the person, unless the person is a browser that nobody had signed in with.
    let turned = person.is_some_and(is_generated) && !alias.is_some_and(is_generated);
    let (anonymous, known) = if turned { (person, alias) } else { (alias, person) };
    match draft.name {
        None => draft.is_only_identity(anonymous, known),
        Some(_) => draft.identifies(anonymous, known),
    }
}

#[cfg(test)]
mod tests {
    use super::is_generated;

    #[test]
    fn generated_ids_are_known_by_their_form() {
        assert!(is_generated("b+dfRQ2ggFV3QOUkaZeYL4AEL2A="));
        for id in ["ada@example.com", "b+dfRQ2ggFV3QOUkaZeYL4AEL2AA", "b-dfRQ2ggFV3QOUkaZeYL4AEL2A=", ""] {
            assert!(!is_generated(id), "{id}");
        }
    }
}
