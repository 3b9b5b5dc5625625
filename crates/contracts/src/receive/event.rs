//! Decodes and checks one event without copying it.

use runnel_model::{Dictionary, Field, ValueRef, ValueType, limits};

use super::names::{NameRef, Names, Texts};
use crate::{
    protobuf::{Fields, Malformed, Wire},
    refusal::{Reason, Refusal},
};

/// Room for one event's fields and properties, reused from event to event.
pub(super) struct Scratch<'a> {
    pub(super) fields: Vec<(Field, ValueRef<'a>)>,
    pub(super) properties: Vec<Property<'a>>,
    pub(super) names: Names<'a>,
    texts: Texts<'a>,
    /// Events so far.
    events: u32,
}

/// What every event has.
pub(super) struct Dense<'a> {
    pub(super) visitor: &'a str,
    pub(super) time_ms: i64,
    pub(super) name: NameRef,
    /// UTF-8.
    pub(super) event_id: &'a [u8],
    pub(super) sequence: i64,
}

/// One entry of `Event.properties`.
#[derive(Clone, Copy)]
pub(super) struct Property<'a> {
    pub(super) name: NameRef,
    pub(super) cell: Cell<'a>,
}

/// The value of a property.
#[derive(Clone, Copy)]
pub(super) enum Cell<'a> {
    /// A text that the batch has: its place in the dictionary.
    Known(u32),
    /// Any other value.
    New(ValueRef<'a>),
}

impl Cell<'_> {
    pub(super) fn value_type(&self) -> ValueType {
        match self {
            Cell::Known(_) => ValueType::String,
            Cell::New(value) => value.value_type(),
        }
    }
}

impl<'a> Scratch<'a> {
    /// For events of a message.
    pub(super) fn of(message: &'a [u8]) -> Scratch<'a> {
        Scratch {
            fields: Vec::new(),
            properties: Vec::new(),
            names: Names::of(message),
            texts: Texts::of(message),
            events: 0,
        }
    }

    /// Reads an event whose batch has these texts. The refusal names the field, the limit and the value.
    pub(super) fn read(
        &mut self,
        wire: &'a [u8],
        now_ms: i64,
        strings: &Dictionary,
    ) -> Result<Dense<'a>, Refusal> {
        self.fields.clear();
        self.properties.clear();
        self.names.next_event();
        self.events += 1;
        let mut repeated = false;
        if wire.len() > limits::EVENT_BYTES {
            let text =
                format!("An event has at most {} bytes; this one has {}.", limits::EVENT_BYTES, wire.len());
            return Err(Refusal::new(Reason::EventTooLarge, text));
        }
        let (mut visitor, mut name, mut event_id) = (&[][..], &[][..], &[][..]);
        let (mut time_ms, mut sequence, mut properties) = (None, 0, 0usize);
        let mut fields = Fields::new(wire);
        while let Some((number, value)) = fields.next_field()? {
            match (number, value) {
                (1, Wire::Bytes(bytes)) => event_id = bytes,
                (2, Wire::Bytes(bytes)) => visitor = bytes,
                (3, Wire::Varint(value)) => time_ms = Some(value as i64),
                (4, Wire::Bytes(bytes)) => name = bytes,
                (5, Wire::Varint(value)) => sequence = value as i64,
                (6, Wire::Bytes(bytes)) => {
                    properties += 1;
                    if properties <= limits::PROPERTIES {
                        repeated |= self.property(bytes, strings)?;
                    }
                }
                (7, Wire::Bytes(bytes)) => {
                    self.money("value", bytes, Field::ValueMicros, Field::ValueCurrency)?
                }
                (8, Wire::Bytes(bytes)) => self.consent(bytes)?,
                (9, Wire::Bytes(bytes)) => self.campaign(bytes)?,
                (10, Wire::Bytes(bytes)) => {
                    self.money("cost", bytes, Field::CostMicros, Field::CostCurrency)?
                }
                (11, Wire::Varint(value)) => {
                    self.choice("outcome", Field::Outcome, value, &["SUCCESS", "FAILURE"])?
                }
                (12, Wire::Bytes(bytes)) => self.text("error_code", Field::ErrorCode, bytes)?,
                (13, Wire::Varint(value)) => self.latency(value as i64)?,
                (14, Wire::Varint(value)) => self.set(Field::Attempt, ValueRef::Int(i64::from(value as u32))),
                (15, Wire::Varint(value)) => self.choice("off_site", Field::OffSite, value, &OFF_SITE)?,
                (1..=15, _) => return Err(Malformed.into()),
                _ => {}
            }
        }
        if properties > limits::PROPERTIES {
            let text =
                format!("An event has at most {} properties; this one has {properties}.", limits::PROPERTIES);
            return Err(Refusal::field(Reason::PropertiesTooMany, "properties", text));
        }
        if repeated {
            self.keep_last_of_each_name();
        }
        Ok(Dense {
            visitor: required("visitor_id", visitor)?,
            time_ms: time(time_ms, now_ms)?,
            name: self.names.find(name, |name| required("name", name))?,
            event_id: if event_id.len() <= limits::ID_BYTES && is_plain(event_id) {
                event_id
            } else {
                text("event_id", event_id, limits::ID_BYTES)?.as_bytes()
            },
            sequence,
        })
    }

