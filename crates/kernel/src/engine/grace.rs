//! Grace: a step may lie a little before the one it follows, so chains are no longer ordered in time.
//!
//! One chain per level is then not enough. Every entry is searched on its own, level by level, over the instants at which
//! the level can be done. An instant is reached from any instant of the level before in one interval, whose ends
//! never fall as time moves on, so two binary searches decide. Where an event matches several steps, [`distinct`] also
//! remembers which events are used. The work is counted and limited; it is never cut short.

mod distinct;

use super::frontier::Chain;
use super::journey::Journey;
use super::points::Points;
use super::stream::{Reached, alive};
use crate::plan::{Funnel, Plan};

/// Instants and events that the search for one visitor may look at.
pub(super) const WORK_LIMIT: u64 = 1 << 24;

/// The visitor costs more than [`WORK_LIMIT`].
#[derive(Debug)]
pub(super) struct TooMuchWork;

/// A search over the chains of a unit.
pub(super) struct Grace<'a> {
    plan: &'a Plan,
    funnel: &'a Funnel,
    journey: &'a Journey,
    points: &'a Points,
    /// Whether an event could serve two steps of a chain, but must not.
    distinct: bool,
    /// Work so far, over all searches of the visitor.
    work: &'a mut u64,
}

impl<'a> Grace<'a> {
    pub(super) fn new(
        plan: &'a Plan,
        funnel: &'a Funnel,
        journey: &'a Journey,
        points: &'a Points,
        work: &'a mut u64,
    ) -> Self {
        let required = (1..=funnel.length()).fold(0, |mask, level| mask | funnel.bit(level));
        let several = |at: usize| points.masks(at).iter().any(|mask| (mask & required).count_ones() > 1);
        let distinct = !plan.question.reuse && (0..points.len()).any(several);
        Self { plan, funnel, journey, points, distinct, work }
    }

    /// The level that counts, over all entries or only one, and whether any chain can still advance.
    pub(super) fn best(&mut self, only_entry: Option<i64>) -> Result<(Option<Reached>, bool), TooMuchWork> {
        let question = &self.plan.question;
        let (mut best, mut any_alive): (Option<Reached>, bool) = (None, false);
        for at in 0..self.points.len() {
            let entry = self.points.times[at];
            let enters = self.points.unions[at] & self.funnel.bit(1) != 0
                && (question.from_ms..question.until_ms).contains(&entry)
                && only_entry.is_none_or(|only| only == entry);
            if !enters {
                continue;
            }
            let layers = self.layers(at)?;
            for (level, layer) in (1..).zip(&layers) {
                any_alive |= level < self.funnel.length()
                    && layer.iter().any(|last| {
                        let chain = Chain { entry, last: self.points.times[*last] };
                        alive(self.plan, self.funnel, self.journey, level, chain)
                    });
                // Instants ascend, so the first is the earliest completion; entries ascend, so the last best is latest.
                if let Some(first) = layer.first() {
                    let reached = Reached { level, completion: self.points.times[*first], entry };
                    let better = best.is_none_or(|best| {
                        level > best.level || (level == best.level && reached.completion <= best.completion)
                    });
                    best = if better { Some(reached) } else { best };
                }
            }
        }
        Ok((best, any_alive))
    }

    /// Instants of the steps of the chosen chain, lexicographically earliest.
    pub(super) fn times(&mut self, reached: Reached) -> Result<Vec<i64>, TooMuchWork> {
        let entry = self.points.at_or_after(reached.entry);
        let completion = self.points.at_or_after(reached.completion);
        if self.distinct {
            return self.distinct_times(entry, completion, reached.level);
        }
        let mut layers = self.layers(entry)?;
        layers.truncate(reached.level);
        if let Some(last) = layers.last_mut() {
            last.retain(|at| *at == completion);
        }
        for level in (1..layers.len()).rev() {
            let (earlier, later) = layers.split_at_mut(level);
            earlier[level - 1].retain(|here| self.continuation(level, *here, &later[0]).is_some());
        }
        let mut chosen = vec![entry];
        for (level, layer) in layers.iter().enumerate().skip(1) {
            chosen.extend(self.continuation(level, chosen[level - 1], layer));
            if chosen.len() == level {
                break;
            }
        }
        Ok(chosen.into_iter().map(|at| self.points.times[at]).collect())
    }

    /// The earliest instant of the next layer that can follow an instant of a level.
    fn continuation(&self, level: usize, here: usize, next: &[usize]) -> Option<usize> {
        let time = self.points.times[here];
        let at = next.partition_point(|next| self.reach(level, *next).1 < time);
        next.get(at).copied().filter(|next| self.reach(level, *next).0 <= time)
    }

    /// The instants of a level from which the next level can be done at `next`, both ends included.
    fn reach(&self, level: usize, next: usize) -> (i64, i64) {
        let edge = &self.funnel.edges[level + 1];
        let time = self.points.times[next];
        let latest = (time + self.plan.question.grace_ms).min(self.journey.undisturbed_until(edge, time));
        (self.journey.floor(edge, time), latest)
    }

    /// Per level, from level 1, the instants at which a chain from an entry can have done it.
    fn layers(&mut self, entry: usize) -> Result<Vec<Vec<usize>>, TooMuchWork> {
        if self.distinct {
            return self.distinct_layers(entry);
        }
        let end = self
            .points
            .at_or_after(self.points.times[entry].saturating_add(self.plan.question.window_ms + 1));
        let mut layers = vec![vec![entry]];
        for level in 1..self.funnel.length() {
            self.spend((end - entry) as u64)?;
            let before = &layers[level - 1];
            let reached = (entry..end).filter(|next| {
                if self.points.unions[*next] & self.funnel.bit(level + 1) == 0 {
                    return false;
                }
                let (earliest, latest) = self.reach(level, *next);
                let first = before.partition_point(|here| self.points.times[*here] < earliest);
                before.get(first).is_some_and(|here| self.points.times[*here] <= latest)
            });
            let reached = reached.collect();
            layers.push(reached);
        }
        Ok(layers)
    }

    fn spend(&mut self, work: u64) -> Result<(), TooMuchWork> {
        *self.work += work;
        if *self.work > WORK_LIMIT { Err(TooMuchWork) } else { Ok(()) }
    }
}
