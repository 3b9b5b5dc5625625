//! Which step each event serves, as one bit column per step.
//!
//! The columns are made by comparing the kinds with those of the steps, 64 at a time, and by the bit columns of the
//! predicates; [`super::ties`] then brings simultaneous events into order in them. A visitor's part of a column is
//! a word that [`word_at`] cuts out.

use std::ops::Range;

use super::places;
use super::ties::Ties;
use crate::plan::Plan;
use crate::question::Tie;
use crate::simd::{Simd, WIDTH};
use crate::slice::{Columns, Kinds, Slice, bit, words};

/// Most events of a visitor that [`word_at`] can cut out: a word less the bits of the byte that its first event shares.
pub(super) const MOST_EVENTS: usize = 57;

/// Bytes behind the last byte of a column that holds an event, so that a word can be read from any.
const BEHIND: usize = 16;

/// Words of a column that are made together.
const BLOCK: usize = 64;

/// Which events serve which step, for a plan by which no event of a kind serves two whatever its properties.
pub(super) struct Rules {
    steps: usize,
    alternatives: Vec<Alternative>,
    /// Bits of a visitor's kind set one of which is set if it has an entry.
    pub(super) entry_kinds: u64,
    /// Whether a chain can take one event of an instant only.
    strict: bool,
    /// Whether the question tells apart which event serves a step.
    told: bool,
}

/// One way to serve a step: by the kind, if one is named, and a predicate, likewise.
struct Alternative {
    step: usize,
    kind: Option<u16>,
    predicate: Option<u16>,
}

impl Rules {
    /// `None` if every event of some kind matches two steps, or any event does: then the general engine is the one to ask.
    pub(super) fn new(plan: &Plan) -> Option<Self> {
        let matcher = &plan.matcher;
        if matcher.of_any().always != 0 {
            return None;
        }
        let steps = plan.required_steps();
        let mut alternatives = Vec::new();
        let mut add = |mask: u64, kind, predicate| {
            alternatives.extend(places(mask).map(|step| Alternative { step, kind, predicate }));
        };
        for kind in matcher.kinds() {
            let masks = matcher.of_kind(kind);
            if masks.always.count_ones() > 1 {
                return None;
            }
            add(masks.always, Some(kind), None);
            masks.conditional.iter().for_each(|(predicate, bits)| add(*bits, Some(kind), Some(*predicate)));
        }
        matcher.of_any().conditional.iter().for_each(|(predicate, bits)| add(*bits, None, Some(*predicate)));
        let strict = plan.question().tie == Tie::StrictlyAfter;
        let told = plan.question().break_down.is_some();
        Some(Self { steps, alternatives, entry_kinds: matcher.kind_set(1), strict, told })
    }
}

/// The bit columns of a slice.
pub(super) struct Marks<'a> {
    /// Per step a bit per event, in the order in which the events of an instant are taken.
    columns: Vec<Vec<u8>>,
    /// How that differs from the order of the slice.
    ties: Ties<'a>,
    /// A bit per visitor that has an event that serves several steps; no word if no visitor has.
    overlaps: Vec<u64>,
}

impl<'a> Marks<'a> {
    /// Columns must fit the slice.
    #[inline(always)]
    pub(super) fn new(simd: impl Simd, rules: &Rules, slice: &Slice<'a>, columns: &Columns<'_>) -> Self {
        let mut marks = vec![vec![0; words(slice.events()) * 8 + BEHIND]; rules.steps];
        match slice.layout().kinds {
            Kinds::U8(kinds) => mark(simd, rules, kinds, columns, &mut marks),
            Kinds::U16(kinds) => mark(simd, rules, kinds, columns, &mut marks),
        }
        let overlaps = if rules.alternatives.iter().any(|alternative| alternative.predicate.is_some()) {
            overlaps(slice, &marks)
        } else {
            Vec::new()
        };
        let (ties, _) = slice.layout().ties.split_at(words(slice.events()));
        let ties = Ties::resolve(&mut marks, ties, rules.strict, rules.told);
        Self { columns: marks, ties, overlaps }
    }