    /// One entry of `Event.properties`. Whether its name may have come before.
    #[inline]
    fn property(&mut self, entry: &'a [u8], strings: &Dictionary) -> Result<bool, Refusal> {
        let (name, value) = match split(entry) {
            Some(parts) => parts,
            None => split_slowly(entry)?,
        };
        let name = self.names.find(name, |name| required("properties", name))?;
        let cell = match value {
            [0x0a, length, bytes @ ..] if usize::from(*length) == bytes.len() && *length < 0x80 => {
                self.string(name, bytes, strings)?
            }
            _ => self.value(name, value, strings)?,
        };
        self.properties.push(Property { name, cell });
        Ok(self.names.came_before(name, self.events))
    }

    fn value(&mut self, name: NameRef, value: &'a [u8], strings: &Dictionary) -> Result<Cell<'a>, Refusal> {
        let mut found = None;
        let mut fields = Fields::new(value);
        while let Some((number, content)) = fields.next_field()? {
            found = Some(match (number, content) {
                (1, Wire::Bytes(bytes)) => self.string(name, bytes, strings)?,
                (2, Wire::Varint(value)) => Cell::New(ValueRef::Int(value as i64)),
                (3, Wire::Fixed64(bits)) => Cell::New(ValueRef::Double(f64::from_bits(bits))),
                (4, Wire::Varint(value)) => Cell::New(ValueRef::Bool(value != 0)),
                (1..=4, _) => return Err(Malformed.into()),
                _ => continue,
            });
        }
        let name = self.names.text(name);
        let fault = |reason, text| Err(Refusal::field(reason, format!("properties[{name}]"), text));
        match found {
            None => fault(
                Reason::PropertyTypeUnknown,
                format!("The property {name:?} has no value of a known type."),
            ),
            Some(Cell::New(ValueRef::Double(number))) if !number.is_finite() => {
                fault(Reason::NumberNotFinite, format!("The property {name:?} is {number}."))
            }
            Some(cell) => Ok(cell),
        }
    }

    /// A text. Everything that the batch has was checked, and nothing in it is longer than a value may be.
    #[inline]
    fn string(&mut self, name: NameRef, bytes: &'a [u8], strings: &Dictionary) -> Result<Cell<'a>, Refusal> {
        if let Some(code) = self.texts.find(bytes, strings) {
            return Ok(Cell::Known(code));
        }
        let checked = match plain(bytes, limits::VALUE_BYTES) {
            Some(text) => text,
            None => {
                let field = format!("properties[{}]", self.names.text(name));
                text(&field, bytes, limits::VALUE_BYTES)?
            }
        };
        Ok(Cell::New(ValueRef::String(checked)))
    }

    /// A map's entry may be on the wire more than once; the last one is the map's.
    fn keep_last_of_each_name(&mut self) {
        let properties = &mut self.properties;
        let mut at = 0;
        while at < properties.len() {
            let name = self.names.text(properties[at].name);
            if properties[at + 1..].iter().any(|later| self.names.text(later.name) == name) {
                properties.remove(at);
            } else {
                at += 1;
            }
        }
    }

    fn set(&mut self, field: Field, value: ValueRef<'a>) {
        match self.fields.iter_mut().find(|(there, _)| *there == field) {
            Some(there) => there.1 = value,
            None => self.fields.push((field, value)),
        }
    }

    fn text(&mut self, name: &str, field: Field, bytes: &'a [u8]) -> Result<(), Refusal> {
        if !bytes.is_empty() {
            self.set(field, ValueRef::String(text(name, bytes, limits::ID_BYTES)?));
        }
        Ok(())
    }

    fn choice(
        &mut self,
        name: &str,
        field: Field,
        value: u64,
        names: &[&'static str],
    ) -> Result<(), Refusal> {
        match usize::try_from(value)
            .ok()
            .map(|value| (value, value.checked_sub(1).and_then(|at| names.get(at))))
        {
            Some((0, _)) => Ok(()),
            Some((_, Some(choice))) => {
                self.set(field, ValueRef::String(choice));
                Ok(())
            }
            _ => {
                Err(Refusal::field(Reason::EnumUnknown, name, format!("{name} has no value number {value}.")))
            }
        }
    }

    fn latency(&mut self, value: i64) -> Result<(), Refusal> {
        if value < 0 {
            let text = format!("latency_ms is at least 0; it is {value}.");
            return Err(Refusal::field(Reason::NumberOutOfRange, "latency_ms", text));
        }
        self.set(Field::LatencyMs, ValueRef::Int(value));
        Ok(())
    }

    fn money(&mut self, name: &str, wire: &'a [u8], micros: Field, currency: Field) -> Result<(), Refusal> {
        let (mut amount, mut code) = (0, &[][..]);
        let mut fields = Fields::new(wire);
        while let Some((number, value)) = fields.next_field()? {
            match (number, value) {
                (1, Wire::Varint(value)) => amount = value as i64,
                (2, Wire::Bytes(bytes)) => code = bytes,
                (1..=2, _) => return Err(Malformed.into()),
                _ => {}
            }
        }
        let field = || format!("{name}.currency");
        let code = match plain(code, limits::ID_BYTES) {
            Some(code) => code,
            None => text(&field(), code, limits::ID_BYTES)?,
        };
        if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_uppercase()) {
            let field = field();
            let shown: String = code.chars().take(10).collect();
            let text = format!("A currency is three upper-case letters; {field} is {shown:?}.");
            return Err(Refusal::field(Reason::CurrencyMalformed, field, text));
        }
        self.set(micros, ValueRef::Int(amount));
        self.set(currency, ValueRef::String(code));
        Ok(())
    }

    fn consent(&mut self, wire: &'a [u8]) -> Result<(), Refusal> {
        const PURPOSES: [(&str, Field); 3] = [
            ("consent.analytics", Field::ConsentAnalytics),
            ("consent.ads", Field::ConsentAds),
            ("consent.personalization", Field::ConsentPersonalization),
        ];
        let mut fields = Fields::new(wire);
        while let Some((number, value)) = fields.next_field()? {
            let Some((name, field)) = PURPOSES.get((number as usize).wrapping_sub(1)) else { continue };
            let Wire::Varint(value) = value else { return Err(Malformed.into()) };
            self.choice(name, *field, value, &["GRANTED", "DENIED"])?;
        }
        Ok(())
    }

    fn campaign(&mut self, wire: &'a [u8]) -> Result<(), Refusal> {
        const PARTS: [(&str, Field); 7] = [
            ("campaign.source", Field::CampaignSource),
            ("campaign.medium", Field::CampaignMedium),
            ("campaign.name", Field::CampaignName),
            ("campaign.term", Field::CampaignTerm),
            ("campaign.content", Field::CampaignContent),
            ("campaign.id", Field::CampaignId),
            ("campaign.click_id", Field::CampaignClickId),
        ];
        let mut fields = Fields::new(wire);
        while let Some((number, value)) = fields.next_field()? {
            let Some((name, field)) = PARTS.get((number as usize).wrapping_sub(1)) else { continue };
            let Wire::Bytes(bytes) = value else { return Err(Malformed.into()) };
            self.text(name, *field, bytes)?;
        }
        Ok(())
    }
}

const OFF_SITE: [&str; 9] = [
    "AD_IMPRESSION",
    "AD_CLICK",
    "EMAIL_DELIVERED",
    "EMAIL_OPENED",
    "EMAIL_CLICKED",
    "CALL",
    "PAYMENT",
    "SHIPMENT",
    "REFUND",
];

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Refusal {
        Refusal::new(Reason::EventMalformed, "The event's bytes are damaged.")
    }
}

/// Name and value of an entry that is written as most are: the short name first, the short value behind it, and nothing else.
#[inline]
fn split(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0x0a, length @ ..0x80, rest @ ..] = entry else { return None };
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let [0x12, length @ ..0x80, value @ ..] = rest else { return None };
    (usize::from(*length) == value.len()).then_some((name, value))
}

