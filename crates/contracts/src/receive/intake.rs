//! Events of a message on their way into a batch: each identity once.

use std::collections::{HashMap, HashSet};

use hashbrown::HashTable;
use runnel_model::{
    ColumnKey, Dictionary, EventBatch, EventRef, Secret, UNOBSERVED_CHANNEL, ValueRef, content_hashes,
    derived_event_id, limits,
};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Terms,
    event::{Cell, Dense, Property, Scratch},
    unobserved::{channel, is_denied},
};
use crate::{
    proto::ingest::v1::Verdict,
    refusal::{Reason, Refusal},
};

/// What is known of the events that a batch has, all of which came through here.
pub(super) struct Intake<'a> {
    scratch: Scratch<'a>,
    /// Identities: half of the hash, and the row.
    rows: HashTable<(u32, u32)>,
    /// The bytes that each row came in.
    wires: Vec<&'a [u8]>,
    /// Until when visitors are erased, as far as that was looked up.
    erased: HashMap<&'a str, Option<i64>>,
    /// Rows without a visitor, and whether there was no secret to make them with.
    pub(super) unobserved: u32,
    pub(super) lacks_secret: bool,
}

impl<'a> Intake<'a> {
    /// For up to so many events of a message.
    pub(super) fn of(message: &'a [u8], events: usize) -> Intake<'a> {
        Intake {
            scratch: Scratch::of(message),
            rows: HashTable::with_capacity(events),
            wires: Vec::with_capacity(events),
            erased: HashMap::new(),
            unobserved: 0,
            lacks_secret: false,
        }
    }

    /// Reads an event and adds it to the batch unless its identity is there.
    pub(super) fn admit(
        &mut self,
        batch: &mut EventBatch,
        wire: &'a [u8],
        now_ms: i64,
        terms: &Terms,
        brought: &mut Brought,
    ) -> Result<Verdict, Refusal> {
        let dense = self.scratch.read(wire, now_ms, &batch.strings)?;
        check_late(dense.time_ms, terms)?;
        if is_denied(&self.scratch.fields) {
            return self.admit_unobserved(batch, &dense, wire, now_ms, terms);
        }
        self.check_erased(&dense, terms)?;
        let no_room = &terms.no_room;
        let Scratch { properties, names, .. } = &self.scratch;
        brought.check(batch, || properties.iter().map(|property| names.text(property.name)))?;
        if !no_room.is_empty() {
            let properties = properties.iter().map(|property| names.text(property.name));
            no_room.check(names.text(dense.name), properties)?;
        }
        let derived;
        let mut event_id = dense.event_id;
        if event_id.is_empty() {
            derived = derived_id(&dense, &self.scratch, &batch.strings);
            event_id = derived.as_bytes();
        }
        // Where the identity is there already, so is the visitor.
        let visitor = batch.strings.intern(dense.visitor);
        let hash = identity_hash(visitor, dense.time_ms, event_id);
        if let Some(verdict) = self.repeats(batch, (visitor, dense.time_ms, event_id), hash, wire, now_ms) {
            return Ok(verdict);
        }
        let Scratch { fields, properties, names, .. } = &mut self.scratch;
        let name = names.code(dense.name, &mut batch.strings);
        let row = batch.push_row(visitor, dense.time_ms, name, event_id, dense.sequence);
        for &(field, value) in &*fields {
            let place = batch.place(ColumnKey::Field(field), value.value_type());
            batch.set(place, row, value);
        }
        for &Property { name, cell } in &*properties {
            let place = names.column(name, cell.value_type(), batch);
            match cell {
                Cell::Known(code) => batch.set_code(place, row, code),
                Cell::New(value) => batch.set(place, row, value),
            }
        }
        self.note(row, hash, wire);
        Ok(accepted(dense.time_ms, now_ms))
    }

    /// What an event is that repeats the identity of a row; `None` when none has it.
    fn repeats(
        &self,
        batch: &EventBatch,
        (visitor, time_ms, event_id): (u32, i64, &[u8]),
        hash: u32,
        wire: &[u8],
        now_ms: i64,
    ) -> Option<Verdict> {
        let same = self.rows.find(spread(hash), |&(other, row)| {
            let row = row as usize;
            other == hash
                && batch.visitors[row] == visitor
                && batch.times[row] == time_ms
                && batch.event_ids.get(row) == event_id
        });
        let &(_, row) = same?;
        let equal = content(self.wires[row as usize], now_ms) == content(wire, now_ms);
        Some(if equal { Verdict::Duplicate } else { Verdict::Conflict })
    }

    fn note(&mut self, row: u32, hash: u32, wire: &'a [u8]) {
        self.wires.push(wire);
        self.rows.insert_unique(spread(hash), (hash, row), |&(hash, _)| spread(hash));
    }

    /// Refuses what happened to somebody before being erased.
    fn check_erased(&mut self, dense: &Dense<'a>, terms: &Terms) -> Result<(), Refusal> {
        let privacy = &terms.privacy;
        if privacy.erased.is_empty() {
            return Ok(());
        }
        let until = self.erased.entry(dense.visitor).or_insert_with(|| privacy.erased_until(dense.visitor));
        match *until {
            Some(until_ms) if dense.time_ms <= until_ms => {
                let text = format!("The visitor was erased; what happened up to {until_ms} is not taken.");
                Err(Refusal::field(Reason::SubjectErased, "visitor_id", text))
            }
            _ => Ok(()),
        }
    }

    /// Adds an event of somebody who denied consent to analytics: its name, the hour and the channel, and nothing else.
    fn admit_unobserved(
        &mut self,
        batch: &mut EventBatch,
        dense: &Dense<'a>,
        wire: &'a [u8],
        now_ms: i64,
        terms: &Terms,
    ) -> Result<Verdict, Refusal> {
        terms.no_room.check(self.scratch.names.text(dense.name), std::iter::empty())?;
        let derived;
        let mut event_id = dense.event_id;
        if event_id.is_empty() {
            derived = derived_id(dense, &self.scratch, &batch.strings);
            event_id = derived.as_bytes();
        }
        self.lacks_secret |= terms.privacy.secret.is_none();
        let secret = terms.privacy.secret.unwrap_or(Secret([0; 32]));
        let instead = secret.unobserved(dense.visitor, dense.time_ms, event_id);
        let visitor = batch.strings.intern(&instead.visitor);
        let event_id = instead.event_id.as_bytes();
        let hash = identity_hash(visitor, instead.time_ms, event_id);
        if let Some(verdict) = self.repeats(batch, (visitor, instead.time_ms, event_id), hash, wire, now_ms) {
            return Ok(verdict);
        }
        let name = self.scratch.names.code(dense.name, &mut batch.strings);
        let row = batch.push_row(visitor, instead.time_ms, name, event_id, 0);
        if !terms.no_room.properties.contains(UNOBSERVED_CHANNEL) {
            let channel = channel(&self.scratch, &batch.strings);
            let key = ColumnKey::Property(batch.strings.intern(UNOBSERVED_CHANNEL));
            let value = ValueRef::String(&channel);
            let place = batch.place(key, value.value_type());
            batch.set(place, row, value);
        }
        self.note(row, hash, wire);
        self.unobserved += 1;
        Ok(accepted(dense.time_ms, now_ms))
    }
}

/// Refuses what happened longer ago than events are kept.
fn check_late(time_ms: i64, terms: &Terms) -> Result<(), Refusal> {
    match terms.privacy.refused_before_ms {
        Some(kept_from_ms) if time_ms < kept_from_ms => {
            let text =
                format!("What happened before {kept_from_ms} is not kept; this happened at {time_ms}.");
            Err(Refusal::field(Reason::Late, "time_ms", text))
        }
        _ => Ok(()),
    }
}

/// The property names that a batch brings. A batch may not bring more than a tenant may have: each is a column, and has to be asked for in the store.
#[derive(Debug, Default)]
pub(super) struct Brought {
    /// Names of the columns that were looked at, once there are many.
    names: HashSet<String>,
    looked_at: usize,
}

impl Brought {
    /// Refuses an event that brings one name too many.
    #[inline]
    fn check<'n, N: Iterator<Item = &'n str>>(
        &mut self,
        batch: &EventBatch,
        properties: impl Fn() -> N,
    ) -> Result<(), Refusal> {
        match batch.columns.len() + limits::PROPERTIES > limits::PROPERTY_NAMES {
            false => Ok(()),
            true => self.check_many(batch, properties),
        }
    }

