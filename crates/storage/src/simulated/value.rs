//! Values of the database in memory, and how they come from and become Rust's.

use std::sync::Arc;

use ::sqlx::Error;
use bytes::Bytes;

use super::sqlx::postgres::PgRow;

/// A value. NULL is less than all others; nothing compares values of two kinds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value {
    Null,
    Truth(bool),
    Int(i64),
    Text(Arc<str>),
    Bytes(Bytes),
}

impl Value {
    /// Bytes that it takes.
    pub(super) fn size(&self) -> usize {
        match self {
            Value::Null | Value::Truth(_) => 1,
            Value::Int(_) => 8,
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
        }
    }
}

/// What can be bound to a parameter.
pub(crate) trait Bind {
    fn value(self) -> Value;
}

impl Bind for i64 {
    fn value(self) -> Value {
        Value::Int(self)
    }
}

impl Bind for bool {
    fn value(self) -> Value {
        Value::Truth(self)
    }
}

impl Bind for &str {
    fn value(self) -> Value {
        Value::Text(self.into())
    }
}

impl Bind for &String {
    fn value(self) -> Value {
        Value::Text(self.as_str().into())
    }
}

impl Bind for String {
    fn value(self) -> Value {
        Value::Text(self.into())
    }
}

impl Bind for &[u8] {
    fn value(self) -> Value {
        Value::Bytes(Bytes::copy_from_slice(self))
    }
}

impl Bind for Vec<u8> {
    fn value(self) -> Value {
        Value::Bytes(self.into())
    }
}

impl<T: Bind> Bind for Option<T> {
    fn value(self) -> Value {
        self.map_or(Value::Null, Bind::value)
    }
}

/// What a column can be read as.
pub(crate) trait Column: Sized {
    /// `None` when the value is of another kind.
    fn of(value: &Value) -> Option<Self>;
}

impl Column for i64 {
    fn of(value: &Value) -> Option<i64> {
        if let Value::Int(number) = value { Some(*number) } else { None }
    }
}

impl Column for String {
    fn of(value: &Value) -> Option<String> {
        if let Value::Text(text) = value { Some(text.to_string()) } else { None }
    }
}

impl Column for Vec<u8> {
    fn of(value: &Value) -> Option<Vec<u8>> {
        if let Value::Bytes(bytes) = value { Some(bytes.to_vec()) } else { None }
    }
}

impl<T: Column> Column for Option<T> {
    fn of(value: &Value) -> Option<Option<T>> {
        if *value == Value::Null { Some(None) } else { T::of(value).map(Some) }
    }
}

/// What a row can be read as.
pub(crate) trait FromRow: Sized {
    fn from_row(row: &PgRow) -> Result<Self, Error>;
}

macro_rules! tuples {
    ($(($($column:ident),+))*) => {
        $(
            impl<$($column: Column),+> FromRow for ($($column,)+) {
                fn from_row(row: &PgRow) -> Result<Self, Error> {
                    let mut columns = row.iter().enumerate();
                    Ok(($(next::<$column>(&mut columns)?,)+))
                }
            }
        )*
    };
}

tuples! {
    (A) (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F) (A, B, C, D, E, F, G) (A, B, C, D, E, F, G, H)
}

/// A column of an answer is not of the kind that is asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not what was asked for")]
struct OtherKind(Option<Value>);

fn next<'a, T: Column>(columns: &mut impl Iterator<Item = (usize, &'a Value)>) -> Result<T, Error> {
    let (at, value) = columns.next().unzip();
    value.and_then(T::of).ok_or_else(|| Error::ColumnDecode {
        index: at.unwrap_or_default().to_string(),
        source: OtherKind(value.cloned()).into(),
    })
}
