//! Exports of other products, so that a history can come along: one JSON object a line, as each product documents it.
//!
//! A table a product says which field becomes what ([`rules`]); everything else that a product keeps as a property of the event stays one, under its own name.
//! What a row says about who is who is kept apart and sent as identifications, so that a visitor's events before and after signing in count as one visitor's.

mod ga4;
mod kissmetrics;
mod mixpanel;
mod posthog;
mod row;
mod rules;
mod segment;
mod tally;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};
use runnel_contracts::refusal::Reason;
use runnel_model::limits;

use self::{
    row::Found,
    rules::{Product, Times, To},
    tally::{Fate, Tally},
    tree::Node,
};
use super::{
    args::{Format, ImportArgs, TimeUnit},
    collect::Collector,
    encode::{PropertyKey, Value},
    fault::RowFault,
    instant,
    json::Token,
    layout::Mapping,
    lines,
    read::Halt,
    records::{RECORD_BYTES, Window},
    typed::{check_name, check_text, check_time, of_json},
};

pub use tally::Mapped;

/// From this number on, a time is in milliseconds: as seconds it would lie after the year 5000.
const MILLISECONDS_FROM: i64 = 100_000_000_000;

fn product(format: Format) -> Option<&'static Product> {
    match format {
        Format::Csv | Format::Ndjson | Format::Parquet => None,
        Format::Ga4 => Some(&ga4::GA4),
        Format::Mixpanel => Some(&mixpanel::MIXPANEL),
        Format::Kissmetrics => Some(&kissmetrics::KISSMETRICS),
        Format::Posthog => Some(&posthog::POSTHOG),
        Format::Segment => Some(&segment::SEGMENT),
    }
}

/// An option does not go with the format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionRefused(String);

/// Refuses options that name columns where the format says itself what is where.
pub(super) fn check_options(args: &ImportArgs) -> Result<(), OptionRefused> {
    let format = args.format;
    if let Some(zone) = &args.project_time_zone {
        if format != Some(Format::Mixpanel) {
            let text =
                "--project-time-zone goes with --format mixpanel only: the other formats write times in UTC";
            return Err(OptionRefused(text.to_owned()));
        }
        TimeZone::get(zone).map_err(|_| {
            OptionRefused(format!(
                "--project-time-zone is a name of the IANA time zone database, such as Europe/Berlin, and {zone:?} is none"
            ))
        })?;
    }
    let Some(product) = format.and_then(product) else { return Ok(()) };
    let given = [
        ("--visitor", args.visitor.is_some()),
        ("--time", args.time.is_some()),
        ("--name", args.name.is_some()),
        ("--event-id", args.event_id.is_some()),
        ("--sequence", args.sequence.is_some()),
        ("--time-unit", args.time_unit != TimeUnit::Ms),
    ];
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => Err(OptionRefused(format!(
            "{option} does not go with an export of {}, whose fields have their meanings already: leave it out, or give --format ndjson",
            product.name
        ))),
    }
}

/// Reads exports of one product and counts what becomes of their fields.
#[derive(Debug)]
pub(super) struct Exports<'m> {
    product: &'static Product,
    mapping: &'m Mapping,
    /// On whose clocks the product counted seconds.
    zone: Option<TimeZone>,
    tally: Tally,
}

impl<'m> Exports<'m> {
    /// `None` when the format is not a product's.
    pub(super) fn new(args: &ImportArgs, mapping: &'m Mapping) -> Option<Exports<'m>> {
        let product = args.format.and_then(product)?;
        let zone = args.project_time_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
        Some(Exports { product, mapping, zone, tally: Tally::new(product) })
    }

    /// Reads a file to its end; whether its events have ids.
    pub(super) fn read(&mut self, window: Window, rows: &mut Collector<'_>) -> Result<bool, Halt> {
        lines::read(window, rows, &mut |line, number, rows| {
            match self.row(line, rows) {
                Ok(true) => rows.accepted(number, Some(line)),
                Ok(false) => {
                    rows.silent();
                    Ok(())
                }
                Err(fault) => rows.rejected(number, fault, line),
            }
            .and_then(|()| if rows.pairs.are_full() { rows.flush_pairs() } else { Ok(()) })
        })?;
        Ok(self.product.has_ids)
    }

    /// The product's name.
    pub(super) fn name(&self) -> &'static str {
        self.product.name
    }

    /// What a user should know about how the files are read.
    pub(super) fn note(&self) -> Option<String> {
        let on_a_clock = matches!(self.product.times, Times::SecondsOrMillis) && self.zone.is_none();
        on_a_clock.then(|| {
            let product = self.product.name;
            format!(
                "times are taken as UTC; {product} projects made before 2023 export those of their own clocks: give --project-time-zone for them"
            )
        })
    }

