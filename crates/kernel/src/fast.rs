//! The fast path for the common shape: visitors as units, best chain, loose order, total window, and no event that matches
//! two steps.
//!
//! Then at most one step is served by an event: there are no bounds to look up. [`marks`] says once for the whole slice
//! which events serve which step, as bit columns, and [`ties`] brings simultaneous events into order in them. [`lanes`]
//! answers 64 visitors of few events side by side and without a branch, [`long`] the others, and [`scan`] those of them
//! whose furthest chain does not fit the window. A visitor that has an event that matches two steps is handed to the
//! general engine. The tests hold all of them against each other.

/// Runs code that is compiled for at least as many steps as there are. Funnels of few steps have code of their own, in which every step is known to the compiler.
macro_rules! with_steps {
    ($steps:expr, |$STEPS:ident| $work:expr) => {
        with_steps!(@ $steps, $STEPS, $work, [2 => 2, 3 => 3, 4 => 4, 5 => 5, 6 => 6, 7..=10 => 10, _ => 32])
    };
    (@ $steps:expr, $STEPS:ident, $work:expr, [$($some:pat => $most:literal),*]) => {
        match $steps {
            $($some => {
                const $STEPS: usize = $most;
                $work
            })*
        }
    };
}

mod lanes;
mod long;
mod marks;
mod reached;
mod scan;
mod tally;
mod ties;

use self::lanes::{LANES, Lane, Lanes};
use self::long::Long;
use self::marks::{MOST_EVENTS, Marks, Rules};
pub(crate) use self::reached::Wanted;
use self::scan::{Bounds, Instant};
use self::tally::{Tally, Visitor};
use crate::Counts;
use crate::engine::Engine;
use crate::outcome::{RunError, State};
use crate::plan::Plan;
use crate::question::{Question, Reentry, Step, Unit};
use crate::simd::{Simd, Width, with_processor};
use crate::slice::{Columns, Slice, Times, Values};

/// Visitors of 64 from which on all of them are put into lanes as they stand.
const DENSE: u32 = 40;

/// The bit columns of a slice, for plans of the common shape that differ in instants alone.
pub(crate) struct Fast<'a> {
    slice: Slice<'a>,
    columns: Columns<'a>,
    rules: Rules,
    marks: Marks<'a>,
    most: Width,
}

impl<'a> Fast<'a> {
    /// `None` for a plan of another shape. Columns must fit the slice. `seen` is a bit per event that the plan sees, unless it sees all. Instructions are `most` so
    /// wide.
    pub(crate) fn new(
        plan: &Plan,
        slice: &Slice<'a>,
        columns: &Columns<'a>,
        seen: Option<&[u64]>,
        most: Width,
    ) -> Option<Self> {
        if !common_shape(plan.question()) {
            return None;
        }
        let rules = Rules::new(plan)?;
        let mut marks = with_processor!(most, |simd| Marks::new(simd, &rules, slice, columns));
        if let Some(seen) = seen {
            marks.see(seen);
        }
        Some(Self { slice: *slice, columns: *columns, rules, marks, most })
    }

    /// Answers the plan, or another with the same steps, without the visitors in `skip` and those that the slice leaves out.
    pub(crate) fn run(&self, plan: &Plan, skip: Option<&[u64]>) -> Result<Counts, RunError> {
        let pass = Pass { fast: self, plan, skip };
        match self.slice.layout().times {
            Times::Narrow { epoch_ms, since_epoch_ms } => {
                pass.of_any_length(&Bounds::new(plan, &self.slice, epoch_ms), since_epoch_ms)
            }
            Times::Wide(times) => pass.of_any_length(&Bounds::new(plan, &self.slice, 0), times),
        }
    }
}

fn common_shape(question: &Question) -> bool {
    let plain = |step: &Step| !step.optional && !step.direct && !step.first_ever && step.max_ms.is_none();
    question.unit == Unit::Visitor
        && question.reentry == Reentry::BestChain
        && question.grace_ms == 0
        && question.grain_ms == 1
        && !question.reuse
        && !question.open
        && !question.hold
        && question.groups.is_empty()
        && question.exclusions.is_empty()
        && question.steps.iter().all(plain)
}

/// One pass over a slice.
#[derive(Clone, Copy)]
struct Pass<'a> {
    fast: &'a Fast<'a>,
    plan: &'a Plan,
    skip: Option<&'a [u64]>,
}

