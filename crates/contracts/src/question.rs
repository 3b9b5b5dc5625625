//! Conditions, columns and values: from the wire to the model, within limits, and back.

use runnel_model::{Dimension, Field, Operator, Predicate, Selector, Value, limits};

use crate::{
    proto::{
        event::v1 as event,
        query::v1::{self as wire, predicate::Node, selector::Column},
    },
    refusal::{Reason, Refusal},
};

/// A column by name or field. `at` names the place in the request.
pub fn selector(at: &str, selector: Option<&wire::Selector>) -> Result<Selector, Refusal> {
    match selector.and_then(|selector| selector.column.as_ref()) {
        Some(Column::Property(name)) if name.is_empty() || name.len() > limits::ID_BYTES => {
            let text = format!(
                "A property's name has 1 to {} bytes; this one has {}.",
                limits::ID_BYTES,
                name.len()
            );
            Err(Refusal::field(Reason::PredicateInvalid, at, text))
        }
        Some(Column::Property(name)) => Ok(Selector::property(name)),
        Some(Column::Field(number)) => match u32::try_from(*number).ok().and_then(Field::from_number) {
            Some(field) => Ok(Selector::field(field)),
            None => {
                Err(Refusal::field(Reason::EnumUnknown, at, format!("There is no field number {number}.")))
            }
        },
        Some(Column::Dimension(number)) => match wire::Dimension::try_from(*number) {
            Ok(wire::Dimension::Channel) => Ok(Selector::Session(Dimension::Channel)),
            Ok(wire::Dimension::Device) => Ok(Selector::Session(Dimension::Device)),
            Ok(wire::Dimension::Visit) => Ok(Selector::Session(Dimension::Visit)),
            Ok(wire::Dimension::LastChannel) => Ok(Selector::Session(Dimension::LastChannel)),
            Ok(wire::Dimension::Os) => Ok(Selector::Session(Dimension::Os)),
            Ok(wire::Dimension::Browser) => Ok(Selector::Session(Dimension::Browser)),
            Ok(wire::Dimension::FirstChannel) => Ok(Selector::Session(Dimension::FirstChannel)),
            Ok(wire::Dimension::Unspecified) | Err(_) => {
                let text = format!("There is no dimension number {number}.");
                Err(Refusal::field(Reason::EnumUnknown, at, text))
            }
        },
        None => Err(Refusal::field(
            Reason::FieldMissing,
            at,
            format!("{at} names neither a property nor a field nor a dimension."),
        )),
    }
}

/// A value.
pub fn value(at: &str, value: &event::Value) -> Result<Value, Refusal> {
    use event::value::Kind;
    match &value.kind {
        Some(Kind::StringValue(text)) if text.len() > limits::VALUE_BYTES => {
            let text =
                format!("A text has at most {} bytes; this one has {}.", limits::VALUE_BYTES, text.len());
            Err(Refusal::field(Reason::TextTooLong, at, text))
        }
        Some(Kind::StringValue(text)) => Ok(Value::String(text.clone())),
        Some(Kind::IntValue(number)) => Ok(Value::Int(*number)),
        Some(Kind::DoubleValue(number)) if !number.is_finite() => {
            Err(Refusal::field(Reason::NumberNotFinite, at, format!("{at} is {number}.")))
        }
        Some(Kind::DoubleValue(number)) => Ok(Value::Double(number.to_bits())),
        Some(Kind::BoolValue(truth)) => Ok(Value::Bool(*truth)),
        None => Err(Refusal::field(Reason::FieldMissing, at, format!("{at} has no value."))),
    }
}

/// A value for the wire.
#[must_use]
pub fn value_to_wire(value: &Value) -> event::Value {
    use event::value::Kind;
    let kind = match value {
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Int(number) => Kind::IntValue(*number),
        Value::Double(bits) => Kind::DoubleValue(f64::from_bits(*bits)),
        Value::Bool(truth) => Kind::BoolValue(*truth),
    };
    event::Value { kind: Some(kind) }
}

/// A condition, checked against the limits on nodes, depth and constants.
pub fn predicate(at: &str, predicate: &wire::Predicate) -> Result<Predicate, Refusal> {
    let mut nodes = 0;
    convert(at, predicate, 1, &mut nodes)
}

fn invalid(at: &str, text: String) -> Refusal {
    Refusal::field(Reason::PredicateInvalid, at, text)
}

