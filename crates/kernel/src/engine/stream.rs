//! The streaming engine: one pass over the instants of a unit, the chains worth keeping per level.
//!
//! Every condition on an edge is a lower bound on the instant of the previous event that never falls as time
//! moves on, and the window is a lower bound on the entry. So of two chains at a level, the one with neither a later entry
//! nor a later last event is not worth keeping. Mostly that leaves one, the newest: memory is proportional to the steps.

use super::frontier::{Chain, Frontier};
use super::group::Group;
use super::journey::Journey;
use super::points::Points;
use crate::plan::{Funnel, Plan, Segment};
use crate::question::Tie;

/// A level reached: when first, and by the latest entry among the chains that did so then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) level: usize,
    pub(super) completion: i64,
    pub(super) entry: i64,
}

/// The state of one pass.
#[derive(Debug)]
pub(super) struct Stream<'a> {
    pub(super) plan: &'a Plan,
    pub(super) funnel: &'a Funnel,
    pub(super) journey: &'a Journey,
    /// Only this instant may be an entry, if given.
    only_entry: Option<i64>,
    pub(super) strict: bool,
    /// State per level; level 0 is unused.
    levels: Vec<Level>,
    groups: Vec<Group>,
}

/// The state of one level.
#[derive(Debug, Clone, Default)]
struct Level {
    /// Chains that ended before the instant that is fed.
    chains: Frontier,
    /// Entry of the newest chain that ends at the instant that is fed.
    fresh: Option<i64>,
    /// If the level ends a group, the same among chains without an ordered step at the instant. Ordered steps on both
    /// sides of a group may compete for the events of one instant; only these chains leave all of them free.
    passing: Option<i64>,
    /// First completion.
    reached: Option<Reached>,
}

