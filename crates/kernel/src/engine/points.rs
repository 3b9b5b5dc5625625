//! Events that can serve chains, grouped by instant, and which runs of steps one instant can serve.

use std::ops::Range;

use super::journey::Journey;

/// The events of a unit that match a step, grouped by instant.
#[derive(Debug, Default)]
pub(super) struct Points {
    /// Instants, ascending and distinct.
    pub(super) times: Vec<i64>,
    /// Per instant all steps that an event at it matches.
    pub(super) unions: Vec<u32>,
    /// Per instant whether one of its events matches several steps, so that distinctness needs a matching.
    overlapping: Vec<bool>,
    /// Per instant where its events begin in `masks`; one more for the end.
    starts: Vec<usize>,
    masks: Vec<u32>,
}

impl Points {
    /// Groups events of a journey, given by ascending index.
    pub(super) fn build(&mut self, journey: &Journey, events: impl Iterator<Item = usize>) {
        self.times.clear();
        self.unions.clear();
        self.overlapping.clear();
        self.starts.clear();
        self.masks.clear();
        for event in events {
            let (time, mask) = (journey.times[event], journey.steps[event]);
            if mask == 0 {
                continue;
            }
            if self.times.last() != Some(&time) {
                self.times.push(time);
                self.unions.push(0);
                self.overlapping.push(false);
                self.starts.push(self.masks.len());
            }
            let at = self.times.len() - 1;
            self.unions[at] |= mask;
            self.overlapping[at] |= !mask.is_power_of_two();
            self.masks.push(mask);
        }
        self.starts.push(self.masks.len());
    }

    /// Number of instants.
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// Index of the first instant at or after `time`.
    pub(super) fn at_or_after(&self, time: i64) -> usize {
        self.times.partition_point(|instant| *instant < time)
    }

    /// Masks of the events at an instant.
    pub(super) fn masks(&self, at: usize) -> &[u32] {
        &self.masks[self.starts[at]..self.starts[at + 1]]
    }

    /// The first instant in `within` at which an event matches `steps` and `holds` is true of the time.
    pub(super) fn first(
        &self,
        within: Range<usize>,
        steps: u32,
        holds: impl Fn(i64) -> bool,
    ) -> Option<usize> {
        within.into_iter().find(|at| self.unions[*at] & steps != 0 && holds(self.times[*at]))
    }

    /// An empty set of steps to be served by distinct events at one instant.
    pub(super) fn run(&self, at: usize, reuse: bool) -> Run<'_> {
        let distinct = self.overlapping[at] && !reuse;
        Run {
            union: self.unions[at],
            masks: if distinct { self.masks(at) } else { &[] },
            distinct,
            owner: Vec::new(),
        }
    }
}

/// A set of steps served at one instant by distinct events (or by any, where events may be reused).
#[derive(Debug)]
pub(super) struct Run<'a> {
    union: u32,
    masks: &'a [u32],
    distinct: bool,
    /// Step bit that each event serves, 0 for none.
    owner: Vec<u32>,
}

impl Run<'_> {
    /// Adds a step if the set can still be served; answers whether it was added.
    pub(super) fn add(&mut self, step: u32) -> bool {
        if self.union & step == 0 {
            return false;
        }
        if !self.distinct {
            // Every event matches one step, so different steps are served by different events.
            return true;
        }
        self.owner.resize(self.masks.len(), 0);
        let mut visited = vec![false; self.masks.len()];
        self.augment(step, &mut visited)
    }

    /// One augmenting path of bipartite matching (H. W. Kuhn, 1955); its depth is at most the number of steps.
    fn augment(&mut self, step: u32, visited: &mut [bool]) -> bool {
        for event in 0..self.masks.len() {
            if self.masks[event] & step == 0 || visited[event] {
                continue;
            }
            visited[event] = true;
            let owner = self.owner[event];
            if owner == 0 || self.augment(owner, visited) {
                self.owner[event] = step;
                return true;
            }
        }
        false
    }
}
