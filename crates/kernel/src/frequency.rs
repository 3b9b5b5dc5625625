//! Frequency: how many visitors convert how often.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::edges::Edges;
use crate::sessions::{Marked, Sessions};

/// What is counted of each visitor.
#[derive(Debug, Clone, Copy)]
pub enum FrequencyOf<'a> {
    /// Marks.
    Marks,
    /// Distinct sessions with a mark; marks that belong to no session do not count.
    Sessions,
    /// Distinct buckets with a mark, such as days. Bucket `b` holds `edges[b] <= t < edges[b + 1]` of these ascending
    /// instants in milliseconds; marks outside all of them do not count.
    Buckets(&'a [i64]),
}

/// Visitors by how often they convert.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frequency {
    /// `visitors[n]` visitors convert exactly `n` times; those who do not, `n = 0`, are left out.
    pub visitors: BTreeMap<u32, u64>,
}

impl Frequency {
    /// Adds other visitors. The order of merges does not matter.
    pub fn merge(&mut self, other: &Self) {
        for (times, visitors) in &other.visitors {
            *self.visitors.entry(*times).or_default() += visitors;
        }
    }

    fn add(&mut self, times: u32) {
        if times > 0 {
            *self.visitors.entry(times).or_default() += 1;
        }
    }
}

/// Counts visitors by the number of their marks (a bit per event) whose instant, in milliseconds, lies in `range`, or of the
/// sessions or buckets with such a mark.
pub fn frequency(
    sessions: &Sessions<'_>,
    marks: &[u64],
    range: Range<i64>,
    of: FrequencyOf<'_>,
) -> Frequency {
    let slice = sessions.slice();
    let mut numbers = sessions.numbers();
    let mut frequency = Frequency::default();
    let (mut current, mut times) = (0, 0);
    // Sessions and buckets ascend within a visitor, so one that is not the last one counted is a new one.
    let mut last = None;
    for (event, visitor) in Marked::new(sessions, marks) {
        let time = slice.time(event);
        if !range.contains(&time) {
            continue;
        }
        if visitor != current {
            frequency.add(times);
            (current, times, last) = (visitor, 0, None);
        }
        let counted = match of {
            FrequencyOf::Marks => Some(event),
            FrequencyOf::Sessions => numbers.of(event).map(|number| number as usize),
            FrequencyOf::Buckets(edges) => Edges(edges).bucket(time),
        };
        if counted.is_some() && counted != last {
            times += 1;
            last = counted;
        }
    }
    frequency.add(times);
    frequency
}
