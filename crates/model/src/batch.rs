//! Events as columns: one dictionary, dense columns for what every event has, sparse columns for the rest.

use hashbrown::HashMap;

use crate::{Dictionary, Field};

/// Names a sparse column of a batch. Properties are named by dictionary index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnKey {
    /// A typed field.
    Field(Field),
    /// A property; the dictionary index of its name.
    Property(u32),
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ValueType {
    /// UTF-8 text.
    String = 1,
    /// A whole number.
    Int = 2,
    /// A finite fractional number.
    Double = 3,
    /// A truth value.
    Bool = 4,
}

impl ValueType {
    /// The type's name in answers: `string`, `int`, `double` or `bool`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ValueType::String => "string",
            ValueType::Int => "int",
            ValueType::Double => "double",
            ValueType::Bool => "bool",
        }
    }
}

/// A value of one event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    /// UTF-8 text.
    String(&'a str),
    /// A whole number.
    Int(i64),
    /// A finite fractional number.
    Double(f64),
    /// A truth value.
    Bool(bool),
}

impl ValueRef<'_> {
    /// The value's type.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        match self {
            ValueRef::String(_) => ValueType::String,
            ValueRef::Int(_) => ValueType::Int,
            ValueRef::Double(_) => ValueType::Double,
            ValueRef::Bool(_) => ValueType::Bool,
        }
    }
}

/// The values of a sparse column, one a row that has it.
#[derive(Clone, Debug)]
pub enum Values {
    /// Dictionary indices.
    Strings(Vec<u32>),
    /// Whole numbers.
    Ints(Vec<i64>),
    /// Fractional numbers.
    Doubles(Vec<f64>),
    /// Truth values.
    Bools(Vec<bool>),
}

impl Values {
    /// No values of a type.
    #[must_use]
    pub fn new(value_type: ValueType) -> Values {
        match value_type {
            ValueType::String => Values::Strings(Vec::new()),
            ValueType::Int => Values::Ints(Vec::new()),
            ValueType::Double => Values::Doubles(Vec::new()),
            ValueType::Bool => Values::Bools(Vec::new()),
        }
    }

    /// How many values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Values::Strings(values) => values.len(),
            Values::Ints(values) => values.len(),
            Values::Doubles(values) => values.len(),
            Values::Bools(values) => values.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their type.
    #[must_use]
    pub fn value_type(&self) -> ValueType {
        match self {
            Values::Strings(_) => ValueType::String,
            Values::Ints(_) => ValueType::Int,
            Values::Doubles(_) => ValueType::Double,
            Values::Bools(_) => ValueType::Bool,
        }
    }
}

/// A sparse column.
#[derive(Clone, Debug)]
pub struct Column {
    /// What it holds.
    pub key: ColumnKey,
    /// The rows that have a value, ascending.
    pub rows: Vec<u32>,
    /// Their values, as many as rows.
    pub values: Values,
}

/// Byte strings one behind the other.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Ids {
    /// Makes room for as many further ones of so many bytes together.
    pub fn reserve(&mut self, ids: usize, bytes: usize) {
        self.ends.reserve(ids);
        self.bytes.reserve(bytes);
    }

    /// Adds one.
    pub fn push(&mut self, id: &[u8]) {
        self.bytes.extend_from_slice(id);
        self.ends.push(self.bytes.len() as u32);
    }

    /// The one at `row`, or the empty string when there is none.
    #[must_use]
    pub fn get(&self, row: usize) -> &[u8] {
        let Some(&end) = self.ends.get(row) else { return &[] };
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.bytes[start as usize..end as usize]
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All bytes one behind the other.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// One event to be added to a batch. Borrowed from wherever it was decoded.
#[derive(Clone, Copy, Debug)]
pub struct EventRef<'a> {
    /// The visitor as sent.
    pub visitor: &'a str,
    /// Milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// The event's name.
    pub name: &'a str,
    /// The event's id; empty when the sender gave none.
    pub event_id: &'a str,
    /// Order within a millisecond; 0 when absent.
    pub sequence: i64,
    /// Typed fields, by field.
    pub fields: &'a [(Field, ValueRef<'a>)],
    /// Properties, each name once.
    pub properties: &'a [(&'a str, ValueRef<'a>)],
}