impl Pass<'_> {
    fn of_any_length<T: Instant>(self, bounds: &Bounds, times: &[T]) -> Result<Counts, RunError> {
        with_steps!(self.plan.required_steps(), |STEPS| {
            with_processor!(self.fast.most, |simd| self.visitors::<T, STEPS>(simd, bounds, times))
        })
    }

    /// `STEPS` is the number of steps or more.
    #[inline(always)]
    fn visitors<T: Instant, const STEPS: usize>(
        self,
        simd: impl Simd,
        bounds: &Bounds,
        times: &[T],
    ) -> Result<Counts, RunError> {
        let Self { fast: Fast { slice, columns, rules, marks, .. }, plan, skip } = self;
        let layout = slice.layout();
        let mut engine = Engine::new(plan);
        let mut outcomes = Vec::new();
        let mut apart = Counts::empty(plan);
        let mut tally = Tally::new(plan, columns);
        let mut long = Long::default();
        let mut lanes = Lanes::<STEPS>::new();
        for (word, sets) in layout.kind_sets.chunks(LANES).enumerate() {
            let skipped = |skip: Option<&[u64]>| skip.and_then(|skip| skip.get(word)).copied().unwrap_or(0);
            let wanted = entering(simd, sets, rules.entry_kinds) & !skipped(layout.skip) & !skipped(skip);
            let overlapping = wanted & marks.overlapping(word);
            for place in places(overlapping) {
                engine.visit(slice, columns, word * LANES + place, &mut outcomes)?;
                outcomes.drain(..).for_each(|outcome| apart.record(plan, &outcome));
            }
            let mut left = wanted & !overlapping;
            let offsets = layout.offsets.get(word * LANES..).unwrap_or_default();
            if let (Some(start), Some(end)) = (offsets.get(LANES), offsets.get(2 * LANES)) {
                let next = *start as usize..*end as usize;
                simd.fetch(&times[next.clone()]);
                match plan.question().break_down.and(columns.break_down) {
                    Some(Values::U8(values)) => simd.fetch(&values[next]),
                    Some(Values::U16(values)) => simd.fetch(&values[next]),
                    Some(Values::U32(values)) => simd.fetch(&values[next]),
                    Some(Values::Unset(_)) | None => {}
                }
            }
            if left.count_ones() > DENSE
                && let Some(offsets) = offsets.first_chunk()
            {
                if !lanes.is_empty() {
                    self.drain(&mut lanes, simd, &mut tally, bounds, times);
                }
                left = lanes.add_all(simd, left, offsets);
                self.drain(&mut lanes, simd, &mut tally, bounds, times);
            }
            for place in places(left) {
                let Some([start, end]) = offsets.get(place..place + 2) else {
                    continue;
                };
                let events = *start as usize..*end as usize;
                if events.len().wrapping_sub(1) < MOST_EVENTS {
                    if lanes.add(*start, end - start) {
                        self.drain(&mut lanes, simd, &mut tally, bounds, times);
                    }
                } else if !events.is_empty() {
                    let visitor = Visitor { marks, bounds, times, events };
                    long.record(&visitor, plan.required_steps(), &mut tally);
                }
            }
        }
        self.drain(&mut lanes, simd, &mut tally, bounds, times);
        let mut counts = tally.counts(plan);
        counts.merge(&apart);
        Ok(counts)
    }

    /// Counts the visitors in the lanes, level by level, and leaves none.
    #[inline(always)]
    fn drain<T: Instant, const STEPS: usize>(
        self,
        lanes: &mut Lanes<STEPS>,
        simd: impl Simd,
        tally: &mut Tally<'_>,
        bounds: &Bounds,
        times: &[T],
    ) {
        let marks = &self.fast.marks;
        let steps = self.plan.required_steps();
        let time = |place: u32| times.get(place as usize).map_or(0, |time| time.ms());
        let since = |places: &Lane<u32>, instant: i64| {
            !simd.equal(&places.map(|place| u8::from(time(place) >= instant)), 0)
        };
        let visitor = |events| Visitor { marks, bounds, times, events };
        let filled = lanes.solve(simd, marks, times, bounds);
        let entered = filled & !lanes.of_level(simd, 0);
        let fits = {
            let spans: Lane<i64> =
                std::array::from_fn(|lane| time(lanes.completions[lane]) - time(lanes.chosen[lane]));
            simd.equal(&spans.map(|span| u8::from(span <= bounds.window)), 1)
        };
        let open = if bounds.mature { 0 } else { since(&lanes.newest, bounds.open_from) };
        let young = if bounds.grown { 0 } else { since(&lanes.first, bounds.young_from) };
        if tally.places_needed() {
            lanes.follow();
        }
        let mut further = 0;
        for level in (1..=steps).rev() {
            let of_level = lanes.of_level(simd, level) & entered & fits;
            for (some, open) in [(of_level & open, true), (of_level & !open, false)] {
                let state = tally.state(level, open);
                tally.count(level, state, u64::from(some.count_ones()));
                if state == State::Converted {
                    for lane in places(some) {
                        tally.convert(&visitor(lanes.events(lane)), &lanes.found(lane, level));
                    }
                } else {
                    tally.censor_at_window(u64::from((some & !young).count_ones()));
                    for lane in places(some & young) {
                        tally.censor(time(lanes.first[lane]), bounds);
                    }
                }
                if tally.groups() {
                    for lane in places(some) {
                        let found = lanes.found(lane, level);
                        tally.group(&visitor(lanes.events(lane)), (&found, state), |step| {
                            lanes.step(lane, step)
                        });
                    }
                }
            }
            further |= of_level;
            if tally.step_times() && level > 1 {
                for lane in places(further) {
                    let (step, before) = (lanes.step(lane, level - 1), lanes.step(lane, level - 2));
                    tally.between(level - 1, time(step) - time(before));
                }
            }
        }
        for lane in places(entered & !fits) {
            let mut steps = [0; 32];
            let found = lanes.furthest_within(lane, times, bounds.window, &mut steps);
            tally.record(&visitor(lanes.events(lane)), (found, open >> lane & 1 != 0), &steps);
        }
        lanes.clear();
    }
}

/// Those of up to 64 visitors, as bits, whose kind sets have one of these bits.
#[inline(always)]
fn entering(simd: impl Simd, sets: &[u64], entry_kinds: u64) -> u64 {
    let mut enters = [0; LANES];
    for (enters, set) in enters.iter_mut().zip(sets) {
        *enters = u8::from(set & entry_kinds != 0);
    }
    simd.equal(&enters, 1)
}

/// The places of the bits of a word, ascending.
#[inline(always)]
fn places(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(
        #[inline(always)]
        move || {
            let place = word.trailing_zeros() as usize;
            (word != 0).then(|| {
                word &= word - 1;
                place
            })
        },
    )
}
