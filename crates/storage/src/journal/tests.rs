//! Rows come back as they were, and damage never goes unseen.

use proptest::prelude::*;
use runnel_model::{ContentSum, EventBatch, EventRef, Field, ValueRef, content_hashes};

use super::{JournalError, decode, encode};

#[derive(Debug, Clone)]
enum Value {
    Text(String),
    Int(i64),
    Double(f64),
    Truth(bool),
}

impl Value {
    fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Value::Text(text) => ValueRef::String(text),
            Value::Int(number) => ValueRef::Int(*number),
            Value::Double(number) => ValueRef::Double(*number),
            Value::Truth(truth) => ValueRef::Bool(*truth),
        }
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        ".{0,12}".prop_map(Value::Text),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::Double),
        any::<bool>().prop_map(Value::Truth),
    ]
}

type Event = (String, i64, String, String, i64, Vec<(u8, Value)>, Option<(u32, Value)>);

fn event() -> impl Strategy<Value = Event> {
    (
        "[a-c]{1,3}|.{1,9}",
        any::<i64>(),
        "[xy]|.{1,5}",
        "[0-9a-f]{32}|.{0,9}",
        any::<i64>(),
        prop::collection::vec((0u8..6, value()), 0..5),
        prop::option::of((1u32..=19, value())),
    )
}

/// Any events as a batch.
pub(crate) fn any_batch() -> impl Strategy<Value = EventBatch> {
    prop::collection::vec(event(), 0..40).prop_map(|events| {
        let mut batch = EventBatch::default();
        let names = ["a", "b.c", "%", "ü", "", "p.a.int"];
        for (visitor, time_ms, name, event_id, sequence, properties, field) in &events {
            let mut properties = properties.clone();
            properties.sort_by_key(|(name, _)| *name);
            properties.dedup_by_key(|(name, _)| *name);
            let properties: Vec<_> =
                properties.iter().map(|(name, value)| (names[*name as usize], value.as_ref())).collect();
            let fields: Vec<_> = field
                .iter()
                .filter_map(|(number, value)| Some((Field::from_number(*number)?, value.as_ref())))
                .collect();
            batch.push(&EventRef {
                visitor,
                time_ms: *time_ms,
                name,
                event_id,
                sequence: *sequence,
                fields: &fields,
                properties: &properties,
            });
        }
        batch
    })
}

pub(crate) fn sum(batch: &EventBatch) -> ContentSum {
    ContentSum::of(&content_hashes(batch))
}

proptest! {
    #[test]
    fn batches_come_back(batch in any_batch()) {
        let (row, _) = encode(&batch, sum(&batch)).unwrap();
        let back = decode(&row).unwrap();
        prop_assert_eq!(back.content_sum, sum(&batch));
        prop_assert_eq!(content_hashes(&back.batch), content_hashes(&batch));
    }

    #[test]
    fn any_bytes_are_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200), sealed in any::<bool>()) {
        let mut row = b"RNLJ\x01\0\0\0".to_vec();
        row.extend(bytes);
        if sealed {
            row.extend(xxhash_rust::xxh3::xxh3_64(&row).to_le_bytes());
        }
        prop_assert!(decode(&row).is_err());
    }
}

#[test]
fn every_flipped_bit_is_seen() {
    let mut batch = EventBatch::default();
    for at in 0..200 {
        let (visitor, id) = (format!("v{}", at % 9), format!("e{at}"));
        batch.push(&EventRef {
            visitor: &visitor,
            time_ms: at * 1_000,
            name: "n",
            event_id: &id,
            sequence: 0,
            fields: &[],
            properties: &[("a", ValueRef::Int(at))],
        });
    }
    let (row, _) = encode(&batch, sum(&batch)).unwrap();
    let mut state = 1u64;
    for _ in 0..2_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bit = (state >> 33) as usize % (row.len() * 8);
        let mut flipped = row.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn newer_formats_are_named() {
    let (row, _) = encode(&EventBatch::default(), ContentSum::default()).unwrap();
    let mut newer = row[..row.len() - 8].to_vec();
    newer[4] = 9;
    newer.extend(xxhash_rust::xxh3::xxh3_64(&newer).to_le_bytes());
    assert_eq!(decode(&newer).unwrap_err(), JournalError::Newer { found: 9, known: 1 });
}