/// Columns that are tried for a property before the dictionary is asked.
const RECENT: usize = 12;

/// Events as columns. Row `r` of every dense column belongs to event `r`.
#[derive(Clone, Debug, Default)]
pub struct EventBatch {
    /// Every string of the batch.
    pub strings: Dictionary,
    /// Dictionary index of the visitor.
    pub visitors: Vec<u32>,
    /// Milliseconds since the Unix epoch.
    pub times: Vec<i64>,
    /// Dictionary index of the event's name.
    pub names: Vec<u32>,
    /// Event ids.
    pub event_ids: Ids,
    /// Order within a millisecond, 0 when absent.
    pub sequences: Vec<i64>,
    /// Properties and typed fields.
    pub columns: Vec<Column>,
    places: HashMap<(ColumnKey, ValueType), usize>,
    /// Hash of a property's name and type, and its column.
    recent: Vec<(u64, usize)>,
}

impl EventBatch {
    /// Number of events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Makes room for as many further events that take so many bytes on the wire together.
    pub fn reserve(&mut self, events: usize, bytes: usize) {
        // A visitor and a value of its own for most events, and others that are shared.
        self.strings.reserve(events * 2, bytes / 4);
        self.visitors.reserve(events);
        self.times.reserve(events);
        self.names.reserve(events);
        self.event_ids.reserve(events, bytes / 4);
        self.sequences.reserve(events);
    }

    /// Adds an event. An empty event id is replaced by the SHA-256 of the content, so that sending the same event again is recognised.
    pub fn push(&mut self, event: &EventRef<'_>) {
        let (visitor, name) = (self.strings.intern(event.visitor), self.strings.intern(event.name));
        let row = if event.event_id.is_empty() {
            let derived = crate::derived_event_id(event);
            self.push_row(visitor, event.time_ms, name, derived.as_bytes(), event.sequence)
        } else {
            self.push_row(visitor, event.time_ms, name, event.event_id.as_bytes(), event.sequence)
        };
        for &(field, value) in event.fields {
            let place = self.place(ColumnKey::Field(field), value.value_type());
            self.set(place, row, value);
        }
        for (position, &(property, value)) in event.properties.iter().enumerate() {
            let place = self.property_place(position, property, value.value_type());
            self.set(place, row, value);
        }
    }

    /// Adds what every event has; visitor and name are dictionary indices, and the id is not empty. The row, for [`EventBatch::set`].
    pub fn push_row(&mut self, visitor: u32, time_ms: i64, name: u32, event_id: &[u8], sequence: i64) -> u32 {
        let row = self.times.len() as u32;
        self.visitors.push(visitor);
        self.times.push(time_ms);
        self.names.push(name);
        self.event_ids.push(event_id);
        self.sequences.push(sequence);
        row
    }

    /// The column of a property. Events of one sender carry the same properties, in any order, so the columns of those that came last are
    /// tried before the dictionary; names are compared only where their hashes are equal.
    fn property_place(&mut self, position: usize, name: &str, value_type: ValueType) -> usize {
        let hash = xxhash_rust::xxh3::xxh3_64(name.as_bytes()) ^ value_type as u64;
        let is_it = |place: usize| {
            matches!(&self.columns[place], Column { key: ColumnKey::Property(index), values, .. }
                if values.value_type() == value_type && self.strings.get(*index) == name)
        };
        let recent = self.recent.iter().take(RECENT);
        if let Some(&(_, place)) = recent.clone().find(|&&(known, place)| known == hash && is_it(place)) {
            return place;
        }
        let index = self.strings.intern(name);
        let place = self.place(ColumnKey::Property(index), value_type);
        if position < self.recent.len() {
            self.recent[position] = (hash, place);
        } else {
            self.recent.push((hash, place));
        }
        place
    }