    /// Leaves only events that are seen. Of an instant all are, or none.
    pub(super) fn see(&mut self, seen: &[u64]) {
        self.columns.iter_mut().for_each(|column| leave(column, seen.iter().copied()));
    }

    /// Leaves only entries of some events. Of an instant all are, or none.
    pub(super) fn enter(&mut self, events: impl Iterator<Item = u64>) {
        if let Some(entries) = self.columns.first_mut() {
            leave(entries, events);
        }
    }

    /// The event, in the slice, at a place.
    #[inline(always)]
    pub(super) fn event_at(&self, place: u32) -> usize {
        if self.ties.near(place) { self.ties.event_at(place) } else { place as usize }
    }

    /// The first event, in the slice, of those that are entries at the instant of the one at a place.
    #[inline(always)]
    pub(super) fn entry_at(&self, place: u32) -> usize {
        if self.ties.near(place) {
            self.ties.event_at(self.ties.first_alike(self.column(0), place))
        } else {
            place as usize
        }
    }

    /// The column of a step; empty for a step that does not exist.
    #[inline(always)]
    pub(super) fn column(&self, step: usize) -> &[u8] {
        self.columns.get(step).map_or(&[], Vec::as_slice)
    }

    /// Bits of 64 visitors, the first of which is number `64 * word`: those that have an event that serves several steps.
    #[inline(always)]
    pub(super) fn overlapping(&self, word: usize) -> u64 {
        self.overlaps.get(word).copied().unwrap_or(0)
    }

    /// Puts a step code per event into `codes`: 0 if it serves no step, otherwise the number of the step plus 1.
    pub(super) fn codes(&self, events: Range<usize>, codes: &mut Vec<u8>) {
        codes.clear();
        codes.resize(events.len(), 0);
        for (column, code) in self.columns.iter().zip(1..) {
            for at in (0..codes.len()).step_by(MOST_EVENTS) {
                let count = MOST_EVENTS.min(codes.len() - at);
                let marks = word_at(column, events.start + at) & (u64::MAX >> (64 - count));
                places(marks).for_each(|place| codes[at + place] = code);
            }
        }
    }
}

/// [`MOST_EVENTS`] bits of a column from an event on, and then others.
#[inline(always)]
pub(super) fn word_at(column: &[u8], event: usize) -> u64 {
    let bytes = column.get(event >> 3..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes)) >> (event & 7)
}

/// The first of some events whose bit in a column is set.
#[inline(always)]
pub(super) fn next(column: &[u8], events: Range<usize>) -> Option<usize> {
    let (words, _) = column.as_chunks::<8>();
    let mut above = u64::MAX << (events.start & 63);
    for at in events.start >> 6..events.end.div_ceil(64) {
        let word = words.get(at).map_or(0, |word| u64::from_le_bytes(*word));
        let word = word & std::mem::replace(&mut above, u64::MAX);
        if word != 0 {
            return Some(at << 6 | word.trailing_zeros() as usize).filter(|event| *event < events.end);
        }
    }
    None
}

/// The last of some events whose bit in a column is set.
#[inline(always)]
pub(super) fn last(column: &[u8], events: Range<usize>) -> Option<usize> {
    let (words, _) = column.as_chunks::<8>();
    let mut below = u64::MAX >> (events.end.wrapping_neg() & 63);
    for at in (events.start >> 6..events.end.div_ceil(64)).rev() {
        let word = words.get(at).map_or(0, |word| u64::from_le_bytes(*word));
        let word = word & std::mem::replace(&mut below, u64::MAX);
        if word != 0 {
            return Some(at << 6 | word.ilog2() as usize).filter(|event| *event >= events.start);
        }
    }
    None
}

/// A stored kind.
trait Kind: Copy + Default + TryFrom<u16> {
    /// The places of the kinds that equal `kind`, as bits.
    fn equal(simd: impl Simd, kinds: &[Self; WIDTH], kind: Self) -> u64;
}

impl Kind for u8 {
    #[inline(always)]
    fn equal(simd: impl Simd, kinds: &[Self; WIDTH], kind: Self) -> u64 {
        simd.equal(kinds, kind)
    }
}

