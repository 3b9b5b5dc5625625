//! A run: the journeys of some visitors of one shard as columns, immutable once built.

use std::{fmt, hash::BuildHasher, ops::Range};

use hashbrown::{DefaultHashBuilder, HashTable};
use runnel_kernel::{Kinds, Layout, Slice, SliceError, Times, Values};

/// Codes of event names, as narrow as they fit.
#[derive(Debug)]
pub enum KindColumn {
    /// At most 256 names.
    U8(Vec<u8>),
    /// At most 65,536 names.
    U16(Vec<u16>),
}

impl KindColumn {
    /// Makes room for every code.
    fn widen(&mut self) {
        if let KindColumn::U8(kinds) = self {
            *self = KindColumn::U16(kinds.iter().map(|&kind| u16::from(kind)).collect());
        }
    }

    /// Appends a code.
    #[inline]
    pub(crate) fn push(&mut self, kind: u16) {
        match self {
            KindColumn::U8(kinds) if kind <= u16::from(u8::MAX) => kinds.push(kind as u8),
            KindColumn::U16(kinds) => kinds.push(kind),
            KindColumn::U8(_) => {
                self.widen();
                self.push(kind);
            }
        }
    }

    /// Appends the codes of some events of another column.
    pub(crate) fn extend(&mut self, from: &KindColumn, events: &Range<usize>) {
        let range = events.clone();
        match (&mut *self, from) {
            (KindColumn::U8(to), KindColumn::U8(from)) => to.extend_from_slice(&from[range]),
            (KindColumn::U16(to), KindColumn::U16(from)) => to.extend_from_slice(&from[range]),
            (KindColumn::U16(to), KindColumn::U8(from)) => {
                to.extend(from[range].iter().map(|&kind| u16::from(kind)));
            }
            (KindColumn::U8(_), KindColumn::U16(_)) => {
                self.widen();
                self.extend(from, events);
            }
        }
    }
}

/// Event times, as narrow as they fit.
#[derive(Debug)]
pub enum TimeColumn {
    /// Milliseconds since an instant before all events of the run, which are within 49 days of it.
    Narrow {
        /// The instant, in milliseconds since the Unix epoch.
        epoch_ms: i64,
        /// Milliseconds since it.
        since_epoch_ms: Vec<u32>,
    },
    /// Milliseconds since the Unix epoch.
    Wide(Vec<i64>),
}

/// Value codes, as narrow as they fit.
#[derive(Debug)]
pub enum ValueColumn {
    /// Codes below 256.
    U8(Vec<u8>),
    /// Codes below 65,536.
    U16(Vec<u16>),
    /// Any codes.
    U32(Vec<u32>),
    /// Code 0 of so many events.
    Unset(usize),
}

