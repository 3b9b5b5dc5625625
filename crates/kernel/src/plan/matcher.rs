//! Which steps and exclusions an event matches, by one table look-up per event.

use std::collections::BTreeMap;

use crate::question::{Question, Rule};
use crate::slice::{Columns, Slice, bit};

/// Bit of exclusion 0 in a [`Matcher`] mask; steps take the bits below.
pub(crate) const EXCLUSION_BIT: usize = 32;

/// Rules compiled to masks per kind: bits 0..32 are steps, bits 32..48 exclusions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Matcher {
    any: Masks,
    kinds: BTreeMap<u16, Masks>,
    /// Masks of the small kinds, copied out of `kinds` so that most look-ups are one index.
    low: Vec<Masks>,
    predicates: usize,
}

/// What events of one kind match.
#[derive(Debug, Clone, Default)]
pub(crate) struct Masks {
    /// Matched whatever the properties.
    pub(crate) always: u64,
    /// Matched if the bit of the predicate is set.
    pub(crate) conditional: Vec<(u16, u64)>,
}

impl Matcher {
    pub(crate) fn new(question: &Question) -> Self {
        let mut matcher = Self::default();
        for (step, bits) in question.steps.iter().zip(0..) {
            matcher.add(&step.rule, 1 << bits);
        }
        for (exclusion, bits) in question.exclusions.iter().zip(EXCLUSION_BIT..) {
            matcher.add(&exclusion.rule, 1 << bits);
        }
        let highest = matcher.kinds.keys().copied().filter(|kind| *kind < 1024).max();
        matcher.low = (0..highest.map_or(0, |kind| kind + 1)).map(|kind| matcher.of_kind(kind)).collect();
        matcher
    }

    fn add(&mut self, rule: &Rule, bits: u64) {
        for alternative in &rule.any_of {
            let masks = match alternative.kind {
                Some(kind) => self.kinds.entry(kind).or_default(),
                None => &mut self.any,
            };
            match alternative.predicate {
                Some(predicate) => {
                    masks.conditional.push((predicate, bits));
                    self.predicates = self.predicates.max(usize::from(predicate) + 1);
                }
                None => masks.always |= bits,
            }
        }
    }

    /// The bits of a visitor's kind set one of which is set if an event can match any of the steps in `mask`.
    pub(crate) fn kind_set(&self, mask: u32) -> u64 {
        let matches = |masks: &Masks| {
            let conditional = masks.conditional.iter().any(|(_, bits)| *bits as u32 & mask != 0);
            masks.always as u32 & mask != 0 || conditional
        };
        if matches(&self.any) {
            return u64::MAX;
        }
        self.kinds.iter().filter(|(_, masks)| matches(masks)).fold(0, |set, (kind, _)| set | 1 << (kind & 63))
    }

    /// Number of predicate columns that the rules may read.
    pub(crate) fn predicates(&self) -> usize {
        self.predicates
    }

    /// What events of `kind` match, rules for any event left out.
    pub(crate) fn of_kind(&self, kind: u16) -> Masks {
        self.kinds.get(&kind).cloned().unwrap_or_default()
    }

    /// What every event matches.
    pub(crate) fn of_any(&self) -> &Masks {
        &self.any
    }

    /// The kinds that a rule names.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = u16> + '_ {
        self.kinds.keys().copied()
    }

    /// Mask of the steps and exclusions that an event matches. An event that matches a step may match
    /// exclusions too; which wins is the caller's business, because first-ever steps are not known here.
    #[inline]
    pub(crate) fn mask(&self, slice: &Slice<'_>, columns: &Columns<'_>, event: usize) -> u64 {
        let kind = slice.kind(event);
        let named = match self.low.get(usize::from(kind)) {
            Some(masks) => masks.of(columns, event),
            None if self.kinds.is_empty() => 0,
            None => self.kinds.get(&kind).map_or(0, |masks| masks.of(columns, event)),
        };
        named | self.any.of(columns, event)
    }
}

impl Masks {
    #[inline]
    pub(crate) fn of(&self, columns: &Columns<'_>, event: usize) -> u64 {
        self.conditional.iter().fold(self.always, |mask, (predicate, bits)| {
            let holds =
                columns.predicates.get(usize::from(*predicate)).is_some_and(|column| bit(column, event));
            if holds { mask | bits } else { mask }
        })
    }
}
