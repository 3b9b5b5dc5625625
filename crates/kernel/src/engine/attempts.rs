//! Attempts: one pass over a visitor that cuts it into chains of effort which do not overlap.
//!
//! An attempt begins at the first entry after the previous one ended. It lasts as long as any clean chain of its
//! entries can still advance; entries in that time join it (unless only the first entry counts). A conversion ends it at
//! once. Everything up to its end is consumed.

use super::resolve::{Chosen, resolve};
use super::stream::{Reached, Stream};
use super::{Engine, Part, canonical};
use crate::outcome::UnitOutcome;
use crate::question::Reentry;
use crate::slice::Columns;

impl Engine<'_> {
    pub(super) fn attempts(&mut self, columns: &Columns<'_>, outcomes: &mut Vec<UnitOutcome>) {
        let plan = self.plan;
        let funnel = &plan.funnels[0];
        let whole = Part { range: 0..self.journey.times.len(), ordinal: 0, end_ms: i64::MAX, growing: true };
        self.build_points(&whole, None, columns);
        let (journey, points) = (&self.journey, &self.points);
        let question = &plan.question;
        let in_range = |time: i64| (question.from_ms..question.until_ms).contains(&time);
        let (mut from, mut ordinal) = (0, 0);
        while let Some(begin) = points.first(from..points.len(), funnel.entry_mask(), in_range) {
            let first_entry_ms = points.times[begin];
            let only = (question.reentry == Reentry::FirstEntry).then_some(first_entry_ms);
            let mut stream = Stream::new(plan, funnel, journey, only);
            let (mut at, mut end_ms) = (begin, first_entry_ms);
            while at < points.len() && points.times[at] <= end_ms {
                stream.feed(points, at);
                at += 1;
                if stream.converted_now() {
                    end_ms = points.times[at - 1];
                    break;
                }
                end_ms = end_ms.max(stream.patience(points.times[at - 1]).unwrap_or(end_ms));
            }
            from = at;
            let Some(reached) = stream.best() else {
                continue;
            };
            let mut first_converted_ms = None;
            if reached.level == funnel.length() {
                let mut first = Stream::new(plan, funnel, journey, Some(first_entry_ms));
                (begin..at).for_each(|at| first.feed(points, at));
                let converts = |reached: &Reached| reached.level == funnel.length();
                first_converted_ms = first.best().filter(converts).map(|reached| reached.completion);
            }
            let times = canonical::times(plan, funnel, journey, points, reached);
            let alive = stream.alive();
            let chosen =
                Chosen { funnel: 0, code: None, reached, times, alive, first_entry_ms, first_converted_ms };
            let part = Part { range: whole.range.clone(), ordinal, end_ms, growing: true };
            outcomes.push(resolve(plan, journey, points, columns, &part, chosen));
            ordinal += 1;
        }
    }
}