impl TimeColumn {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        match self {
            TimeColumn::Narrow { since_epoch_ms, .. } => since_epoch_ms.len(),
            TimeColumn::Wide(times) => times.len(),
        }
    }

    /// Makes room for every instant.
    fn widen(&mut self) {
        if let TimeColumn::Narrow { epoch_ms, since_epoch_ms } = self {
            let epoch_ms = *epoch_ms;
            *self =
                TimeColumn::Wide(since_epoch_ms.iter().map(|&since| epoch_ms + i64::from(since)).collect());
        }
    }

    /// Appends an instant, in milliseconds since the Unix epoch.
    #[inline]
    pub(crate) fn push(&mut self, time_ms: i64) {
        match self {
            TimeColumn::Narrow { epoch_ms, since_epoch_ms } => {
                match time_ms.checked_sub(*epoch_ms).and_then(|since| u32::try_from(since).ok()) {
                    Some(since) => since_epoch_ms.push(since),
                    None => {
                        self.widen();
                        self.push(time_ms);
                    }
                }
            }
            TimeColumn::Wide(times) => times.push(time_ms),
        }
    }

    /// Appends the instants of some events of another column, of which the first and the last event lie where the span says.
    pub(crate) fn extend(&mut self, from: &TimeColumn, span_ms: (i64, i64), events: &Range<usize>) {
        let range = events.clone();
        let fits = match self {
            TimeColumn::Narrow { epoch_ms, .. } => {
                let last = epoch_ms.saturating_add(i64::from(u32::MAX));
                *epoch_ms <= span_ms.0 && span_ms.1 <= last
            }
            TimeColumn::Wide(_) => true,
        };
        match (&mut *self, from) {
            _ if !fits => {
                self.widen();
                self.extend(from, span_ms, events);
            }
            (
                TimeColumn::Narrow { epoch_ms, since_epoch_ms: to },
                TimeColumn::Narrow { epoch_ms: other_ms, since_epoch_ms: from },
            ) => {
                // Every event of the other column fits, so the sum does, whatever the difference is.
                let shift = other_ms.wrapping_sub(*epoch_ms) as u32;
                to.extend(from[range].iter().map(|&since| since.wrapping_add(shift)));
            }
            (TimeColumn::Narrow { epoch_ms, since_epoch_ms: to }, TimeColumn::Wide(from)) => {
                to.extend(from[range].iter().map(|time_ms| time_ms.wrapping_sub(*epoch_ms) as u32));
            }
            (TimeColumn::Wide(to), TimeColumn::Narrow { epoch_ms, since_epoch_ms: from }) => {
                to.extend(from[range].iter().map(|&since| epoch_ms + i64::from(since)));
            }
            (TimeColumn::Wide(to), TimeColumn::Wide(from)) => to.extend_from_slice(&from[range]),
        }
    }
}

impl ValueColumn {
    /// Codes as narrow as they fit.
    pub(crate) fn new(codes: Vec<u32>) -> ValueColumn {
        match codes.iter().copied().max().unwrap_or(0) {
            0 => ValueColumn::Unset(codes.len()),
            1..256 => ValueColumn::U8(codes.iter().map(|&code| code as u8).collect()),
            256..65_536 => ValueColumn::U16(codes.iter().map(|&code| code as u16).collect()),
            _ => ValueColumn::U32(codes),
        }
    }

