//! Every chain there is, by depth-first search over events.

use super::Event;
use crate::plan::Plan;
use crate::question::{Question, Tie};

/// A chain of required steps: where it begins, and the instants of its levels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    /// The step at which it begins.
    pub(super) entered: usize,
    /// The held code, if one is asked for.
    pub(super) code: Option<u32>,
    /// Instants of levels 1, 2, …; inside a group ascending.
    pub(super) times: Vec<i64>,
}

/// Where chains are looked for.
pub(super) struct Search<'a> {
    pub(super) plan: &'a Plan,
    /// The events of the unit.
    pub(super) events: &'a [Event],
    /// All events of the visitor.
    pub(super) visitor: &'a [Event],
    /// Only later events may serve.
    after: i64,
}

/// A chain being written down.
struct Draft {
    chain: Chain,
    used: Vec<usize>,
    /// Steps done, in the order in which they were.
    done: Vec<usize>,
}

impl<'a> Search<'a> {
    pub(super) fn new(plan: &'a Plan, events: &'a [Event], visitor: &'a [Event], after: i64) -> Self {
        Self { plan, events, visitor, after }
    }

    fn question(&self) -> &Question {
        self.plan.question()
    }

    /// The required steps from `entered` on.
    pub(super) fn levels(&self, entered: usize) -> Vec<usize> {
        (entered..self.question().steps.len()).filter(|step| !self.question().steps[*step].optional).collect()
    }

    /// The group of a step, as its steps.
    fn group(&self, step: usize) -> Vec<usize> {
        let group = self.question().groups.iter().find(|group| group.contains(&step));
        group.map_or(vec![step], |group| group.clone().collect())
    }

    /// Every chain and every prefix of one that begins at step `entered`.
    pub(super) fn chains(&self, entered: usize, code: Option<u32>) -> Vec<Chain> {
        let mut found = Vec::new();
        let mut draft =
            Draft { chain: Chain { entered, code, times: Vec::new() }, used: Vec::new(), done: Vec::new() };
        self.extend(&self.levels(entered), &mut draft, &mut found);
        found.sort_unstable_by(|left, right| left.times.cmp(&right.times));
        found.dedup();
        found
    }

    fn extend(&self, levels: &[usize], draft: &mut Draft, found: &mut Vec<Chain>) {
        if !draft.chain.times.is_empty() {
            found.push(draft.chain.clone());
        }
        let Some(position) = levels.get(draft.done.len()).copied() else {
            return;
        };
        let group = self.group(position);
        for (at, event) in self.events.iter().enumerate() {
            // Inside a group an event serves the lowest step that it matches.
            let Some(step) = group.iter().copied().find(|step| event.steps[*step]) else {
                continue;
            };
            let spent = draft.used.contains(&at) && !self.question().reuse;
            let foreign = draft.chain.code.is_some_and(|code| code != event.hold);
            if spent || foreign || draft.done.contains(&step) || event.time <= self.after {
                continue;
            }
            draft.chain.times.push(event.time);
            if self.valid(&draft.chain) {
                draft.used.push(at);
                draft.done.push(step);
                self.extend(levels, draft, found);
                draft.used.pop();
                draft.done.pop();
            }
            draft.chain.times.pop();
        }
    }

