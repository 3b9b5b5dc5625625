//! The branch-free pass over one visitor.

use std::hint::select_unpredictable;

use super::codes::{Kind, Table};
use crate::plan::Plan;
use crate::slice::INSTANT_BOUND_MS;

/// Bits of a stamp that hold an event's place among the visitor's events.
const PLACE_BITS: u32 = 24;
/// Most events of a visitor, and longest span of its events in milliseconds, that stamps can tell apart.
const MOST_EVENTS: usize = 1 << PLACE_BITS;
const LONGEST_SPAN_MS: i64 = 1 << 37;
/// Before every stamp, by more than any window.
const NEVER: i64 = i64::MIN / 2;

/// A stored instant.
pub(super) trait Instant: Copy {
    /// Milliseconds since the slice's epoch.
    fn ms(self) -> i64;
}

impl Instant for u32 {
    #[inline(always)]
    fn ms(self) -> i64 {
        i64::from(self)
    }
}

impl Instant for i64 {
    #[inline(always)]
    fn ms(self) -> i64 {
        self.clamp(-INSTANT_BOUND_MS, INSTANT_BOUND_MS)
    }
}

/// The instants and durations of a question, in milliseconds since the slice's epoch.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) epoch_ms: i64,
    pub(super) from: i64,
    pub(super) until: i64,
    pub(super) window: i64,
    /// Events at or after this instant are invisible.
    pub(super) visible_until: i64,
    /// The earliest entry that is open: its window reaches `as_of`.
    pub(super) open_from: i64,
    /// Whether no entry of the range is open, so that a scan can stop at the highest level it can reach.
    pub(super) mature: bool,
}

impl Bounds {
    pub(super) fn new(plan: &Plan, epoch_ms: i64) -> Self {
        let question = plan.question();
        let epoch_ms = epoch_ms.clamp(-INSTANT_BOUND_MS, INSTANT_BOUND_MS);
        let never_open = question.as_of_ms >= plan.steps_until_ms;
        let open_from = if never_open { i64::MAX } else { question.as_of_ms - question.window_ms - epoch_ms };
        Self {
            epoch_ms,
            from: question.from_ms - epoch_ms,
            until: question.until_ms - epoch_ms,
            window: question.window_ms,
            visible_until: plan.visible_until_ms - epoch_ms,
            open_from,
            mature: open_from >= question.until_ms - epoch_ms,
        }
    }
}

/// What a pass found out; places are positions among the visitor's events.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// 0 if there is no entry in the range.
    pub(super) level: usize,
    /// Place of the chosen entry.
    pub(super) entry: usize,
    /// Place of the completion.
    pub(super) completion: usize,
    /// Place of the newest entry, if the scan did not stop early.
    pub(super) newest: usize,
}

/// Places of the steps of a chain.
pub(super) type Places = [u32; 64];

/// One visitor's columns.
#[derive(Clone, Copy)]
pub(super) struct Scan<'a, K, T> {
    pub(super) table: &'a Table,
    pub(super) kinds: &'a [K],
    pub(super) times: &'a [T],
}

