//! Builds runs, each column where it stays and as narrow as it fits.

use std::ops::Range;

use crate::{
    loaded::ones,
    run::{Arena, Identities, KindColumn, Places, Run, TimeColumn, ValueColumn},
};

/// What a run is going to have at most, so that nothing has to be moved while it is built.
#[derive(Debug, Default)]
pub(crate) struct Room {
    events: usize,
    visitors: usize,
    visitor_bytes: usize,
    id_bytes: usize,
    /// The first and the last instant, in milliseconds since the Unix epoch; `None` when nothing is known.
    span_ms: Option<(i64, i64)>,
    /// Whether there are event names with codes of two bytes.
    wide_kinds: bool,
    /// Bytes of a code, by column.
    widths: Vec<usize>,
}

impl Room {
    /// Adds some visitors of a run.
    pub(crate) fn visitors(&mut self, run: &Run, visitors: Range<usize>) {
        let events = run.offsets[visitors.start] as usize..run.offsets[visitors.end] as usize;
        self.visitors += visitors.len();
        self.visitor_bytes += run.visitors.bytes_of(&visitors);
        self.id_bytes += run.identities.as_ref().map_or(0, |all| all.bytes_of(&events));
        self.events(events.len(), run.span_ms);
        self.wide_kinds |= matches!(run.kinds, KindColumn::U16(_));
        self.widths.resize(self.widths.len().max(run.columns.len()), 0);
        for (width, column) in self.widths.iter_mut().zip(&run.columns) {
            *width = column.width().max(*width);
        }
    }

    /// Adds the visitors of a run, but for some.
    pub(crate) fn run(&mut self, run: &Run, skip: &[u64]) {
        let mut start = 0;
        for skipped in ones(skip).chain([run.visitors.len()]) {
            if start < skipped {
                self.visitors(run, start..skipped);
            }
            start = skipped + 1;
        }
    }

