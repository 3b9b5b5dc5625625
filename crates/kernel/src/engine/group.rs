//! What the streaming engine remembers of an any-order group.

use super::frontier::Frontier;
use crate::plan::Segment;

/// The events of a group so far.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) segment: Segment,
    /// Latest event of each step.
    latest: Vec<Option<i64>>,
    /// Per step the events that can be the first of the group in some chain. A history is needed, because a chain
    /// that does several steps begins in the past.
    starters: Vec<Vec<Starter>>,
}

/// An event that can be the first of the group.
#[derive(Debug)]
struct Starter {
    at: i64,
    /// Chains that this or an earlier starter of the step can continue, by entry and last event before the group.
    before: Frontier,
}

impl Group {
    pub(super) fn new(segment: Segment) -> Self {
        let steps = segment.end - segment.start;
        Self { segment, latest: vec![None; steps], starters: (0..steps).map(|_| Vec::new()).collect() }
    }

    /// Notes the steps served at `time`.
    pub(super) fn serve(&mut self, time: i64, served: impl Fn(usize) -> bool) {
        for (step, latest) in self.latest.iter_mut().enumerate() {
            if served(step) {
                *latest = Some(time);
            }
        }
    }

    /// Lets the events at `time` be the first of the group after any of the chains `before`.
    pub(super) fn begin(&mut self, time: i64, served: impl Fn(usize) -> bool, before: Frontier) {
        if before.iter().next().is_none() {
            return;
        }
        for (step, starters) in self.starters.iter_mut().enumerate() {
            if served(step) {
                let mut all = starters.last().map(|starter| starter.before.clone()).unwrap_or_default();
                before.iter().for_each(|chain| all.insert(chain));
                starters.push(Starter { at: time, before: all });
            }
        }
    }

    /// Takes back [`Group::begin`] at `time`.
    pub(super) fn unbegin(&mut self, time: i64) {
        for starters in &mut self.starters {
            if starters.last().is_some_and(|starter| starter.at == time) {
                starters.pop();
            }
        }
    }

    /// The latest entry of a chain that has done `count` steps of the group, the last of them at `time`, and whose last
    /// event before the group is at or after `floor`.
    pub(super) fn latest_entry(&self, count: usize, time: i64, floor: i64) -> Option<i64> {
        let mut newest: Vec<(i64, usize)> = Vec::with_capacity(self.latest.len());
        newest.extend(self.latest.iter().enumerate().filter_map(|(step, latest)| Some(((*latest)?, step))));
        if newest.len() < count {
            return None;
        }
        newest.sort_unstable_by(|left, right| right.cmp(left));
        let begun_by = |step: usize| {
            // The other steps must be done at or after the first one, and one of them at `time`, unless the first
            // is the only one.
            let mut others = newest.iter().filter(|(_, other)| *other != step);
            let begins = match count {
                1 => time,
                _ if others.clone().next()?.0 == time => others.nth(count - 2)?.0,
                _ => return None,
            };
            let starters = &self.starters[step];
            let newer = starters.partition_point(|starter| starter.at <= begins);
            let starter = &starters[newer.checked_sub(1)?];
            if count == 1 && starter.at < time {
                return None;
            }
            starter.before.latest_entry(floor)
        };
        (0..self.starters.len()).filter_map(begun_by).max()
    }
}