impl<K: Kind, T: Instant> Scan<'_, K, T> {
    #[inline(always)]
    pub(super) fn time(&self, place: usize) -> i64 {
        self.times.get(place).map_or(0, |time| time.ms())
    }

    /// Leaves out events that are not visible. They are the last ones.
    #[inline(always)]
    pub(super) fn visible(self, bounds: &Bounds) -> Self {
        let until = bounds.visible_until;
        match self.times.last() {
            Some(last) if last.ms() >= until => {
                let end = self.times.partition_point(|time| time.ms() < until);
                Self { kinds: &self.kinds[..end], times: &self.times[..end], ..self }
            }
            _ => self,
        }
    }

    /// Whether stamps can hold the visitor's events. Instants out of order, which break the slice's promise, cannot
    /// overflow a stamp either: every instant between the first and the last is checked by the order itself.
    #[inline(always)]
    pub(super) fn fits(&self) -> bool {
        let span = self.time(self.times.len().wrapping_sub(1)) - self.time(0);
        self.times.len() < MOST_EVENTS && (0..LONGEST_SPAN_MS).contains(&span)
    }

    /// The furthest level and its chain, scanning no further than the first chain of level `stop`. At most `SLOTS - 2`
    /// levels.
    ///
    /// One chain entry per level, the newest overwriting (SEMANTICS.md §2): exact, because a later chain at a level has a
    /// later entry. `RANGED` says that an event of the visitor may lie outside the range of entries.
    #[inline(never)]
    pub(super) fn best<const SLOTS: usize, const RANGED: bool>(&self, bounds: &Bounds, stop: usize) -> Found {
        let base = self.time(0);
        let (from, span) = (bounds.from - base, (bounds.until - bounds.from) as u64);
        let window = bounds.window << PLACE_BITS;
        // Slot 0 holds the current event as a possible entry. An event of code 0 serves no step: it reads the last
        // slot, which is never written, and so follows nothing.
        let mut slots = [NEVER; SLOTS];
        let (mut furthest, mut chosen) = (MOST_EVENTS - 1, NEVER);
        for (place, (kind, time)) in self.kinds.iter().zip(self.times).enumerate() {
            let time = time.ms().wrapping_sub(base);
            let code = self.table.code(*kind);
            let begin = time << PLACE_BITS;
            let stamp = begin.wrapping_add(place as i64);
            let enters = !RANGED || (time.wrapping_sub(from) as u64) < span;
            slots[0] = select_unpredictable(enters, stamp, NEVER);
            let entry = slots[code.wrapping_sub(1) % SLOTS];
            let follows = entry >= begin.wrapping_sub(window);
            // The slot is written either way, so that no load waits to learn where the last store went.
            let slot = &mut slots[code % SLOTS];
            *slot = select_unpredictable(follows, entry, *slot);
            let code = select_unpredictable(follows, code, 0);
            // Level, then earliest place, as one number.
            let reached = (code << PLACE_BITS) + (MOST_EVENTS - 1 - place);
            let further = reached > furthest;
            chosen = select_unpredictable(further, entry, chosen);
            furthest = select_unpredictable(further, reached, furthest);
            if furthest >> PLACE_BITS >= stop {
                break;
            }
        }
        let place_of = |stamp: i64| stamp as usize & (MOST_EVENTS - 1);
        Found {
            level: furthest >> PLACE_BITS,
            entry: place_of(chosen),
            completion: MOST_EVENTS - 1 - place_of(furthest as i64),
            newest: place_of(slots[1]),
        }
    }

    /// The first of the events at the instant of `place`, up to it, that serve the same step. Only visitors with ties
    /// have more than one.
    pub(super) fn first_of_instant(&self, place: usize) -> usize {
        let code = self.table.code(self.kinds[place]);
        let same = |other: &usize| {
            self.time(*other) == self.time(place) && self.table.code(self.kinds[*other]) == code
        };
        (0..place).rev().take_while(same).last().unwrap_or(place)
    }

    /// Place of the first entry in the range, known to exist.
    #[inline(always)]
    pub(super) fn first_entry(&self, bounds: &Bounds) -> usize {
        let enters = |place: &usize| {
            self.table.code(self.kinds[*place]) == 1
                && (bounds.from..bounds.until).contains(&self.times[*place].ms())
        };
        (0..self.kinds.len().min(self.times.len())).find(enters).unwrap_or(0)
    }

    /// Writes the places of the steps of the earliest chain that begins at place `entry` and goes on up to place `end`, at
    /// most `level` steps. Answers how many there are.
    #[inline(always)]
    pub(super) fn follow(&self, entry: usize, end: usize, level: usize, places: &mut Places) -> usize {
        let mut reached = 0;
        let kinds = self.kinds.get(entry..=end).unwrap_or_default();
        for (place, kind) in (entry..).zip(kinds) {
            places[reached % 64] = place as u32;
            reached += usize::from(self.table.code(*kind) == reached + 1);
            if reached >= level {
                break;
            }
        }
        reached
    }
}
