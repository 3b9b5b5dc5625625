//! A run: the journeys of some visitors of one shard as columns, immutable once built.

use std::ops::Range;

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

    /// No codes, with room for so many.
    fn with_capacity(codes: usize) -> ValueColumn {
        ValueColumn::U8(Vec::with_capacity(codes))
    }

    /// Makes room for codes up to this one.
    fn widen(&mut self, code: u32) {
        *self = match std::mem::replace(self, ValueColumn::U8(Vec::new())) {
            ValueColumn::U8(codes) if code > u32::from(u8::MAX) && code <= u32::from(u16::MAX) => {
                ValueColumn::U16(codes.into_iter().map(u16::from).collect())
            }
            ValueColumn::U8(codes) if code > u32::from(u16::MAX) => {
                ValueColumn::U32(codes.into_iter().map(u32::from).collect())
            }
            ValueColumn::U16(codes) if code > u32::from(u16::MAX) => {
                ValueColumn::U32(codes.into_iter().map(u32::from).collect())
            }
            wide => wide,
        };
    }

    /// Appends a code.
    #[inline]
    fn push(&mut self, code: u32) {
        match self {
            ValueColumn::U8(codes) if code <= u32::from(u8::MAX) => codes.push(code as u8),
            ValueColumn::U16(codes) if code <= u32::from(u16::MAX) => codes.push(code as u16),
            ValueColumn::U32(codes) => codes.push(code),
            ValueColumn::U8(_) | ValueColumn::U16(_) => {
                self.widen(code);
                self.push(code);
            }
        }
    }

    /// Appends the codes of some events of another column.
    fn extend(&mut self, from: &ValueColumn, events: &Range<usize>) {
        let range = events.clone();
        match (&mut *self, from) {
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
            (ValueColumn::U8(_), ValueColumn::U16(_)) => {
                self.widen(u32::from(u16::MAX));
                self.extend(from, events);
            }
            (ValueColumn::U8(_) | ValueColumn::U16(_), ValueColumn::U32(_)) => {
                self.widen(u32::MAX);
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

    /// Adds some of another.
    fn extend(&mut self, from: &Arena, range: Range<usize>) {
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
    /// Adds an event's id, empty when it is not resident, and its sequence.
    pub fn push(&mut self, id: &[u8], sequence: i64) {
        if sequence != 0 || !self.sequences.is_empty() {
            self.sequences.resize(self.ids.len(), 0);
            self.sequences.push(sequence);
        }
        self.ids.push(id);
    }

    /// Adds those of some events of a run, empty where they are not resident.
    fn extend(&mut self, from: Option<&Identities>, events: &Range<usize>) {
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
    pub fn range(&self, visitor: usize) -> Range<usize> {
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

/// Copies bits to where no bit is set yet, from a position on.
fn copy_bits(from: &[u64], range: &Range<usize>, to: &mut [u64], at: usize) {
    let word = |position: usize| {
        let (word, bit) = (position / 64, position % 64);
        let high = if bit == 0 { 0 } else { from.get(word + 1).map_or(0, |next| next << (64 - bit)) };
        from.get(word).map_or(0, |low| low >> bit) | high
    };
    for start in range.clone().step_by(64) {
        let left = range.end - start;
        let bits = if left < 64 { word(start) & ((1 << left) - 1) } else { word(start) };
        let position = at + (start - range.start);
        let (place, bit) = (position / 64, position % 64);
        to[place] |= bits << bit;
        if bit != 0 && bits >> (64 - bit) != 0 {
            to[place + 1] |= bits >> (64 - bit);
        }
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
    columns: Vec<ValueColumn>,
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
            columns: (0..columns).map(|_| ValueColumn::with_capacity(events)).collect(),
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

    /// Adds whole visitors of a run as they are there.
    pub(crate) fn copy(&mut self, run: &Run, visitors: Range<usize>) {
        let events = run.offsets[visitors.start] as usize..run.offsets[visitors.end] as usize;
        let (before, shift) = (self.times.len(), (self.times.len() as u32).wrapping_sub(events.start as u32));
        self.visitors.extend(&run.visitors, visitors.clone());
        let ends = &run.offsets[visitors.start + 1..=visitors.end];
        self.offsets.extend(ends.iter().map(|end| end.wrapping_add(shift)));
        match &run.kinds {
            KindColumn::U8(kinds) => {
                self.kinds.extend(kinds[events.clone()].iter().map(|&kind| u16::from(kind)));
            }
            KindColumn::U16(kinds) => self.kinds.extend_from_slice(&kinds[events.clone()]),
        }
        match &run.times {
            TimeColumn::Narrow { epoch_ms, since_epoch_ms } => {
                let since = since_epoch_ms[events.clone()].iter();
                self.times.extend(since.map(|&since| epoch_ms + i64::from(since)));
            }
            TimeColumn::Wide(times) => self.times.extend_from_slice(&times[events.clone()]),
        }
        self.kind_sets.extend_from_slice(&run.kind_sets[visitors]);
        self.ties.resize(self.times.len().div_ceil(64), 0);
        copy_bits(&run.ties, &events, &mut self.ties, before);
        for (to, from) in self.columns.iter_mut().zip(&run.columns) {
            to.extend(from, &events);
        }
        if let Some(identities) = &mut self.identities {
            identities.extend(run.identities.as_ref(), &events);
        }
    }

    /// How many visitors there are.
    pub(crate) fn visitors(&self) -> usize {
        self.visitors.len()
    }

    /// The run, with kinds and times as narrow as they fit.
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
            columns: self.columns,
            identities: self.identities,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// A visitor's events, each with time, kind, code, and id and sequence.
    type Events = Vec<(i64, u16, u32, String, i64)>;

    fn add(builder: &mut RunBuilder, at: usize, events: &Events, known: bool) {
        for (time_ms, kind, code, id, sequence) in events {
            let identity = if known { (id.as_bytes(), *sequence) } else { (&[][..], 0) };
            builder.event(*time_ms, *kind, [*code, 0].into_iter(), identity);
        }
        builder.visitor(format!("{at:03}").as_bytes());
    }

    /// Visitors whose kinds, codes, times and sequences are small, or large as well.
    fn visitors() -> impl Strategy<Value = Vec<Events>> {
        let most = any::<[bool; 4]>().prop_map(|[kinds, codes, times, sequences]| {
            let pick = |large: bool, most: [u64; 2]| most[usize::from(large)];
            (
                pick(kinds, [200, 60_000]) as u16,
                pick(codes, [200, 70_000]) as u32,
                pick(times, [1_000, 1 << 40]) as i64,
                pick(sequences, [1, 1_000]) as i64,
            )
        });
        most.prop_flat_map(|(kinds, codes, times, sequences)| {
            let event = (prop_oneof![Just(0), 0..times], 0..kinds, 0..codes, "[0-9]{0,2}", 0..sequences);
            let after = |events: Events| {
                let time = |now_ms: &mut i64, (after_ms, kind, code, id, sequence)| {
                    *now_ms += after_ms;
                    Some((*now_ms, kind, code, id, sequence))
                };
                events.into_iter().scan(-500, time).collect::<Events>()
            };
            vec(vec(event, 0..9).prop_map(after), 0..40)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn whole_visitors_are_copied_as_they_would_be_built(
            visitors in visitors(),
            (keeps, kept) in any::<(bool, bool)>(),
            steps in vec((1..10_usize, any::<bool>()), 40),
        ) {
            let build = |identities: bool| RunBuilder::new(2, identities, 0);
            let (mut source, mut plain, mut copied) = (build(keeps), build(kept), build(kept));
            visitors.iter().enumerate().for_each(|(at, events)| add(&mut source, at, events, true));
            let source = source.finish();
            let mut start = 0;
            for (length, copies) in steps {
                let end = (start + length).min(visitors.len());
                if copies && start < end {
                    copied.copy(&source, start..end);
                }
                for (at, events) in visitors.iter().enumerate().take(end).skip(start) {
                    add(&mut plain, at, events, keeps);
                    if !copies {
                        add(&mut copied, at, events, keeps);
                    }
                }
                start = end;
            }
            // Columns may be wider than they have to be.
            let shown = |mut run: Run| {
                run.columns = run.columns.iter().map(|column| ValueColumn::new(column.codes())).collect();
                format!("{run:?}")
            };
            prop_assert_eq!(shown(copied.finish()), shown(plain.finish()));
        }
    }
}
