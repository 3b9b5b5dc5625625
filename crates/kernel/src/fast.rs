//! The fast path for the common shape: visitors as units, best chain, loose order, total window, and no event that matches
//! two steps.
//!
//! Then at most one step is served by an event: there are no bounds to look up and no matching to do. [`lanes`] answers
//! visitors of up to 64 events side by side and without a branch, [`scan`] the others and those whose furthest chain does
//! not fit the window, [`ties`] orders simultaneous events first. A visitor that has an event that matches two steps
//! is handed to the general engine. The tests hold all of them against each other.

mod codes;
mod compare;
mod lanes;
mod scan;
mod tally;
mod ties;

use self::codes::{BLOCK, Codes, Reachable};
#[cfg(target_arch = "x86_64")]
use self::compare::Wide;
use self::compare::{Compare, Narrow};
use self::lanes::{Lanes, MOST_EVENTS};
use self::scan::{Bounds, Instant, Scan};
use self::tally::Tally;
use self::ties::Ties;
use crate::engine::Engine;
use crate::outcome::{RunError, State};
use crate::plan::Plan;
use crate::question::{Question, Reentry, Step, Unit};
use crate::slice::{Columns, Slice, Times};
use crate::{Counts, slice};

/// Answers a plan of the common shape; `None` for any other. Columns must fit the slice. `wide` lets it use what not every
/// processor has.
pub(crate) fn run(
    plan: &Plan,
    slice: &Slice<'_>,
    columns: &Columns<'_>,
    wide: bool,
) -> Option<Result<Counts, RunError>> {
    if !common_shape(plan.question()) {
        return None;
    }
    let codes = Codes::new(plan, slice, columns)?;
    let pass = Pass { plan, slice, columns, codes: &codes };
    Some(match slice.layout().times {
        Times::Narrow { epoch_ms, since_epoch_ms } => {
            pass.of_any_length(&Bounds::new(plan, slice, epoch_ms), since_epoch_ms, wide)
        }
        Times::Wide(times) => pass.of_any_length(&Bounds::new(plan, slice, 0), times, wide),
    })
}

fn common_shape(question: &Question) -> bool {
    let plain = |step: &Step| !step.optional && !step.direct && !step.first_ever && step.max_ms.is_none();
    question.unit == Unit::Visitor
        && question.reentry == Reentry::BestChain
        && question.grace_ms == 0
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
    plan: &'a Plan,
    slice: &'a Slice<'a>,
    columns: &'a Columns<'a>,
    codes: &'a Codes<'a>,
}

