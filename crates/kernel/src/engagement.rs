//! Engagement: what sessions are like, and who has them.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::bits;
use crate::grid::{self, Grid};
use crate::histogram::{BUCKETS, Histogram, bucket};
use crate::sessions::{Session, Sessions, Visit};
use crate::slice::Values;

/// Visits after this one are counted as this one.
pub const LAST_VISIT: u32 = 64;

/// The sessions of one code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngagementRow {
    /// Sessions.
    pub sessions: u64,
    /// Sessions with one event on the site.
    pub single: u64,
    /// Sessions with at most one page; without pages, those with one event on the site.
    pub bounced: u64,
    /// Events on the site.
    pub events: u64,
    /// Pages: events on the site with a page bit.
    pub pages: u64,
    /// Distinct visitors with such a session.
    pub visitors: u64,
    /// Visitors whose first session ever is one of these.
    pub new_visitors: u64,
    /// Distinct visitors with such a session that is not their first ever. A visitor may be both new and returning.
    pub returning_visitors: u64,
    /// Sessions per bucket of [`crate::histogram`] of the time from their first to their last event.
    pub durations: BTreeMap<u16, u64>,
    /// Sessions per visit number: 1 for the first of their visitor, and so on up to [`LAST_VISIT`].
    pub visit_numbers: BTreeMap<u32, u64>,
    /// Sessions, but first ones, per bucket of [`crate::histogram`] of the time since the last event of the one before.
    pub recency: BTreeMap<u16, u64>,
}

impl EngagementRow {
    /// The time from the first to the last event of each session.
    pub fn duration_histogram(&self) -> Histogram {
        histogram(&self.durations)
    }

    /// The time since the session before, of each session that is not the first of its visitor.
    pub fn recency_histogram(&self) -> Histogram {
        histogram(&self.recency)
    }

    /// Adds the sessions of other visitors. The order of merges does not matter.
    pub fn merge(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.single += other.single;
        self.bounced += other.bounced;
        self.events += other.events;
        self.pages += other.pages;
        self.visitors += other.visitors;
        self.new_visitors += other.new_visitors;
        self.returning_visitors += other.returning_visitors;
        merge_counts(&mut self.durations, &other.durations);
        merge_counts(&mut self.visit_numbers, &other.visit_numbers);
        merge_counts(&mut self.recency, &other.recency);
    }
}

/// Sessions by code.
///
/// Visitors are distinct within a row, so those of several rows cannot be added up: a code for several is to be asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Engagement {
    /// Rows with a session, by code of the split; 0 if it is missing or if there is no split. A row holds what it counts, not
    /// a histogram of full size, so that there may be many.
    pub rows: BTreeMap<u32, EngagementRow>,
}

impl Engagement {
    /// Adds the rows of other visitors. The order of merges does not matter.
    pub fn merge(&mut self, other: &Self) {
        for (code, row) in &other.rows {
            self.rows.entry(*code).or_default().merge(row);
        }
    }
}

/// Counts the sessions whose first event on the site lies in `range` (milliseconds), by the code of that event in `split`.
/// `pages` has a bit per event that is a page; those off the site are none.
pub fn engagement(
    sessions: &Sessions<'_>,
    range: Range<i64>,
    pages: Option<&[u64]>,
    split: Option<Values<'_>>,
) -> Engagement {
    let slice = sessions.slice();
    let pages = pages.map(|pages| bits::both(sessions.on_site(), pages));
    let mut rows = Grid::<Counting>::new(1);
    let mut samples = Vec::new();
    for visit in sessions.visits().filter(|visit| range.contains(&slice.time(visit.session.first))) {
        let Session { first, last, .. } = visit.session;
        let code = grid::code(split, first);
        let pages = pages.as_ref().map(|pages| bits::count(pages, first..last + 1));
        rows.at(code, 0).add(&visit, pages);
        let since_ms = |event| slice.time(first) - slice.time(event);
        samples.push(Sample {
            code,
            duration: bucket(slice.time(last) - slice.time(first)),
            recency: visit.before.map(|before| bucket(since_ms(before))),
            number: visit.number.min(LAST_VISIT) as u8,
        });
    }
    let mut rows: BTreeMap<u32, EngagementRow> =
        rows.cells().map(|(code, _, counting)| (code, counting.row)).collect();
    // Each row has sessions, so rows and the samples of one code come in step.
    samples.sort_unstable_by_key(|sample| sample.code);
    for (row, samples) in rows.values_mut().zip(samples.chunk_by(|left, right| left.code == right.code)) {
        row.durations = distribution(samples, |sample| Some(sample.duration));
        row.recency = distribution(samples, |sample| sample.recency);
        let mut numbers = [0; LAST_VISIT as usize + 1];
        samples.iter().for_each(|sample| numbers[usize::from(sample.number)] += 1);
        row.visit_numbers = (0..).zip(numbers).filter(|(_, sessions)| *sessions > 0).collect();
    }
    Engagement { rows }
}

