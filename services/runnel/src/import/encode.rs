//! Writes events as protobuf straight into the request that carries them: no message is built, no text is copied twice.

use bytes::Bytes;
use runnel_model::limits;
use xxhash_rust::xxh3::xxh3_128;

use super::fault::RowFault;

/// Room at the start for the request's id: tag, length and 32 hexadecimal digits.
const HEAD: usize = 34;
/// A request is full when less than one event's room is left below this size.
const REQUEST_BYTES: usize = 7 * 512 * 1024;

const REQUEST_ID: u8 = 0x0a;
const EVENTS: u8 = 0x12;
const VALIDATE_ONLY: u8 = 0x18;

const EVENT_ID: u8 = 0x0a;
const VISITOR_ID: u8 = 0x12;
const TIME_MS: u8 = 0x18;
const NAME: u8 = 0x22;
const SEQUENCE: u8 = 0x28;
const PROPERTIES: u8 = 0x32;
const VALUE: u8 = 0x3a;
const CAMPAIGN: u8 = 0x4a;

const MICROS: u8 = 0x08;
const CURRENCY: u8 = 0x12;

const STRING_VALUE: u8 = 0x0a;
const INT_VALUE: u8 = 0x10;
const DOUBLE_VALUE: u8 = 0x19;
const BOOL_VALUE: u8 = 0x20;

/// A property's value on its way to the wire. Texts have been checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Text(&'a [u8]),
    Int(i64),
    Double(f64),
    Bool(bool),
}

/// A property's name, encoded as the start of a map entry.
#[derive(Clone, Debug)]
pub(super) struct PropertyKey(Vec<u8>);

impl PropertyKey {
    pub(super) fn new(name: &str) -> PropertyKey {
        let mut head = Vec::with_capacity(name.len() + 6);
        head.push(0x0a);
        put_varint(&mut head, name.len() as u64);
        head.extend_from_slice(name.as_bytes());
        head.push(0x12);
        PropertyKey(head)
    }
}

/// A finished append request.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The id inside: XXH3-128 of the events' bytes, in hexadecimal. Empty for a dry run, which has no outcome worth keeping.
    pub request_id: String,
    /// The encoded `AppendRequest`.
    pub bytes: Bytes,
    /// How many events it has.
    pub events: usize,
}

/// A request that is being written.
#[derive(Debug)]
pub(super) struct RequestWriter {
    buffer: Vec<u8>,
    events: usize,
    /// Where the current event's tag is.
    start: usize,
    properties: usize,
}

impl RequestWriter {
    pub(super) fn new() -> RequestWriter {
        RequestWriter { buffer: vec![0; HEAD], events: 0, start: HEAD, properties: 0 }
    }

    pub(super) fn events(&self) -> usize {
        self.events
    }