/// Name and value of any entry.
fn split_slowly(entry: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let (mut name, mut value) = (&[][..], &[][..]);
    let mut fields = Fields::new(entry);
    while let Some((number, content)) = fields.next_field()? {
        match (number, content) {
            (1, Wire::Bytes(bytes)) => name = bytes,
            (2, Wire::Bytes(bytes)) => value = bytes,
            (1..=2, _) => return Err(Malformed),
            _ => {}
        }
    }
    Ok((name, value))
}

pub(super) fn time(time_ms: Option<i64>, now_ms: i64) -> Result<i64, Refusal> {
    let Some(time_ms) = time_ms else {
        return Err(Refusal::field(Reason::FieldMissing, "time_ms", "time_ms is missing."));
    };
    if !limits::TIME_RANGE_MS.contains(&time_ms) {
        let text = format!("time_ms lies in the years 1 to 9999; it is {time_ms}.");
        return Err(Refusal::field(Reason::EventTimeOutOfRange, "time_ms", text));
    }
    let ahead = time_ms.saturating_sub(now_ms);
    if ahead > limits::FUTURE_REFUSED_MS {
        let text = format!(
            "time_ms is at most 24 hours ahead of the server; {time_ms} is {} hours ahead.",
            ahead / 3_600_000
        );
        return Err(Refusal::field(Reason::EventTimeInFuture, "time_ms", text));
    }
    Ok(time_ms)
}

