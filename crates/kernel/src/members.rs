//! Who belongs to a group: a bit per visitor, by what a visitor did up to an instant.
//!
//! Each function answers one condition for all visitors of a slice; [`Who`] combines what they say. Only events before the instant `as_of_ms` exist. A duration
//! that looks back is inclusive: an event exactly so long before the instant counts. Visitors that the slice skips have no bit.
//!
//! Whether a visitor belongs changes only when an event comes into being, or when one is so long ago as a condition says. [`turns`] tells when that is next.

use std::ops::{Range, RangeInclusive};

use crate::bits;
use crate::engine::Engine;
use crate::fast::{Fast, Wanted};
use crate::outcome::{RunError, State};
use crate::plan::Plan;
use crate::sessions::Sessions;
use crate::slice::{Columns, INSTANT_BOUND_MS, Slice, bit, words};

/// The instant that a condition is asked about, and how far back it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Events before this instant exist, in milliseconds.
    pub as_of_ms: i64,
    /// Events that lie longer before it do not count, in milliseconds; `None`: all count.
    pub within_ms: Option<i64>,
}

/// Which of a visitor's values counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// The first.
    First,
    /// The last.
    Last,
}

/// A combination of conditions, each by its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// All of them; everybody when there are none.
    All(Vec<Who>),
    /// Any of them; nobody when there are none.
    Any(Vec<Who>),
    /// Whoever the part does not have.
    Not(Box<Who>),
    /// A condition.
    Condition(usize),
}

impl Look {
    /// Looks at everything up to an instant.
    pub fn back(as_of_ms: i64) -> Self {
        Self { as_of_ms, within_ms: None }
    }

    /// The first instant that counts.
    fn since_ms(&self) -> i64 {
        let bounded = self.as_of_ms.clamp(-INSTANT_BOUND_MS, INSTANT_BOUND_MS);
        self.within_ms.map_or(i64::MIN, |within_ms| bounded.saturating_sub(within_ms))
    }

    /// Looks at the events of each visitor that count, and keeps a bit for those of which something holds.
    fn visitors(self, slice: &Slice<'_>, holds: impl Fn(Range<usize>) -> bool) -> Vec<u64> {
        let (first_ms, last_ms) = slice.layout().span_ms;
        let since_ms = self.since_ms();
        let (from_all, to_all) = (since_ms <= first_ms, last_ms < self.as_of_ms);
        each(slice, |mut events| {
            if !to_all {
                events.end = before(slice, events.clone(), self.as_of_ms);
            }
            if !from_all {
                events.start = before(slice, events.clone(), since_ms);
            }
            holds(events)
        })
    }
}

/// A bit per visitor who is not skipped and of whom something holds.
fn each(slice: &Slice<'_>, mut holds: impl FnMut(Range<usize>) -> bool) -> Vec<u64> {
    let mut members = vec![0; words(slice.visitors())];
    for (at, word) in members.iter_mut().enumerate() {
        for visitor in at << 6..slice.visitors().min((at + 1) << 6) {
            let belongs = !slice.skipped(visitor) && holds(slice.range(visitor));
            *word |= u64::from(belongs) << (visitor & 63);
        }
    }
    members
}

