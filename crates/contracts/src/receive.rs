//! From the wire to columns: decodes a batch once, checks every event, and keeps what is good.

use std::collections::HashSet;

use hashbrown::HashTable;
use runnel_model::{ContentSum, EventBatch, EventRef, Field, ValueRef, content_hashes, limits};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    proto::ingest::v1::{EventVerdict, Verdict},
    protobuf::{Fields, Wire, count_elements},
    refusal::{Reason, Refusal},
};

mod event;

/// The number of `AppendRequest.events`.
const EVENTS: u32 = 2;

/// A batch as it came in: the events that are good as columns, and a verdict on all others.
#[derive(Debug, Default)]
pub struct Received {
    /// The sender's id of the batch; may be empty.
    pub request_id: String,
    /// Nothing is to be stored.
    pub validate_only: bool,
    /// Events to store, each identity once.
    pub batch: EventBatch,
    /// One verdict for every event that is not plainly accepted, by index.
    pub verdicts: Vec<EventVerdict>,
    /// Events that were refused as the server's clock and the tenant's names have it, each identity once, and how many copies of them there were: to another
    /// server, or a moment later, they may be good.
    withheld: EventBatch,
    withheld_copies: u32,
}

impl Received {
    /// A batch of a name that nothing was read of yet.
    #[must_use]
    pub fn named(request_id: String) -> Received {
        Received { request_id, ..Received::default() }
    }

    /// How many verdicts of a kind there are.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> u32 {
        self.verdicts.iter().filter(|found| found.verdict == verdict as i32).count() as u32
    }

    /// What tells requests apart that have one id: the same for all that was sent, whatever of it is refused here and now.
    #[must_use]
    pub fn content(&self) -> ContentSum {
        let copies = self.count(Verdict::Duplicate) + self.count(Verdict::Conflict) + self.withheld_copies;
        let never_good = self.count(Verdict::Rejected) - self.withheld.len() as u32 - self.withheld_copies;
        ContentSum::of(&content_hashes(&self.batch))
            .plus(ContentSum::of(&content_hashes(&self.withheld)).0)
            .plus(u128::from(copies) << 64 | u128::from(never_good))
    }
}

/// Names that a tenant has no room for.
#[derive(Debug, Clone, Default)]
pub struct NoRoom {
    /// Event names.
    pub events: HashSet<String>,
    /// Property names.
    pub properties: HashSet<String>,
}

impl NoRoom {
    /// Whether there is room for everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.properties.is_empty()
    }

    /// Refuses an event that brings one of the names.
    fn check(&self, event: &EventRef<'_>) -> Result<(), Refusal> {
        if self.events.contains(event.name) {
            let text = format!(
                "A tenant has at most {} event names; {:?} would be one more.",
                limits::EVENT_NAMES,
                event.name
            );
            return Err(Refusal::field(Reason::NamesTooMany, "name", text));
        }
        if self.properties.is_empty() {
            return Ok(());
        }
        match event.properties.iter().find(|(name, _)| self.properties.contains(*name)) {
            None => Ok(()),
            Some((name, _)) => {
                let text = format!(
                    "A tenant has at most {} property names; {name:?} would be one more.",
                    limits::PROPERTY_NAMES
                );
                Err(Refusal::field(Reason::NamesTooMany, format!("properties[{name}]"), text))
            }
        }
    }
}

/// Decodes an `AppendRequest`. `now_ms` is the server's time, against which the future is judged.
///
/// A fault of the message as a whole is a refusal; a fault of one event is a verdict on that event only, and so is a name
/// that there is no room for.
pub fn receive_append(message: &[u8], now_ms: i64, no_room: &NoRoom) -> Result<Received, Refusal> {
    let mut received = Received::default();
    let (mut request_id, mut fields) = (&[][..], Fields::new(message));
    while let Some((number, value)) = fields.next_field().map_err(|_| malformed())? {
        match (number, value) {
            (1, Wire::Bytes(bytes)) => request_id = bytes,
            (3, Wire::Varint(value)) => received.validate_only = value != 0,
            (1..=3, Wire::Bytes(_)) | (4.., _) => {}
            _ => return Err(malformed()),
        }
    }
    received.request_id = event::text("request_id", request_id, limits::ID_BYTES)?.to_owned();
    receive_events(message, EVENTS, now_ms, no_room, &mut received)?;
    Ok(received)
}