    /// Whether another event may not fit.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() + limits::EVENT_BYTES + 16 > REQUEST_BYTES
    }

    /// Starts an event; one that was not committed is forgotten.
    #[inline]
    pub(super) fn begin(&mut self) {
        self.buffer.truncate(self.start);
        self.buffer.extend_from_slice(&[EVENTS, 0, 0]);
        self.properties = 0;
    }

    /// Ends the event. A fault forgets it.
    #[inline]
    pub(super) fn commit(&mut self) -> Result<(), RowFault> {
        let body = self.start + 3;
        let length = self.buffer.len() - body;
        if length > limits::EVENT_BYTES || self.properties > limits::PROPERTIES {
            self.buffer.truncate(self.start);
            return Err(if length > limits::EVENT_BYTES {
                RowFault::event_too_large(length)
            } else {
                RowFault::too_many_properties(self.properties)
            });
        }
        let mut head = [0; 3];
        let width = varint_width(length as u64);
        put_varint_at(&mut head[..width], length as u64);
        match width {
            2 => self.buffer[self.start + 1..body].copy_from_slice(&head[..2]),
            1 => {
                self.buffer[self.start + 1] = head[0];
                self.buffer.remove(self.start + 2);
            }
            _ => {
                self.buffer.insert(self.start + 1, 0);
                self.buffer[self.start + 1..self.start + 4].copy_from_slice(&head);
            }
        }
        self.events += 1;
        self.start = self.buffer.len();
        Ok(())
    }

    #[inline]
    pub(super) fn event_id(&mut self, text: &[u8]) {
        self.text(EVENT_ID, text);
    }

    #[inline]
    pub(super) fn visitor_id(&mut self, text: &[u8]) {
        self.text(VISITOR_ID, text);
    }

    #[inline]
    pub(super) fn name(&mut self, text: &[u8]) {
        self.text(NAME, text);
    }

    #[inline]
    pub(super) fn time_ms(&mut self, value: i64) {
        self.buffer.push(TIME_MS);
        put_varint(&mut self.buffer, value as u64);
    }

    #[inline]
    pub(super) fn sequence(&mut self, value: i64) {
        self.buffer.push(SEQUENCE);
        put_varint(&mut self.buffer, value as u64);
    }

    #[inline]
    fn text(&mut self, tag: u8, text: &[u8]) {
        self.buffer.push(tag);
        put_varint(&mut self.buffer, text.len() as u64);
        self.buffer.extend_from_slice(text);
    }

    #[inline]
    pub(super) fn property(&mut self, key: &PropertyKey, value: Value<'_>) {
        let PropertyKey(head) = key;
        self.properties += 1;
        let content = 1 + match value {
            Value::Text(text) => varint_width(text.len() as u64) + text.len(),
            Value::Int(value) => varint_width(value as u64),
            Value::Double(_) => 8,
            Value::Bool(_) => 1,
        };
        self.buffer.push(PROPERTIES);
        put_varint(&mut self.buffer, (head.len() + varint_width(content as u64) + content) as u64);
        self.buffer.extend_from_slice(head);
        put_varint(&mut self.buffer, content as u64);
        match value {
            Value::Text(text) => self.text(STRING_VALUE, text),
            Value::Int(value) => {
                self.buffer.push(INT_VALUE);
                put_varint(&mut self.buffer, value as u64);
            }
            Value::Double(value) => {
                self.buffer.push(DOUBLE_VALUE);
                self.buffer.extend_from_slice(&value.to_bits().to_le_bytes());
            }
            Value::Bool(value) => self.buffer.extend_from_slice(&[BOOL_VALUE, u8::from(value)]),
        }
    }

    /// What the event is worth. The currency has three letters.
    pub(super) fn value(&mut self, micros: i64, currency: &str) {
        let length = 1 + varint_width(micros as u64) + 2 + currency.len();
        self.buffer.extend_from_slice(&[VALUE, length as u8, MICROS]);
        put_varint(&mut self.buffer, micros as u64);
        self.text(CURRENCY, currency.as_bytes());
    }

    /// The campaign's parts in the order of their numbers in the contract, from 1. Texts have been checked.
    pub(super) fn campaign<'a>(&mut self, parts: impl Iterator<Item = Option<&'a str>> + Clone) {
        let present = || (1u8..).zip(parts.clone()).filter_map(|(number, part)| Some((number, part?)));
        let length: usize = present().map(|(_, part)| 1 + varint_width(part.len() as u64) + part.len()).sum();
        if length > 0 {
            self.buffer.push(CAMPAIGN);
            put_varint(&mut self.buffer, length as u64);
            present().for_each(|(number, part)| self.text(number << 3 | 2, part.as_bytes()));
        }
    }

    /// Finishes the request; `None` when it has no events. The same events in the same order make the same request.
    pub(super) fn seal(&mut self, dry_run: bool) -> Option<Encoded> {
        self.buffer.truncate(self.start);
        if self.events == 0 {
            return None;
        }
        let next = RequestWriter { buffer: self.fresh(), events: 0, start: HEAD, properties: 0 };
        let RequestWriter { mut buffer, events, .. } = std::mem::replace(self, next);
        if dry_run {
            buffer.extend_from_slice(&[VALIDATE_ONLY, 1]);
            return Some(Encoded {
                request_id: String::new(),
                bytes: Bytes::from(buffer).slice(HEAD..),
                events,
            });
        }
        let request_id = format!("{:032x}", xxh3_128(&buffer[HEAD..]));
        buffer[..2].copy_from_slice(&[REQUEST_ID, 32]);
        buffer[2..HEAD].copy_from_slice(request_id.as_bytes());
        Some(Encoded { request_id, bytes: Bytes::from(buffer), events })
    }

    /// A buffer of about the size that this one needed.
    fn fresh(&self) -> Vec<u8> {
        let mut buffer = Vec::with_capacity(self.buffer.len() + self.buffer.len() / 8);
        buffer.resize(HEAD, 0);
        buffer
    }
}

#[inline(always)]
fn varint_width(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

#[inline(always)]
fn put_varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.push(value as u8);
}

fn put_varint_at(to: &mut [u8], mut value: u64) {
    let last = to.len() - 1;
    for byte in &mut to[..last] {
        *byte = value as u8 | 0x80;
        value >>= 7;
    }
    to[last] = value as u8;
}

#[cfg(test)]
mod tests;
