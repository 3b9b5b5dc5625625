//! Counts what became of which field, so that a dry run can show it.

use std::collections::HashMap;

use serde::Serialize;

use super::rules::Product;

/// Names that are counted one by one; all are counted together.
const NAMES: usize = 10_000;

/// A field of an export and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mapped {
    /// The field, with a point between the names that lead to it.
    pub from: String,
    /// What it becomes, or that it is left out and why.
    pub to: String,
    /// In how many rows.
    pub rows: u64,
}

/// What becomes of a member of an object that holds properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    Nested,
    TooMany,
    Unfit,
    Taken,
    Ignored,
    Unread,
}

impl Fate {
    const ALL: [Fate; 7] =
        [Fate::Kept, Fate::Nested, Fate::TooMany, Fate::Unfit, Fate::Taken, Fate::Ignored, Fate::Unread];

    fn shown(self, name: &str) -> String {
        match self {
            Fate::Kept => format!("property {name}"),
            Fate::Nested => "left out: an object or a list".to_owned(),
            Fate::TooMany => "left out: the event has 64 others".to_owned(),
            Fate::Unfit => "left out: too long, or no value that a property can have".to_owned(),
            Fate::Taken => "left out: another field becomes the property of this name".to_owned(),
            Fate::Ignored => "left out by --ignore".to_owned(),
            Fate::Unread => "left out: not of the event".to_owned(),
        }
    }

    /// Whether somebody may miss it.
    fn is_loss(self) -> bool {
        !matches!(self, Fate::Kept | Fate::Ignored | Fate::Unread)
    }
}

/// Counts over a whole import.
#[derive(Debug)]
pub(super) struct Tally {
    rules: Vec<u64>,
    /// By the way to the holder, then by name.
    fields: HashMap<&'static [&'static str], HashMap<String, [u64; Fate::ALL.len()]>>,
    left_out: u64,
}

impl Tally {
    pub(super) fn new(product: &Product) -> Tally {
        Tally { rules: vec![0; product.rules.len()], fields: HashMap::new(), left_out: 0 }
    }

    /// A row was read for which these rules found something.
    pub(super) fn used(&mut self, rules: &[usize]) {
        rules.iter().for_each(|at| self.rules[*at] += 1);
    }

    /// Something became of a member.
    pub(super) fn field(&mut self, holder: &'static [&'static str], name: &str, fate: Fate) {
        self.left_out += u64::from(fate.is_loss());
        let fields = self.fields.entry(holder).or_default();
        let room = fields.len() < NAMES;
        match fields.get_mut(name) {
            Some(counts) => counts[fate as usize] += 1,
            None if room => {
                let mut counts = [0; Fate::ALL.len()];
                counts[fate as usize] = 1;
                fields.insert(name.to_owned(), counts);
            }
            None => {}
        }
    }

    /// Properties that did not come along.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Everything that was found, in the order of the table and then by name.
    pub(super) fn mapping(&self, product: &Product) -> Vec<Mapped> {
        let ruled = product.rules.iter().zip(&self.rules).filter(|(_, rows)| **rows > 0);
        let mut mapping: Vec<Mapped> = ruled
            .map(|(rule, rows)| Mapped { from: rule.from.join("."), to: rule.to.shown(), rows: *rows })
            .collect();
        let mut rest = Vec::new();
        for (holder, fields) in &self.fields {
            for (name, counts) in fields {
                let mut from = holder.to_vec();
                from.push(name);
                let from = from.join(".");
                for (fate, rows) in Fate::ALL.into_iter().zip(counts).filter(|(_, rows)| **rows > 0) {
                    let to = fate.shown(name);
                    rest.push((fate != Fate::Kept, Mapped { from: from.clone(), to, rows: *rows }));
                }
            }
        }
        rest.sort_by(|(late, left), (later, right)| {
            (late, &left.from, &left.to).cmp(&(later, &right.from, &right.to))
        });
        mapping.extend(rest.into_iter().map(|(_, mapped)| mapped));
        mapping
    }
}