    /// The position of a column in `columns`, which is added when it is new.
    pub fn place(&mut self, key: ColumnKey, value_type: ValueType) -> usize {
        let next = self.columns.len();
        let place = *self.places.entry((key, value_type)).or_insert(next);
        if place == next {
            self.columns.push(Column { key, rows: Vec::new(), values: Values::new(value_type) });
        }
        place
    }

    /// Appends a value to a column. `row` is larger than any row the column has; the value has the column's type.
    pub fn set(&mut self, place: usize, row: u32, value: ValueRef<'_>) {
        if let ValueRef::String(text) = value {
            let code = self.strings.intern(text);
            return self.set_code(place, row, code);
        }
        let column = &mut self.columns[place];
        match (&mut column.values, value) {
            (Values::Ints(values), ValueRef::Int(value)) => values.push(value),
            (Values::Doubles(values), ValueRef::Double(value)) => values.push(value),
            (Values::Bools(values), ValueRef::Bool(value)) => values.push(value),
            _ => return,
        }
        column.rows.push(row);
    }

    /// Appends a text by its dictionary index, as [`EventBatch::set`] does.
    pub fn set_code(&mut self, place: usize, row: u32, code: u32) {
        let column = &mut self.columns[place];
        if let Values::Strings(values) = &mut column.values {
            values.push(code);
            column.rows.push(row);
        }
    }

    /// The value at position `at` of a column.
    #[must_use]
    pub fn value(&self, column: &Column, at: usize) -> ValueRef<'_> {
        match &column.values {
            Values::Strings(values) => ValueRef::String(self.strings.get(values[at])),
            Values::Ints(values) => ValueRef::Int(values[at]),
            Values::Doubles(values) => ValueRef::Double(values[at]),
            Values::Bools(values) => ValueRef::Bool(values[at]),
        }
    }

    /// The name of a column's property; empty for a typed field.
    #[must_use]
    pub fn property_name(&self, key: ColumnKey) -> &str {
        match key {
            ColumnKey::Property(index) => self.strings.get(index),
            ColumnKey::Field(_) => "",
        }
    }

    /// Whether what was built by hand fits together: equal lengths, known dictionary indices, ascending rows. Decoders call this before they hand out a batch.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let (rows, words) = (self.times.len(), self.strings.len() as u32);
        let known = |indices: &[u32]| indices.iter().all(|&index| index < words);
        self.visitors.len() == rows
            && self.names.len() == rows
            && self.event_ids.len() == rows
            && self.sequences.len() == rows
            && known(&self.visitors)
            && known(&self.names)
            && self.columns.iter().all(|column| {
                column.rows.len() == column.values.len()
                    && column.rows.windows(2).all(|pair| pair[0] < pair[1])
                    && column.rows.last().is_none_or(|&last| (last as usize) < rows)
                    && match (&column.key, &column.values) {
                        (ColumnKey::Property(name), _) if *name >= words => false,
                        (_, Values::Strings(values)) => known(values),
                        _ => true,
                    }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_become_columns_by_name_and_type() {
        let mut batch = EventBatch::default();
        let event = EventRef {
            visitor: "v",
            time_ms: 5,
            name: "view",
            event_id: "1",
            sequence: 0,
            fields: &[(Field::LatencyMs, ValueRef::Int(7))],
            properties: &[("a", ValueRef::String("x")), ("b", ValueRef::Int(1))],
        };
        batch.push(&event);
        batch.push(&EventRef {
            event_id: "",
            properties: &[("b", ValueRef::Bool(true)), ("a", ValueRef::String("x"))],
            ..event
        });
        assert_eq!(batch.columns.len(), 4);
        assert_eq!(batch.event_ids.get(1).len(), 64);
        let texts: Vec<_> =
            batch.columns.iter().map(|column| batch.property_name(column.key).to_owned()).collect();
        assert_eq!(texts, ["", "a", "b", "b"]);
        assert_eq!(batch.columns[1].rows, [0, 1]);
        assert_eq!(batch.columns[3].rows, [1]);
        assert!(batch.is_consistent());
    }
}
