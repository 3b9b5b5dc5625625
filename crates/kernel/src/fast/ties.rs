//! Visitors with several events in one millisecond, brought into an order that the scan answers exactly.
//!
//! Each event serves at most one step here. So where ties favour order, the events of an instant go from the first step to
//! the last, and a chain can take several of them; where order is strict, they go from the last step to the first,
//! and it can take only one (SEMANTICS.md §2).

use super::scan::{Instant, Scan};
use crate::plan::Plan;
use crate::question::Tie;

/// How simultaneous events follow each other.
#[derive(Debug, Clone)]
pub(super) struct TieOrder {
    /// Number of steps.
    pub(super) steps: usize,
    /// From the last step to the first, rather than from the first to the last.
    pub(super) strict: bool,
}

impl TieOrder {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { steps: plan.required_steps(), strict: plan.question().tie == Tie::StrictlyAfter }
    }
}

/// Scratch memory for one visitor.
pub(super) struct Ties<T> {
    column: Vec<u8>,
    times: Vec<T>,
    /// Per place in the new order the place in the slice.
    order: Vec<u32>,
}

impl<T: Instant> Ties<T> {
    pub(super) fn new() -> Self {
        Self { column: Vec::new(), times: Vec::new(), order: Vec::new() }
    }

    /// Per place in the new order the place in the slice.
    pub(super) fn order(&mut self, scan: Scan<'_, T>, order: &TieOrder) -> &[u32] {
        self.order.clear();
        self.order.extend(0..scan.times.len() as u32);
        let rank = |place: &u32| {
            let code = scan.code(*place as usize);
            if order.strict { usize::MAX - code } else { code }
        };
        let same_instant = |left: &u32, right: &u32| scan.time(*left as usize) == scan.time(*right as usize);
        for tied in self.order.chunk_by_mut(same_instant).filter(|tied| tied.len() > 1) {
            // Stable, so that of two events that serve one step the first in the slice stays the first.
            tied.sort_by_key(rank);
        }
        &self.order
    }

    /// The visitor in the new order, and the place in the slice of each of its events.
    pub(super) fn resolve<'a>(&'a mut self, scan: Scan<'a, T>, order: &TieOrder) -> (Scan<'a, T>, &'a [u32]) {
        self.order(scan, order);
        self.column.clear();
        self.column.extend(self.order.iter().map(|place| scan.column[*place as usize]));
        self.times.clear();
        self.times.extend(self.order.iter().map(|place| scan.times[*place as usize]));
        (Scan { table: scan.table, column: &self.column, times: &self.times }, &self.order)
    }
}
