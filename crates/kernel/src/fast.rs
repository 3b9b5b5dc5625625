//! The fast path for the common shape: visitors as units, best chain, loose order, total window, and no event that matches
//! two steps.
//!
//! Then at most one step is served by an event: there are no bounds to look up and no matching to do. [`places`] answers
//! visitors of up to 64 events without a branch, [`scan`] the others and those whose furthest chain does not fit the
//! window, [`ties`] orders simultaneous events first. A visitor that has an event that matches two steps is handed to
//! the general engine. The tests hold all of them against each other.

mod codes;
mod places;
mod scan;
mod tally;
mod ties;

use self::codes::{BLOCK, Codes, Reachable};
use self::places::{MOST_EVENTS, Places};
use self::scan::{Bounds, Instant, Scan};
use self::tally::Tally;
use self::ties::Ties;
use crate::engine::Engine;
use crate::outcome::RunError;
use crate::plan::Plan;
use crate::question::{Question, Reentry, Step, Tie, Unit};
use crate::slice::{Columns, Slice, Times};
use crate::{Counts, slice};

/// Answers a plan of the common shape; `None` for any other. Columns must fit the slice.
pub(crate) fn run(plan: &Plan, slice: &Slice<'_>, columns: &Columns<'_>) -> Option<Result<Counts, RunError>> {
    if !common_shape(plan.question()) {
        return None;
    }
    let codes = Codes::new(plan, slice, columns)?;
    Some(match slice.layout().times {
        Times::Narrow { epoch_ms, since_epoch_ms } => {
            of_any_length(plan, slice, columns, &codes, &Bounds::new(plan, epoch_ms), since_epoch_ms)
        }
        Times::Wide(times) => of_any_length(plan, slice, columns, &codes, &Bounds::new(plan, 0), times),
    })
}

/// Funnels of few steps have code of their own, in which every step's places stay in a register.
fn of_any_length<T: Instant>(
    plan: &Plan,
    slice: &Slice<'_>,
    columns: &Columns<'_>,
    codes: &Codes<'_>,
    bounds: &Bounds,
    times: &[T],
) -> Result<Counts, RunError> {
    match plan.required_steps() {
        2 => visitors::<T, 2>(plan, slice, columns, codes, bounds, times),
        3 => visitors::<T, 3>(plan, slice, columns, codes, bounds, times),
        4 => visitors::<T, 4>(plan, slice, columns, codes, bounds, times),
        5 => visitors::<T, 5>(plan, slice, columns, codes, bounds, times),
        6 => visitors::<T, 6>(plan, slice, columns, codes, bounds, times),
        7..=10 => visitors::<T, 10>(plan, slice, columns, codes, bounds, times),
        _ => visitors::<T, 32>(plan, slice, columns, codes, bounds, times),
    }
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

/// `STEPS` is the number of steps or more.
fn visitors<T: Instant, const STEPS: usize>(
    plan: &Plan,
    slice: &Slice<'_>,
    columns: &Columns<'_>,
    codes: &Codes<'_>,
    bounds: &Bounds,
    times: &[T],
) -> Result<Counts, RunError> {
    let layout = slice.layout();
    let mut engine = Engine::new(plan);
    let mut outcomes = Vec::new();
    let mut apart = Counts::empty(plan);
    let mut tally = Tally::new(plan, columns);
    let mut ties = Ties::new(plan.question().tie == Tie::StrictlyAfter);
    let steps = plan.required_steps();
    let bytes: [u8; STEPS] = std::array::from_fn(|step| codes.bytes.get(step).copied().unwrap_or(0));
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
                continue;
            }
            if slice::bit(layout.ties, visitor) {
                let (scan, order) = ties.resolve(scan);
                let mut found = scan.furthest(bounds, steps, cap);
                if found.level > 0 {
                    found.entry = scan.first_of_instant(found.entry);
                    tally.record(scan, bounds, range.start, found, None::<&Places<STEPS>>, Some(order));
                }
                continue;
            }
            if scan.times.len() <= MOST_EVENTS {
                let places = Places::read(&bytes, steps, &codes.column[range.start..], scan, bounds);
                if let Some(found) = places.furthest(scan, bounds.window) {
                    if found.level > 0 {
                        tally.record(scan, bounds, range.start, found, Some(&places), None);
                    }
                    continue;
                }
            }
            let found = scan.furthest(bounds, steps, cap);
            if found.level > 0 {
                tally.record(scan, bounds, range.start, found, None::<&Places<STEPS>>, None);
            }
        }
    }
    let mut counts = tally.counts(plan);
    counts.merge(&apart);
    Ok(counts)
}