/// The end of those of a visitor's events that lie before an instant. Most visitors have few events, most of which lie there.
#[inline]
fn before(slice: &Slice<'_>, events: Range<usize>, instant_ms: i64) -> usize {
    let (mut low, mut high) = (events.start, events.end);
    if high > low && slice.time(high - 1) < instant_ms {
        return high;
    }
    while low < high {
        let middle = usize::midpoint(low, high);
        if slice.time(middle) < instant_ms {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Visitors who exist: who have done anything at all.
pub fn present(slice: &Slice<'_>, as_of_ms: i64) -> Vec<u64> {
    Look::back(as_of_ms).visitors(slice, |events| !events.is_empty())
}

/// Visitors of whom so many events are marked.
pub fn happened(slice: &Slice<'_>, marks: &[u64], look: Look, times: RangeInclusive<u32>) -> Vec<u64> {
    look.visitors(slice, |events| times.contains(&bits::count(marks, events)))
}

/// Visitors of whom so many sessions have a marked event that counts. Events outside sessions are not looked at.
pub fn happened_in_sessions(
    sessions: &Sessions<'_>,
    marks: &[u64],
    look: Look,
    times: RangeInclusive<u32>,
) -> Vec<u64> {
    let marks = bits::both(sessions.members(), marks);
    look.visitors(sessions.slice(), |events| {
        let (mut last, mut count) = (None, 0);
        for event in bits::ones(&marks, events) {
            // A session is known by the event that opened it.
            let opened = bits::last(sessions.starts(), 0..event + 1);
            count += u32::from(last != Some(opened));
            last = Some(opened);
        }
        times.contains(&count)
    })
}

/// Visitors whose latest event marked in `after` lies more than `for_ms` back, but counts, and is followed by none that is marked in `without`.
pub fn absent(slice: &Slice<'_>, after: &[u64], without: &[u64], for_ms: i64, look: Look) -> Vec<u64> {
    look.visitors(slice, |events| {
        bits::last(after, events.clone()).is_some_and(|latest| {
            slice.time(latest).saturating_add(for_ms) < look.as_of_ms
                && bits::first(without, latest + 1..events.end).is_none()
        })
    })
}

/// Visitors of whom the first or last event that is marked in `has` is marked in `holds`; where none is, `or`.
pub fn touched(
    slice: &Slice<'_>,
    (has, holds): (&[u64], &[u64]),
    touch: Touch,
    or: bool,
    as_of_ms: i64,
) -> Vec<u64> {
    Look::back(as_of_ms).visitors(slice, |events| {
        let found = match touch {
            Touch::First => bits::first(has, events),
            Touch::Last => bits::last(has, events),
        };
        found.map_or(or, |event| bits::first(holds, event..event + 1).is_some())
    })
}

/// Visitors whose unit has reached one of these levels and is in one of these states. The plan counts visitors and says which entries count, and as of when.
pub fn reached(
    plan: &Plan,
    slice: &Slice<'_>,
    columns: &Columns<'_>,
    levels: RangeInclusive<usize>,
    states: &[State],
) -> Result<Vec<u64>, RunError> {
    plan.check(slice, columns)?;
    let mut members = vec![0; words(slice.visitors())];
    let wanted = Wanted { levels: levels.clone(), states };
    let fast = Fast::new(plan, slice, columns, true);
    // The general engine is asked about whomever the fast path does not tell of.
    let left = fast.map(|fast| fast.reached(plan, &wanted, &mut members));
    let mut engine = Engine::new(plan);
    let mut outcomes = Vec::new();
    for visitor in 0..slice.visitors() {
        if slice.skipped(visitor) || left.as_ref().is_some_and(|left| !bit(left, visitor)) {
            continue;
        }
        engine.visit(slice, columns, visitor, &mut outcomes)?;
        let belongs = outcomes
            .drain(..)
            .any(|unit| !unit.removed && levels.contains(&unit.level) && states.contains(&unit.state));
        members[visitor >> 6] |= u64::from(belongs) << (visitor & 63);
    }
    Ok(members)
}

/// For each visitor the next instant, after `as_of_ms`, at which it may belong otherwise than at `as_of_ms` without new events: when an event comes into
/// being, or when one lies more than one of these durations back. `i64::MAX` when that never happens.
pub fn turns(slice: &Slice<'_>, durations_ms: &[i64], as_of_ms: i64) -> Vec<i64> {
    let turn = |visitor: usize| {
        let events = slice.range(visitor);
        let next = |duration_ms: &i64| {
            // As of an instant, events before it exist: one is a duration back in the millisecond after.
            let event = before(slice, events.clone(), as_of_ms.saturating_sub(*duration_ms));
            (event < events.end).then(|| slice.time(event).saturating_add(*duration_ms).saturating_add(1))
        };
        durations_ms.iter().chain(&[0]).filter_map(next).min().unwrap_or(i64::MAX)
    };
    (0..slice.visitors())
        .map(|visitor| if slice.skipped(visitor) { i64::MAX } else { turn(visitor) })
        .collect()
}

impl Who {
    /// Combines what was found for each condition, among visitors who exist. A condition that was not looked at has nobody.
    pub fn members(&self, conditions: &[Vec<u64>], present: &[u64]) -> Vec<u64> {
        let combined = |parts: &[Self], whole: Vec<u64>, with: fn(u64, u64) -> u64| {
            parts.iter().fold(whole, |mut members, part| {
                let part = part.members(conditions, present);
                members.iter_mut().zip(part).for_each(|(word, other)| *word = with(*word, other));
                members
            })
        };
        match self {
            Self::All(parts) => combined(parts, present.to_vec(), |left, right| left & right),
            Self::Any(parts) => combined(parts, vec![0; present.len()], |left, right| left | right),
            Self::Not(part) => {
                let part = part.members(conditions, present);
                present.iter().zip(part).map(|(present, other)| present & !other).collect()
            }
            Self::Condition(at) => bits::both(present, conditions.get(*at).map_or(&[], Vec::as_slice)),
        }
    }
}
