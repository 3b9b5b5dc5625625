//! Which step an event serves, as one byte.

use crate::plan::Plan;
use crate::slice::{Columns, Kinds, Slice, bit, words};

/// The code, in a column, of an event that matches several steps.
const SEVERAL: u8 = u8::MAX;

/// Step codes: 0 for an event that serves no step, otherwise step + 1.
pub(super) struct Table {
    /// Codes of kinds below 256, or of the entries of a column.
    low: [u8; 256],
    /// Codes of all kinds, the last entry standing for every kind beyond.
    all: Vec<u8>,
}

impl Table {
    /// Code of an event by its kind, or by its entry in a column.
    #[inline(always)]
    pub(super) fn code<K: Kind>(&self, kind: K) -> usize {
        usize::from(kind.code(self))
    }
}

/// A column of kinds, or of step codes.
pub(super) trait Kind: Copy {
    fn index(self) -> usize;
    fn code(self, table: &Table) -> u8;
}

impl Kind for u8 {
    #[inline(always)]
    fn index(self) -> usize {
        usize::from(self)
    }

    #[inline(always)]
    fn code(self, table: &Table) -> u8 {
        table.low[usize::from(self)]
    }
}

impl Kind for u16 {
    #[inline(always)]
    fn index(self) -> usize {
        usize::from(self)
    }

    #[inline(always)]
    fn code(self, table: &Table) -> u8 {
        let last = table.all.len() - 1;
        table.all[usize::from(self).min(last)]
    }
}

/// The step codes of a plan's events.
pub(super) struct Codes {
    /// Code per kind or, if there is a column, per entry of the column.
    pub(super) table: Table,
    /// Codes per event, where rules look at properties.
    pub(super) column: Option<Vec<u8>>,
    /// Per step the bits of a visitor's kind set that show that it may have the step.
    sets: Vec<u64>,
    /// Bit per visitor: one of its events matches several steps.
    overlaps: Vec<u64>,
}

impl Codes {
    /// `None` if every event of some kind matches two steps, or any event does: then the general engine is the one to ask.
    pub(super) fn new(plan: &Plan, slice: &Slice<'_>, columns: &Columns<'_>) -> Option<Self> {
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
        let mut low = [0; 256];
        low.copy_from_slice(&all[..256]);
        let mut codes = Self { table: Table { low, all }, column: None, sets, overlaps: Vec::new() };
        if !conditional.is_empty() {
            let column = match slice.layout().kinds {
                Kinds::U8(kinds) => codes.look_up(kinds, columns, &conditional),
                Kinds::U16(kinds) => codes.look_up(kinds, columns, &conditional),
            };
            codes.find_overlaps(slice, &column);
            // Visitors with an event that matches several steps are not scanned, so such codes are never read.
            codes.table.low = std::array::from_fn(|code| if code <= 32 { code as u8 } else { 0 });
            codes.column = Some(column);
        }
        Some(codes)
    }

    /// The highest level that a visitor with these kinds can reach.
    #[inline(always)]
    pub(super) fn reachable(&self, kind_set: u64) -> usize {
        let mut present = 0u64;
        for set in self.sets.iter().rev() {
            present = present << 1 | u64::from(kind_set & set != 0);
        }
        present.trailing_ones() as usize
    }

    #[inline(always)]
    pub(super) fn overlapping(&self, visitor: usize) -> bool {
        bit(&self.overlaps, visitor)
    }

    /// Codes per event. Each conditional rule is one branch-free pass over the kinds and one bit column.
    fn look_up<K: Kind>(
        &self,
        kinds: &[K],
        columns: &Columns<'_>,
        conditional: &[(Option<u16>, u16, u64)],
    ) -> Vec<u8> {
        let mut column: Vec<u8> = kinds.iter().map(|kind| kind.code(&self.table)).collect();
        for (only, predicate, bits) in conditional {
            let holds = columns.predicates.get(usize::from(*predicate)).copied().unwrap_or_default();
            let step = bits.trailing_zeros() as u8 + 1;
            for ((codes, kinds), word) in column.chunks_mut(64).zip(kinds.chunks(64)).zip(holds) {
                for (at, (code, kind)) in codes.iter_mut().zip(kinds).enumerate() {
                    let matched =
                        only.is_none_or(|only| kind.index() == usize::from(only)) & (word >> at & 1 != 0);
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

    fn find_overlaps(&mut self, slice: &Slice<'_>, column: &[u8]) {
        self.overlaps = vec![0; words(slice.visitors())];
        for visitor in 0..slice.visitors() {
            let overlaps = column[slice.range(visitor)].contains(&SEVERAL);
            self.overlaps[visitor >> 6] |= u64::from(overlaps) << (visitor & 63);
        }
    }
}
