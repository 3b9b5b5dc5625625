//! One value of a Parquet file.

use std::borrow::Cow;

use runnel_model::limits;
use serde_json::Value as Json;

use crate::import::{
    args::PropertyType,
    encode::{RequestWriter, Value},
    fault::RowFault,
    instant,
    layout::PropertyColumn,
    typed::{check_text, finite, of_text},
};

/// A value in its meaning.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    /// A whole number beyond 63 bits.
    Large(u64),
    Double(f64),
    /// Not checked.
    Text(&'a [u8]),
    Owned(String),
    Instant {
        value: i64,
        digits: u32,
    },
    Date(i64),
}

impl<'a> Cell<'a> {
    /// A decimal as the double that is nearest to it.
    pub(super) fn decimal(unscaled: i128, scale: u32) -> Cell<'a> {
        // Reading the decimal digits rounds once; dividing two doubles would round up to three times.
        Cell::Double(format!("{unscaled}e-{scale}").parse().unwrap_or(f64::NAN))
    }

    /// The value as an identifier or a name; `None` when it is absent.
    pub(super) fn text(&self) -> Option<Cow<'a, [u8]>> {
        match self {
            Cell::Null => None,
            Cell::Text(text) => Some(Cow::Borrowed(*text)),
            other => Some(Cow::Owned(other.shown().into_bytes())),
        }
    }

    /// The value as text.
    pub(super) fn shown(&self) -> String {
        match self {
            Cell::Null => String::new(),
            Cell::Bool(value) => value.to_string(),
            Cell::Int(value) => value.to_string(),
            Cell::Large(value) => value.to_string(),
            Cell::Double(value) => value.to_string(),
            Cell::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Cell::Owned(text) => text.clone(),
            Cell::Instant { value, digits } => instant::format(*value, *digits as usize),
            Cell::Date(days) => instant::format_date(*days),
        }
    }

    /// The value as JSON.
    pub(super) fn json(&self) -> Json {
        match self {
            Cell::Null => Json::Null,
            Cell::Bool(value) => Json::from(*value),
            Cell::Int(value) => Json::from(*value),
            Cell::Large(value) => Json::from(*value),
            Cell::Double(value) => Json::from(*value),
            other => Json::from(other.shown()),
        }
    }

    /// Writes the value as a property; an absent one is left out.
    pub(super) fn property(
        &self,
        column: &PropertyColumn,
        writer: &mut RequestWriter,
    ) -> Result<(), RowFault> {
        let name = &column.name;
        let shown;
        let value = match (self, column.declared) {
            (Cell::Null, _) => return Ok(()),
            (Cell::Bool(value), None | Some(PropertyType::Bool)) => Value::Bool(*value),
            (Cell::Int(value), None | Some(PropertyType::Int)) => Value::Int(*value),
            (Cell::Double(value), None | Some(PropertyType::Double)) => finite(name, *value)?,
            (Cell::Large(value), None) => Value::Double(*value as f64),
            (Cell::Text(text), declared) => {
                let text = check_text(format_args!("properties[{name}]"), text, limits::VALUE_BYTES)?;
                of_text(name, text, declared)?
            }
            // A number is not a truth value, and a time is not a number, only because their texts look alike.
            (other, Some(PropertyType::Bool)) => {
                return Err(RowFault::value_type(name, &other.shown(), "bool"));
            }
            (other, declared) => {
                shown = other.shown();
                of_text(name, &shown, declared)?
            }
        };
        writer.property(&column.key, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_the_nearest_doubles() {
        assert_eq!(Cell::decimal(1_999, 2), Cell::Double(19.99));
        assert_eq!(Cell::decimal(-5, 0), Cell::Double(-5.0));
        assert_eq!(
            Cell::decimal(123_456_789_012_345_678_901_234, 4),
            Cell::Double(12_345_678_901_234_567_890.123_4)
        );
    }

    #[test]
    fn instants_and_dates_become_text() {
        assert_eq!(
            Cell::Instant { value: 1_501_570_840_000_001, digits: 6 }.shown(),
            "2017-08-01T07:00:40.000001Z"
        );
        assert_eq!(Cell::Date(17_379).shown(), "2017-08-01");
        assert_eq!(Cell::Large(u64::MAX).text().unwrap().as_ref(), b"18446744073709551615");
    }
}
