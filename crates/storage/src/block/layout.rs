//! Which columns a block has, as Parquet knows them and as we do.

use std::sync::Arc;

use parquet::{
    basic::{LogicalType, Repetition, TimeUnit, Type as Physical},
    errors::ParquetError,
    schema::types::{SchemaDescriptor, Type, TypePtr},
};
use runnel_model::{Attribute, Field, ValueType};

use super::{BlockError, ids::IdForm};

/// Column names of what every event has.
pub(crate) const VISITOR: &str = "visitor";
pub(crate) const NAME: &str = "name";
pub(crate) const TIME: &str = "time_ms";
pub(crate) const SEQUENCE: &str = "sequence";
pub(crate) const EVENT_ID: &str = "event_id";
pub(crate) const NUMBER: &str = "number";

/// The columns of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Whether some event has a sequence.
    pub(crate) sequence: bool,
    /// How event ids are stored.
    pub(crate) ids: IdForm,
    /// Properties and typed fields, ascending.
    pub(crate) columns: Vec<(Attribute, ValueType)>,
}

impl Layout {
    /// Position of the first column that is no dense one.
    pub(crate) fn dense(&self) -> usize {
        5 + usize::from(self.sequence)
    }

    /// The Parquet schema.
    pub(crate) fn schema(&self) -> Result<TypePtr, ParquetError> {
        let text = || Some(LogicalType::String);
        let column = |name: &str, physical, logical: Option<LogicalType>, repetition, length: i32| {
            Type::primitive_type_builder(name, physical)
                .with_repetition(repetition)
                .with_logical_type(logical)
                .with_length(length)
                .build()
                .map(Arc::new)
        };
        let need = Repetition::REQUIRED;
        let instant = LogicalType::timestamp(true, TimeUnit::MILLIS);
        let whole = LogicalType::integer(64, false);
        let mut fields = vec![
            column(VISITOR, Physical::BYTE_ARRAY, text(), need, -1)?,
            column(NAME, Physical::BYTE_ARRAY, text(), need, -1)?,
            column(TIME, Physical::INT64, Some(instant), need, -1)?,
        ];
        if self.sequence {
            fields.push(column(SEQUENCE, Physical::INT64, None, need, -1)?);
        }
        fields.push(match self.ids {
            IdForm::Text => column(EVENT_ID, Physical::BYTE_ARRAY, text(), need, -1)?,
            IdForm::Uuid => {
                column(EVENT_ID, Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Uuid), need, 16)?
            }
            IdForm::Hex(bytes) => {
                column(EVENT_ID, Physical::FIXED_LEN_BYTE_ARRAY, None, need, i32::from(bytes))?
            }
        });
        fields.push(column(NUMBER, Physical::INT64, Some(whole), need, -1)?);
        for (selector, value_type) in &self.columns {
            let (physical, logical) = match value_type {
                ValueType::String => (Physical::BYTE_ARRAY, text()),
                ValueType::Int => (Physical::INT64, None),
                ValueType::Double => (Physical::DOUBLE, None),
                ValueType::Bool => (Physical::BOOLEAN, None),
            };
            fields.push(column(
                &column_name(selector, *value_type),
                physical,
                logical,
                Repetition::OPTIONAL,
                -1,
            )?);
        }
        Ok(Arc::new(Type::group_type_builder("event").with_fields(fields).build()?))
    }

    /// Reads the columns back from a schema.
    pub(crate) fn of_schema(schema: &SchemaDescriptor) -> Result<Layout, BlockError> {
        let mut columns = schema.columns().iter().peekable();
        let mut dense = |name: &str, physical| {
            columns.next_if(|column| {
                column.name() == name
                    && column.physical_type() == physical
                    && column.max_def_level() == 0
                    && column.max_rep_level() == 0
            })
        };
        dense(VISITOR, Physical::BYTE_ARRAY).ok_or(BlockError::Foreign("no visitor"))?;
        dense(NAME, Physical::BYTE_ARRAY).ok_or(BlockError::Foreign("no name"))?;
        dense(TIME, Physical::INT64).ok_or(BlockError::Foreign("no time"))?;
        let sequence = dense(SEQUENCE, Physical::INT64).is_some();
        let ids = if dense(EVENT_ID, Physical::BYTE_ARRAY).is_some() {
            IdForm::Text
        } else {
            let column =
                dense(EVENT_ID, Physical::FIXED_LEN_BYTE_ARRAY).ok_or(BlockError::Foreign("no event id"))?;
            match (column.logical_type_ref(), u8::try_from(column.type_length())) {
                (Some(LogicalType::Uuid), Ok(16)) => IdForm::Uuid,
                (None, Ok(bytes)) => IdForm::Hex(bytes),
                _ => return Err(BlockError::Foreign("event ids of an unknown form")),
            }
        };
        dense(NUMBER, Physical::INT64).ok_or(BlockError::Foreign("no number"))?;
        let mut found = Vec::new();
        for column in columns {
            let (selector, value_type) =
                parse_column_name(column.name()).ok_or(BlockError::Foreign("a column of an unknown name"))?;
            let physical = match value_type {
                ValueType::String => Physical::BYTE_ARRAY,
                ValueType::Int => Physical::INT64,
                ValueType::Double => Physical::DOUBLE,
                ValueType::Bool => Physical::BOOLEAN,
            };
            if column.physical_type() != physical
                || column.max_def_level() != 1
                || column.max_rep_level() != 0
            {
                return Err(BlockError::Foreign("a column of another type than its name says"));
            }
            found.push((selector, value_type));
        }
        if !found.is_sorted_by(|left, right| left < right) {
            return Err(BlockError::Foreign("columns out of order"));
        }
        Ok(Layout { sequence, ids, columns: found })
    }
}