    /// The codes as the kernel reads them.
    #[inline]
    #[must_use]
    pub fn values(&self) -> Values<'_> {
        match self {
            ValueColumn::U8(codes) => Values::U8(codes),
            ValueColumn::U16(codes) => Values::U16(codes),
            ValueColumn::U32(codes) => Values::U32(codes),
            ValueColumn::Unset(events) => Values::Unset(*events),
        }
    }

    /// No codes, with room for so many of so many bytes each.
    pub(crate) fn with_capacity(codes: usize, width: usize) -> ValueColumn {
        match width {
            0 => ValueColumn::Unset(0),
            1 => ValueColumn::U8(Vec::with_capacity(codes)),
            2 => ValueColumn::U16(Vec::with_capacity(codes)),
            _ => ValueColumn::U32(Vec::with_capacity(codes)),
        }
    }

    /// Gives back room that is not needed, which is there when a column was widened.
    pub(crate) fn shrink(&mut self) {
        match self {
            ValueColumn::U8(codes) => codes.shrink_to_fit(),
            ValueColumn::U16(codes) => codes.shrink_to_fit(),
            ValueColumn::U32(codes) => codes.shrink_to_fit(),
            ValueColumn::Unset(_) => {}
        }
    }

    /// Bytes of a code.
    pub(crate) fn width(&self) -> usize {
        match self {
            ValueColumn::U8(_) => 1,
            ValueColumn::U16(_) => 2,
            ValueColumn::U32(_) => 4,
            ValueColumn::Unset(_) => 0,
        }
    }

    /// Makes room for codes of so many bytes.
    fn widen(&mut self, width: usize) {
        if self.width() < width {
            let mut wide = ValueColumn::with_capacity(self.values().len(), width);
            wide.extend(self, &(0..self.values().len()));
            *self = wide;
        }
    }

    /// Appends a code.
    #[inline]
    pub(crate) fn push(&mut self, code: u32) {
        match self {
            ValueColumn::Unset(events) if code == 0 => *events += 1,
            ValueColumn::U8(codes) if code <= u32::from(u8::MAX) => codes.push(code as u8),
            ValueColumn::U16(codes) if code <= u32::from(u16::MAX) => codes.push(code as u16),
            ValueColumn::U32(codes) => codes.push(code),
            ValueColumn::Unset(_) | ValueColumn::U8(_) | ValueColumn::U16(_) => {
                self.widen(match code {
                    0..256 => 1,
                    256..65_536 => 2,
                    _ => 4,
                });
                self.push(code);
            }
        }
    }

    /// Appends the codes of some events of another column.
    pub(crate) fn extend(&mut self, from: &ValueColumn, events: &Range<usize>) {
        let range = events.clone();
        match (&mut *self, from) {
            (ValueColumn::Unset(to), ValueColumn::Unset(_)) => *to += range.len(),
            (ValueColumn::U8(to), ValueColumn::Unset(_)) => to.resize(to.len() + range.len(), 0),
            (ValueColumn::U16(to), ValueColumn::Unset(_)) => to.resize(to.len() + range.len(), 0),
            (ValueColumn::U32(to), ValueColumn::Unset(_)) => to.resize(to.len() + range.len(), 0),
            (ValueColumn::U8(to), ValueColumn::U8(from)) => to.extend_from_slice(&from[range]),
            (ValueColumn::U16(to), ValueColumn::U16(from)) => to.extend_from_slice(&from[range]),
            (ValueColumn::U16(to), ValueColumn::U8(from)) => {
                to.extend(from[range].iter().map(|&code| u16::from(code)));
            }
            (ValueColumn::U32(to), ValueColumn::U8(from)) => {
                to.extend(from[range].iter().map(|&code| u32::from(code)));
            }
            (ValueColumn::U32(to), ValueColumn::U16(from)) => {
                to.extend(from[range].iter().map(|&code| u32::from(code)));
            }
            (ValueColumn::U32(to), ValueColumn::U32(from)) => to.extend_from_slice(&from[range]),
            _ => {
                self.widen(from.width());
                self.extend(from, events);
            }
        }
    }

    /// All codes.
    pub(crate) fn codes(&self) -> Vec<u32> {
        match self {
            ValueColumn::U8(codes) => codes.iter().map(|&code| u32::from(code)).collect(),
            ValueColumn::U16(codes) => codes.iter().map(|&code| u32::from(code)).collect(),
            ValueColumn::U32(codes) => codes.clone(),
            ValueColumn::Unset(events) => vec![0; *events],
        }
    }

    fn bytes_held(&self) -> usize {
        self.width() * self.values().len()
    }
}

/// Byte strings one behind the other.
#[derive(Debug, Default)]
pub struct Arena {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Arena {
    /// None, with room for so many of so many bytes together.
    pub(crate) fn with_capacity(strings: usize, bytes: usize) -> Arena {
        Arena { bytes: Vec::with_capacity(bytes), ends: Vec::with_capacity(strings) }
    }

    /// Bytes of some of them.
    pub(crate) fn bytes_of(&self, range: &Range<usize>) -> usize {
        (self.start(range.end) - self.start(range.start)) as usize
    }

    /// Adds one.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len() as u32);
    }

    /// Adds some of another.
    pub(crate) fn extend(&mut self, from: &Arena, range: Range<usize>) {
        let (start, end) = (from.start(range.start), from.start(range.end));
        // Every end moves as far as the first start does.
        let shift = (self.bytes.len() as u32).wrapping_sub(start);
        self.bytes.extend_from_slice(&from.bytes[start as usize..end as usize]);
        self.ends.extend(from.ends[range].iter().map(|end| end.wrapping_add(shift)));
    }

