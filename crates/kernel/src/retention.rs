//! Retention: who comes back, by the bucket in which they started and the number of buckets since.

use crate::bits;
use crate::counts::merge_each;
use crate::edges::Edges;
use crate::slice::Slice;

/// Cohorts of visitors, and how many of each come back when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// Visitors of each cohort: those whose first start lies in that bucket.
    pub sizes: Vec<u64>,
    /// `returned[i][k]` visitors of cohort `i` come back in bucket `i + k`; with `n` buckets there are `n - i` columns.
    pub returned: Vec<Vec<u64>>,
}

impl Retention {
    /// Cohorts without visitors.
    fn empty(buckets: usize) -> Self {
        let returned = (0..buckets).map(|cohort| vec![0; buckets - cohort]).collect();
        Self { sizes: vec![0; buckets], returned }
    }

    /// Adds other visitors, counted by the same edges. The order of merges does not matter.
    pub fn merge(&mut self, other: &Self) {
        merge_each(&mut self.sizes, &other.sizes, |size, more| *size += more);
        merge_each(&mut self.returned, &other.returned, |row, more| {
            merge_each(row, more, |count, more| *count += more);
        });
    }
}

/// Counts visitors by the bucket of their first start in any bucket, and by the buckets in which they come back after it.
///
/// `starts` and `returns` have a bit per event; `edges` are ascending instants in milliseconds, and bucket `b`
/// holds `edges[b] <= t < edges[b + 1]`. Starts outside all buckets are passed over. A return counts if it comes after the
/// first start in order, so an event that is both does not return to itself. The answer has a number for each pair of buckets,
/// so there must not be thousands.
pub fn retention(slice: &Slice<'_>, starts: &[u64], returns: &[u64], edges: &[i64]) -> Retention {
    let edges = Edges(edges);
    let bucket = |event: usize| edges.bucket(slice.time(event));
    let mut retention = Retention::empty(edges.buckets());
    for visitor in (0..slice.visitors()).filter(|visitor| !slice.skipped(*visitor)) {
        let events = slice.range(visitor);
        let first = bits::ones(starts, events.clone()).find_map(|event| Some((event, bucket(event)?)));
        let Some((first, cohort)) = first else {
            continue;
        };
        retention.sizes[cohort] += 1;
        // Instants ascend, and so do buckets: a bucket that is not the last one counted is a new one.
        let mut last = None;
        for at in bits::ones(returns, first + 1..events.end).filter_map(bucket) {
            if last.replace(at) != Some(at)
                && let Some(count) =
                    at.checked_sub(cohort).and_then(|k| retention.returned[cohort].get_mut(k))
            {
                *count += 1;
            }
        }
    }
    retention
}