/// Decodes the events of a message whose events have the field number `field`, such as a batch of a stream.
pub fn receive_events(
    message: &[u8],
    field: u32,
    now_ms: i64,
    no_room: &NoRoom,
    received: &mut Received,
) -> Result<(), Refusal> {
    let events = count_elements(message, field).map_err(|_| malformed())?;
    if events == 0 {
        return Err(Refusal::field(Reason::BatchEmpty, "events", "The batch has no events."));
    }
    if events > limits::BATCH_EVENTS {
        let text = format!("A batch has at most {} events; this one has {events}.", limits::BATCH_EVENTS);
        return Err(Refusal::field(Reason::BatchTooLong, "events", text));
    }
    let mut scratch = event::Scratch::default();
    received.batch.reserve(events);
    let mut seen = Seen { rows: HashTable::with_capacity(events), wires: Vec::with_capacity(events) };
    let mut withheld = Seen { rows: HashTable::new(), wires: Vec::new() };
    let (mut fields, mut index) = (Fields::new(message), 0);
    while let Some((number, value)) = fields.next_field().map_err(|_| malformed())? {
        if number != field {
            continue;
        }
        let Wire::Bytes(wire) = value else { return Err(malformed()) };
        match scratch.read(wire, now_ms).and_then(|event| no_room.check(&event).map(|()| event)) {
            Err(refusal) => {
                if matches!(refusal.reason, Reason::EventTimeInFuture | Reason::NamesTooMany) {
                    withheld.withhold(received, wire);
                }
                received.verdicts.push(rejected(index, refusal));
            }
            Ok(event) => {
                let verdict = seen.admit(&mut received.batch, &event, wire, now_ms);
                if verdict != Verdict::Accepted {
                    received.verdicts.push(EventVerdict {
                        index,
                        verdict: verdict as i32,
                        ..Default::default()
                    });
                }
            }
        }
        index += 1;
    }
    Ok(())
}

/// The identities that the batch already has, with the bytes that they came in.
struct Seen<'a> {
    rows: HashTable<u32>,
    wires: Vec<&'a [u8]>,
}

impl<'a> Seen<'a> {
    /// Adds the event unless its identity is there.
    fn admit(
        &mut self,
        batch: &mut EventBatch,
        event: &EventRef<'_>,
        wire: &'a [u8],
        now_ms: i64,
    ) -> Verdict {
        let derived;
        let mut event = *event;
        if event.event_id.is_empty() {
            derived = runnel_model::derived_event_id(&event);
            event.event_id = &derived;
        }
        let hash = identity_hash(event.visitor, event.time_ms, event.event_id.as_bytes());
        let same = self.rows.find(hash, |&row| {
            let row = row as usize;
            batch.times[row] == event.time_ms
                && batch.event_ids.get(row) == event.event_id.as_bytes()
                && batch.strings.get(batch.visitors[row]) == event.visitor
        });
        if let Some(&row) = same {
            let equal = content(self.wires[row as usize], now_ms) == content(wire, now_ms);
            return if equal { Verdict::Duplicate } else { Verdict::Conflict };
        }
        let row = batch.len() as u32;
        batch.push(&event);
        self.wires.push(wire);
        let batch = &*batch;
        self.rows.insert_unique(hash, row, |&row| {
            let row = row as usize;
            identity_hash(batch.strings.get(batch.visitors[row]), batch.times[row], batch.event_ids.get(row))
        });
        if event.time_ms > now_ms.saturating_add(limits::FUTURE_FLAGGED_MS) {
            Verdict::AcceptedFuture
        } else {
            Verdict::Accepted
        }
    }
}

impl<'a> Seen<'a> {
    /// Notes an event that is refused here and now.
    fn withhold(&mut self, received: &mut Received, wire: &'a [u8]) {
        // At the end of time nothing is in the future.
        let mut scratch = event::Scratch::default();
        let Ok(event) = scratch.read(wire, i64::MAX) else { return };
        let verdict = self.admit(&mut received.withheld, &event, wire, i64::MAX);
        received.withheld_copies += u32::from(verdict != Verdict::Accepted);
    }
}

/// The content hash of an event's bytes that were read before.
fn content(wire: &[u8], now_ms: i64) -> Option<u128> {
    let mut scratch = event::Scratch::default();
    let mut batch = EventBatch::default();
    batch.push(&scratch.read(wire, now_ms).ok()?);
    content_hashes(&batch).first().copied()
}

fn identity_hash(visitor: &str, time_ms: i64, event_id: &[u8]) -> u64 {
    xxh3_64(event_id)
        ^ xxh3_64(visitor.as_bytes()).rotate_left(21)
        ^ (time_ms as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn rejected(index: u32, refusal: Refusal) -> EventVerdict {
    EventVerdict {
        index,
        verdict: Verdict::Rejected as i32,
        reason: refusal.reason.name().to_owned(),
        message: refusal.to_string(),
        field: refusal.field,
    }
}

fn malformed() -> Refusal {
    Refusal::new(Reason::MessageMalformed, "The message is not an AppendRequest.")
}

/// What the decoder of one event borrows.
type Fielded<'a> = (Field, ValueRef<'a>);

#[cfg(test)]
mod tests;
