//! Who has come how far: a bit per visitor instead of counts.

use std::ops::RangeInclusive;

use super::lanes::{Lane, Lanes};
use super::long::Long;
use super::scan::{Bounds, Instant};
use super::tally::{Visitor, state};
use super::{Fast, LANES, entering, places};
use crate::members::AsOf;
use crate::outcome::State;
use crate::plan::Plan;
use crate::simd::{Simd, with_processor};
use crate::slice::{Layout, Times};

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
    /// is the one to ask about them. Nothing else can be asked afterwards: entries outside the plan's range are gone from the bit columns.
    pub(crate) fn reached(
        mut self,
        plan: &Plan,
        wanted: &Wanted<'_>,
        as_of: &AsOf<'_>,
        members: &mut [u64],
    ) -> Vec<u64> {
        let Layout { times, span_ms, .. } = self.slice.layout();
        let epoch_ms = match times {
            Times::Narrow { epoch_ms, .. } => epoch_ms,
            Times::Wide(_) => 0,
        };
        let mut bounds = Bounds::new(plan, &self.slice, epoch_ms);
        let (from_ms, until_ms) = (plan.question().from_ms, plan.question().until_ms);
        if until_ms < plan.visible_until_ms
            && let Some(inside) = as_of.before(until_ms)
        {
            self.marks.enter(inside.iter().copied());
        }
        if from_ms > span_ms.0 {
            self.marks.enter(self.slice.before(from_ms).into_iter().map(|early| !early));
        }
        bounds.all_inside = true;
        let pass = Pass { fast: &self, plan, wanted, bounds: &bounds };
        match times {
            Times::Narrow { since_epoch_ms, .. } => pass.of_any_length(since_epoch_ms, members),
            Times::Wide(times) => pass.of_any_length(times, members),
        }
    }
}

/// One pass over a slice, of whose bit columns only what is seen is left.
#[derive(Clone, Copy)]
struct Pass<'a> {
    fast: &'a Fast<'a>,
    plan: &'a Plan,
    wanted: &'a Wanted<'a>,
    bounds: &'a Bounds,
}

impl Pass<'_> {
    fn of_any_length<T: Instant>(self, times: &[T], members: &mut [u64]) -> Vec<u64> {
        with_steps!(self.plan.required_steps(), |STEPS| {
            with_processor!(self.fast.most, |simd| self.visitors::<T, STEPS>(simd, times, members))
        })
    }

    /// `STEPS` is the number of steps or more.
    #[inline(always)]
    fn visitors<T: Instant, const STEPS: usize>(
        self,
        simd: impl Simd,
        times: &[T],
        members: &mut [u64],
    ) -> Vec<u64> {
        let Fast { slice, rules, marks, .. } = self.fast;
        let (layout, steps) = (slice.layout(), self.plan.required_steps());
        let mut apart = vec![0; members.len()];
        let mut long = Long::default();
        let mut lanes = Lanes::<STEPS>::new();
        for (at, sets) in layout.kind_sets.chunks(LANES).enumerate() {
            let skipped = layout.skip.and_then(|skip| skip.get(at)).copied().unwrap_or(0);
            let entering = entering(simd, sets, rules.entry_kinds) & !skipped;
            apart[at] = entering & marks.overlapping(at);
            let left = entering & !apart[at];
            if left == 0 {
                continue;
            }
            let offsets = layout.offsets.get(at * LANES..).unwrap_or_default();
            if let (Some(start), Some(end)) = (offsets.get(LANES), offsets.get(2 * LANES)) {
                simd.fetch(&times[*start as usize..*end as usize]);
            }
            // Lanes without a visitor have no events.
            let mut padded = [offsets.last().copied().unwrap_or(0); LANES + 1];
            padded.iter_mut().zip(offsets).for_each(|(to, from)| *to = *from);
            let left = lanes.add_all(simd, left, &padded);
            members[at] |= self.of_lanes(simd, &mut lanes, times);
            for place in places(left) {
                let events = padded[place] as usize..padded[place + 1] as usize;
                let visitor = Visitor { marks, bounds: self.bounds, times, events };
                let found = long.find(&visitor, steps, &mut [0; 32]);
                let belongs = found.is_some_and(|(found, open)| self.wanted.has(found.level, steps, open));
                members[at] |= u64::from(belongs) << place;
            }
        }
        apart
    }

    /// Those of the visitors in the lanes, as bits, whose unit is as wanted. Leaves none in the lanes.
    #[inline(always)]
    fn of_lanes<T: Instant, const STEPS: usize>(
        self,
        simd: impl Simd,
        lanes: &mut Lanes<STEPS>,
        times: &[T],
    ) -> u64 {
        let Self { fast, plan, wanted, bounds } = self;
        let steps = plan.required_steps();
        let time = |place: u32| times.get(place as usize).map_or(0, |time| time.ms());
        let filled = lanes.solve(simd, &fast.marks, times, bounds);
        let levels: Lane<u64> = std::array::from_fn(|level| match (1..=steps).contains(&level) {
            true => lanes.of_level(simd, level) & filled,
            false => 0,
        });
        // No chain comes further than order allows.
        let far = levels[(*wanted.levels.start()).clamp(1, LANES)..].iter().fold(0, |far, some| far | some);
        let spans: Lane<i64> =
            std::array::from_fn(|lane| time(lanes.completions[lane]) - time(lanes.chosen[lane]));
        let fits = simd.equal(&spans.map(|span| u8::from(span <= bounds.window)), 1);
        let open = match bounds.mature {
            true => 0,
            false => {
                let opened = lanes.newest.map(|place| u8::from(time(place) >= bounds.open_from));
                simd.equal(&opened, 1)
            }
        };
        let mut belongs = 0;
        for (level, of_level) in levels.iter().enumerate().skip(1).take(steps) {
            for (some, is_open) in [(of_level & fits & open, true), (of_level & fits & !open, false)] {
                if some != 0 && wanted.has(level, steps, is_open) {
                    belongs |= some;
                }
            }
        }
        for lane in places(far & !fits) {
            let found = lanes.furthest_within(lane, times, bounds.window, &mut [0; 32]);
            belongs |= u64::from(wanted.has(found.level, steps, open >> lane & 1 != 0)) << lane;
        }
        lanes.clear();
        belongs
    }
}
