//! Who belongs to a group: a bit per visitor, by what a visitor did up to an instant.
//!
//! [`AsOf`] answers one condition at a time for all visitors of a slice; [`Who`] combines what it says. Only events before its instant exist. A duration
//! that looks back is inclusive: an event exactly so long before the instant counts. Visitors that the slice skips have no bit.
//!
//! Whether a visitor belongs changes only when an event comes into being, or when one is so long ago as a condition says. [`turns`] tells when that is next.

use std::borrow::Cow;
use std::ops::{Range, RangeInclusive};

use crate::bits;
use crate::engine::Engine;
use crate::fast::{Fast, Wanted};
use crate::outcome::{RunError, State};
use crate::plan::Plan;
use crate::sessions::Sessions;
use crate::simd::{Simd, WIDTH, Width, with_processor};
use crate::slice::{Columns, INSTANT_BOUND_MS, Layout, Slice, bit, words};

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

/// A slice as of an instant: only events before it exist.
#[derive(Debug, Clone)]
pub struct AsOf<'a> {
    slice: Slice<'a>,
    as_of_ms: i64,
    /// A bit per event that exists; `None` when all do.
    existing: Option<Vec<u64>>,
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

/// As [`each`], where it can be told from words of bits, the first bit of which is the visitor's first event. Most visitors have so few events that they fit into one;
/// of the others `long` tells.
#[inline(always)]
fn by_words<const N: usize>(
    simd: impl Simd,
    slice: &Slice<'_>,
    columns: [&[u64]; N],
    short: impl Fn([u64; N]) -> bool,
    long: impl Fn(Range<usize>) -> bool,
) -> Vec<u64> {
    let Layout { offsets, skip, .. } = slice.layout();
    let mut members = vec![0; words(slice.visitors())];
    for (at, members) in members.iter_mut().enumerate() {
        let offsets = &offsets[at << 6..offsets.len().min(((at + 1) << 6) + 1)];
        let mut holds = [0; WIDTH];
        for (holds, pair) in holds.iter_mut().zip(offsets.windows(2)) {
            let (start, end) = (pair[0] as usize, pair[1] as usize);
            *holds = u8::from(match end - start {
                count @ 0..=WIDTH => short(columns.map(|column| bits::cut(column, start, count))),
                _ => long(start..end),
            });
        }
        let skip = skip.and_then(|skip| skip.get(at)).copied().unwrap_or(0);
        *members = simd.equal(&holds, 1) & !skip;
    }
    members
}

impl<'a> AsOf<'a> {
    /// Only events of the slice before the instant, in milliseconds.
    pub fn new(slice: Slice<'a>, as_of_ms: i64) -> Self {
        let existing = (slice.layout().span_ms.1 >= as_of_ms).then(|| slice.before(as_of_ms));
        Self { slice, as_of_ms, existing }
    }