    /// Adds events within a span.
    pub(crate) fn events(&mut self, events: usize, span_ms: (i64, i64)) {
        if events > 0 {
            let (from, until) = self.span_ms.unwrap_or(span_ms);
            self.span_ms = Some((from.min(span_ms.0), until.max(span_ms.1)));
            self.events += events;
        }
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
    kinds: KindColumn,
    times: TimeColumn,
    kind_sets: Vec<u64>,
    ties: Vec<u64>,
    columns: Vec<ValueColumn>,
    identities: Option<Identities>,
}

impl RunBuilder {
    /// A builder of runs with so many loaded columns; `identities` keeps event ids resident.
    #[must_use]
    pub(crate) fn new(columns: usize, identities: bool, room: &Room) -> RunBuilder {
        let Room { events, visitors, visitor_bytes, id_bytes, span_ms, wide_kinds, ref widths } = *room;
        let width = |column: usize| widths.get(column).copied().unwrap_or(0);
        let mut offsets = Vec::with_capacity(visitors + 1);
        offsets.push(0);
        RunBuilder {
            visitors: Arena::with_capacity(visitors, visitor_bytes),
            offsets,
            kinds: match wide_kinds {
                true => KindColumn::U16(Vec::with_capacity(events)),
                false => KindColumn::U8(Vec::with_capacity(events)),
            },
            times: match span_ms {
                Some((from_ms, until_ms)) if until_ms.abs_diff(from_ms) <= u64::from(u32::MAX) => {
                    TimeColumn::Narrow { epoch_ms: from_ms, since_epoch_ms: Vec::with_capacity(events) }
                }
                _ => TimeColumn::Wide(Vec::with_capacity(events)),
            },
            kind_sets: Vec::with_capacity(visitors),
            ties: Vec::with_capacity(events.div_ceil(64)),
            columns: (0..columns).map(|at| ValueColumn::with_capacity(events, width(at))).collect(),
            identities: identities.then(|| Identities::with_capacity(events, id_bytes)),
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
        self.kind_sets.push(match &self.kinds {
            KindColumn::U8(kinds) => kinds[start..].iter().fold(0, |set, kind| set | 1 << (kind & 63)),
            KindColumn::U16(kinds) => kinds[start..].iter().fold(0, |set, kind| set | 1 << (kind & 63)),
        });
        self.ties.resize(self.times.len().div_ceil(64), 0);
        match &self.times {
            TimeColumn::Narrow { since_epoch_ms, .. } => tie(&mut self.ties, start, &since_epoch_ms[start..]),
            TimeColumn::Wide(times) => tie(&mut self.ties, start, &times[start..]),
        }
    }

    /// Adds whole visitors of a run as they are there.
    pub(crate) fn copy(&mut self, run: &Run, visitors: Range<usize>) {
        let events = run.offsets[visitors.start] as usize..run.offsets[visitors.end] as usize;
        let (before, shift) = (self.times.len(), (self.times.len() as u32).wrapping_sub(events.start as u32));
        self.visitors.extend(&run.visitors, visitors.clone());
        let ends = &run.offsets[visitors.start + 1..=visitors.end];
        self.offsets.extend(ends.iter().map(|end| end.wrapping_add(shift)));
        self.kinds.extend(&run.kinds, &events);
        self.times.extend(&run.times, run.span_ms, &events);
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
    pub(crate) fn finish(mut self) -> Run {
        self.columns.iter_mut().for_each(ValueColumn::shrink);
        let kinds = match self.kinds {
            KindColumn::U16(kinds) if kinds.iter().all(|&kind| kind <= u16::from(u8::MAX)) => {
                KindColumn::U8(kinds.iter().map(|&kind| kind as u8).collect())
            }
            kinds => kinds,
        };
        let span = |times: &[i64]| {
            (times.iter().copied().min().unwrap_or(0), times.iter().copied().max().unwrap_or(0))
        };
        let (span_ms, times) = match self.times {
            TimeColumn::Narrow { epoch_ms, since_epoch_ms } => {
                let [least, most] = [since_epoch_ms.iter().min(), since_epoch_ms.iter().max()]
                    .map(|since| since.map_or(0, |&since| epoch_ms + i64::from(since)));
                ((least, most), TimeColumn::Narrow { epoch_ms, since_epoch_ms })
            }
            TimeColumn::Wide(times) => {
                let (least, most) = span(&times);
                let fits = most.abs_diff(least) <= u64::from(u32::MAX);
                let since = || times.iter().map(|time| time.abs_diff(least) as u32).collect();
                let narrow = fits.then(|| TimeColumn::Narrow { epoch_ms: least, since_epoch_ms: since() });
                ((least, most), narrow.unwrap_or(TimeColumn::Wide(times)))
            }
        };
        Run {
            places: Places::of(&self.visitors),
            visitors: self.visitors,
            offsets: self.offsets,
            kinds,
            times,
            span_ms,
            kind_sets: self.kind_sets,
            ties: self.ties,
            columns: self.columns,
            identities: self.identities,
        }
    }
}

/// Notes which of a visitor's events, the first at `start`, share their millisecond with the one before.
fn tie<T: PartialEq>(ties: &mut [u64], start: usize, times: &[T]) {
    for (event, pair) in (start + 1..).zip(times.windows(2)) {
        ties[event / 64] |= u64::from(pair[0] == pair[1]) << (event % 64);
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
            known in 0..50_usize,
        ) {
            let build = |identities: bool| RunBuilder::new(2, identities, &Room::default());
            let (mut source, mut plain) = (build(keeps), build(kept));
            visitors.iter().enumerate().for_each(|(at, events)| add(&mut source, at, events, true));
            let source = source.finish();
            let mut room = Room::default();
            if !visitors.is_empty() {
                room.visitors(&source, 0..known.min(visitors.len()));
            }
            let mut copied = RunBuilder::new(2, kept, &room);
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
            // Columns may be wider than they have to be, and times be of an earlier instant.
            let shown = |mut run: Run| {
                run.columns = run.columns.iter().map(|column| ValueColumn::new(column.codes())).collect();
                run.times = TimeColumn::Wide((0..run.events()).map(|event| run.time(event)).collect());
                format!("{run:?}")
            };
            let (copied, plain) = (copied.finish(), plain.finish());
            for at in 0..visitors.len() + 1 {
                let name = format!("{at:03}");
                let is_in = plain.offsets.len() > at + 1;
                prop_assert_eq!(copied.find(name.as_bytes()), is_in.then_some(at));
            }
            prop_assert_eq!(shown(copied), shown(plain));
        }
    }
}
