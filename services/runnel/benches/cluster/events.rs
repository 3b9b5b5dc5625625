//! Batches of realistic events, encoded once and changed in place: each that is sent has ids, visitors and times of its own, at next to no cost for the sender.

use bytes::Bytes;
use prost::Message;
use runnel_client::proto::{
    event::v1::{Event, Value, value::Kind},
    ingest::v1::AppendRequest,
};

/// Events of a batch.
pub(crate) const EVENTS: usize = 1_000;
/// Visitors that the events belong to.
const VISITORS: u64 = 2_000_000;
/// The first event's time. All times of the benchmark take six bytes on the wire.
const START_MS: u64 = 1_790_000_000_000;
const VISITOR: &str = "visitor-000000000000";
const EVENT_ID: &str = "01998b5e-9d00-7000-8000-000000000000";
const REQUEST_ID: &str = "01998b5e-9d00-7000-9000-000000000000";

/// A batch and the places in it that change.
#[derive(Clone)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    /// Where the digits of each event's visitor and id begin, and its time.
    places: Vec<[usize; 3]>,
    request: usize,
}

impl Template {
    pub(crate) fn new() -> Template {
        let events = (0..EVENTS).map(event).collect();
        let request = AppendRequest { request_id: REQUEST_ID.into(), events, validate_only: false };
        let bytes = request.encode_to_vec();
        let mut places = vec![[0; 3]; EVENTS];
        let time = {
            let mut time = Vec::new();
            prost::encoding::encode_varint(START_MS, &mut time);
            time
        };
        for (column, text) in [VISITOR.as_bytes(), EVENT_ID.as_bytes(), &time].into_iter().enumerate() {
            let mut from = 0;
            for place in &mut places {
                let at =
                    from + bytes[from..].windows(text.len()).position(|window| window == text).unwrap_or(0);
                from = at + text.len();
                place[column] = if column == 2 { at } else { from - 12 };
            }
        }
        let request = bytes.windows(36).position(|window| window == REQUEST_ID.as_bytes()).unwrap_or(0) + 24;
        Template { bytes, places, request }
    }

    /// Bytes of an event.
    pub(crate) fn event_bytes(&self) -> f64 {
        self.bytes.len() as f64 / EVENTS as f64
    }

    /// The batch with this number.
    pub(crate) fn batch(&mut self, number: u64) -> (Bytes, String) {
        digits(&mut self.bytes[self.request..], number);
        for (at, [visitor, id, time]) in self.places.iter().enumerate() {
            let event = number * EVENTS as u64 + at as u64;
            digits(&mut self.bytes[*visitor..], event.wrapping_mul(0x9e37_79b9_7f4a_7c15) % VISITORS);
            digits(&mut self.bytes[*id..], event);
            let mut millis = START_MS + event / 250;
            for byte in &mut self.bytes[*time..*time + 5] {
                *byte = millis as u8 | 0x80;
                millis >>= 7;
            }
            self.bytes[*time + 5] = millis as u8;
        }
        (Bytes::copy_from_slice(&self.bytes), format!("{number}"))
    }
}

/// Writes twelve decimal digits.
fn digits(to: &mut [u8], mut number: u64) {
    for digit in to[..12].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// An event of a shop with five properties.
fn event(at: usize) -> Event {
    let names = [
        "view_item",
        "view_item",
        "view_item",
        "add_to_cart",
        "begin_checkout",
        "purchase",
        "scroll",
        "search",
    ];
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.into())) };
    let properties = [
        ("channel", text(["organic", "paid", "email", "direct"][at % 4])),
        ("device", text(["phone", "desktop", "tablet"][at % 3])),
        ("product", text(&format!("p-{:04}", at * 7 % 3_000))),
        ("price", Value { kind: Some(Kind::DoubleValue(9.99 + at as f64)) }),
        ("quantity", Value { kind: Some(Kind::IntValue(1 + (at % 5) as i64)) }),
    ];
    Event {
        visitor_id: VISITOR.into(),
        name: names[at % names.len()].into(),
        time_ms: Some(START_MS as i64),
        event_id: EVENT_ID.into(),
        properties: properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        ..Event::default()
    }
}
