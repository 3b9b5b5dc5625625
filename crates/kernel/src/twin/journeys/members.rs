//! Who belongs, by looking at every event of a visitor.

use std::ops::RangeInclusive;

use super::{Event, Journeys, has};
use crate::members::Touch;

/// The instant that a condition is asked about, and how far back it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Events before this instant exist, in milliseconds.
    pub as_of_ms: i64,
    /// Events that lie longer before it do not count, in milliseconds; `None`: all count.
    pub within_ms: Option<i64>,
}

impl Journeys {
    /// As [`crate::members::AsOf::present`].
    pub fn present(&self, as_of_ms: i64) -> Vec<u64> {
        self.members(|events| events.iter().any(|event| event.time < as_of_ms))
    }

    /// As [`crate::members::AsOf::happened`].
    pub fn happened(&self, marks: &[u64], look: Look, times: RangeInclusive<u32>) -> Vec<u64> {
        self.members(|events| {
            let marked = events.iter().filter(|event| counts(look, event) && has(marks, event.at));
            times.contains(&(marked.count() as u32))
        })
    }

    /// As [`crate::members::AsOf::happened_in_sessions`].
    pub fn happened_in_sessions(&self, marks: &[u64], look: Look, times: RangeInclusive<u32>) -> Vec<u64> {
        self.members(|events| {
            let marked = events.iter().filter(|event| counts(look, event) && has(marks, event.at));
            let mut sessions: Vec<usize> = marked.filter_map(|event| event.session).collect();
            sessions.sort_unstable();
            sessions.dedup();
            times.contains(&(sessions.len() as u32))
        })
    }

    /// As [`crate::members::AsOf::absent`].
    pub fn absent(&self, after: &[u64], without: &[u64], for_ms: i64, look: Look) -> Vec<u64> {
        self.members(|events| {
            let counted: Vec<&Event> = events.iter().filter(|event| counts(look, event)).collect();
            let Some(latest) = counted.iter().rposition(|event| has(after, event.at)) else { return false };
            age(look, counted[latest]) > i128::from(for_ms)
                && !counted[latest + 1..].iter().any(|event| has(without, event.at))
        })
    }

    /// As [`crate::members::AsOf::touched`].
    pub fn touched(
        &self,
        (values, holds): (&[u64], &[u64]),
        touch: Touch,
        or: bool,
        as_of_ms: i64,
    ) -> Vec<u64> {
        self.members(|events| {
            let valued: Vec<&Event> =
                events.iter().filter(|event| event.time < as_of_ms && has(values, event.at)).collect();
            let found = match touch {
                Touch::First => valued.first(),
                Touch::Last => valued.last(),
            };
            found.map_or(or, |event| has(holds, event.at))
        })
    }

    /// A bit per visitor whose events satisfy something, skipped visitors excepted.
    fn members(&self, holds: impl Fn(&[Event]) -> bool) -> Vec<u64> {
        let mut members = vec![0; self.visitors.len().div_ceil(64)];
        for (visitor, events) in self.visitors.iter().enumerate() {
            let belongs = !self.skipped[visitor] && holds(events);
            members[visitor / 64] |= u64::from(belongs) << (visitor % 64);
        }
        members
    }
}

/// Whether an event exists and lies as near as is asked.
fn counts(look: Look, event: &Event) -> bool {
    let near = look.within_ms.is_none_or(|within_ms| age(look, event) <= i128::from(within_ms));
    event.time < look.as_of_ms && near
}

/// How long ago an event is, in milliseconds.
fn age(look: Look, event: &Event) -> i128 {
    i128::from(look.as_of_ms) - i128::from(event.time)
}
