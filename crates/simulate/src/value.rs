//! Properties and their values.

use std::fmt;

use crate::vocabulary::SECTIONS;

/// The name of a property. Its number (`property as usize`) is its index in [`Property::ALL`], so that a loader can resolve names once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "lib.rs describes them in one table")]
pub enum Property {
    Channel,
    Device,
    Country,
    Page,
    Browser,
    Product,
    Price,
    Items,
    Value,
    Method,
    Term,
    Results,
    Campaign,
    Progress,
    DoubleOptIn,
}

impl Property {
    /// Every property, in the order of its number, which is the order of the columns of [`crate::write_csv`].
    pub const ALL: [Property; 15] = [
        Property::Channel,
        Property::Device,
        Property::Country,
        Property::Page,
        Property::Browser,
        Property::Product,
        Property::Price,
        Property::Items,
        Property::Value,
        Property::Method,
        Property::Term,
        Property::Results,
        Property::Campaign,
        Property::Progress,
        Property::DoubleOptIn,
    ];

    /// The name as sent, such as `double_opt_in`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Property::Channel => "channel",
            Property::Device => "device",
            Property::Country => "country",
            Property::Page => "page",
            Property::Browser => "browser",
            Property::Product => "product",
            Property::Price => "price",
            Property::Items => "items",
            Property::Value => "value",
            Property::Method => "method",
            Property::Term => "term",
            Property::Results => "results",
            Property::Campaign => "campaign",
            Property::Progress => "progress",
            Property::DoubleOptIn => "double_opt_in",
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A value. `Display` writes it as it stands in the CSV; nothing is allocated before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A word of the shop's vocabulary.
    Str(&'static str),
    /// A product by number; text, such as `sku-0421`.
    Product(u16),
    /// A page by number; text, such as `/shoes/07`.
    Page(u16),
    /// A whole number.
    Int(i64),
    /// A finite fractional number.
    Float(f64),
    /// An amount of money in hundredths; a fractional number, such as `19.99`.
    Cents(u32),
    /// A truth value.
    Bool(bool),
}

impl Value {
    /// The value as a number, if it is one.
    #[must_use]
    pub fn as_f64(self) -> Option<f64> {
        match self {
            Value::Int(n) => Some(n as f64),
            Value::Float(x) => Some(x),
            Value::Cents(cents) => Some(f64::from(cents) / 100.0),
            Value::Str(_) | Value::Product(_) | Value::Page(_) | Value::Bool(_) => None,
        }
    }

    /// Whether the value is text.
    #[must_use]
    pub fn is_text(self) -> bool {
        matches!(self, Value::Str(_) | Value::Product(_) | Value::Page(_))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Value::Str(text) => f.pad(text),
            Value::Product(product) => write!(f, "sku-{product:04}"),
            Value::Page(page) => write!(f, "/{}/{:02}", section(page), page / SECTIONS.len() as u16),
            Value::Int(n) => n.fmt(f),
            Value::Float(x) => x.fmt(f),
            Value::Cents(cents) => write!(f, "{}.{:02}", cents / 100, cents % 100),
            Value::Bool(b) => b.fmt(f),
        }
    }
}

/// The section of a page. The most visited pages lie in different ones.
pub(crate) fn section(page: u16) -> &'static str {
    SECTIONS[usize::from(page) % SECTIONS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_as_sent() {
        let shown: Vec<String> = [
            Value::Str("email"),
            Value::Product(421),
            Value::Page(71),
            Value::Int(-3),
            Value::Float(0.25),
            Value::Cents(1_905),
            Value::Bool(true),
        ]
        .iter()
        .map(ToString::to_string)
        .collect();
        assert_eq!(shown, ["email", "sku-0421", "/shoes/07", "-3", "0.25", "19.05", "true"]);
    }

    #[test]
    fn numbers_are_indices() {
        for (index, property) in Property::ALL.iter().enumerate() {
            assert_eq!(*property as usize, index);
        }
        for (index, name) in crate::Name::ALL.iter().enumerate() {
            assert_eq!(*name as usize, index);
        }
    }
}