    /// What became of which field.
    pub(super) fn mapped(&self) -> Vec<Mapped> {
        self.tally.mapping(self.product)
    }

    /// Properties that did not come along.
    pub(super) fn left_out(&self) -> u64 {
        self.tally.left_out()
    }

    /// Writes a row as an event, and notes who is who by it; whether it was an event. A fault leaves nothing behind.
    fn row(&mut self, line: &[u8], rows: &mut Collector<'_>) -> Result<bool, RowFault> {
        let mut tree = Node::read(check_text("The line", line, RECORD_BYTES)?)?;
        (self.product.prepare)(&mut tree);
        for holder in self.product.holders {
            if let Some(Node::Scalar(token)) = tree.at(holder)
                && *token != Token::Null
            {
                return Err(not_an_object(holder));
            }
        }
        let found = Found::of(self.product, &tree);
        let draft = &found.draft;
        let (time_ms, sequence) = self.time(draft.time.ok_or_else(|| self.missing("time", &[To::Time]))?)?;
        for (anonymous, known) in &draft.pairs {
            check_text("anonymous_id", anonymous.as_bytes(), limits::ID_BYTES)?;
            check_text("known_id", known.as_bytes(), limits::ID_BYTES)?;
        }
        let mut fates = Vec::new();
        if !draft.only_identity {
            let visitor =
                draft.visitor().ok_or_else(|| self.missing("visitor", &[To::Known, To::Anonymous]))?;
            let name = draft.name.ok_or_else(|| self.missing("name", &[To::Name]))?;
            let properties = self.properties(&tree, &found, &mut fates)?;
            let writer = &mut rows.writer;
            writer.begin();
            if let Some(id) = draft.event_id {
                writer.event_id(check_text("event_id", id.as_bytes(), limits::ID_BYTES)?.as_bytes());
            }
            writer.visitor_id(check_text("visitor_id", visitor.as_bytes(), limits::ID_BYTES)?.as_bytes());
            writer.time_ms(time_ms);
            writer.name(check_text("name", name.as_bytes(), limits::ID_BYTES)?.as_bytes());
            if let Some(sequence) = sequence {
                writer.sequence(sequence);
            }
            properties.iter().for_each(|(name, value)| writer.property(&PropertyKey::new(name), *value));
            if let Some((micros, currency)) = &found.money {
                writer.value(*micros, currency);
            }
            writer.campaign(found.campaign.iter().map(Option::as_deref));
            writer.commit()?;
        } else if draft.pairs.is_empty() && draft.visitor().is_none() {
            return Err(self.missing("visitor", &[To::Known, To::Anonymous]));
        }
        draft.pairs.iter().for_each(|(anonymous, known)| rows.pairs.note(anonymous, known, time_ms));
        self.tally.used(&found.used);
        fates.into_iter().for_each(|(holder, name, fate)| self.tally.field(holder, name, fate));
        Ok(!draft.only_identity)
    }