/// A session's part in the distributions of its row.
#[derive(Debug, Clone, Copy)]
struct Sample {
    code: u32,
    /// Buckets of [`crate::histogram`].
    duration: u16,
    recency: Option<u16>,
    /// At most [`LAST_VISIT`].
    number: u8,
}

/// A row while it is counted. Sessions come in ascending order, so the last visitor is the only one to remember.
#[derive(Debug, Default)]
struct Counting {
    row: EngagementRow,
    /// Number of the last visitor; 0 before the first.
    visitor: u32,
    /// Likewise of the last visitor who returned.
    returning: u32,
}

impl Counting {
    /// Counts a session that has so many pages, if they are known.
    #[inline]
    fn add(&mut self, visit: &Visit, pages: Option<u32>) {
        let row = &mut self.row;
        let single = visit.session.events == 1;
        row.sessions += 1;
        row.single += u64::from(single);
        row.bounced += u64::from(pages.map_or(single, |pages| pages <= 1));
        row.events += u64::from(visit.session.events);
        row.pages += u64::from(pages.unwrap_or(0));
        row.visitors += u64::from(std::mem::replace(&mut self.visitor, visit.visitor) != visit.visitor);
        if visit.number == 1 {
            row.new_visitors += 1;
        } else {
            let latest = std::mem::replace(&mut self.returning, visit.visitor);
            row.returning_visitors += u64::from(latest != visit.visitor);
        }
    }
}

/// How often each bucket comes. A few samples are counted in a map, so that many small rows cost little.
fn distribution(samples: &[Sample], bucket: impl Fn(&Sample) -> Option<u16>) -> BTreeMap<u16, u64> {
    let buckets = samples.iter().filter_map(bucket);
    let mut counts = BTreeMap::new();
    if samples.len() < BUCKETS {
        buckets.for_each(|bucket| *counts.entry(bucket).or_default() += 1);
    } else {
        let mut histogram = Histogram::default();
        buckets.for_each(|bucket| histogram.add(bucket, 1));
        counts.extend(histogram.buckets());
    }
    counts
}

fn histogram(buckets: &BTreeMap<u16, u64>) -> Histogram {
    let mut histogram = Histogram::default();
    buckets.iter().for_each(|(bucket, count)| histogram.add(*bucket, *count));
    histogram
}

fn merge_counts<K: Ord + Copy>(mine: &mut BTreeMap<K, u64>, theirs: &BTreeMap<K, u64>) {
    for (key, count) in theirs {
        *mine.entry(*key).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_samples_are_counted_as_few_are() {
        let sample =
            |at| Sample { code: 0, duration: at % 900, recency: (at % 3 != 0).then_some(at % 7), number: 1 };
        let samples: Vec<Sample> = (0..3 * BUCKETS as u16).map(sample).collect();
        for bucket in [|sample: &Sample| Some(sample.duration), |sample: &Sample| sample.recency] {
            let mut merged = BTreeMap::new();
            samples.chunks(500).for_each(|few| merge_counts(&mut merged, &distribution(few, bucket)));
            assert_eq!(distribution(&samples, bucket), merged);
        }
    }
}