impl Pass<'_> {
    /// Funnels of few steps have code of their own, in which every step is known to the compiler.
    fn of_any_length<T: Instant>(self, bounds: &Bounds, times: &[T], wide: bool) -> Result<Counts, RunError> {
        match self.plan.required_steps() {
            2 => self.by_processor::<T, 2>(bounds, times, wide),
            3 => self.by_processor::<T, 3>(bounds, times, wide),
            4 => self.by_processor::<T, 4>(bounds, times, wide),
            5 => self.by_processor::<T, 5>(bounds, times, wide),
            6 => self.by_processor::<T, 6>(bounds, times, wide),
            7..=10 => self.by_processor::<T, 10>(bounds, times, wide),
            _ => self.by_processor::<T, 32>(bounds, times, wide),
        }
    }

    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(unused_variables, reason = "there is nothing wider there")
    )]
    fn by_processor<T: Instant, const STEPS: usize>(
        self,
        bounds: &Bounds,
        times: &[T],
        wide: bool,
    ) -> Result<Counts, RunError> {
        #[cfg(target_arch = "x86_64")]
        if let Some(wide) = Wide::detect().filter(|_| wide) {
            return wide.run(
                #[inline(always)]
                || self.visitors::<T, STEPS, Wide>(wide, bounds, times),
            );
        }
        self.visitors::<T, STEPS, Narrow>(Narrow, bounds, times)
    }

    /// `STEPS` is the number of steps or more.
    #[inline(always)]
    fn visitors<T: Instant, const STEPS: usize, C: Compare>(
        self,
        compare: C,
        bounds: &Bounds,
        times: &[T],
    ) -> Result<Counts, RunError> {
        let Self { plan, slice, columns, codes } = self;
        let layout = slice.layout();
        let mut engine = Engine::new(plan);
        let mut outcomes = Vec::new();
        let mut apart = Counts::empty(plan);
        let mut tally = Tally::new(plan, columns);
        let mut ties = Ties::new();
        let bytes: [u8; STEPS] = std::array::from_fn(|step| codes.bytes.get(step).copied().unwrap_or(0));
        let mut lanes = Lanes::<STEPS>::new();
        let mut reachable = Reachable::new();
        for (block, sets) in layout.kind_sets.chunks(BLOCK).enumerate() {
            // Whom to look at is decided for a block at once, without a branch.
            for (visitor, cap) in reachable.list(codes, sets, block * BLOCK) {
                let range = slice.range(visitor);
                let scan = Scan {
                    table: &codes.table,
                    column: &codes.column[range.clone()],
                    times: &times[range.clone()],
                };
                let scan = scan.visible(bounds);
                if scan.times.is_empty() || slice.skipped(visitor) {
                    continue;
                }
                if codes.overlapping(visitor) {
                    engine.visit(slice, columns, visitor, &mut outcomes)?;
                    outcomes.drain(..).for_each(|outcome| apart.record(plan, &outcome));
                } else if scan.times.len() <= MOST_EVENTS {
                    let column = &codes.column[range.start..];
                    let tied = slice::bits(layout.ties, range.start, scan.times.len());
                    if lanes.add(compare, &bytes, column, scan, bounds, (range.start, tied)) {
                        self.drain(&mut lanes, compare, &mut tally, &mut ties, bounds, times);
                    }
                } else {
                    let (scan, order) = ties.resolve(scan, &bounds.order);
                    let found = scan.furthest(bounds, bounds.order.steps, cap);
                    tally.record(scan, bounds, range.start, found, &scan, Some(order));
                }
            }
        }
        self.drain(&mut lanes, compare, &mut tally, &mut ties, bounds, times);
        let mut counts = tally.counts(plan);
        counts.merge(&apart);
        Ok(counts)
    }

    /// Counts the visitors in the lanes, level by level, and leaves none.
    #[inline(always)]
    fn drain<T: Instant, const STEPS: usize>(
        self,
        lanes: &mut Lanes<STEPS>,
        compare: impl Compare,
        tally: &mut Tally<'_>,
        ties: &mut Ties<T>,
        bounds: &Bounds,
        times: &[T],
    ) {
        let steps = self.plan.required_steps();
        let all = Scan { table: &self.codes.table, column: &self.codes.column, times };
        let filled = lanes.solve(bounds.order.strict);
        let entered = filled & !lanes.of_level(compare, 0);
        let fits = entered & lanes.fitting(times, bounds.window);
        let open = if bounds.mature { 0 } else { lanes.newest_since(times, bounds.open_from) };
        let young = if bounds.grown { 0 } else { lanes.first_since(times, bounds.young_from) };
        for level in 1..=steps {
            let of_level = lanes.of_level(compare, level) & fits;
            for (some, open) in [(of_level & open, true), (of_level & !open, false)] {
                let state = tally.state(level, open);
                tally.count(level, state, u64::from(some.count_ones()));
                if state != State::Converted {
                    tally.censor_at_window(u64::from((some & !young).count_ones()));
                    for lane in places(some & young) {
                        tally.censor(lanes.visitor(lane, all).first_entry(), bounds);
                    }
                }
                if tally.looks_at(level) {
                    for lane in places(some) {
                        let visitor = lanes.visitor(lane, all);
                        let chain = visitor.chain(level);
                        let order = (visitor.crowded() && tally.tells_events_apart())
                            .then(|| ties.order(visitor.scan, &bounds.order));
                        tally.look(visitor.scan, bounds, visitor.base, (chain, state), &visitor, order);
                    }
                }
            }
        }
        for lane in places(entered & !fits) {
            let visitor = lanes.visitor(lane, all);
            let found = (visitor.furthest_within(bounds.window), open >> lane & 1 != 0);
            let order = (visitor.crowded() && tally.tells_events_apart())
                .then(|| ties.order(visitor.scan, &bounds.order));
            tally.record(visitor.scan, bounds, visitor.base, found, &visitor, order);
        }
        lanes.clear();
    }
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
