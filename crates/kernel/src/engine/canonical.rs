//! The instants of the steps of the chosen chain: of all chains with its entry, level and completion, the
//! lexicographically earliest.
//!
//! Backward over the segments of the funnel: from which instants can the rest of the chain still be completed?
//! Then forward, always taking the earliest such instant.

mod group;

use self::group::GroupTable;
use super::journey::Journey;
use super::points::Points;
use super::stream::Reached;
use crate::plan::{Funnel, Plan, Segment};
use crate::question::Tie;

/// What the search knows. Instants are counted from that of the entry.
pub(super) struct Search<'a> {
    plan: &'a Plan,
    funnel: &'a Funnel,
    journey: &'a Journey,
    points: &'a Points,
    /// Index in `points` of the entry's instant.
    entry: usize,
    /// Number of instants from the entry to the completion.
    count: usize,
    /// Level of the chosen chain.
    level: usize,
    strict: bool,
}

/// From which instants of a segment's last event the rest of the chain can be completed.
#[derive(Debug, Clone)]
struct Completes {
    /// If the rest may begin at the same instant.
    free: Vec<bool>,
    /// If ordered steps of the rest must be later, because an ordered step before the segment is at the same instant
    /// and may compete for its events. Runs that pass through a group look at both sides together.
    bound: Vec<bool>,
}

/// Instants of levels `1..=reached.level` of the chosen chain.
pub(super) fn times(
    plan: &Plan,
    funnel: &Funnel,
    journey: &Journey,
    points: &Points,
    reached: Reached,
) -> Vec<i64> {
    if reached.level == 1 {
        return vec![reached.entry];
    }
    let entry = points.at_or_after(reached.entry);
    let count = points.at_or_after(reached.completion) + 1 - entry;
    let strict = plan.question.tie == Tie::StrictlyAfter;
    let search = Search { plan, funnel, journey, points, entry, count, level: reached.level, strict };
    search.times()
}

impl Search<'_> {
    fn times(&self) -> Vec<i64> {
        let ends: Vec<bool> = (0..self.count).map(|here| here + 1 == self.count).collect();
        let mut completes = Completes { free: ends.clone(), bound: ends };
        let mut ordered = Ordered { leaving: vec![0; self.count], entering: vec![0; self.count] };
        let mut groups: Vec<GroupTable> = Vec::new();
        let segments = self.funnel.segments.iter().filter(|segment| segment.start < self.level);
        for segment in segments.rev() {
            if segment.any_order {
                let table = GroupTable::new(self, *segment, completes);
                completes = table.completes(self);
                groups.push(table);
            } else {
                completes = ordered.prepend(self, *segment, &completes);
            }
        }
        let mut chosen: Vec<usize> = Vec::with_capacity(self.level);
        // Whether the last instant chosen holds an ordered step, so that ordered steps after it must be later.
        let mut bound = false;
        while chosen.len() < self.level {
            let before = chosen.last().copied();
            let more = match groups.iter().find(|table| table.segment.start == chosen.len()) {
                Some(table) => {
                    let instants = table.choose(self, before, bound).unwrap_or_default();
                    bound &= instants.last() == before.as_ref();
                    instants
                }
                None => {
                    let from = before.map_or(0, |last| last + usize::from(self.strict || bound));
                    bound = true;
                    ordered.run(self, chosen.len(), from)
                }
            };
            if more.is_empty() {
                break;
            }
            chosen.extend(more);
        }
        chosen.into_iter().map(|here| self.time(here)).collect()
    }

    fn time(&self, here: usize) -> i64 {
        self.points.times[self.entry + here]
    }

    fn union(&self, here: usize) -> u32 {
        self.points.unions[self.entry + here]
    }

    /// Whether the chain may go from level `level` at instant `here` to the next level at instant `next`.
    fn connects(&self, level: usize, here: usize, next: usize) -> bool {
        self.time(here) >= self.journey.floor(&self.funnel.edges[level + 1], self.time(next))
    }

    fn group_ending_at(&self, level: usize) -> Option<Segment> {
        let segments = &self.funnel.segments;
        segments.iter().find(|segment| segment.any_order && segment.end == level).copied()
    }

    fn group_beginning_at(&self, level: usize) -> Option<Segment> {
        let segments = &self.funnel.segments;
        segments.iter().find(|segment| segment.any_order && segment.start == level).copied()
    }

    fn holds_group(&self, here: usize, group: Segment) -> bool {
        let mask = self.funnel.mask(group);
        self.union(here) & mask == mask
    }
}

