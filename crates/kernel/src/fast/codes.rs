//! Which step an event serves, as one byte.

use std::borrow::Cow;

use crate::plan::Plan;
use crate::slice::{Columns, Kinds, Slice, bit, words};

/// The code, in a column, of an event that matches several steps.
const SEVERAL: u8 = u8::MAX;

/// The bytes in which the events of a slice tell which step they serve: the kinds themselves if they are bytes and no
/// rule looks at properties, otherwise step codes (0 for no step, or step + 1).
pub(super) struct Codes<'a> {
    /// One byte per event.
    pub(super) column: Cow<'a, [u8]>,
    /// Per byte the step code.
    pub(super) table: [u8; 256],
    /// Per step the byte that stands for it.
    pub(super) bytes: Vec<u8>,
    /// Per step the bits of a visitor's kind set that show that it may have the step.
    sets: Vec<u64>,
    /// Bit per visitor: one of its events matches several steps.
    overlaps: Vec<u64>,
}

impl<'a> Codes<'a> {
    /// `None` if every event of some kind matches two steps, or any event does: then the general engine is the one to ask.
    pub(super) fn new(plan: &Plan, slice: &Slice<'a>, columns: &Columns<'_>) -> Option<Self> {
        let matcher = &plan.matcher;
        if matcher.of_any().always != 0 {
            return None;
        }
        let highest = matcher.kinds().max().unwrap_or(0);
        let mut all = vec![0; (usize::from(highest) + 2).max(256)];
        let mut sets = vec![0u64; plan.question.steps.len()];
        let mut conditional = Vec::new();
        for kind in matcher.kinds() {
            let masks = matcher.of_kind(kind);
            if masks.always.count_ones() > 1 {
                return None;
            }
            if masks.always != 0 {
                all[usize::from(kind)] = masks.always.trailing_zeros() as u8 + 1;
            }
            conditional
                .extend(masks.conditional.iter().map(|(predicate, bits)| (Some(kind), *predicate, *bits)));
            let steps = masks.conditional.iter().fold(masks.always, |steps, (_, bits)| steps | bits);
            for (step, set) in sets.iter_mut().enumerate() {
                *set |= (steps >> step & 1) << (kind & 63);
            }
        }
        let any = &matcher.of_any().conditional;
        conditional.extend(any.iter().map(|(predicate, bits)| (None, *predicate, *bits)));
        any.iter().for_each(|(_, bits)| {
            (0..sets.len()).filter(|step| bits >> step & 1 != 0).for_each(|step| sets[step] = u64::MAX);
        });
        let steps = plan.question.steps.len();
        // One byte must stand for each step, and one only: the kind itself, if that is so, otherwise a step code.
        let byte_of = |step: usize| {
            let mut kinds = (0..256).filter(|kind| usize::from(all[*kind]) == step + 1);
            kinds.next().filter(|_| kinds.next().is_none()).map(|kind| kind as u8)
        };
        let bytes: Option<Vec<u8>> = (0..steps).map(byte_of).collect();
        let (column, table, bytes) = match (slice.layout().kinds, bytes) {
            (Kinds::U8(kinds), Some(bytes)) if conditional.is_empty() => {
                (Cow::Borrowed(kinds), std::array::from_fn(|byte| all[byte]), bytes)
            }
            (kinds, _) => {
                let column = match kinds {
                    Kinds::U8(kinds) => look_up(&all, kinds, columns, &conditional),
                    Kinds::U16(kinds) => look_up(&all, kinds, columns, &conditional),
                };
                // Visitors with an event that matches several steps are not scanned, so that code is never read.
                let own = |code| if code <= steps { code as u8 } else { 0 };
                (Cow::Owned(column), std::array::from_fn(own), (1..).take(steps).collect())
            }
        };
        let overlaps = if conditional.is_empty() { Vec::new() } else { overlaps(slice, &column) };
        Some(Self { column, table, bytes, sets, overlaps })
    }

    #[inline(always)]
    pub(super) fn overlapping(&self, visitor: usize) -> bool {
        bit(&self.overlaps, visitor)
    }
}

/// Codes per event. Each conditional rule is one branch-free pass over the kinds and one bit column.
fn look_up<K: Copy + Into<u16>>(
    table: &[u8],
    kinds: &[K],
    columns: &Columns<'_>,
    conditional: &[(Option<u16>, u16, u64)],
) -> Vec<u8> {
    let last = table.len() - 1;
    let code = |kind: &K| table[usize::from((*kind).into()).min(last)];
    let mut column: Vec<u8> = kinds.iter().map(code).collect();
    for (only, predicate, bits) in conditional {
        let holds = columns.predicates.get(usize::from(*predicate)).copied().unwrap_or_default();
        let step = bits.trailing_zeros() as u8 + 1;
        for ((codes, kinds), word) in column.chunks_mut(64).zip(kinds.chunks(64)).zip(holds) {
            for (at, (code, kind)) in codes.iter_mut().zip(kinds).enumerate() {
                let matched = only.is_none_or(|only| (*kind).into() == only) & (word >> at & 1 != 0);
                let taken = (*code != 0) & (*code != step);
                *code = match (matched, taken) {
                    (true, true) => SEVERAL,
                    (true, false) => step,
                    (false, _) => *code,
                };
            }
        }
    }
    column
}

/// A bit per visitor that has an event that matches several steps.
fn overlaps(slice: &Slice<'_>, column: &[u8]) -> Vec<u64> {
    let mut overlaps = vec![0; words(slice.visitors())];
    for visitor in 0..slice.visitors() {
        let overlapping = column[slice.range(visitor)].contains(&SEVERAL);
        overlaps[visitor >> 6] |= u64::from(overlapping) << (visitor & 63);
    }
    overlaps
}

/// Visitors whose kinds are looked at together.
pub(super) const BLOCK: usize = 256;

/// Scratch memory for one block of visitors.
pub(super) struct Reachable {
    caps: [u64; BLOCK],
    list: [(usize, usize); BLOCK],
}

impl Reachable {
    pub(super) fn new() -> Self {
        Self { caps: [0; BLOCK], list: [(0, 0); BLOCK] }
    }

    /// The visitors with these kind sets, numbered from `first`, that can reach level 1, and the highest level each can.
    pub(super) fn list(
        &mut self,
        codes: &Codes<'_>,
        sets: &[u64],
        first: usize,
    ) -> impl Iterator<Item = (usize, usize)> {
        self.caps = [0; BLOCK];
        for (level, step) in (0..).zip(&codes.sets) {
            for (cap, set) in self.caps.iter_mut().zip(sets) {
                // Only who can reach the level before can reach this one.
                *cap += u64::from(set & step != 0) & u64::from(*cap == level);
            }
        }
        let mut count = 0;
        for (visitor, cap) in (first..).zip(&self.caps).take(sets.len()) {
            self.list[count % BLOCK] = (visitor, *cap as usize);
            count += usize::from(*cap != 0);
        }
        self.list[..count].iter().copied()
    }
}