    /// The event's properties: those of the table, and then the product's own by name. Names with `$` are the product's own matters and come last, so that they go
    /// first when there are too many.
    fn properties<'r>(
        &self,
        tree: &'r Node<'_>,
        found: &Found<'r, '_>,
        fates: &mut Vec<(&'static [&'static str], &'r str, Fate)>,
    ) -> Result<Vec<(&'r str, Value<'r>)>, RowFault> {
        let mut properties = Vec::new();
        for (name, token) in &found.properties {
            if !self.mapping.ignored.contains(*name)
                && let Some(value) = self.value(name, token)?
            {
                properties.push((*name, value));
            }
        }
        let mut own = BTreeMap::new();
        for holder in self.product.holders {
            for (name, node) in tree.at(holder).map(Node::members).unwrap_or_default() {
                let key = (name.starts_with('$'), name.as_ref());
                let fate = match node {
                    _ if found.is_claimed(node) => continue,
                    Node::Scalar(Token::Null) => continue,
                    _ if self.mapping.ignored.contains(name.as_ref()) => Fate::Ignored,
                    Node::Object(_) | Node::Array(_) => Fate::Nested,
                    Node::Scalar(_) if found.properties.iter().any(|(other, _)| other == name) => Fate::Taken,
                    Node::Scalar(_) if own.contains_key(&key) => Fate::Taken,
                    Node::Scalar(_) if check_name(name).is_err() => Fate::Unfit,
                    Node::Scalar(token) => match self.value(name, token)? {
                        Some(value) => {
                            own.insert(key, (*holder, value));
                            continue;
                        }
                        None => Fate::Unfit,
                    },
                };
                fates.push((*holder, name.as_ref(), fate));
            }
        }
        for ((_, name), (holder, value)) in own {
            let fits = properties.len() < limits::PROPERTIES;
            if fits {
                properties.push((name, value));
            }
            fates.push((holder, name, if fits { Fate::Kept } else { Fate::TooMany }));
        }
        let top = tree.members().iter().filter(|(name, _)| !self.is_read(name));
        fates.extend(top.map(|(name, _)| (&[][..], name.as_ref(), Fate::Unread)));
        Ok(properties)
    }

    /// A property's value; `None` when it cannot be one. Only what contradicts a declared type is a fault of the row.
    fn value<'t>(&self, name: &str, token: &'t Token<'_>) -> Result<Option<Value<'t>>, RowFault> {
        let declared = self.mapping.types.get(name).copied();
        match of_json(name, token, declared) {
            Err(fault) if declared.is_none() || fault.reason != "VALUE_TYPE" => Ok(None),
            value => value,
        }
    }

    /// Whether anything is read from a member of the row itself.
    fn is_read(&self, name: &str) -> bool {
        let starts = |path: &&[&str]| path.first().is_none_or(|first| *first == name);
        self.product.holders.iter().any(&starts) || self.product.rules.iter().any(|rule| starts(&rule.from))
    }

    /// Milliseconds since 1970, and what is left of it in microseconds where the product tells.
    fn time(&self, text: &str) -> Result<(i64, Option<i64>), RowFault> {
        let (form, read) = match self.product.times {
            Times::Rfc3339 => {
                let dated = text.as_bytes().get(4) == Some(&b'-');
                let time = dated.then(|| instant::parse(text.as_bytes(), TimeUnit::Ms)).flatten();
                ("RFC 3339 with an offset, such as 2024-05-01T10:00:00.000Z", time.map(|ms| (ms, None)))
            }
            Times::Micros => {
                let time = text.parse::<i64>().ok();
                let parts = time.map(|time| (time.div_euclid(1_000), Some(time.rem_euclid(1_000))));
                ("microseconds since 1970", parts)
            }
            Times::Seconds | Times::SecondsOrMillis => {
                let either = matches!(self.product.times, Times::SecondsOrMillis);
                let ms = crate::decimal::micros(text).map(|micros| {
                    let small = (micros / 1_000_000).abs() < MILLISECONDS_FROM;
                    micros.div_euclid(if small || !either { 1_000 } else { 1_000_000 })
                });
                ("seconds since 1970", ms.map(|ms| (ms, None)))
            }
        };
        let (ms, sequence) = read.ok_or_else(|| {
            let shown: String = text.chars().take(60).collect();
            let product = self.product.name;
            RowFault::new(
                "TIME_MALFORMED",
                format!("{shown:?} is not a time as {product} exports it: {form}."),
            )
        })?;
        let out_of_range = |_| {
            let text = format!("A time lies in the years 1 to 9999; this one is {ms} ms since 1970.");
            RowFault::new(Reason::EventTimeOutOfRange.name(), text)
        };
        let ms = check_time(ms).map_err(out_of_range)?;
        let utc = self.zone.as_ref().map_or(Some(ms), |zone| on_the_clock(ms, zone));
        utc.map(|ms| (ms, sequence)).ok_or_else(|| RowFault::time_out_of_range(ms))
    }

    /// The row lacks something, and these are the fields that could have had it.
    fn missing(&self, what: &str, purposes: &[To]) -> RowFault {
        let fields = self.product.rules.iter().filter(|rule| purposes.contains(&rule.to));
        let fields: Vec<String> = fields.map(|rule| rule.from.join(".")).collect();
        let text = format!("The {what} is missing: nothing is in {}.", fields.join(", nor in "));
        RowFault::new(Reason::FieldMissing.name(), text)
    }
}

/// The instant at which clocks of a zone showed what `ms` is in UTC. Of an hour that comes twice the first is meant.
fn on_the_clock(ms: i64, zone: &TimeZone) -> Option<i64> {
    let shown = TimeZone::UTC.to_datetime(Timestamp::from_millisecond(ms).ok()?);
    zone.to_ambiguous_timestamp(shown).compatible().ok().map(Timestamp::as_millisecond)
}

fn not_an_object(holder: &[&str]) -> RowFault {
    let name = holder.join(".");
    let text = format!(
        "{name:?} holds properties and is no object here; unpack it with jq -c '.{name} |= fromjson'."
    );
    RowFault::new("VALUE_TYPE", text)
}
