//! Events of people who denied consent to analytics: how many there are of which name in which hour. Whose they are, nobody knows.

use std::ops::Range;

use hashbrown::HashMap;
use rayon::prelude::*;
use runnel_model::hour;

use crate::loaded::{Loaded, Shard};

/// An hour, in milliseconds.
const HOUR_MS: i64 = 3_600_000;

/// How many such events there are.
#[derive(Debug, Clone, Default)]
pub struct Unobserved {
    /// By the code of the name and the beginning of the hour.
    cells: HashMap<(u16, i64), u64>,
}

impl Unobserved {
    /// Those whose names are asked for, of the hours that a range of instants touches.
    #[must_use]
    pub fn count(&self, range: Range<i64>, asked: impl Fn(u16) -> bool) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let touches = |hour_ms: i64| hour_ms < range.end && hour_ms + HOUR_MS > range.start;
        let cells = self.cells.iter().filter(|((name, hour_ms), _)| touches(*hour_ms) && asked(*name));
        cells.map(|(_, count)| count).sum()
    }

    /// As [`Unobserved::count`], of the hours that lie in the range as a whole: those happened in it for certain.
    #[must_use]
    pub fn count_within(&self, range: Range<i64>, asked: impl Fn(u16) -> bool) -> u64 {
        let inside = |hour_ms: i64| range.start <= hour_ms && hour_ms + HOUR_MS <= range.end;
        let cells = self.cells.iter().filter(|((name, hour_ms), _)| inside(*hour_ms) && asked(*name));
        cells.map(|(_, count)| count).sum()
    }

    /// Those whose names are asked for, by the bucket that their hour touches: those between two ascending edges each. An hour that touches several is in each of them.
    #[must_use]
    pub fn in_buckets(&self, edges: &[i64], asked: impl Fn(u16) -> bool) -> Vec<u64> {
        let mut buckets = vec![0; edges.len().saturating_sub(1)];
        for ((name, hour_ms), count) in &self.cells {
            if !asked(*name) {
                continue;
            }
            let first = edges.partition_point(|edge| *edge <= *hour_ms).saturating_sub(1);
            let behind = edges.partition_point(|edge| *edge < *hour_ms + HOUR_MS);
            for bucket in buckets.iter_mut().take(behind).skip(first) {
                *bucket += count;
            }
        }
        buckets
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }
}

impl Loaded {
    /// The events of people who denied consent to analytics. They are in no count of visitors, sessions or events.
    #[must_use]
    pub fn unobserved(&self) -> Unobserved {
        let count = |shard: &Shard| {
            let mut cells: HashMap<(u16, i64), u64> = HashMap::new();
            for (run, visitor) in shard.nobodies() {
                for event in run.range(visitor) {
                    *cells.entry((run.kind(event), hour(run.time(event)))).or_default() += 1;
                }
            }
            cells
        };
        let sum = |mut sum: HashMap<(u16, i64), u64>, more: HashMap<(u16, i64), u64>| {
            more.into_iter().for_each(|(cell, count)| *sum.entry(cell).or_default() += count);
            sum
        };
        let cells = self.shards.par_iter().map(count).reduce(HashMap::new, sum);
        Unobserved { cells }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_counted_like_ranges() {
        let cells = [((1, -HOUR_MS), 1), ((1, 0), 2), ((2, 0), 4), ((1, HOUR_MS), 8), ((1, 5 * HOUR_MS), 16)];
        let unobserved = Unobserved { cells: cells.into_iter().collect() };
        let half = HOUR_MS / 2;
        for edges in [
            vec![0, HOUR_MS, 2 * HOUR_MS],
            vec![-half, half, half + 1, HOUR_MS + half],
            vec![2 * HOUR_MS, 3 * HOUR_MS],
            vec![-9 * HOUR_MS, 9 * HOUR_MS],
            vec![half],
            Vec::new(),
        ] {
            let each: Vec<u64> =
                edges.windows(2).map(|edge| unobserved.count(edge[0]..edge[1], |name| name == 1)).collect();
            assert_eq!(unobserved.in_buckets(&edges, |name| name == 1), each, "{edges:?}");
        }
    }
}
