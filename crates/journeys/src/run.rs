//! A run: the journeys of some visitors of one shard as columns, immutable once built.

use runnel_kernel::{Kinds, Layout, Slice, SliceError, Times, Values};

/// Codes of event names, as narrow as they fit.
#[derive(Debug)]
pub enum KindColumn {
    /// At most 256 names.
    U8(Vec<u8>),
    /// At most 65,536 names.
    U16(Vec<u16>),
}

/// Event times, as narrow as they fit.
#[derive(Debug)]
pub enum TimeColumn {
    /// Milliseconds since the earliest event of the run, which spans less than 49 days.
    Narrow {
        /// The earliest event, in milliseconds since the Unix epoch.
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
}

impl ValueColumn {
    /// Codes as narrow as they fit.
    pub(crate) fn new(codes: Vec<u32>) -> ValueColumn {
        match codes.iter().copied().max().unwrap_or(0) {
            0..256 => ValueColumn::U8(codes.iter().map(|&code| code as u8).collect()),
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
        }
    }

    fn bytes_held(&self) -> usize {
        match self {
            ValueColumn::U8(codes) => codes.len(),
            ValueColumn::U16(codes) => codes.len() * 2,
            ValueColumn::U32(codes) => codes.len() * 4,
        }
    }
}

/// Byte strings one behind the other.
#[derive(Debug, Default)]
pub struct Arena {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Arena {
    /// Adds one.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len() as u32);
    }

    /// The one at a position; empty when there is none.
    #[must_use]
    pub fn get(&self, at: usize) -> &[u8] {
        let Some(&end) = self.ends.get(at) else { return &[] };
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start as usize..end as usize]
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
    /// Adds an event's id, empty when it is not resident, and its sequence.
    pub fn push(&mut self, id: &[u8], sequence: i64) {
        if sequence != 0 || !self.sequences.is_empty() {
            self.sequences.resize(self.ids.len(), 0);
            self.sequences.push(sequence);
        }
        self.ids.push(id);
    }

    /// An event's id, empty when it is not resident, and its sequence.
    #[must_use]
    pub fn get(&self, event: usize) -> (&[u8], i64) {
        (self.ids.get(event), self.sequences.get(event).copied().unwrap_or(0))
    }
}

/// Journeys as columns, sorted by visitor; inside a visitor by (time, sequence, event id); every event once.
#[derive(Debug)]
pub struct Run {
    /// Visitor ids, ascending.
    pub visitors: Arena,
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
    pub fn range(&self, visitor: usize) -> std::ops::Range<usize> {
        self.offsets[visitor] as usize..self.offsets[visitor + 1] as usize
    }

    /// The position of a visitor.
    #[must_use]
    pub fn find(&self, visitor: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.visitors.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.visitors.get(middle).cmp(visitor) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(middle),
            }
        }
        None
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
            + self.offsets.len() * 4
            + self.kind_sets.len() * 8
            + self.ties.len() * 8
            + self.columns.iter().map(ValueColumn::bytes_held).sum::<usize>()
            + self.identities.as_ref().map_or(0, |all| all.ids.bytes_held() + all.sequences.len() * 8)
    }
}

/// Builds a run visitor by visitor, in ascending order of visitors and canonical order of events.
#[derive(Debug)]
pub(crate) struct RunBuilder {
    visitors: Arena,
    offsets: Vec<u32>,
    kinds: Vec<u16>,
    times: Vec<i64>,
    kind_sets: Vec<u64>,
    ties: Vec<u64>,
    columns: Vec<Vec<u32>>,
    identities: Option<Identities>,
}

impl RunBuilder {
    /// A builder of runs with so many loaded columns; `identities` keeps event ids resident.
    #[must_use]
    pub(crate) fn new(columns: usize, identities: bool, events: usize) -> RunBuilder {
        RunBuilder {
            visitors: Arena::default(),
            offsets: vec![0],
            kinds: Vec::with_capacity(events),
            times: Vec::with_capacity(events),
            kind_sets: Vec::new(),
            ties: Vec::new(),
            columns: (0..columns).map(|_| Vec::with_capacity(events)).collect(),
            identities: identities.then(Identities::default),
        }
    }

    /// Adds an event to the visitor that is being built.
    #[inline]
    pub(crate) fn event(
        &mut self,
        time_ms: i64,
        kind: u16,
        codes: impl Iterator<Item = u32>,
        identity: (&[u8], i64),
    ) {
        self.times.push(time_ms);
        self.kinds.push(kind);
        for (column, code) in self.columns.iter_mut().zip(codes) {
            column.push(code);
        }
        if let Some(identities) = &mut self.identities {
            identities.push(identity.0, identity.1);
        }
    }

    /// Ends a visitor: the events since the last end are theirs.
    pub(crate) fn visitor(&mut self, visitor: &[u8]) {
        let start = *self.offsets.last().unwrap_or(&0) as usize;
        self.visitors.push(visitor);
        self.offsets.push(self.times.len() as u32);
        self.kind_sets.push(self.kinds[start..].iter().fold(0, |set, kind| set | 1 << (kind & 63)));
        self.ties.resize(self.times.len().div_ceil(64), 0);
        for (event, pair) in (start + 1..).zip(self.times[start..].windows(2)) {
            self.ties[event / 64] |= u64::from(pair[0] == pair[1]) << (event % 64);
        }
    }

    /// The run, with columns as narrow as they fit.
    #[must_use]
    pub(crate) fn finish(self) -> Run {
        let kinds = if self.kinds.iter().all(|&kind| kind < 256) {
            KindColumn::U8(self.kinds.iter().map(|&kind| kind as u8).collect())
        } else {
            KindColumn::U16(self.kinds)
        };
        let least = self.times.iter().copied().min().unwrap_or(0);
        let most = self.times.iter().copied().max().unwrap_or(0);
        let times = if most.abs_diff(least) <= u64::from(u32::MAX) {
            let since = self.times.iter().map(|time| time.abs_diff(least) as u32).collect();
            TimeColumn::Narrow { epoch_ms: least, since_epoch_ms: since }
        } else {
            TimeColumn::Wide(self.times)
        };
        Run {
            visitors: self.visitors,
            offsets: self.offsets,
            kinds,
            times,
            span_ms: (least, most),
            kind_sets: self.kind_sets,
            ties: self.ties,
            columns: self.columns.into_iter().map(ValueColumn::new).collect(),
            identities: self.identities,
        }
    }
}