/// Backward answers for ordered steps, per instant.
struct Ordered {
    /// Bit `k`: a chain at level `k`, its last step here and no more ordered steps here, completes.
    leaving: Vec<u64>,
    /// Bit `k`: a chain at level `k` without an ordered step here that does its next step here completes.
    entering: Vec<u64>,
}

impl Ordered {
    /// Answers for the segment before those known so far, given from where the rest completes.
    fn prepend(&mut self, search: &Search<'_>, segment: Segment, after: &Completes) -> Completes {
        let end = segment.end.min(search.level);
        let mut completes = Completes { free: vec![false; search.count], bound: vec![false; search.count] };
        // Nearest later instant per level at which the chain can go on. The nearest has the lowest floor.
        let mut next: [Option<usize>; 33] = [None; 33];
        for here in (0..search.count).rev() {
            let reachable = |level: usize, next: Option<usize>| {
                next.is_some_and(|next| search.connects(level, here, next))
            };
            for level in segment.start + 1..=end {
                let leaves = if level == end {
                    after.bound[here]
                } else {
                    reachable(level, next.get(level).copied().flatten())
                };
                self.leaving[here] |= u64::from(leaves) << level;
            }
            for level in
                (segment.start + 1..=search.level).filter(|level| self.leaving[here] >> level & 1 != 0)
            {
                self.entering[here] |= run_down(search, here, segment.start, level);
            }
            let here_too = self.entering[here] >> segment.start & 1 != 0 && !search.strict;
            completes.bound[here] = segment.start > 0 && reachable(segment.start, next[segment.start]);
            completes.free[here] = completes.bound[here] && !here_too
                || here_too && segment.start > 0 && search.connects(segment.start, here, here);
            for (level, next) in next.iter_mut().enumerate() {
                if self.entering[here] >> level & 1 != 0 {
                    *next = Some(here);
                }
            }
        }
        completes
    }

    /// Instants of the steps after `level` up to the end of a run: the nearest instant from which the chain completes,
    /// and there the longest run, is the lexicographically earliest choice. The run may pass through groups.
    fn run(&self, search: &Search<'_>, level: usize, from: usize) -> Vec<usize> {
        let goes_on = |here: &usize| self.entering[*here] >> level & 1 != 0;
        let Some(here) = (from..search.count).find(goes_on) else {
            return Vec::new();
        };
        let mut run = search.points.run(search.entry + here, search.plan.question.reuse);
        let (mut furthest, mut further) = (level, level);
        while further < search.level {
            match search.group_beginning_at(further) {
                Some(group) if search.holds_group(here, group) => further = group.end,
                None if run.add(search.funnel.bit(further + 1)) => further += 1,
                _ => break,
            }
            if further <= search.level && self.leaving[here] >> further & 1 != 0 {
                furthest = further;
            }
            if search.strict {
                break;
            }
        }
        vec![here; furthest - level]
    }
}

/// Bits of the levels, down to `lowest`, from which a run of steps at one instant can lead to `level`.
fn run_down(search: &Search<'_>, here: usize, lowest: usize, level: usize) -> u64 {
    let mut run = search.points.run(search.entry + here, search.plan.question.reuse);
    let mut entering = 0;
    let mut at = level;
    while at > lowest {
        match search.group_ending_at(at) {
            Some(group) if search.holds_group(here, group) => at = group.start,
            None if run.add(search.funnel.bit(at)) => {
                at -= 1;
                entering |= 1 << at;
            }
            _ => break,
        }
        if search.strict {
            break;
        }
    }
    entering
}
