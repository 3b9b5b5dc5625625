//! Checks texts, and reads values of a declared type.

use std::fmt;

use runnel_model::limits;

use super::{args::PropertyType, encode::Value, fault::RowFault, json::Token, scan::find};

/// Checks a text: length, UTF-8, no NUL.
pub(super) fn check_text(field: impl fmt::Display, bytes: &[u8], most: usize) -> Result<&str, RowFault> {
    if bytes.len() > most {
        return Err(RowFault::too_long(field, bytes.len(), most));
    }
    let text = std::str::from_utf8(bytes).map_err(|fault| RowFault::not_utf8(&field, fault.valid_up_to()))?;
    if find(bytes, 0, 0).is_some() {
        return Err(RowFault::nul(field));
    }
    Ok(text)
}

/// Checks a time that was read.
pub(super) fn check_time(time_ms: i64) -> Result<i64, RowFault> {
    if limits::TIME_RANGE_MS.contains(&time_ms) {
        Ok(time_ms)
    } else {
        Err(RowFault::time_out_of_range(time_ms))
    }
}

/// The value that a text has as a property of type `declared`; as it stands where none is declared.
#[inline]
pub(super) fn of_text<'a>(
    name: &str,
    text: &'a str,
    declared: Option<PropertyType>,
) -> Result<Value<'a>, RowFault> {
    match declared {
        None | Some(PropertyType::String) => {
            if text.len() > limits::VALUE_BYTES {
                return Err(RowFault::too_long(
                    format_args!("properties[{name}]"),
                    text.len(),
                    limits::VALUE_BYTES,
                ));
            }
            Ok(Value::Text(text.as_bytes()))
        }
        Some(declared) => parse(name, text, declared),
    }
}

fn parse<'a>(name: &str, text: &'a str, declared: PropertyType) -> Result<Value<'a>, RowFault> {
    let wrong = || RowFault::value_type(name, text, declared.name());
    match declared {
        PropertyType::String => Ok(Value::Text(text.as_bytes())),
        PropertyType::Int => text.parse().map(Value::Int).map_err(|_| wrong()),
        PropertyType::Double => {
            // Rust also reads words such as "inf"; a number starts with a sign, a digit or a point.
            let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
            if !digits.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
                return Err(wrong());
            }
            finite(name, text.parse().map_err(|_| wrong())?)
        }
        PropertyType::Bool => match text {
            "1" => Ok(Value::Bool(true)),
            "0" => Ok(Value::Bool(false)),
            _ if text.eq_ignore_ascii_case("true") => Ok(Value::Bool(true)),
            _ if text.eq_ignore_ascii_case("false") => Ok(Value::Bool(false)),
            _ => Err(wrong()),
        },
    }
}

/// A value that is a finite number.
pub(super) fn finite(name: &str, value: f64) -> Result<Value<'static>, RowFault> {
    if value.is_finite() { Ok(Value::Double(value)) } else { Err(RowFault::not_finite(name)) }
}

/// Whether a JSON number is written as a whole one.
pub(super) fn is_whole(number: &str) -> bool {
    !number.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'))
}

/// Checks a property's name.
pub(super) fn check_name(name: &str) -> Result<(), RowFault> {
    if name.is_empty() || name.len() > limits::ID_BYTES || name.contains('\0') {
        let shown: String = name.chars().take(60).collect();
        let text =
            format!("A property's name has 1 to {} bytes without NUL; {shown:?} does not.", limits::ID_BYTES);
        return Err(RowFault::new("PROPERTY_NAME", text));
    }
    Ok(())
}

/// The value that a JSON value has as a property of type `declared`; `None` where there is none.
pub(super) fn of_json<'t>(
    name: &str,
    value: &'t Token<'_>,
    declared: Option<PropertyType>,
) -> Result<Option<Value<'t>>, RowFault> {
    let value = match value {
        Token::Null => return Ok(None),
        Token::Object | Token::Array => return Err(RowFault::nested(name)),
        Token::Text(text) => {
            check_text(format_args!("properties[{name}]"), text.as_bytes(), limits::VALUE_BYTES)?;
            of_text(name, text, declared)?
        }
        Token::Bool(value) => match declared {
            None | Some(PropertyType::Bool) => Value::Bool(*value),
            Some(PropertyType::String) => Value::Text(if *value { b"true" } else { b"false" }),
            Some(declared) => {
                return Err(RowFault::value_type(
                    name,
                    if *value { "true" } else { "false" },
                    declared.name(),
                ));
            }
        },
        Token::Number(text) => match declared {
            Some(PropertyType::Bool) => return Err(RowFault::value_type(name, text, "bool")),
            Some(_) => of_text(name, text, declared)?,
            None if is_whole(text)
                && let Ok(whole) = text.parse() =>
            {
                Value::Int(whole)
            }
            None => finite(name, text.parse().map_err(|_| RowFault::not_finite(name))?)?,
        },
    };
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_are_strict() {
        use PropertyType::{Bool, Double, Int, String};
        for (text, declared, value) in [
            ("007", String, Value::Text(b"007")),
            ("007", Int, Value::Int(7)),
            ("-9223372036854775808", Int, Value::Int(i64::MIN)),
            ("12.50", Double, Value::Double(12.5)),
            ("1e3", Double, Value::Double(1_000.0)),
            ("-.5", Double, Value::Double(-0.5)),
            ("12", Double, Value::Double(12.0)),
            ("TRUE", Bool, Value::Bool(true)),
            ("0", Bool, Value::Bool(false)),
        ] {
            assert_eq!(of_text("p", text, Some(declared)), Ok(value), "{text}");
        }
        for (text, declared, reason) in [
            ("1.0", Int, "VALUE_TYPE"),
            (" 1", Int, "VALUE_TYPE"),
            ("9223372036854775808", Int, "VALUE_TYPE"),
            ("inf", Double, "VALUE_TYPE"),
            ("nan", Double, "VALUE_TYPE"),
            ("1e999", Double, "NUMBER_NOT_FINITE"),
            ("12,5", Double, "VALUE_TYPE"),
            ("yes", Bool, "VALUE_TYPE"),
        ] {
            assert_eq!(of_text("p", text, Some(declared)).unwrap_err().reason, reason, "{text}");
        }
        assert_eq!(of_text("p", &"x".repeat(8_193), None).unwrap_err().reason, "TEXT_TOO_LONG");
    }
}