impl Kind for u16 {
    #[inline(always)]
    fn equal(simd: impl Simd, kinds: &[Self; WIDTH], kind: Self) -> u64 {
        simd.equal(&kinds.map(|other| u8::from(other == kind)), 1)
    }
}

/// Sets the bits of the events that serve the steps.
#[inline(always)]
fn mark<K: Kind>(simd: impl Simd, rules: &Rules, kinds: &[K], columns: &Columns<'_>, marks: &mut [Vec<u8>]) {
    let (whole, rest) = kinds.as_chunks::<WIDTH>();
    let mut last = [K::default(); WIDTH];
    last.iter_mut().zip(rest).for_each(|(last, kind)| *last = *kind);
    // A block at a time, so that its kinds are still at hand for the next step.
    for block in (0..words(kinds.len())).step_by(BLOCK) {
        let whole = whole.get(block..).unwrap_or_default();
        let chunks = &whole[..whole.len().min(BLOCK)];
        let last = std::slice::from_ref(&last);
        let last = if chunks.len() < BLOCK && !rest.is_empty() { last } else { &[] };
        for Alternative { step, kind, predicate } in &rules.alternatives {
            let (marks, _) = marks[*step][block * 8..].as_chunks_mut::<8>();
            let holds = predicate.map(|predicate| &columns.predicates[usize::from(predicate)][block..]);
            let kind = kind.map(K::try_from);
            let chunks = chunks.iter().chain(last);
            match (kind, holds) {
                (Some(Err(_)), _) => {}
                (Some(Ok(kind)), None) => set(marks, chunks.map(|kinds| K::equal(simd, kinds, kind))),
                (Some(Ok(kind)), Some(holds)) => {
                    let both = |(kinds, holds): (_, &u64)| K::equal(simd, kinds, kind) & holds;
                    set(marks, chunks.zip(holds).map(both));
                }
                (None, Some(holds)) => set(marks, chunks.zip(holds).map(|(_, holds)| *holds)),
                (None, None) => set(marks, chunks.map(|_| u64::MAX)),
            }
        }
    }
    if !rest.is_empty() {
        for marks in marks {
            let (words, _) = marks.as_chunks_mut::<8>();
            let word = &mut words[kinds.len() / WIDTH];
            *word = (u64::from_le_bytes(*word) & (u64::MAX >> (WIDTH - rest.len()))).to_le_bytes();
        }
    }
}

/// Sets bits, word by word.
#[inline(always)]
fn set(marks: &mut [[u8; 8]], bits: impl Iterator<Item = u64>) {
    for (marks, bits) in marks.iter_mut().zip(bits) {
        *marks = (u64::from_le_bytes(*marks) | bits).to_le_bytes();
    }
}

/// Leaves only bits of a column that are set in some words.
fn leave(column: &mut [u8], words: impl Iterator<Item = u64>) {
    for (bytes, word) in column.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *bytes = (u64::from_le_bytes(*bytes) & word).to_le_bytes();
    }
}

/// A bit per visitor that has an event that serves several steps; no word if no visitor has.
fn overlaps(slice: &Slice<'_>, marks: &[Vec<u8>]) -> Vec<u64> {
    let mut served = vec![0; marks.first().map_or(0, Vec::len)];
    let mut several = vec![0; words(slice.events())];
    for marks in marks {
        for ((served, marks), several) in served.chunks_exact(8).zip(marks.chunks_exact(8)).zip(&mut several)
        {
            let both: [u8; 8] = std::array::from_fn(|at| served[at] & marks[at]);
            *several |= u64::from_le_bytes(both);
        }
        served.iter_mut().zip(marks).for_each(|(served, marks)| *served |= marks);
    }
    if several.iter().all(|word| *word == 0) {
        return Vec::new();
    }
    let mut overlaps = vec![0; words(slice.visitors())];
    for visitor in 0..slice.visitors() {
        let overlapping = slice.range(visitor).any(|event| bit(&several, event));
        overlaps[visitor >> 6] |= u64::from(overlapping) << (visitor & 63);
    }
    overlaps
}