    /// Where the one at a position begins.
    fn start(&self, at: usize) -> u32 {
        if at == 0 { 0 } else { self.ends[at - 1] }
    }

    /// The one at a position; empty when there is none.
    #[must_use]
    pub fn get(&self, at: usize) -> &[u8] {
        let Some(&end) = self.ends.get(at) else { return &[] };
        &self.bytes[self.start(at) as usize..end as usize]
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn bytes_held(&self) -> usize {
        self.bytes.len() + self.ends.len() * 4
    }
}

/// What orders events of one millisecond and tells copies apart. Events that came from blocks have an empty id: it is read from disk only when an event of the
/// same visitor and millisecond turns up.
#[derive(Debug, Default)]
pub struct Identities {
    ids: Arena,
    sequences: Vec<i64>,
}

impl Identities {
    /// None, with room for so many of so many bytes together.
    pub(crate) fn with_capacity(ids: usize, bytes: usize) -> Identities {
        Identities { ids: Arena::with_capacity(ids, bytes), sequences: Vec::new() }
    }

    /// Bytes of the ids of some events.
    pub(crate) fn bytes_of(&self, events: &Range<usize>) -> usize {
        self.ids.bytes_of(events)
    }

    /// Adds an event's id, empty when it is not resident, and its sequence.
    pub fn push(&mut self, id: &[u8], sequence: i64) {
        if sequence != 0 || !self.sequences.is_empty() {
            self.sequences.resize(self.ids.len(), 0);
            self.sequences.push(sequence);
        }
        self.ids.push(id);
    }

    /// Adds those of some events of a run, empty where they are not resident.
    pub(crate) fn extend(&mut self, from: Option<&Identities>, events: &Range<usize>) {
        let until = self.ids.len() + events.len();
        let sequences = from.map_or(&[][..], |from| &from.sequences);
        if !sequences.is_empty() || !self.sequences.is_empty() {
            self.sequences.resize(self.ids.len(), 0);
            self.sequences.extend_from_slice(sequences.get(events.clone()).unwrap_or_default());
            self.sequences.resize(until, 0);
        }
        match from {
            Some(from) => self.ids.extend(&from.ids, events.clone()),
            None => events.clone().for_each(|_| self.ids.push(&[])),
        }
    }

    /// An event's id, empty when it is not resident, and its sequence.
    #[must_use]
    pub fn get(&self, event: usize) -> (&[u8], i64) {
        (self.ids.get(event), self.sequences.get(event).copied().unwrap_or(0))
    }
}

/// Where each visitor is, by its id.
pub(crate) struct Places {
    hasher: DefaultHashBuilder,
    table: HashTable<u32>,
}

impl Places {
    pub(crate) fn of(visitors: &Arena) -> Places {
        let hasher = DefaultHashBuilder::default();
        let mut table = HashTable::with_capacity(visitors.len());
        for at in 0..visitors.len() {
            let hash = |at: &u32| hasher.hash_one(visitors.get(*at as usize));
            table.insert_unique(hasher.hash_one(visitors.get(at)), at as u32, hash);
        }
        Places { hasher, table }
    }

