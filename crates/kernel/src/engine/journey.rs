//! One visitor as the engine sees it: what each visible event matches, and where exclusions and the direct scope lie.

use std::ops::Range;

use crate::plan::{EXCLUSION_BIT, Edge, Plan};
use crate::slice::{Columns, Slice, bit};

/// The visible events of one visitor, and the instants that break chains.
#[derive(Debug, Default)]
pub(super) struct Journey {
    /// Index in the slice of the visitor's first event.
    pub(super) base: usize,
    /// Instants of the visible events, as the question reads them.
    pub(super) times: Vec<i64>,
    /// The same as they are.
    exact: Vec<i64>,
    /// Mask of the steps that each visible event matches. An event of an any-order group has one bit only, that of
    /// the lowest step of the group that it matches.
    pub(super) steps: Vec<u32>,
    /// Per exclusion the instants of its excluding events, ascending.
    excluding: Vec<Vec<i64>>,
    /// Instants of the events of the direct scope, ascending; empty if no edge is direct.
    scope: Vec<i64>,
}

impl Journey {
    /// Reads a visitor anew.
    pub(super) fn gather(&mut self, plan: &Plan, slice: &Slice<'_>, columns: &Columns<'_>, visitor: usize) {
        let range = slice.range(visitor);
        self.base = range.start;
        self.times.clear();
        self.exact.clear();
        self.steps.clear();
        self.scope.clear();
        self.excluding.resize(plan.question.exclusions.len(), Vec::new());
        self.excluding.iter_mut().for_each(Vec::clear);
        let mut seen_ever = 0;
        for event in range {
            // Instants ascend by the slice's promise. If it is broken, an instant is read as the one before, so that
            // everything behind this line can rely on the order.
            let exact = slice.time(event).max(self.exact.last().copied().unwrap_or(i64::MIN));
            if exact >= plan.visible_until_ms {
                break;
            }
            let time = plan.question.read(exact);
            let mask = plan.matcher.mask(slice, columns, event);
            let mut steps = mask as u32;
            let repeated = steps & seen_ever;
            seen_ever |= steps & plan.first_ever;
            steps &= !repeated;
            if steps == 0 {
                for (exclusion, times) in self.excluding.iter_mut().enumerate() {
                    if mask >> (EXCLUSION_BIT + exclusion) & 1 != 0 {
                        times.push(time);
                    }
                }
            } else if plan.group_of[steps.trailing_zeros() as usize] != 0 {
                steps &= steps.wrapping_neg();
            }
            if plan.needs_scope && columns.scope.is_none_or(|scope| bit(scope, event)) {
                self.scope.push(time);
            }
            self.times.push(time);
            self.exact.push(exact);
            self.steps.push(steps);
        }
    }

    /// The sessions: the visible events that belong to each, as a range, and the instant of its last one on the site. Events
    /// off the site belong to the session of the one on the site before them, if they lie at most `gap_ms` after it.
    pub(super) fn sessions(&self, columns: &Columns<'_>, gap_ms: i64) -> Vec<(Range<usize>, i64)> {
        let mut sessions: Vec<(Range<usize>, i64)> = Vec::new();
        for (event, &time) in self.exact.iter().enumerate() {
            let off = columns.off_site.is_some_and(|off_site| bit(off_site, self.base + event));
            match sessions.last_mut().filter(|(_, last_ms)| time - *last_ms <= gap_ms) {
                Some((range, last_ms)) => {
                    range.end = event + 1;
                    *last_ms = if off { *last_ms } else { time };
                }
                None if off => {}
                None => sessions.push((event..event + 1, time)),
            }
        }
        sessions
    }

    /// The earliest instant that the previous event of a chain may have for `edge` to end at `at`: a bound that never
    /// falls as `at` rises, which is why the newest chain of a level is the only one worth keeping.
    pub(super) fn floor(&self, edge: &Edge, at: i64) -> i64 {
        let mut floor = edge.max_ms.map_or(i64::MIN, |max| at - max);
        if edge.direct {
            floor = floor.max(last_before(&self.scope, at));
        }
        for span in &edge.spans {
            let bound = if span.closes { at } else { at + 1 };
            floor = floor.max(last_before(&self.excluding[span.exclusion], bound));
        }
        floor
    }

    /// The latest instant that the previous event of a chain may have for `edge` to end at `at` before it, as far as the
    /// direct scope goes. [`Journey::floor`] covers edges that rise; this is for those that grace lets fall.
    pub(super) fn undisturbed_until(&self, edge: &Edge, at: i64) -> i64 {
        let disturbed = if edge.direct { first_after(&self.scope, at) } else { None };
        disturbed.unwrap_or(i64::MAX)
    }

    /// First exclusion after `last` that taints a chain waiting on `edge`.
    pub(super) fn taint_after(&self, edge: &Edge, last: i64) -> Option<i64> {
        edge.spans.iter().filter_map(|span| first_after(&self.excluding[span.exclusion], last)).min()
    }

    /// The last instant at which `edge` can still end for a chain whose last event is at `last`, by its maximum and
    /// by the direct scope.
    pub(super) fn patience(&self, edge: &Edge, last: i64) -> i64 {
        let by_max = edge.max_ms.map_or(i64::MAX, |max| last + max);
        let by_scope = if edge.direct { first_after(&self.scope, last) } else { None };
        by_max.min(by_scope.unwrap_or(i64::MAX))
    }
}

/// The last of ascending instants that is before `at`.
fn last_before(instants: &[i64], at: i64) -> i64 {
    let before = instants.partition_point(|instant| *instant < at);
    before.checked_sub(1).map_or(i64::MIN, |last| instants[last])
}

/// The first of ascending instants that is after `at`.
fn first_after(instants: &[i64], at: i64) -> Option<i64> {
    instants.get(instants.partition_point(|instant| *instant <= at)).copied()
}
