//! What a product's table finds in one row.

use std::{borrow::Cow, ptr};

use runnel_model::limits;

use super::{
    rules::{CAMPAIGN, CLICK, Product, To},
    tree::Node,
};
use crate::{decimal, import::json::Token};

/// Texts by which products say that there is nothing.
const NOTHING: [&str; 2] = ["(not set)", "$direct"];

/// What makes an event, apart from its content, and what the row says about who is who.
#[derive(Debug, Default)]
pub(super) struct Draft<'r> {
    pub(super) event_id: Option<&'r str>,
    pub(super) known: Option<&'r str>,
    pub(super) anonymous: Option<&'r str>,
    pub(super) time: Option<&'r str>,
    pub(super) name: Option<&'r str>,
    /// Anonymous ids, each with the known one.
    pub(super) pairs: Vec<(&'r str, &'r str)>,
    /// The row is no event.
    pub(super) only_identity: bool,
}

impl<'r> Draft<'r> {
    /// Whose event it is.
    pub(super) fn visitor(&self) -> Option<&'r str> {
        self.known.or(self.anonymous)
    }

    /// The row says that an anonymous id belongs to a known one, if it has both.
    pub(super) fn identifies(&mut self, anonymous: Option<&'r str>, known: Option<&'r str>) {
        if let (Some(anonymous), Some(known)) = (anonymous, known)
            && anonymous != known
        {
            self.pairs.push((anonymous, known));
        }
    }

    /// The row says nothing else.
    pub(super) fn is_only_identity(&mut self, anonymous: Option<&'r str>, known: Option<&'r str>) {
        self.only_identity = true;
        self.identifies(anonymous, known);
    }
}

/// What was found, and where.
#[derive(Debug)]
pub(super) struct Found<'r, 'a> {
    pub(super) draft: Draft<'r>,
    /// Parts of the campaign, in the order of [`CAMPAIGN`].
    pub(super) campaign: [Option<Cow<'r, str>>; CAMPAIGN.len()],
    /// Millionths and a currency.
    pub(super) money: Option<(i64, String)>,
    /// Properties that have another name or place in the export.
    pub(super) properties: Vec<(&'static str, &'r Token<'a>)>,
    /// Positions of the rules that found something.
    pub(super) used: Vec<usize>,
    claimed: Vec<&'r Node<'a>>,
}

impl<'r, 'a> Found<'r, 'a> {
    pub(super) fn of(product: &Product, row: &'r Node<'a>) -> Found<'r, 'a> {
        let mut found = Found {
            draft: Draft::default(),
            campaign: [const { None }; CAMPAIGN.len()],
            money: None,
            properties: Vec::new(),
            used: Vec::new(),
            claimed: Vec::new(),
        };
        let mut currency = None;
        for (at, rule) in product.rules.iter().enumerate() {
            let Some(node) = row.at(rule.from) else { continue };
            let new = match rule.to {
                To::Currency => {
                    if let (None, Some(code)) = (&currency, node.text().and_then(code)) {
                        currency = Some((at, node, code));
                    }
                    // It is used when there is an amount.
                    false
                }
                To::Amount => match &currency {
                    Some((_, _, code)) => found.amount(node, code),
                    None => false,
                },
                To::AmountUsd => found.amount(node, "USD"),
                to => found.take(to, rule.from.last().copied().unwrap_or_default(), node),
            };
            if new {
                found.used.push(at);
                if let (To::Amount, Some((at, node, _))) = (rule.to, &currency) {
                    found.used.push(*at);
                    found.claimed.push(node);
                }
            }
            if new || rule.to.is_role() {
                found.claimed.push(node);
            }
        }
        (product.judge)(row, &mut found.draft);
        if found.draft.only_identity {
            let says = |at: &usize| product.rules[*at].to.is_role();
            found.used.retain(says);
            let pair = |(at, _): &(usize, _)| product.rules[*at].to == To::Pair;
            let there = product.rules.iter().enumerate().filter(pair);
            found.used.extend(there.filter(|(_, rule)| row.at(rule.from).is_some()).map(|(at, _)| at));
        }
        found
    }

    /// Whether a rule has used this very value, so that it is no property as well.
    pub(super) fn is_claimed(&self, node: &Node<'a>) -> bool {
        self.claimed.iter().any(|claimed| ptr::eq(*claimed, node))
    }

    /// Uses a value for a purpose that is still open; whether it did.
    fn take(&mut self, to: To, field: &'static str, node: &'r Node<'a>) -> bool {
        let told = || node.text().filter(|text| !NOTHING.contains(text));
        match to {
            To::EventId => fill(&mut self.draft.event_id, node.id()),
            To::Known => fill(&mut self.draft.known, node.id()),
            To::Anonymous => fill(&mut self.draft.anonymous, node.id()),
            To::Time => fill(&mut self.draft.time, node.text()),
            To::Name => fill(&mut self.draft.name, node.id()),
            To::Sort => node.id().is_some(),
            To::Campaign(part) => fill(&mut self.campaign[part], told().filter(fits).map(Cow::Borrowed)),
            To::Click => {
                // The network is told by the kind of identifier, which in an export is the name of the field. A part of an identifier identifies nothing.
                let kind = field.trim_start_matches('$');
                let click = told().map(|value| format!("{kind}={value}"));
                let click = click.map(|click| if fits(&click.as_str()) { click } else { kind.to_owned() });
                fill(&mut self.campaign[CLICK], click.map(Cow::Owned))
            }
            To::Property(name) => match node {
                Node::Scalar(token)
                    if !self.is_claimed(node)
                        && !self.properties.iter().any(|(other, _)| *other == name)
                        && !is_nothing(token) =>
                {
                    self.properties.push((name, token));
                    true
                }
                _ => false,
            },
            To::Currency | To::Amount | To::AmountUsd | To::Pair => false,
        }
    }

    fn amount(&mut self, node: &Node<'_>, currency: &str) -> bool {
        let amount = node.text().and_then(decimal::micros);
        fill(&mut self.money, amount.map(|micros| (micros, currency.to_owned())))
    }
}

/// Fills what is empty; whether it did.
fn fill<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
    let new = slot.is_none() && value.is_some();
    if new {
        *slot = value;
    }
    new
}

fn fits(text: &&str) -> bool {
    text.len() <= limits::ID_BYTES && !text.contains('\0')
}

/// A currency as it is written in capitals.
fn code(text: &str) -> Option<String> {
    (text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic()))
        .then(|| text.to_ascii_uppercase())
}

fn is_nothing(token: &Token<'_>) -> bool {
    match token {
        Token::Null => true,
        Token::Text(text) => text.is_empty() || NOTHING.contains(&text.as_ref()),
        _ => false,
    }
}