    fn find(&self, visitor: &[u8], visitors: &Arena) -> Option<usize> {
        let is_it = |at: &u32| visitors.get(*at as usize) == visitor;
        self.table.find(self.hasher.hash_one(visitor), is_it).map(|at| *at as usize)
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Places").field("visitors", &self.table.len()).finish_non_exhaustive()
    }
}

/// Journeys as columns, sorted by visitor; inside a visitor by (time, sequence, event id); every event once.
#[derive(Debug)]
pub struct Run {
    /// Visitor ids, ascending.
    pub visitors: Arena,
    pub(crate) places: Places,
    /// `visitors + 1` positions of events.
    pub offsets: Vec<u32>,
    /// Event names.
    pub kinds: KindColumn,
    /// Event times.
    pub times: TimeColumn,
    /// The first and the last instant, in milliseconds since 1970-01-01 UTC.
    pub span_ms: (i64, i64),
    /// Per visitor, bit `kind & 63` of every kind present.
    pub kind_sets: Vec<u64>,
    /// Bit per event: it shares its millisecond with the event before it, of the same visitor.
    pub ties: Vec<u64>,
    /// Value codes per event, one column a loaded one.
    pub columns: Vec<ValueColumn>,
    /// Resident identities, if any.
    pub identities: Option<Identities>,
}

impl Run {
    /// Number of events.
    #[must_use]
    pub fn events(&self) -> usize {
        self.offsets.last().map_or(0, |&end| end as usize)
    }

    /// Events of a visitor by position.
    #[must_use]
    pub fn range(&self, visitor: usize) -> Range<usize> {
        self.offsets[visitor] as usize..self.offsets[visitor + 1] as usize
    }

    /// The position of a visitor.
    #[must_use]
    pub fn find(&self, visitor: &[u8]) -> Option<usize> {
        self.places.find(visitor, &self.visitors)
    }

    /// The time of an event in milliseconds since the Unix epoch.
    #[inline]
    #[must_use]
    pub fn time(&self, event: usize) -> i64 {
        match &self.times {
            TimeColumn::Narrow { epoch_ms, since_epoch_ms } => epoch_ms + i64::from(since_epoch_ms[event]),
            TimeColumn::Wide(times) => times[event],
        }
    }

    /// The kind of an event.
    #[inline]
    #[must_use]
    pub fn kind(&self, event: usize) -> u16 {
        match &self.kinds {
            KindColumn::U8(kinds) => u16::from(kinds[event]),
            KindColumn::U16(kinds) => kinds[event],
        }
    }

    /// An event's id and sequence, if they are resident.
    #[must_use]
    pub fn identity(&self, event: usize) -> Option<(&[u8], i64)> {
        self.identities.as_ref().map(|all| all.get(event)).filter(|(id, _)| !id.is_empty())
    }

    /// The run as the kernel reads it. `skip` marks visitors that another run holds.
    pub fn slice<'a>(&'a self, skip: Option<&'a [u64]>) -> Result<Slice<'a>, SliceError> {
        Slice::new(Layout {
            offsets: &self.offsets,
            kinds: match &self.kinds {
                KindColumn::U8(kinds) => Kinds::U8(kinds),
                KindColumn::U16(kinds) => Kinds::U16(kinds),
            },
            times: match &self.times {
                TimeColumn::Narrow { epoch_ms, since_epoch_ms } => {
                    Times::Narrow { epoch_ms: *epoch_ms, since_epoch_ms }
                }
                TimeColumn::Wide(times) => Times::Wide(times),
            },
            span_ms: self.span_ms,
            kind_sets: &self.kind_sets,
            ties: &self.ties,
            skip,
        })
    }

    /// Bytes of kinds and times.
    #[must_use]
    pub fn event_bytes(&self) -> usize {
        let kinds = match &self.kinds {
            KindColumn::U8(kinds) => kinds.len(),
            KindColumn::U16(kinds) => kinds.len() * 2,
        };
        let times = match &self.times {
            TimeColumn::Narrow { since_epoch_ms, .. } => since_epoch_ms.len() * 4,
            TimeColumn::Wide(times) => times.len() * 8,
        };
        kinds + times
    }

    /// All bytes held.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.event_bytes()
            + self.visitors.bytes_held()
            + self.places.table.allocation_size()
            + self.offsets.len() * 4
            + self.kind_sets.len() * 8
            + self.ties.len() * 8
            + self.columns.iter().map(ValueColumn::bytes_held).sum::<usize>()
            + self.identities.as_ref().map_or(0, |all| all.ids.bytes_held() + all.sequences.len() * 8)
    }
}