pub(super) fn required<'a>(field: &str, bytes: &'a [u8]) -> Result<&'a str, Refusal> {
    if bytes.is_empty() {
        let text = if field == "properties" {
            "A property has no name.".to_owned()
        } else {
            format!("{field} is missing.")
        };
        return Err(Refusal::field(Reason::FieldMissing, field, text));
    }
    match plain(bytes, limits::ID_BYTES) {
        Some(text) => Ok(text),
        None => text(field, bytes, limits::ID_BYTES),
    }
}

/// The text, if it is as most are; else it has to be looked at more closely.
#[inline]
fn plain(bytes: &[u8], most: usize) -> Option<&str> {
    if bytes.len() <= most && is_plain(bytes) { std::str::from_utf8(bytes).ok() } else { None }
}

/// Whether all is ASCII and nothing is NUL, eight bytes at a time.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    // From a byte of 1 to 127, one can be taken without a borrow, and its highest bit stays 0.
    let strange = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word);
        (word | word.wrapping_sub(ONES)) & (ONES << 7)
    };
    match bytes.last_chunk() {
        None => bytes.iter().all(|byte| (1..0x80).contains(byte)),
        Some(last) => {
            bytes.as_chunks().0.iter().fold(strange(last), |found, word| found | strange(word)) == 0
        }
    }
}

/// Checks a text: length, UTF-8, no NUL.
pub(super) fn text<'a>(field: &str, bytes: &'a [u8], most: usize) -> Result<&'a str, Refusal> {
    if bytes.len() > most {
        let text = format!("{field} has at most {most} bytes; it has {}.", bytes.len());
        return Err(Refusal::field(Reason::TextTooLong, field, text));
    }
    let checked = std::str::from_utf8(bytes).map_err(|fault| {
        let text = format!("{field} is not UTF-8 from byte {} on.", fault.valid_up_to());
        Refusal::field(Reason::TextNotUtf8, field, text)
    })?;
    if checked.contains('\0') {
        return Err(Refusal::field(Reason::TextHasNul, field, format!("{field} holds a NUL character.")));
    }
    Ok(checked)
}
