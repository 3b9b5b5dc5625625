//! The search with grace where an event could serve several steps of a chain, but may serve only one.

use std::collections::BTreeSet;

use super::{Grace, TooMuchWork};

/// Where a chain stands: the instant of its last event, and the events used that match several steps and that the
/// chain can still come back to. An event that matches one step can serve only that step and need not be remembered.
type Standing = (usize, Vec<(usize, usize)>);

impl Grace<'_> {
    /// As [`Grace::layers`].
    pub(super) fn distinct_layers(&mut self, entry: usize) -> Result<Vec<Vec<usize>>, TooMuchWork> {
        let standings = self.standings(entry, self.funnel.length())?;
        let instants = |layer: &BTreeSet<Standing>| {
            let mut instants: Vec<usize> = layer.iter().map(|(last, _)| *last).collect();
            instants.dedup();
            instants
        };
        Ok(standings.iter().map(instants).collect())
    }

    /// As [`Grace::times`].
    pub(super) fn distinct_times(
        &mut self,
        entry: usize,
        completion: usize,
        level: usize,
    ) -> Result<Vec<i64>, TooMuchWork> {
        let mut layers = self.standings(entry, level)?;
        if let Some(last) = layers.last_mut() {
            last.retain(|(at, _)| *at == completion);
        }
        for level in (1..layers.len()).rev() {
            let mut kept = BTreeSet::new();
            for standing in &layers[level - 1] {
                let continued = self.continuations(entry, level, standing)?;
                if continued.iter().any(|next| layers[level].contains(next)) {
                    kept.insert(standing.clone());
                }
            }
            layers[level - 1] = kept;
        }
        let mut chosen = Vec::new();
        let mut here = layers.first().cloned().unwrap_or_default();
        for level in 1..=layers.len() {
            let Some(first) = here.first().map(|(at, _)| *at) else {
                break;
            };
            chosen.push(self.points.times[first]);
            let mut next = BTreeSet::new();
            if level < layers.len() {
                for standing in here.iter().filter(|(at, _)| *at == first) {
                    let continued = self.continuations(entry, level, standing)?;
                    next.extend(continued.into_iter().filter(|next| layers[level].contains(next)));
                }
            }
            here = next;
        }
        Ok(chosen)
    }

    /// All standings per level, from level 1, of the chains that enter at an instant.
    fn standings(&mut self, entry: usize, levels: usize) -> Result<Vec<BTreeSet<Standing>>, TooMuchWork> {
        let mut first = Vec::new();
        self.serve(entry, 1, &[], &mut first);
        let mut layers = vec![BTreeSet::from_iter(first)];
        for level in 1..levels {
            let mut next = BTreeSet::new();
            for standing in &layers[level - 1] {
                next.extend(self.continuations(entry, level, standing)?);
            }
            layers.push(next);
        }
        Ok(layers)
    }

    /// Standings at `level + 1` that follow from one at `level`.
    fn continuations(
        &mut self,
        entry: usize,
        level: usize,
        (last, used): &Standing,
    ) -> Result<Vec<Standing>, TooMuchWork> {
        let times = &self.points.times;
        let from = self.points.at_or_after((times[*last] - self.plan.question.grace_ms).max(times[entry]));
        let end = self.points.at_or_after(times[entry].saturating_add(self.plan.question.window_ms + 1));
        let mut found = Vec::new();
        let mut looked_at = 0;
        for at in from..end {
            looked_at += 1;
            let (earliest, latest) = self.reach(level, at);
            if (earliest..=latest).contains(&times[*last]) {
                looked_at += self.points.masks(at).len() as u64;
                self.serve(at, level + 1, used, &mut found);
            }
        }
        self.spend(looked_at)?;
        Ok(found)
    }

    /// The ways in which an unused event at an instant can serve the step of a level. An event that matches nothing
    /// else is the best choice; among events that match the same steps any is as good as another.
    fn serve(&self, at: usize, level: usize, used: &[(usize, usize)], found: &mut Vec<Standing>) {
        let step = self.funnel.bit(level);
        let masks = self.points.masks(at);
        // The steps that remain can lead back by the grace each; events before that are out of reach.
        let remaining = (self.funnel.length() - level) as i64;
        let reachable = self.points.times[at] - remaining * self.plan.question.grace_ms;
        let mut kept: Vec<_> =
            used.iter().copied().filter(|(point, _)| self.points.times[*point] >= reachable).collect();
        if masks.contains(&step) {
            found.push((at, kept));
            return;
        }
        let mut tried = Vec::new();
        for (place, mask) in masks.iter().enumerate() {
            if mask & step != 0 && !used.contains(&(at, place)) && !tried.contains(mask) {
                tried.push(*mask);
                kept.push((at, place));
                let mut sorted = kept.clone();
                sorted.sort_unstable();
                found.push((at, sorted));
                kept.pop();
            }
        }
    }
}