fn convert(
    at: &str,
    predicate: &wire::Predicate,
    depth: usize,
    nodes: &mut usize,
) -> Result<Predicate, Refusal> {
    *nodes += 1;
    if *nodes > limits::PREDICATE_NODES {
        return Err(invalid(at, format!("A condition has at most {} nodes.", limits::PREDICATE_NODES)));
    }
    if depth > limits::PREDICATE_DEPTH {
        return Err(invalid(at, format!("A condition is at most {} levels deep.", limits::PREDICATE_DEPTH)));
    }
    let mut parts = |list: &wire::Predicates| -> Result<Vec<Predicate>, Refusal> {
        if list.parts.is_empty() {
            return Err(invalid(at, "all and any have at least one part.".to_owned()));
        }
        list.parts.iter().map(|part| convert(at, part, depth + 1, nodes)).collect()
    };
    match &predicate.node {
        Some(Node::All(list)) => Ok(Predicate::All(parts(list)?)),
        Some(Node::Any(list)) => Ok(Predicate::Any(parts(list)?)),
        Some(Node::Not(part)) => Ok(Predicate::Not(Box::new(convert(at, part, depth + 1, nodes)?))),
        Some(Node::Comparison(comparison)) => compare(at, comparison),
        None => Err(invalid(at, "The condition is empty.".to_owned())),
    }
}

fn compare(at: &str, comparison: &wire::Comparison) -> Result<Predicate, Refusal> {
    use wire::Operator as Wire;
    let operator = match comparison.operator() {
        Wire::Unspecified => {
            return Err(Refusal::field(Reason::FieldMissing, at, "The comparison has no operator."));
        }
        Wire::Equal => Operator::Equal,
        Wire::NotEqual => Operator::NotEqual,
        Wire::Less => Operator::Less,
        Wire::LessOrEqual => Operator::LessOrEqual,
        Wire::Greater => Operator::Greater,
        Wire::GreaterOrEqual => Operator::GreaterOrEqual,
        Wire::In => Operator::In,
        Wire::NotIn => Operator::NotIn,
        Wire::Prefix => Operator::Prefix,
        Wire::Contains => Operator::Contains,
        Wire::Regex => Operator::Regex,
        Wire::Exists => Operator::Exists,
        Wire::Missing => Operator::Missing,
    };
    let values: Vec<Value> =
        comparison.values.iter().map(|constant| value(at, constant)).collect::<Result<_, _>>()?;
    let wanted = match operator {
        Operator::In | Operator::NotIn => 1..=limits::PREDICATE_VALUES,
        Operator::Exists | Operator::Missing => 0..=0,
        _ => 1..=1,
    };
    if !wanted.contains(&values.len()) {
        let text = format!(
            "{operator:?} takes {} to {} constants; it has {}.",
            wanted.start(),
            wanted.end(),
            values.len()
        );
        return Err(invalid(at, text));
    }
    let fits = |value: &Value| match operator {
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            matches!(value, Value::Int(_) | Value::Double(_))
        }
        Operator::Prefix | Operator::Contains => matches!(value, Value::String(_)),
        Operator::Regex => matches!(value, Value::String(pattern) if pattern.len() <= limits::REGEX_BYTES),
        _ => true,
    };
    if let Some(misfit) = values.iter().find(|value| !fits(value)) {
        let kind = misfit.value_type().name();
        return Err(invalid(
            at,
            format!(
                "{operator:?} does not take the given constant of type {kind}; numbers compare by size, texts by prefix, contents or a regular expression of at most {} bytes.",
                limits::REGEX_BYTES
            ),
        ));
    }
    Ok(Predicate::Compare { column: selector(at, comparison.column.as_ref())?, operator, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(operator: wire::Operator, values: Vec<Value>) -> wire::Predicate {
        let column = Some(wire::Selector { column: Some(Column::Property("p".into())) });
        let values = values.iter().map(value_to_wire).collect();
        let comparison = wire::Comparison { column, operator: operator as i32, values };
        wire::Predicate { node: Some(Node::Comparison(comparison)) }
    }

    #[test]
    fn limits_are_named() {
        let mut deep = leaf(wire::Operator::Exists, vec![]);
        assert!(predicate("w", &deep).is_ok());
        for _ in 0..8 {
            deep = wire::Predicate { node: Some(Node::Not(Box::new(deep))) };
        }
        assert!(predicate("w", &deep).unwrap_err().message.contains("8 levels"));
        let wide = wire::Predicates { parts: vec![leaf(wire::Operator::Exists, vec![]); 64] };
        let wide = wire::Predicate { node: Some(Node::Any(wide)) };
        assert!(predicate("w", &wide).unwrap_err().message.contains("64 nodes"));
        for bad in [
            leaf(wire::Operator::Equal, vec![]),
            leaf(wire::Operator::Less, vec![Value::String("x".into())]),
            leaf(wire::Operator::Exists, vec![Value::Int(1)]),
            leaf(wire::Operator::Regex, vec![Value::String("x".repeat(257))]),
            wire::Predicate { node: None },
        ] {
            assert_eq!(predicate("w", &bad).unwrap_err().reason, Reason::PredicateInvalid);
        }
    }
}
