//! The earliest instants of the steps of an any-order group, given where the chain before it ends.

use super::{Completes, Search};
use crate::plan::Segment;

/// Where the steps of a group occur.
pub(super) struct GroupTable {
    pub(super) segment: Segment,
    /// How many of the group's steps the chain does.
    done: usize,
    /// From which instants of the group's last event the rest of the chain completes.
    after: Completes,
    /// Per step and instant the nearest instant, there or later, with an event of the step.
    next: Vec<Vec<Option<usize>>>,
    /// The same among the instants from which the rest completes.
    next_completing: Vec<Vec<Option<usize>>>,
}

impl GroupTable {
    pub(super) fn new(search: &Search<'_>, segment: Segment, after: Completes) -> Self {
        let nearest = |holds: &dyn Fn(usize) -> bool| {
            let mut nearest = vec![None; search.count + 1];
            for here in (0..search.count).rev() {
                nearest[here] = if holds(here) { Some(here) } else { nearest[here + 1] };
            }
            nearest
        };
        let (mut next, mut next_completing) = (Vec::new(), Vec::new());
        for level in segment.start + 1..=segment.end {
            let occurs = |here: usize| search.union(here) & search.funnel.bit(level) != 0;
            next.push(nearest(&occurs));
            next_completing.push(nearest(&|here| after.free[here] && occurs(here)));
        }
        Self { segment, done: segment.end.min(search.level) - segment.start, after, next, next_completing }
    }

    /// From which instants of level `segment.start` the chain completes.
    pub(super) fn completes(&self, search: &Search<'_>) -> Completes {
        let from = |bound: bool| {
            let completes = |here| self.segment.start > 0 && self.choose(search, Some(here), bound).is_some();
            (0..search.count).map(completes).collect()
        };
        Completes { free: from(false), bound: from(true) }
    }

    /// The lexicographically earliest instants of the group's steps, `before` being that of the event before the group,
    /// or `None` if the group begins the chain. `bound` says that the instant `before` holds an ordered step.
    pub(super) fn choose(
        &self,
        search: &Search<'_>,
        before: Option<usize>,
        bound: bool,
    ) -> Option<Vec<usize>> {
        let from = before.map_or(0, |here| here + usize::from(search.strict));
        let mut firsts: Vec<(usize, usize)> = Vec::new();
        for (step, next) in self.next.iter().enumerate() {
            firsts.extend(next.get(from).copied().flatten().map(|here| (here, step)));
        }
        firsts.sort_unstable();
        let last = firsts.get(self.done - 1)?.0;
        let earliest: Vec<usize> = firsts[..self.done].iter().map(|(here, _)| *here).collect();
        // If the chain ends inside the group, its completion is the earliest there is, so firsts reach it exactly.
        let rest = if bound && before == Some(last) { &self.after.bound } else { &self.after.free };
        if rest[last] {
            return self.allowed(search, before, &earliest).then_some(earliest);
        }
        if self.done < self.next.len() {
            return None;
        }
        // One step must happen later for the rest to follow. Which one decides which instants stay early.
        let moved = (0..firsts.len()).filter_map(|moved| {
            let later = self.next_completing[firsts[moved].1][last + 1]?;
            let mut instants = earliest.clone();
            instants.remove(moved);
            instants.push(later);
            self.allowed(search, before, &instants).then_some(instants)
        });
        moved.min()
    }

    /// Whether exclusions (and, if the group begins the chain, the entry) allow these instants.
    fn allowed(&self, search: &Search<'_>, before: Option<usize>, instants: &[usize]) -> bool {
        let Some(before) = before else {
            return instants[0] == 0;
        };
        let last = instants.len() - 1;
        search.connects(self.segment.start, before, instants[0])
            && (last == 0 || search.connects(self.segment.start + last, before, instants[last]))
    }
}
