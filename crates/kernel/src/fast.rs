//! The fast path for the common shape: visitors as units, best chain, loose order, total window, and no event that matches
//! two steps.
//!
//! Then at most one step is served by an event, and the state is one entry per level: no bounds to look up, no matching,
//! no allocation. A visitor that has an event that matches two steps is handed to the general engine. The tests hold
//! both paths against each other.

mod codes;
mod scan;
mod tally;
mod ties;

use self::codes::Codes;
use self::scan::{Bounds, Found, Scan};
use self::tally::Tally;
use self::ties::Ties;
use crate::engine::Engine;
use crate::outcome::RunError;
use crate::plan::Plan;
use crate::question::{Question, Reentry, Tie, Unit};
use crate::slice::{Columns, Kinds, Slice, Times};
use crate::{Counts, slice};

/// Answers a plan of the common shape; `None` for any other. Columns must fit the slice.
pub(crate) fn run(plan: &Plan, slice: &Slice<'_>, columns: &Columns<'_>) -> Option<Result<Counts, RunError>> {
    if !common_shape(plan.question()) {
        return None;
    }
    let codes = Codes::new(plan, slice, columns)?;
    let layout = slice.layout();
    let bounds = |epoch_ms| Bounds::new(plan, epoch_ms);
    Some(match (&codes.column, layout.kinds, layout.times) {
        (Some(column), _, Times::Narrow { epoch_ms, since_epoch_ms }) => {
            visitors(plan, slice, columns, &codes, &bounds(epoch_ms), column, since_epoch_ms)
        }
        (Some(column), _, Times::Wide(times)) => {
            visitors(plan, slice, columns, &codes, &bounds(0), column, times)
        }
        (None, Kinds::U8(kinds), Times::Narrow { epoch_ms, since_epoch_ms }) => {
            visitors(plan, slice, columns, &codes, &bounds(epoch_ms), kinds, since_epoch_ms)
        }
        (None, Kinds::U8(kinds), Times::Wide(times)) => {
            visitors(plan, slice, columns, &codes, &bounds(0), kinds, times)
        }
        (None, Kinds::U16(kinds), Times::Narrow { epoch_ms, since_epoch_ms }) => {
            visitors(plan, slice, columns, &codes, &bounds(epoch_ms), kinds, since_epoch_ms)
        }
        (None, Kinds::U16(kinds), Times::Wide(times)) => {
            visitors(plan, slice, columns, &codes, &bounds(0), kinds, times)
        }
    })
}

fn common_shape(question: &Question) -> bool {
    let plain = |step: &crate::question::Step| !step.optional && !step.direct && !step.first_ever;
    question.unit == Unit::Visitor
        && question.reentry == Reentry::BestChain
        && question.grace_ms == 0
        && !question.reuse
        && !question.open
        && !question.hold
        && question.groups.is_empty()
        && question.exclusions.is_empty()
        && question.steps.iter().all(|step| plain(step) && step.max_ms.is_none())
}

fn visitors<K: codes::Kind, T: scan::Instant>(
    plan: &Plan,
    slice: &Slice<'_>,
    columns: &Columns<'_>,
    codes: &Codes,
    bounds: &Bounds,
    kinds: &[K],
    times: &[T],
) -> Result<Counts, RunError> {
    let layout = slice.layout();
    let mut engine = Engine::new(plan);
    let mut outcomes = Vec::new();
    let mut apart = Counts::empty(plan);
    let mut tally = Tally::new(plan, columns);
    let mut ties = Ties::new(plan.question().tie == Tie::StrictlyAfter);
    let steps = plan.required_steps();
    for (visitor, set) in layout.kind_sets.iter().enumerate() {
        let cap = codes.reachable(*set);
        if cap == 0 || slice.skipped(visitor) {
            continue;
        }
        let range = slice.range(visitor);
        let scan = Scan { table: &codes.table, kinds: &kinds[range.clone()], times: &times[range.clone()] };
        let scan = scan.visible(bounds);
        if codes.overlapping(visitor) || !scan.fits() {
            engine.visit(slice, columns, visitor, &mut outcomes)?;
            outcomes.drain(..).for_each(|outcome| apart.record(plan, &outcome));
            continue;
        }
        if slice::bit(layout.ties, visitor) {
            let (scan, order) = ties.resolve(scan);
            let mut found = best(scan, bounds, steps, cap);
            if found.level > 0 {
                found.entry = scan.first_of_instant(found.entry);
                tally.record(scan, bounds, range.start, found, Some(order));
            }
            continue;
        }
        let found = best(scan, bounds, steps, cap);
        if found.level > 0 {
            tally.record(scan, bounds, range.start, found, None);
        }
    }
    let mut counts = tally.counts(plan);
    counts.merge(&apart);
    Ok(counts)
}

/// Picks the scan for the number of steps and for where the visitor's events lie.
#[inline(always)]
fn best<K: codes::Kind, T: scan::Instant>(
    scan: Scan<'_, K, T>,
    bounds: &Bounds,
    steps: usize,
    cap: usize,
) -> Found {
    let stop = if bounds.mature { cap } else { usize::MAX };
    let inside = scan.time(0) >= bounds.from && scan.time(scan.times.len() - 1) < bounds.until;
    match (steps, inside) {
        (..=6, true) => scan.best::<8, false>(bounds, stop),
        (..=6, false) => scan.best::<8, true>(bounds, stop),
        (..=14, _) => scan.best::<16, true>(bounds, stop),
        _ => scan.best::<64, true>(bounds, stop),
    }
}
