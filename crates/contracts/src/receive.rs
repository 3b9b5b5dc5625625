//! From the wire to columns: decodes a batch once, checks every event, and keeps what is good.

use std::{collections::HashSet, sync::Arc};

use runnel_model::{ContentSum, EventBatch, Privacy, content_hashes, limits};

use self::intake::{Brought, Intake};
use crate::{
    proto::ingest::v1::{EventVerdict, Verdict},
    protobuf::{Fields, Wire, count_elements},
    refusal::{Reason, Refusal},
};

mod event;
mod intake;
mod names;
mod unobserved;

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
    /// Of these, events of people who denied consent to analytics: they are counted without whose they are.
    pub unobserved: u32,
    /// There are such events and the tenant has no secret, so that the batch is of no use.
    pub needs_secret: bool,
    /// One verdict for every event that is not plainly accepted, by index.
    pub verdicts: Vec<EventVerdict>,
    /// Events that were refused as the server's clock, the tenant's names, its erasures and its retention have it, each identity once, and how many copies of them there were: to another
    /// server, or a moment later, they may be good.
    withheld: EventBatch,
    withheld_copies: u32,
}

/// Checks an id of a visitor as events have them; `field` is where it stands.
pub fn visitor_id(field: &str, id: &str) -> Result<(), Refusal> {
    event::required(field, id.as_bytes()).map(drop)
}

/// Checks an instant as events have them, which stands in `time_ms`.
pub fn time_ms(time_ms: Option<i64>, now_ms: i64) -> Result<i64, Refusal> {
    event::time(time_ms, now_ms)
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

    /// How many events were refused.
    #[must_use]
    pub fn refused(&self) -> u32 {
        self.count(Verdict::Rejected) + self.count(Verdict::Late)
    }

    /// What tells requests apart that have one id: the same for all that was sent, whatever of it is refused here and now. `stored` is the sum over the batch.
    #[must_use]
    pub fn content(&self, stored: ContentSum) -> ContentSum {
        let copies = self.count(Verdict::Duplicate) + self.count(Verdict::Conflict) + self.withheld_copies;
        let never_good = self.refused() - self.withheld.len() as u32 - self.withheld_copies;
        stored
            .plus(ContentSum::of(&content_hashes(&self.withheld)).0)
            .plus(u128::from(copies) << 64 | u128::from(never_good))
    }
}

/// What events are checked against beside the limits that hold for everybody.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Names that the tenant has no room for.
    pub no_room: NoRoom,
    /// Persons of whom nothing may be known.
    pub privacy: Arc<Privacy>,
}

impl Terms {
    /// The same where nothing is refused that may be good at another time.
    fn without_refusals(&self) -> Terms {
        let privacy = Privacy { secret: self.privacy.secret, ..Privacy::default() };
        Terms { no_room: NoRoom::default(), privacy: Arc::new(privacy) }
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
    fn check<'a>(&self, event: &str, mut properties: impl Iterator<Item = &'a str>) -> Result<(), Refusal> {
        if self.events.contains(event) {
            let text = format!(
                "A tenant has at most {} event names; {event:?} would be one more.",
                limits::EVENT_NAMES
            );
            return Err(Refusal::field(Reason::NamesTooMany, "name", text));
        }
        match properties.find(|name| self.properties.contains(*name)) {
            None => Ok(()),
            Some(name) => {
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
/// A fault of the message as a whole is a refusal; a fault of one event is a verdict on that event only, and so is what
/// the terms forbid.
pub fn receive_append(message: &[u8], now_ms: i64, terms: &Terms) -> Result<Received, Refusal> {
    let mut received = Received::default();
    let (mut request_id, mut events, mut fields) = (&[][..], 0, Fields::new(message));
    while let Some((number, value)) = fields.next_field().map_err(|_| malformed())? {
        match (number, value) {
            (1, Wire::Bytes(bytes)) => request_id = bytes,
            (EVENTS, Wire::Bytes(_)) => events += 1,
            (3, Wire::Varint(value)) => received.validate_only = value != 0,
            (4.., _) => {}
            _ => return Err(malformed()),
        }
    }
    received.request_id = event::text("request_id", request_id, limits::ID_BYTES)?.to_owned();
    receive_counted(message, EVENTS, events, now_ms, terms, &mut received)?;
    Ok(received)
}

/// Decodes the events of a message whose events have the field number `field`, such as a batch of a stream.
pub fn receive_events(
    message: &[u8],
    field: u32,
    now_ms: i64,
    terms: &Terms,
    received: &mut Received,
) -> Result<(), Refusal> {
    let events = count_elements(message, field).map_err(|_| malformed())?;
    receive_counted(message, field, events, now_ms, terms, received)
}

/// The same for a message of which it is known how many events it has.
fn receive_counted(
    message: &[u8],
    field: u32,
    events: usize,
    now_ms: i64,
    terms: &Terms,
    received: &mut Received,
) -> Result<(), Refusal> {
    if events == 0 {
        return Err(Refusal::field(Reason::BatchEmpty, "events", "The batch has no events."));
    }
    if events > limits::BATCH_EVENTS {
        let text = format!("A batch has at most {} events; this one has {events}.", limits::BATCH_EVENTS);
        return Err(Refusal::field(Reason::BatchTooLong, "events", text));
    }
    received.batch.reserve(events, message.len());
    let (mut intake, mut withheld) = (Intake::of(message, events), None);
    let (mut brought, mut brought_withheld) = (Brought::default(), Brought::default());
    let without_refusals = terms.without_refusals();
    let (mut fields, mut index) = (Fields::new(message), 0);
    while let Some((number, value)) = fields.next_field().map_err(|_| malformed())? {
        if number != field {
            continue;
        }
        let Wire::Bytes(wire) = value else { return Err(malformed()) };
        match intake.admit(&mut received.batch, wire, now_ms, terms, &mut brought) {
            Ok(Verdict::Accepted) => {}
            Ok(verdict) => {
                let verdict = verdict as i32;
                received.verdicts.push(EventVerdict { index, verdict, ..EventVerdict::default() });
            }
            Err(refusal) => {
                if matches!(
                    refusal.reason,
                    Reason::EventTimeInFuture | Reason::NamesTooMany | Reason::SubjectErased | Reason::Late
                ) {
                    // At the end of time nothing is in the future.
                    let withheld = withheld.get_or_insert_with(|| Intake::of(message, 1));
                    let verdict = withheld.admit(
                        &mut received.withheld,
                        wire,
                        i64::MAX,
                        &without_refusals,
                        &mut brought_withheld,
                    );
                    received.withheld_copies +=
                        u32::from(verdict.is_ok_and(|verdict| verdict != Verdict::Accepted));
                }
                received.verdicts.push(rejected(index, refusal));
            }
        }
        index += 1;
    }
    received.unobserved = intake.unobserved;
    received.needs_secret = intake.lacks_secret || withheld.is_some_and(|withheld| withheld.lacks_secret);
    Ok(())
}

fn rejected(index: u32, refusal: Refusal) -> EventVerdict {
    let verdict = if refusal.reason == Reason::Late { Verdict::Late } else { Verdict::Rejected };
    EventVerdict {
        index,
        verdict: verdict as i32,
        reason: refusal.reason.name().to_owned(),
        message: refusal.to_string(),
        field: refusal.field,
    }
}

fn malformed() -> Refusal {
    Refusal::new(Reason::MessageMalformed, "The message is not an AppendRequest.")
}

#[cfg(test)]
mod tests;