impl<'a> Stream<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        funnel: &'a Funnel,
        journey: &'a Journey,
        only_entry: Option<i64>,
    ) -> Self {
        let groups = funnel.segments.iter().filter(|segment| segment.any_order);
        Self {
            plan,
            funnel,
            journey,
            only_entry,
            strict: plan.question.tie == Tie::StrictlyAfter,
            levels: vec![Level::default(); funnel.length() + 1],
            groups: groups.map(|segment| Group::new(*segment)).collect(),
        }
    }

    /// Feeds the instant at index `at`; instants must ascend.
    pub(super) fn feed(&mut self, points: &Points, at: usize) {
        for level in &mut self.levels {
            (level.fresh, level.passing) = (None, None);
        }
        let funnel = self.funnel;
        for segment in &funnel.segments {
            if segment.any_order {
                self.feed_group(points, at, *segment);
            } else {
                self.feed_ordered(points, at, *segment);
            }
        }
        let time = points.times[at];
        for (at, level) in self.levels.iter_mut().enumerate() {
            if let Some(entry) = level.fresh {
                level.chains.push(Chain { entry, last: time });
                level.reached.get_or_insert(Reached { level: at, completion: time, entry });
            }
        }
    }

    fn feed_ordered(&mut self, points: &Points, at: usize, segment: Segment) {
        let time = points.times[at];
        let union = points.unions[at];
        for level in segment.start + 1..=segment.end {
            if union & self.funnel.bit(level) == 0 {
                continue;
            }
            // Steps `before + 1..=level` are served at this instant, by distinct events; the chain up to
            // `before` has no ordered step at it.
            let mut run = points.run(at, self.plan.question.reuse);
            run.add(self.funnel.bit(level));
            let mut before = level - 1;
            let mut entry = self.continued(before, time);
            while before > 0 && !self.strict {
                match self.groups.iter().find(|group| group.segment.end == before) {
                    Some(group) => {
                        let mask = self.funnel.mask(group.segment);
                        if union & mask != mask {
                            break;
                        }
                        before = group.segment.start;
                    }
                    None if run.add(self.funnel.bit(before)) => before -= 1,
                    None => break,
                }
                entry = entry.max(self.continued(before, time));
            }
            self.levels[level].fresh = entry;
        }
    }

    /// The latest entry with which an ordered step at `time` continues a chain at level `before`.
    fn continued(&self, before: usize, time: i64) -> Option<i64> {
        if before == 0 {
            return self.may_enter(time).then_some(time);
        }
        let floor = self.journey.floor(&self.funnel.edges[before + 1], time);
        let older =
            self.levels[before].chains.latest_entry(floor).filter(|entry| self.in_window(*entry, time));
        older.max(if self.strict { None } else { self.levels[before].passing })
    }

    fn feed_group(&mut self, points: &Points, at: usize, segment: Segment) {
        let time = points.times[at];
        let union = points.unions[at];
        if union & self.funnel.mask(segment) == 0 {
            return;
        }
        let Some(slot) = self.groups.iter().position(|group| group.segment.start == segment.start) else {
            return;
        };
        let (passing, newest) = if segment.start == 0 {
            let begun: Frontier =
                self.may_enter(time).then_some(Chain { entry: time, last: time }).into_iter().collect();
            (begun.clone(), begun)
        } else {
            let floor = self.journey.floor(&self.funnel.edges[segment.start + 1], time);
            let allowed = |chain: &Chain| chain.last >= floor && self.in_window(chain.entry, time);
            let older: Frontier = self.levels[segment.start].chains.iter().filter(allowed).collect();
            let here = |entry: Option<i64>| entry.map(|entry| Chain { entry, last: time });
            let with = |entry: Option<i64>| older.iter().chain(here(entry)).collect::<Frontier>();
            let passing = with(self.levels[segment.start].passing);
            let newest = with(self.levels[segment.start].fresh);
            (passing, newest)
        };
        // The group is taken out so that it can look at the rest of the state.
        let mut group = std::mem::replace(&mut self.groups[slot], Group::new(segment));
        let served = |step: usize| union & self.funnel.bit(segment.start + step + 1) != 0;
        group.serve(time, served);
        if !self.strict {
            group.begin(time, served, passing);
            self.levels[segment.end].passing = self.advanced(&group, segment.end, time);
            group.unbegin(time);
            group.begin(time, served, newest);
        } else {
            group.begin(time, served, passing);
        }
        for level in segment.start + 1..=segment.end {
            self.levels[level].fresh = self.advanced(&group, level, time);
        }
        self.groups[slot] = group;
    }

    /// The latest entry of a chain that reaches `level`, inside a group, by an event at `time`.
    fn advanced(&self, group: &Group, level: usize, time: i64) -> Option<i64> {
        let start = group.segment.start;
        // Exclusions that cover the whole group count from the last event before it. An exclusion that ends with
        // the group's first step was looked at when that step was done.
        let first = level == start + 1 || start == 0;
        let floor = if first { i64::MIN } else { self.journey.floor(&self.funnel.edges[level], time) };
        group.latest_entry(level - start, time, floor).filter(|entry| self.in_window(*entry, time))
    }

    fn may_enter(&self, time: i64) -> bool {
        let question = &self.plan.question;
        (question.from_ms..question.until_ms).contains(&time)
            && self.only_entry.is_none_or(|only| only == time)
    }

    fn in_window(&self, entry: i64, time: i64) -> bool {
        time - entry <= self.plan.question.window_ms
    }

    /// The furthest level reached, by the chain that counts.
    pub(super) fn best(&self) -> Option<Reached> {
        self.levels.iter().rev().find_map(|level| level.reached)
    }

    /// Whether the last instant completed the funnel.
    pub(super) fn converted_now(&self) -> bool {
        self.levels[self.funnel.length()].fresh.is_some()
    }

    /// Last instant at which a chain that ends at `time`, the last instant fed, can still advance.
    pub(super) fn patience(&self, time: i64) -> Option<i64> {
        let made = (1..self.funnel.length()).filter_map(|level| Some((level, self.levels[level].fresh?)));
        made.map(|(level, entry)| {
            let edge = &self.funnel.edges[level + 1];
            let taint = self.journey.taint_after(edge, time).unwrap_or(i64::MAX);
            let window_end = entry + self.plan.question.window_ms;
            let last = self.journey.patience(edge, time).min(taint).min(window_end);
            last.min(self.plan.steps_until_ms - 1)
        })
        .max()
    }

    /// Whether a chain can still advance at or after `as_of`.
    pub(super) fn alive(&self) -> bool {
        (1..self.funnel.length()).any(|level| {
            let mut chains = self.levels[level].chains.iter();
            chains.any(|chain| alive(self.plan, self.funnel, self.journey, level, chain))
        })
    }
}

/// Whether a chain at `level` (below the last) can still advance at or after `as_of`.
pub(super) fn alive(plan: &Plan, funnel: &Funnel, journey: &Journey, level: usize, chain: Chain) -> bool {
    let as_of = plan.question.as_of_ms;
    as_of <= chain.entry + plan.question.window_ms
        && as_of < plan.steps_until_ms
        && chain.last >= journey.floor(&funnel.edges[level + 1], as_of)
}