    #[cold]
    fn check_many<'n, N: Iterator<Item = &'n str>>(
        &mut self,
        batch: &EventBatch,
        properties: impl Fn() -> N,
    ) -> Result<(), Refusal> {
        for column in &batch.columns[self.looked_at..] {
            if let ColumnKey::Property(name) = column.key {
                self.names.insert(batch.strings.get(name).to_owned());
            }
        }
        self.looked_at = batch.columns.len();
        let new: HashSet<&str> = properties().filter(|name| !self.names.contains(*name)).collect();
        if self.names.len() + new.len() <= limits::PROPERTY_NAMES {
            return Ok(());
        }
        let text = format!(
            "A batch brings at most {} property names; with this event it would be {}.",
            limits::PROPERTY_NAMES,
            self.names.len() + new.len()
        );
        Err(Refusal::field(Reason::PropertiesTooMany, "properties", text))
    }
}

/// The id of an event that has none.
fn derived_id<'a>(dense: &Dense<'a>, scratch: &Scratch<'a>, strings: &'a Dictionary) -> String {
    let value = |cell: Cell<'a>| match cell {
        Cell::Known(code) => ValueRef::String(strings.get(code)),
        Cell::New(value) => value,
    };
    let properties: Vec<_> = scratch
        .properties
        .iter()
        .map(|property| (scratch.names.text(property.name), value(property.cell)))
        .collect();
    derived_event_id(&EventRef {
        visitor: dense.visitor,
        time_ms: dense.time_ms,
        name: scratch.names.text(dense.name),
        event_id: "",
        sequence: dense.sequence,
        fields: &scratch.fields,
        properties: &properties,
    })
}

/// The content hash of an event's bytes that were read before.
fn content(wire: &[u8], now_ms: i64) -> Option<u128> {
    let mut batch = EventBatch::default();
    let mut intake = Intake::of(wire, 1);
    intake.admit(&mut batch, wire, now_ms, &Terms::default(), &mut Brought::default()).ok()?;
    content_hashes(&batch).first().copied()
}

fn accepted(time_ms: i64, now_ms: i64) -> Verdict {
    let ahead = time_ms > now_ms.saturating_add(limits::FUTURE_FLAGGED_MS);
    if ahead { Verdict::AcceptedFuture } else { Verdict::Accepted }
}

#[inline]
fn identity_hash(visitor: u32, time_ms: i64, event_id: &[u8]) -> u32 {
    let hash =
        xxh3_64(event_id) ^ (time_ms as u64 ^ u64::from(visitor) << 42).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash ^ hash >> 32) as u32
}

/// The table looks at the highest and at the lowest bits.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