    /// Whether a chain whose prefixes are all valid is valid too.
    fn valid(&self, chain: &Chain) -> bool {
        let question = self.question();
        let times = &chain.times;
        let (entry, last) = (times[0], times[times.len() - 1]);
        let enters = question.from_ms <= entry && entry < question.until_ms;
        if !enters || last < entry || last > entry + question.window_ms {
            return false;
        }
        let level = times.len();
        if level == 1 {
            return true;
        }
        let levels = self.levels(chain.entered);
        let previous = times[level - 2];
        let same_group = self.group(levels[level - 1]).contains(&levels[level - 2]);
        let ordered = if question.grace_ms > 0 {
            last >= previous - question.grace_ms
        } else if question.tie == Tie::StrictlyAfter && !same_group {
            last > previous
        } else {
            last >= previous
        };
        let step = &question.steps[levels[level - 1]];
        let in_time = step.max_ms.is_none_or(|max| last - previous <= max);
        let (low, high) = (previous.min(last), previous.max(last));
        let direct = !step.direct || !self.visitor.iter().any(|e| e.scope && low < e.time && e.time < high);
        let clean = self.spanning(chain.entered, level).into_iter().all(|(exclusion, ends)| {
            !self.visitor.iter().any(|event| {
                let inside = previous < event.time && (event.time < last || event.time == last && !ends);
                event.excludes[exclusion] && inside
            })
        });
        ordered && in_time && direct && clean
    }

    /// The exclusions that span the edge into a level, and whether they end with it.
    pub(super) fn spanning(&self, entered: usize, level: usize) -> Vec<(usize, bool)> {
        let levels = self.levels(entered);
        let level_of = |step| levels.iter().position(|other| *other == step).map(|at| at + 1);
        let exclusions = self.question().exclusions.iter().enumerate();
        let spanning = exclusions.filter_map(|(at, exclusion)| {
            let (after, before) = (level_of(exclusion.after_step)?, level_of(exclusion.before_step)?);
            (after < level && level <= before).then_some((at, level == before))
        });
        spanning.collect()
    }

    /// The first excluding event after an instant that spans the edge into a level.
    pub(super) fn taint(&self, entered: usize, level: usize, after: i64) -> Option<i64> {
        let spanning = self.spanning(entered, level);
        let taints = |event: &&Event| {
            event.time > after && spanning.iter().any(|(exclusion, _)| event.excludes[*exclusion])
        };
        self.visitor.iter().filter(taints).map(|event| event.time).min()
    }

    /// The last instant at which a chain can still take its next step as far as time goes: window, maximum, end
    /// of the range where later steps must lie in it.
    fn deadline(&self, chain: &Chain) -> i64 {
        let levels = self.levels(chain.entered);
        let next = &self.question().steps[levels[chain.times.len()]];
        let by_max = next.max_ms.map_or(i64::MAX, |max| chain.times[chain.times.len() - 1] + max);
        (chain.times[0] + self.question().window_ms).min(by_max)
    }

    /// As [`Search::deadline`], and the first event that breaks a direct edge.
    pub(super) fn patience(&self, chain: &Chain) -> i64 {
        let levels = self.levels(chain.entered);
        let last = chain.times[chain.times.len() - 1];
        let scope =
            self.visitor.iter().filter(|event| event.scope && event.time > last).map(|event| event.time);
        let broken = if self.question().steps[levels[chain.times.len()]].direct { scope.min() } else { None };
        self.deadline(chain).min(broken.unwrap_or(i64::MAX))
    }

    /// The last instant at which an incomplete chain is alive.
    pub(super) fn alive_until(&self, chain: &Chain) -> i64 {
        let last = chain.times[chain.times.len() - 1];
        let taint = self.taint(chain.entered, chain.times.len() + 1, last).unwrap_or(i64::MAX);
        self.patience(chain).min(taint).min(self.plan.steps_until_ms.saturating_sub(1))
    }

    /// Whether a chain is incomplete and can still advance at or after `as_of`.
    pub(super) fn alive(&self, chain: &Chain) -> bool {
        let as_of = self.question().as_of_ms;
        let levels = self.levels(chain.entered);
        let level = chain.times.len();
        if level == levels.len() {
            return false;
        }
        let last = chain.times[level - 1];
        let step = &self.question().steps[levels[level]];
        let broken = step.direct && self.visitor.iter().any(|event| event.scope && event.time > last);
        let tainted = self.taint(chain.entered, level + 1, last).is_some();
        as_of <= self.deadline(chain) && as_of < self.plan.steps_until_ms && !broken && !tainted
    }
}
