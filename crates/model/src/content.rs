//! Hashes of what an event says: to derive missing ids, to see conflicts, and to prove that a rewrite lost nothing.

use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_128;

use crate::{ColumnKey, EventBatch, EventRef, ValueRef, Values};

/// Sum modulo 2^128 of content hashes: equal for equal multisets of events, whatever their order or split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentSum(pub u128);

impl ContentSum {
    /// The sum over hashes.
    #[must_use]
    pub fn of(hashes: &[u128]) -> ContentSum {
        ContentSum(hashes.iter().fold(0, |sum: u128, &hash| sum.wrapping_add(hash)))
    }

    /// Adds one hash or another sum.
    #[must_use]
    pub fn plus(self, other: u128) -> ContentSum {
        ContentSum(self.0.wrapping_add(other))
    }
}

/// The content hash of every event of a batch, by row: XXH3-128 over visitor, time, sequence, name, id and the sum of the cells' hashes, where a cell's hash
/// is XXH3-128 over the column and the value. Independent of dictionaries, column order and batching. Stored sums depend on it; it never changes.
#[must_use]
pub fn content_hashes(batch: &EventBatch) -> Vec<u128> {
    let words: Vec<u128> = batch.strings.iter().map(|word| xxh3_128(word.as_bytes())).collect();
    let mut cells = vec![0u128; batch.len()];
    for column in &batch.columns {
        let seed = column_seed(batch, column.key, column.values.value_type() as u8);
        let mut add = |at: usize, value: u128| {
            let mut bytes = [0u8; 32];
            bytes[..16].copy_from_slice(&seed);
            bytes[16..].copy_from_slice(&value.to_le_bytes());
            let row = column.rows[at] as usize;
            cells[row] = cells[row].wrapping_add(xxh3_128(&bytes));
        };
        match &column.values {
            Values::Strings(values) => {
                values.iter().enumerate().for_each(|(at, &value)| add(at, words[value as usize]));
            }
            Values::Ints(values) => {
                values.iter().enumerate().for_each(|(at, &value)| add(at, u128::from(value as u64)))
            }
            Values::Doubles(values) => {
                values.iter().enumerate().for_each(|(at, &value)| add(at, u128::from(value.to_bits())));
            }
            Values::Bools(values) => {
                values.iter().enumerate().for_each(|(at, &value)| add(at, u128::from(value)))
            }
        }
    }
    let mut bytes = [0u8; 80];
    (0..batch.len())
        .map(|row| {
            bytes[..16].copy_from_slice(&words[batch.visitors[row] as usize].to_le_bytes());
            bytes[16..24].copy_from_slice(&batch.times[row].to_le_bytes());
            bytes[24..32].copy_from_slice(&batch.sequences[row].to_le_bytes());
            bytes[32..48].copy_from_slice(&words[batch.names[row] as usize].to_le_bytes());
            bytes[48..64].copy_from_slice(&xxh3_128(batch.event_ids.get(row)).to_le_bytes());
            bytes[64..80].copy_from_slice(&cells[row].to_le_bytes());
            xxh3_128(&bytes)
        })
        .collect()
}

fn column_seed(batch: &EventBatch, key: ColumnKey, value_type: u8) -> [u8; 16] {
    let mut name = Vec::with_capacity(32);
    match key {
        ColumnKey::Field(field) => name.extend([1, field as u8]),
        ColumnKey::Property(index) => {
            name.push(2);
            name.extend_from_slice(batch.strings.get(index).as_bytes());
        }
    }
    name.extend([0, value_type]);
    xxh3_128(&name).to_le_bytes()
}

/// The id of an event whose sender gave none: SHA-256, in hexadecimal, of its canonical content: visitor, time, sequence, name, fields by number and properties
/// by name, each with its type and, where it varies, its length.
#[must_use]
pub fn derived_event_id(event: &EventRef<'_>) -> String {
    let mut hasher = Sha256::new();
    let text = |hasher: &mut Sha256, text: &str| {
        hasher.update((text.len() as u32).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    text(&mut hasher, event.visitor);
    hasher.update(event.time_ms.to_le_bytes());
    hasher.update(event.sequence.to_le_bytes());
    text(&mut hasher, event.name);
    let value = |hasher: &mut Sha256, value: ValueRef<'_>| {
        hasher.update([value.value_type() as u8]);
        match value {
            ValueRef::String(value) => text(hasher, value),
            ValueRef::Int(value) => hasher.update(value.to_le_bytes()),
            ValueRef::Double(value) => hasher.update(value.to_bits().to_le_bytes()),
            ValueRef::Bool(value) => hasher.update([u8::from(value)]),
        }
    };
    let mut fields = event.fields.to_vec();
    fields.sort_by_key(|(field, _)| *field);
    for (field, content) in fields {
        hasher.update([1, field as u8]);
        value(&mut hasher, content);
    }
    let mut properties = event.properties.to_vec();
    properties.sort_by_key(|(name, _)| *name);
    for (name, content) in properties {
        hasher.update([2]);
        text(&mut hasher, name);
        value(&mut hasher, content);
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Field;

    fn event<'a>(properties: &'a [(&'a str, ValueRef<'a>)]) -> EventRef<'a> {
        EventRef {
            visitor: "v",
            time_ms: 1,
            name: "n",
            event_id: "",
            sequence: 0,
            fields: &[(Field::Attempt, ValueRef::Int(1))],
            properties,
        }
    }

    #[test]
    fn content_does_not_depend_on_order_or_batching() {
        let ab = [("a", ValueRef::Int(1)), ("b", ValueRef::String("x"))];
        let ba = [("b", ValueRef::String("x")), ("a", ValueRef::Int(1))];
        assert_eq!(derived_event_id(&event(&ab)), derived_event_id(&event(&ba)));
        let (mut one, mut two) = (EventBatch::default(), EventBatch::default());
        two.push(&event(&[("z", ValueRef::Bool(false))]));
        one.push(&event(&ab));
        two.push(&event(&ba));
        assert_eq!(content_hashes(&one)[0], content_hashes(&two)[1]);
    }

    #[test]
    fn values_that_change_places_change_the_sum() {
        let sum = |first: i64, second: i64| {
            let mut batch = EventBatch::default();
            batch.push(&EventRef { event_id: "1", ..event(&[("a", ValueRef::Int(first))]) });
            batch.push(&EventRef { event_id: "2", ..event(&[("a", ValueRef::Int(second))]) });
            ContentSum::of(&content_hashes(&batch))
        };
        assert_ne!(sum(1, 2), sum(2, 1));
        assert_eq!(sum(1, 2), sum(1, 2));
    }
}
