//! Google Analytics 4, as its tables `events_YYYYMMDD` leave BigQuery in newline-delimited JSON. Documented at
//! <https://support.google.com/analytics/answer/7029846>.
//!
//! BigQuery writes whole numbers of 64 bits as texts. `traffic_source` says what brought the user for the very first time and not what brought this event, so it
//! becomes properties of its own and no campaign; `collected_traffic_source` and the parameters are the event's own. Events have no id.

use std::borrow::Cow;

use super::{
    rules::{
        CAMPAIGN_ID, CAMPAIGN_NAME, CONTENT, MEDIUM, Product, Rule, SOURCE, TERM, Times, To, by_the_table,
        rule,
    },
    tree::Node,
};
use crate::import::json::Token;

const PARAMETERS: &str = "event_params";

pub(super) const GA4: Product = Product {
    name: "GA4",
    has_ids: false,
    times: Times::Micros,
    holders: &[&[PARAMETERS]],
    rules: RULES,
    prepare: name_parameters,
    judge: by_the_table,
};

const RULES: &[Rule] = &[
    rule(&["event_timestamp"], To::Time),
    rule(&["event_name"], To::Name),
    rule(&["user_id"], To::Known),
    rule(&["user_pseudo_id"], To::Anonymous),
    rule(&["collected_traffic_source", "manual_source"], SOURCE),
    rule(&["collected_traffic_source", "manual_medium"], MEDIUM),
    rule(&["collected_traffic_source", "manual_campaign_name"], CAMPAIGN_NAME),
    rule(&["collected_traffic_source", "manual_term"], TERM),
    rule(&["collected_traffic_source", "manual_content"], CONTENT),
    rule(&["collected_traffic_source", "manual_campaign_id"], CAMPAIGN_ID),
    rule(&["collected_traffic_source", "gclid"], To::Click),
    rule(&["collected_traffic_source", "dclid"], To::Click),
    rule(&["collected_traffic_source", "srsltid"], To::Click),
    rule(&[PARAMETERS, "source"], SOURCE),
    rule(&[PARAMETERS, "medium"], MEDIUM),
    rule(&[PARAMETERS, "campaign"], CAMPAIGN_NAME),
    rule(&[PARAMETERS, "term"], TERM),
    rule(&[PARAMETERS, "content"], CONTENT),
    rule(&[PARAMETERS, "campaign_id"], CAMPAIGN_ID),
    rule(&[PARAMETERS, "gclid"], To::Click),
    rule(&[PARAMETERS, "currency"], To::Currency),
    rule(&[PARAMETERS, "value"], To::Amount),
    rule(&["ecommerce", "purchase_revenue"], To::Amount),
    rule(&["ecommerce", "purchase_revenue_in_usd"], To::AmountUsd),
    rule(&["event_value_in_usd"], To::AmountUsd),
    rule(&["event_value_in_usd"], To::Property("event_value_in_usd")),
    rule(&[PARAMETERS, "page_location"], To::Property("page")),
    rule(&[PARAMETERS, "page_referrer"], To::Property("referrer")),
    rule(&["device", "category"], To::Property("device")),
    rule(&["device", "operating_system"], To::Property("os")),
    rule(&["device", "web_info", "browser"], To::Property("browser")),
    rule(&["geo", "country"], To::Property("country")),
    rule(&["platform"], To::Property("platform")),
    rule(&[PARAMETERS, "transaction_id"], To::Property("transaction_id")),
    rule(&["ecommerce", "transaction_id"], To::Property("transaction_id")),
    rule(&["traffic_source", "source"], To::Property("first_source")),
    rule(&["traffic_source", "medium"], To::Property("first_medium")),
    rule(&["traffic_source", "name"], To::Property("first_campaign")),
];

/// Makes an object of the list of parameters, each with the one value that it has.
fn name_parameters(row: &mut Node<'_>) {
    let Node::Object(members) = row else { return };
    let Some((_, parameters)) = members.iter_mut().find(|(name, _)| name == PARAMETERS) else { return };
    if let Node::Array(list) = parameters {
        let named = std::mem::take(list).into_iter().filter_map(named).collect();
        *parameters = Node::Object(named);
    }
}

fn named(parameter: Node<'_>) -> Option<(Cow<'_, str>, Node<'_>)> {
    let Node::Object(members) = parameter else { return None };
    let (mut key, mut value) = (None, None);
    for (name, node) in members {
        match (name.as_ref(), node) {
            ("key", Node::Scalar(Token::Text(text))) => key = Some(text),
            ("value", Node::Object(kinds)) => value = kinds.into_iter().find_map(typed),
            _ => {}
        }
    }
    Some((key?, value?))
}

/// The value, if this kind of value is the one that is set.
fn typed<'a>((kind, value): (Cow<'a, str>, Node<'a>)) -> Option<Node<'a>> {
    match (kind.as_ref(), value) {
        (_, Node::Scalar(Token::Null)) => None,
        ("int_value", Node::Scalar(Token::Text(Cow::Borrowed(text)))) if text.parse::<i64>().is_ok() => {
            Some(Node::Scalar(Token::Number(text)))
        }
        ("string_value" | "int_value" | "float_value" | "double_value", value) => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_the_value_that_is_set() {
        let mut row = Node::read(
            r#"{"event_params":[{"key":"page_title","value":{"string_value":"Shoes","int_value":null}},
                {"key":"ga_session_id","value":{"string_value":null,"int_value":"1700000000"}},
                {"key":"engaged","value":{"int_value":1}},{"key":"value","value":{"double_value":29.99}},
                {"key":"empty","value":{}},{"value":{"int_value":"2"}},7]}"#,
        )
        .unwrap();
        name_parameters(&mut row);
        let scalar = |name: &str| match row.at(&[PARAMETERS, name]) {
            Some(Node::Scalar(token)) => Some(token.clone()),
            _ => None,
        };
        assert_eq!(scalar("page_title"), Some(Token::Text("Shoes".into())));
        assert_eq!(scalar("ga_session_id"), Some(Token::Number("1700000000")));
        assert_eq!(scalar("engaged"), Some(Token::Number("1")));
        assert_eq!(scalar("value"), Some(Token::Number("29.99")));
        assert_eq!((scalar("empty"), row.at(&[PARAMETERS]).unwrap().members().len()), (None, 4));
    }
}
