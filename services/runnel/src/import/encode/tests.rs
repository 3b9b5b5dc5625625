//! What is written by hand is what a protobuf library reads.

use proptest::prelude::*;
use prost::Message;
use runnel_client::proto::{
    event::v1::{self, Event, value::Kind},
    ingest::v1::AppendRequest,
};

use super::*;

#[derive(Clone, Debug)]
enum Owned {
    Text(String),
    Int(i64),
    Double(f64),
    Bool(bool),
}

impl Owned {
    fn borrow(&self) -> Value<'_> {
        match self {
            Owned::Text(text) => Value::Text(text.as_bytes()),
            Owned::Int(value) => Value::Int(*value),
            Owned::Double(value) => Value::Double(*value),
            Owned::Bool(value) => Value::Bool(*value),
        }
    }

    fn message(&self) -> v1::Value {
        v1::Value {
            kind: Some(match self.clone() {
                Owned::Text(text) => Kind::StringValue(text),
                Owned::Int(value) => Kind::IntValue(value),
                Owned::Double(value) => Kind::DoubleValue(value),
                Owned::Bool(value) => Kind::BoolValue(value),
            }),
        }
    }
}

#[derive(Clone, Debug)]
struct Row {
    event_id: String,
    visitor_id: String,
    time_ms: i64,
    name: String,
    sequence: Option<i64>,
    properties: std::collections::BTreeMap<String, Owned>,
}

impl Row {
    fn write(&self, writer: &mut RequestWriter) {
        writer.begin();
        if !self.event_id.is_empty() {
            writer.event_id(self.event_id.as_bytes());
        }
        writer.visitor_id(self.visitor_id.as_bytes());
        writer.time_ms(self.time_ms);
        writer.name(self.name.as_bytes());
        if let Some(sequence) = self.sequence {
            writer.sequence(sequence);
        }
        for (name, value) in &self.properties {
            writer.property(&PropertyKey::new(name), value.borrow());
        }
    }

    fn message(&self) -> Event {
        Event {
            event_id: self.event_id.clone(),
            visitor_id: self.visitor_id.clone(),
            time_ms: Some(self.time_ms),
            name: self.name.clone(),
            sequence: self.sequence,
            properties: self.properties.iter().map(|(name, value)| (name.clone(), value.message())).collect(),
            ..Event::default()
        }
    }
}

fn value() -> impl Strategy<Value = Owned> {
    prop_oneof![
        "\\PC{0,40}".prop_map(Owned::Text),
        (0usize..9_000).prop_map(|length| Owned::Text("x".repeat(length))),
        any::<i64>().prop_map(Owned::Int),
        (-200i64..200).prop_map(Owned::Int),
        proptest::num::f64::NORMAL.prop_map(Owned::Double),
        any::<bool>().prop_map(Owned::Bool),
    ]
}

fn row() -> impl Strategy<Value = Row> {
    let properties = proptest::collection::btree_map("\\PC{1,130}", value(), 0..6);
    ("\\PC{0,40}", "\\PC{1,40}", any::<i64>(), "\\PC{1,20}", any::<Option<i64>>(), properties).prop_map(
        |(event_id, visitor_id, time_ms, name, sequence, properties)| Row {
            event_id,
            visitor_id,
            time_ms,
            name,
            sequence,
            properties,
        },
    )
}

proptest! {
    #[test]
    fn decoding_gives_back_what_was_written(rows in proptest::collection::vec(row(), 1..20), dry_run: bool) {
        let mut writer = RequestWriter::new();
        for row in &rows {
            row.write(&mut writer);
            writer.commit().unwrap();
            // An event that is begun and not committed leaves nothing behind.
            row.write(&mut writer);
        }
        let encoded = writer.seal(dry_run).unwrap();
        prop_assert_eq!(encoded.events, rows.len());
        let decoded = AppendRequest::decode(encoded.bytes.clone()).unwrap();
        let events: Vec<Event> = rows.iter().map(Row::message).collect();
        prop_assert_eq!(&decoded, &AppendRequest { request_id: encoded.request_id.clone(), events, validate_only: dry_run });
        prop_assert_eq!(encoded.request_id.is_empty(), dry_run);
        prop_assert_eq!(decoded.encoded_len(), encoded.bytes.len(), "no byte more than the library writes");
        prop_assert!(writer.seal(dry_run).is_none());
    }
}

#[test]
fn every_length_of_event_has_its_prefix() {
    for length in (0..400).chain((16_000..16_800).step_by(3)).chain([60_000]) {
        let mut writer = RequestWriter::new();
        for _ in 0..2 {
            writer.begin();
            writer.event_id(&vec![b'x'; length]);
            writer.commit().unwrap();
        }
        let encoded = writer.seal(false).unwrap();
        let decoded = AppendRequest::decode(encoded.bytes.clone()).unwrap();
        assert!(
            decoded.events.iter().all(|event| event.event_id.len() == length) && decoded.events.len() == 2
        );
        if length > 0 {
            assert_eq!(decoded.encoded_len(), encoded.bytes.len());
        }
    }
}

#[test]
fn large_events_are_refused_and_requests_stay_below_the_limit() {
    let mut writer = RequestWriter::new();
    writer.begin();
    writer.event_id(&vec![b'x'; limits::EVENT_BYTES]);
    assert_eq!(writer.commit().unwrap_err().reason, "EVENT_TOO_LARGE");
    writer.begin();
    let key = PropertyKey::new("p");
    (0..65).for_each(|_| writer.property(&key, Value::Bool(true)));
    assert_eq!(writer.commit().unwrap_err().reason, "PROPERTIES_TOO_MANY");
    assert!(writer.seal(false).is_none());
    while !writer.is_full() {
        writer.begin();
        writer.event_id(&vec![b'x'; limits::EVENT_BYTES - 8]);
        writer.commit().unwrap();
    }
    let encoded = writer.seal(false).unwrap();
    assert!(
        encoded.bytes.len() < REQUEST_BYTES && encoded.bytes.len() > REQUEST_BYTES - 2 * limits::EVENT_BYTES
    );
}
