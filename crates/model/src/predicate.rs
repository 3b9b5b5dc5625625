//! Conditions on one event's columns.

use crate::{Field, ValueRef, ValueType};

/// What an event carries itself: these are the columns that are stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attribute {
    /// A typed field.
    Field(Field),
    /// A property by name.
    Property(String),
}

/// What an event has of the session that it belongs to. Events outside sessions have none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// The channel that the session came from, as sent or as it is classified.
    Channel,
    /// The kind of device of the session, as sent or as the user agent says.
    Device,
    /// Whether it is the visitor's first session: "new" or "returning".
    Visit,
    /// The channel of the visitor's first session; all events of the visitor have it.
    FirstChannel,
    /// The channel of the visitor's last session; all events of the visitor have it.
    LastChannel,
    /// The operating system of the session, as sent or as the user agent says.
    Os,
    /// The browser of the session, as sent or as the user agent says.
    Browser,
}

/// Names one column of an event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// What the event carries itself.
    Attribute(Attribute),
    /// What it has of its session.
    Session(Dimension),
}

impl Selector {
    /// The column of a typed field.
    #[must_use]
    pub fn field(field: Field) -> Selector {
        Selector::Attribute(Attribute::Field(field))
    }

    /// The column of a property.
    #[must_use]
    pub fn property(name: impl Into<String>) -> Selector {
        Selector::Attribute(Attribute::Property(name.into()))
    }
}

/// A value that stands alone. Doubles are kept as bits so that values can be compared and hashed exactly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// UTF-8 text.
    String(String),
    /// A whole number.
    Int(i64),
    /// A finite fractional number, by its bits.
    Double(u64),
    /// A truth value.
    Bool(bool),
}

impl Value {
    /// The value as one of an event.
    #[must_use]
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Value::String(text) => ValueRef::String(text),
            Value::Int(number) => ValueRef::Int(*number),
            Value::Double(bits) => ValueRef::Double(f64::from_bits(*bits)),
            Value::Bool(truth) => ValueRef::Bool(*truth),
        }
    }

    /// The value's type.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        self.as_ref().value_type()
    }

    /// The value for a person.
    #[must_use]
    pub fn show(&self) -> String {
        match self.as_ref() {
            ValueRef::String(text) => text.to_owned(),
            ValueRef::Int(number) => number.to_string(),
            ValueRef::Double(number) => number.to_string(),
            ValueRef::Bool(truth) => truth.to_string(),
        }
    }
}

impl From<ValueRef<'_>> for Value {
    fn from(value: ValueRef<'_>) -> Value {
        match value {
            ValueRef::String(text) => Value::String(text.to_owned()),
            ValueRef::Int(number) => Value::Int(number),
            ValueRef::Double(number) => Value::Double(number.to_bits()),
            ValueRef::Bool(truth) => Value::Bool(truth),
        }
    }
}

/// How a column compares with constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Equal.
    Equal,
    /// Not equal, or missing.
    NotEqual,
    /// Less than; numbers only.
    Less,
    /// Less than or equal; numbers only.
    LessOrEqual,
    /// Greater than; numbers only.
    Greater,
    /// Greater than or equal; numbers only.
    GreaterOrEqual,
    /// Equal to one of the constants.
    In,
    /// Equal to none of the constants, or missing.
    NotIn,
    /// A text that starts with the constant.
    Prefix,
    /// A text that contains the constant.
    Contains,
    /// A text that matches the regular expression.
    Regex,
    /// Present.
    Exists,
    /// Absent.
    Missing,
}

/// A condition. Limits on its size are checked where it is read from the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Predicate {
    /// Every part holds.
    All(Vec<Predicate>),
    /// Some part holds.
    Any(Vec<Predicate>),
    /// The part does not hold.
    Not(Box<Predicate>),
    /// A column compares with constants.
    Compare {
        /// Which column.
        column: Selector,
        /// How.
        operator: Operator,
        /// The constants; as many as the operator takes.
        values: Vec<Value>,
    },
}

impl Predicate {
    /// Calls `visit` with every column that the condition names.
    pub fn columns(&self, visit: &mut impl FnMut(&Selector)) {
        match self {
            Predicate::All(parts) | Predicate::Any(parts) => {
                parts.iter().for_each(|part| part.columns(visit))
            }
            Predicate::Not(part) => part.columns(visit),
            Predicate::Compare { column, .. } => visit(column),
        }
    }
}

/// Compares two numbers of any of the two number types, exactly.
#[must_use]
pub fn compare_numbers(left: ValueRef<'_>, right: ValueRef<'_>) -> Option<std::cmp::Ordering> {
    match (left, right) {
        (ValueRef::Int(left), ValueRef::Int(right)) => Some(left.cmp(&right)),
        (ValueRef::Double(left), ValueRef::Double(right)) => left.partial_cmp(&right),
        (ValueRef::Int(left), ValueRef::Double(right)) => compare_mixed(left, right),
        (ValueRef::Double(left), ValueRef::Int(right)) => {
            compare_mixed(right, left).map(std::cmp::Ordering::reverse)
        }
        _ => None,
    }
}

/// A whole number against a fractional one, without rounding the whole one.
fn compare_mixed(whole: i64, fractional: f64) -> Option<std::cmp::Ordering> {
    use std::cmp::Ordering;
    if fractional.is_nan() {
        return None;
    }
    if fractional >= 9_223_372_036_854_775_808.0 {
        return Some(Ordering::Less);
    }
    if fractional < -9_223_372_036_854_775_808.0 {
        return Some(Ordering::Greater);
    }
    let floor = fractional.floor();
    Some(whole.cmp(&(floor as i64)).then(if fractional > floor { Ordering::Less } else { Ordering::Equal }))
}

/// Whether two values are equal: of one type, or both numbers of the same size.
#[must_use]
pub fn values_equal(left: ValueRef<'_>, right: ValueRef<'_>) -> bool {
    match (left, right) {
        (ValueRef::String(left), ValueRef::String(right)) => left == right,
        (ValueRef::Bool(left), ValueRef::Bool(right)) => left == right,
        _ => compare_numbers(left, right) == Some(std::cmp::Ordering::Equal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;

    #[test]
    fn numbers_compare_exactly_across_types() {
        let compare = |left, right| compare_numbers(ValueRef::Int(left), ValueRef::Double(right));
        assert_eq!(compare(i64::MAX, 9_223_372_036_854_775_808.0), Some(Ordering::Less));
        assert_eq!(compare(9_007_199_254_740_993, 9_007_199_254_740_992.0), Some(Ordering::Greater));
        assert_eq!(compare(2, 2.5), Some(Ordering::Less));
        assert_eq!(compare(-2, -2.5), Some(Ordering::Greater));
        assert!(values_equal(ValueRef::Int(3), ValueRef::Double(3.0)));
        assert!(!values_equal(ValueRef::Int(1), ValueRef::Bool(true)));
    }
}
