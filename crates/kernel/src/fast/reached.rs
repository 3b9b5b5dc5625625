//! Who has come how far: a bit per visitor instead of counts.

use std::ops::RangeInclusive;

use super::long::Long;
use super::marks::{MOST_EVENTS, word_at};
use super::scan::{Bounds, Instant};
use super::simd::Narrow;
use super::tally::{Visitor, state};
use super::{Fast, LANES, entering, places};
use crate::outcome::State;
use crate::plan::Plan;
use crate::slice::Times;

/// What is asked of each visitor's unit.
#[derive(Debug, Clone)]
pub(crate) struct Wanted<'a> {
    /// Levels that it may have.
    pub(crate) levels: RangeInclusive<usize>,
    /// States that it may be in.
    pub(crate) states: &'a [State],
}

impl Wanted<'_> {
    fn has(&self, level: usize, steps: usize, open: bool) -> bool {
        self.levels.contains(&level) && self.states.contains(&state(level, steps, open))
    }
}

impl Fast<'_> {
    /// Sets the bits of the visitors whose unit is as wanted. The bits of those who have events that serve several steps are the other answer: the general engine
    /// is the one to ask about them.
    pub(crate) fn reached(&self, plan: &Plan, wanted: &Wanted<'_>, members: &mut [u64]) -> Vec<u64> {
        match self.slice.layout().times {
            Times::Narrow { epoch_ms, since_epoch_ms } => {
                let bounds = Bounds::new(plan, &self.slice, epoch_ms);
                self.visitors(plan, wanted, (&bounds, since_epoch_ms), members)
            }
            Times::Wide(times) => {
                let bounds = Bounds::new(plan, &self.slice, 0);
                self.visitors(plan, wanted, (&bounds, times), members)
            }
        }
    }

    fn visitors<T: Instant>(
        &self,
        plan: &Plan,
        wanted: &Wanted<'_>,
        (bounds, times): (&Bounds, &[T]),
        members: &mut [u64],
    ) -> Vec<u64> {
        let Self { slice, rules, marks, .. } = self;
        let (layout, steps) = (slice.layout(), plan.required_steps());
        let mut apart = vec![0; members.len()];
        let mut long = Long::default();
        for (at, sets) in layout.kind_sets.chunks(LANES).enumerate() {
            let entering = entering(Narrow, sets, rules.entry_kinds);
            let skipped = layout.skip.and_then(|skip| skip.get(at)).copied().unwrap_or(0);
            let overlapping = entering & !skipped & marks.overlapping(at);
            apart[at] = overlapping;
            for place in places(entering & !skipped & !overlapping) {
                let events = slice.range(at * LANES + place);
                let count = bounds.visible(&times[events.clone()]);
                if count == 0 {
                    continue;
                }
                let visitor = Visitor { marks, bounds, times, events: events.start..events.start + count };
                let short = if count <= MOST_EVENTS { by_words(&visitor, wanted, steps) } else { None };
                let belongs = short.unwrap_or_else(|| {
                    let found = long.find(&visitor, steps, &mut [0; 32]);
                    found.is_some_and(|(found, open)| wanted.has(found.level, steps, open))
                });
                members[at] |= u64::from(belongs) << place;
            }
        }
        apart
    }
}

/// Whether a visitor of few events is as wanted; `None` if the furthest chain that order allows does not fit the window, so that one has to look closer.
#[inline]
fn by_words<T: Instant>(visitor: &Visitor<'_, T>, wanted: &Wanted<'_>, steps: usize) -> Option<bool> {
    let Visitor { marks, bounds, times, events } = visitor;
    let mask = u64::MAX >> (64 - events.len());
    let word = |step: usize| word_at(marks.column(step), events.start) & mask;
    let mut entries = word(0);
    if !bounds.all_inside {
        entries &= bounds.inside(&times[events.clone()]);
    }
    if entries == 0 {
        return Some(false);
    }
    let (mut level, mut last) = (1, entries.trailing_zeros());
    while level < steps {
        let later = word(level) & (u64::MAX << last << 1);
        if later == 0 {
            break;
        }
        (level, last) = (level + 1, later.trailing_zeros());
    }
    // No chain comes further than order allows.
    if level < *wanted.levels.start() {
        return Some(false);
    }
    let mut entry = last;
    for step in (0..level - 1).rev() {
        let column = if step == 0 { entries } else { word(step) };
        entry = (column & ((1 << entry) - 1)).checked_ilog2()?;
    }
    let time = |place: u32| visitor.time(events.start as u32 + place);
    if time(last) - time(entry) > bounds.window {
        return None;
    }
    let open = time(entries.ilog2()) >= bounds.open_from;
    Some(wanted.has(level, steps, open))
}