    /// The slice.
    pub fn slice(&self) -> &Slice<'a> {
        &self.slice
    }

    /// A bit per event that exists; `None` when all do.
    pub fn existing(&self) -> Option<&[u64]> {
        self.existing.as_deref()
    }

    /// Those of some marks whose event exists, and lies no longer back than `within_ms`.
    fn counting<'m>(&self, marks: &'m [u64], within_ms: Option<i64>) -> Cow<'m, [u64]> {
        let mut marks = Cow::Borrowed(marks);
        if let Some(existing) = &self.existing {
            marks = Cow::Owned(bits::both(existing, &marks));
        }
        let bounded = self.as_of_ms.clamp(-INSTANT_BOUND_MS, INSTANT_BOUND_MS);
        let since_ms = within_ms.map_or(i64::MIN, |within_ms| bounded.saturating_sub(within_ms));
        if since_ms > self.slice.layout().span_ms.0 {
            let too_old = self.slice.before(since_ms);
            marks.to_mut().iter_mut().zip(too_old).for_each(|(word, too_old)| *word &= !too_old);
        }
        marks
    }

    /// Visitors who exist: who have done anything at all.
    pub fn present(&self) -> Vec<u64> {
        let exists = |event: usize| self.existing.as_ref().is_none_or(|existing| bit(existing, event));
        each(&self.slice, |events| !events.is_empty() && exists(events.start))
    }

    /// Visitors of whom so many events are marked, and lie no longer back than `within_ms`.
    pub fn happened(&self, marks: &[u64], within_ms: Option<i64>, times: RangeInclusive<u32>) -> Vec<u64> {
        let marks = &*self.counting(marks, within_ms);
        let short = |[marks]: [u64; 1]| times.contains(&marks.count_ones());
        let long = |events| times.contains(&bits::count(marks, events));
        with_processor!(Width::ANY, |simd| by_words(simd, &self.slice, [marks], short, long))
    }

    /// Visitors of whom so many sessions have a marked event that lies no longer back than `within_ms`. Events outside sessions are not looked at.
    pub fn happened_in_sessions(
        &self,
        sessions: &Sessions<'_>,
        marks: &[u64],
        within_ms: Option<i64>,
        times: RangeInclusive<u32>,
    ) -> Vec<u64> {
        let marks = bits::both(sessions.members(), &self.counting(marks, within_ms));
        each(&self.slice, |events| {
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

    /// Visitors whose latest event marked in `after` lies more than `for_ms` back, and no longer than `within_ms`, and is followed by none that is marked in `without`.
    pub fn absent(&self, after: &[u64], without: &[u64], for_ms: i64, within_ms: Option<i64>) -> Vec<u64> {
        let (after, without) = (&*self.counting(after, within_ms), &*self.counting(without, None));
        let old = &self.slice.before(self.as_of_ms.saturating_sub(for_ms));
        let short = |[after, without, old]: [u64; 3]| {
            let latest = highest(after);
            latest & old != 0 && without & !(latest | latest.wrapping_sub(1)) == 0
        };
        let long = |events: Range<usize>| {
            bits::last(after, events.clone()).is_some_and(|latest| {
                bit(old, latest) && bits::first(without, latest + 1..events.end).is_none()
            })
        };
        with_processor!(Width::ANY, |simd| by_words(simd, &self.slice, [after, without, old], short, long))
    }

    /// Visitors of whom the first or last event that is marked in `has` is marked in `holds`; where none is, `or`.
    pub fn touched(&self, (has, holds): (&[u64], &[u64]), touch: Touch, or: bool) -> Vec<u64> {
        let (slice, has) = (&self.slice, &*self.counting(has, None));
        let long = |events: Range<usize>| {
            let found = match touch {
                Touch::First => bits::first(has, events),
                Touch::Last => bits::last(has, events),
            };
            found.map_or(or, |event| bit(holds, event))
        };
        let told = |has: u64, one: u64, holds: u64| if has == 0 { or } else { one & holds != 0 };
        match touch {
            Touch::First => {
                let short = |[has, holds]: [u64; 2]| told(has, has & has.wrapping_neg(), holds);
                with_processor!(Width::ANY, |simd| by_words(simd, slice, [has, holds], short, long))
            }
            Touch::Last => {
                let short = |[has, holds]: [u64; 2]| told(has, highest(has), holds);
                with_processor!(Width::ANY, |simd| by_words(simd, slice, [has, holds], short, long))
            }
        }
    }

    /// Visitors whose unit has reached one of these levels and is in one of these states. The plan counts visitors and says which entries count, and as of when.
    pub fn reached(
        &self,
        plan: &Plan,
        columns: &Columns<'_>,
        levels: RangeInclusive<usize>,
        states: &[State],
    ) -> Result<Vec<u64>, RunError> {
        let slice = &self.slice;
        plan.check(slice, columns)?;
        let mut members = vec![0; words(slice.visitors())];
        let wanted = Wanted { levels: levels.clone(), states };
        // The general engine is asked about whomever the fast path does not tell of.
        let seen = self.before(plan.visible_until_ms);
        let left = match Fast::new(plan, slice, columns, seen.as_deref(), Width::ANY) {
            Some(fast) => fast.reached(plan, &wanted, self, &mut members),
            None => vec![u64::MAX; members.len()],
        };
        let mut engine = Engine::new(plan);
        let mut outcomes = Vec::new();
        for visitor in bits::ones(&left, 0..slice.visitors()) {
            if slice.skipped(visitor) {
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

    /// A bit per event before an instant; `None` where all are.
    pub(crate) fn before(&self, instant_ms: i64) -> Option<Cow<'_, [u64]>> {
        match &self.existing {
            Some(existing) if instant_ms == self.as_of_ms => Some(Cow::Borrowed(existing)),
            _ if instant_ms > self.slice.layout().span_ms.1 => None,
            _ => Some(Cow::Owned(self.slice.before(instant_ms))),
        }
    }
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

/// The highest bit of a word alone; nothing of an empty word.
#[inline(always)]
fn highest(word: u64) -> u64 {
    word & (1 << 63 >> (word | 1).leading_zeros())
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
