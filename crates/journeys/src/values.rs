//! Dictionaries of property values: a tenant's values of one column, each with a code.

use std::sync::Mutex;

use hashbrown::HashMap;
use runnel_model::{Value, ValueRef};

/// The values of one column. Code 0 means that an event has no value; value `n` has code `n + 1`.
#[derive(Debug, Default)]
pub struct ValueDictionary {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    values: Vec<Value>,
    codes: HashMap<Value, u32>,
    text_codes: HashMap<String, u32>,
    text_bytes: usize,
}

impl ValueDictionary {
    /// The code of a value, which is added when it is new.
    pub fn code(&self, value: ValueRef<'_>) -> u32 {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.code(value)
    }

    /// The codes of many values under one lock.
    pub fn codes<'a>(&self, values: impl Iterator<Item = ValueRef<'a>>) -> Vec<u32> {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        values.map(|value| inner.code(value)).collect()
    }

    /// The value of a code; `None` for 0 and for codes that were never given out.
    pub fn value(&self, code: u32) -> Option<Value> {
        let inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.values.get((code as usize).checked_sub(1)?).cloned()
    }

    /// What a test says about every code, by code; `missing` is what it says about code 0.
    pub fn test(&self, missing: bool, mut test: impl FnMut(ValueRef<'_>) -> bool) -> Vec<bool> {
        let inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::iter::once(missing).chain(inner.values.iter().map(|value| test(value.as_ref()))).collect()
    }

    /// What each code is worth in millionths, by code: its number times `micros_per_unit`, rounded half away from zero. Codes that are no number, or one too large, are
    /// worth nothing.
    pub fn micros(&self, micros_per_unit: i64) -> Vec<i64> {
        let inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let worth = |value: &Value| match value.as_ref() {
            ValueRef::Int(number) => number.checked_mul(micros_per_unit).unwrap_or(0),
            ValueRef::Double(number) => {
                let micros = (number * micros_per_unit as f64).round();
                if micros.abs() < i64::MAX as f64 { micros as i64 } else { 0 }
            }
            ValueRef::String(_) | ValueRef::Bool(_) => 0,
        };
        std::iter::once(0).chain(inner.values.iter().map(worth)).collect()
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner).values.len()
    }

    /// Bytes held in memory, approximately: each value stands among the values and among the codes.
    pub fn memory(&self) -> usize {
        let inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        2 * inner.text_bytes + inner.values.len() * (2 * size_of::<Value>() + size_of::<u64>())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    fn code(&mut self, value: ValueRef<'_>) -> u32 {
        if let ValueRef::String(text) = value {
            if let Some(&code) = self.text_codes.get(text) {
                return code;
            }
            let code = self.add(value.into());
            self.text_codes.insert(text.to_owned(), code);
            self.text_bytes += text.len();
            return code;
        }
        let value = Value::from(value);
        if let Some(&code) = self.codes.get(&value) {
            return code;
        }
        let code = self.add(value.clone());
        self.codes.insert(value, code);
        code
    }

    fn add(&mut self, value: Value) -> u32 {
        self.values.push(value);
        self.values.len() as u32
    }
}