/// The name of a column in a block: `p.<property>.<type>` or `f.<number>.<type>`.
pub(crate) fn column_name(selector: &Attribute, value_type: ValueType) -> String {
    match selector {
        Attribute::Property(name) => format!("p.{}.{}", escape(name), value_type.name()),
        Attribute::Field(field) => format!("f.{}.{}", field.number(), value_type.name()),
    }
}

fn parse_column_name(name: &str) -> Option<(Attribute, ValueType)> {
    let (rest, type_name) = name.rsplit_once('.')?;
    let value_type = [ValueType::String, ValueType::Int, ValueType::Double, ValueType::Bool]
        .into_iter()
        .find(|value_type| value_type.name() == type_name)?;
    let selector = match rest.split_once('.')? {
        ("p", property) => Attribute::Property(unescape(property)?),
        ("f", number) => Attribute::Field(Field::from_number(number.parse().ok()?)?),
        _ => return None,
    };
    Some((selector, value_type))
}

/// Dots separate the parts of a Parquet path, and control characters upset tools: both become `%XX`, and so does `%`.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for c in name.chars() {
        if c == '.' || c == '%' || c.is_ascii_control() {
            escaped.push_str(&format!("%{:02X}", c as u32));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

fn unescape(escaped: &str) -> Option<String> {
    let mut parts = escaped.split('%');
    let mut name = parts.next()?.to_owned();
    for part in parts {
        let code = u8::from_str_radix(part.get(..2)?, 16).ok().filter(u8::is_ascii)?;
        name.push(char::from(code));
        name.push_str(&part[2..]);
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_escaping() {
        for name in ["", "a", "a.b", "50%", "ä.ö%2E", "new\nline", "p.x.string"] {
            for selector in [Attribute::Property(name.to_owned()), Attribute::Field(Field::LatencyMs)] {
                let column = column_name(&selector, ValueType::Double);
                assert_eq!(parse_column_name(&column), Some((selector, ValueType::Double)), "{column}");
            }
        }
        for bad in ["x", "p.a.text", "q.a.int", "f.99.int", "p.%ZZ.int", "p.%E.int", "p.%C3.int"] {
            assert_eq!(parse_column_name(bad), None, "{bad}");
        }
    }
}
