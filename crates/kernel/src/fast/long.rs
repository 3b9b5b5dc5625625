//! Visitors of many events, one at a time: the steps are looked for in the bit columns, word by word.

use super::marks::{last, next};
use super::scan::{Found, Instant, Scan};
use super::tally::{Tally, Visitor};

/// Scratch memory for one visitor.
#[derive(Default)]
pub(super) struct Long {
    codes: Vec<u8>,
}

impl Long {
    /// Counts a visitor, if it has an entry.
    pub(super) fn record<T: Instant>(
        &mut self,
        visitor: &Visitor<'_, T>,
        steps: usize,
        tally: &mut Tally<'_>,
    ) {
        let mut places = [0; 32];
        if let Some(found) = self.find(visitor, steps, &mut places) {
            tally.record(visitor, found, &places);
        }
    }

    /// The furthest chain of a visitor, and whether the newest entry is open; `None` without an entry. Puts the places of
    /// the chain's steps into `places`.
    pub(super) fn find<T: Instant>(
        &mut self,
        visitor: &Visitor<'_, T>,
        steps: usize,
        places: &mut [u32; 32],
    ) -> Option<(Found, bool)> {
        let (found, newest) = by_order(visitor, steps, places)?;
        let duration = visitor.time(found.completion) - visitor.time(found.entry);
        if duration > visitor.bounds.window {
            return self.scan(visitor).furthest(visitor.bounds, steps, places);
        }
        Some((found, visitor.time(newest) >= visitor.bounds.open_from))
    }

    fn scan<'a, T>(&'a mut self, visitor: &Visitor<'a, T>) -> Scan<'a, T> {
        visitor.marks.codes(visitor.events.clone(), &mut self.codes);
        let times = &visitor.times[visitor.events.clone()];
        Scan { codes: &self.codes, times, base: visitor.events.start as u32 }
    }
}

/// The furthest chain that order allows, the one that [`super::lanes`] finds for others, and the newest entry. If that chain
/// fits the window, no other one is better. Puts the places of its steps into `places`.
fn by_order<T: Instant>(
    visitor: &Visitor<'_, T>,
    steps: usize,
    places: &mut [u32; 32],
) -> Option<(Found, u32)> {
    let events = visitor.events.clone();
    let mut entries = events.clone();
    if !visitor.bounds.all_inside {
        let times = &visitor.times[events.clone()];
        let before = |instant| events.start + times.partition_point(|time| time.ms() < instant);
        entries = before(visitor.bounds.from)..before(visitor.bounds.until);
    }
    let column = |step: usize| visitor.marks.column(step);
    let first = next(column(0), entries.clone())?;
    let newest = last(column(0), entries.clone())?;
    let (mut level, mut completion) = (1, first);
    while level < steps
        && let Some(step) = next(column(level), completion + 1..events.end)
    {
        (level, completion) = (level + 1, step);
    }
    let mut entry = completion;
    for step in (0..level - 1).rev() {
        let among = if step == 0 { entries.start..entries.end.min(entry) } else { events.start..entry };
        entry = last(column(step), among)?;
    }
    let mut place = entry;
    for (step, slot) in (1..level).zip(&mut places[1..]) {
        place = next(column(step), place + 1..events.end)?;
        *slot = place as u32;
    }
    let found = Found {
        level,
        entry: entry as u32,
        completion: completion as u32,
        first: first as u32,
        first_completion: Some(completion as u32),
    };
    Some((found, newest as u32))
}
