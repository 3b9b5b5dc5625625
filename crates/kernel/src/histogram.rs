//! A fixed logarithmic histogram of durations: exact counts, mergeable, free of order.
//!
//! Durations below 128 ms have a bucket each; above, every octave is cut into 64 buckets of equal width. A
//! bucket is represented by its middle, so the relative error of a quantile is at most 1/128. This is the
//! bucketing of HdrHistogram (G. Tene) with 7 bits of precision.

/// Durations below this many milliseconds are exact.
const EXACT: u64 = 128;
/// Buckets per octave above that.
const PER_OCTAVE: u64 = 64;
/// Octaves between 2^7 and 2^36 ms; 366 days are below 2^35 ms. Longer durations go to the last bucket.
const OCTAVES: u64 = 29;
/// Number of buckets of every histogram.
pub const BUCKETS: usize = (EXACT + OCTAVES * PER_OCTAVE) as usize;

/// Bucket of a duration in milliseconds; negative durations count as 0.
#[inline]
pub fn bucket(duration_ms: i64) -> u16 {
    let value = duration_ms.max(0) as u64;
    // Below 128 the shift is 0 and the bucket is the value itself.
    let octave = (value | (EXACT - 1)).ilog2() as u64 - 6;
    let index = octave * PER_OCTAVE + (value >> octave);
    index.min(BUCKETS as u64 - 1) as u16
}

/// The middle of a bucket, in milliseconds.
pub fn representative(bucket: u16) -> i64 {
    let index = u64::from(bucket);
    if index < EXACT {
        return index as i64;
    }
    let octave = (index - PER_OCTAVE) / PER_OCTAVE;
    let lowest = (index - octave * PER_OCTAVE) << octave;
    (lowest + (1 << octave) / 2) as i64
}

/// Counts of durations per bucket. Empty histograms hold no memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Empty, or one count per bucket.
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// Counts one duration in milliseconds.
    pub fn record(&mut self, duration_ms: i64) {
        self.add(bucket(duration_ms), 1);
    }

    /// Adds `count` durations to a bucket; buckets past the last count as the last.
    pub fn add(&mut self, bucket: u16, count: u64) {
        if count == 0 {
            return;
        }
        if self.counts.is_empty() {
            self.counts.resize(BUCKETS, 0);
        }
        self.counts[usize::from(bucket).min(BUCKETS - 1)] += count;
        self.total += count;
    }

    /// The histogram of these counts, one per bucket.
    pub(crate) fn of(counts: Box<[u64; BUCKETS]>) -> Self {
        match counts.iter().sum() {
            0 => Self::default(),
            total => Self { counts: (counts as Box<[u64]>).into_vec(), total },
        }
    }

    /// Adds every count of another histogram.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.is_empty() {
            self.clone_from(other);
            return;
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.total += other.total;
    }

    /// Number of durations counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The buckets that are not empty, ascending.
    pub fn buckets(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        self.counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count != 0)
            .map(|(at, count)| (at as u16, *count))
    }

    /// The duration below or at which the share `p` of all durations lies (nearest rank), in milliseconds;
    /// `None` if nothing was counted. `p` is clamped to 0..=1.
    pub fn quantile(&self, p: f64) -> Option<i64> {
        let rank = ((p.clamp(0.0, 1.0) * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        self.buckets().find_map(|(bucket, count)| {
            seen += count;
            (seen >= rank).then(|| representative(bucket))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_within_one_percent_of_its_representative() {
        for power in 0..35 {
            for step in 0..257 {
                let value = (1i64 << power) + (step * (1i64 << power)) / 257;
                let shown = representative(bucket(value));
                assert!((shown - value).abs() as f64 <= value as f64 / 128.0, "{value} shown as {shown}");
            }
        }
    }

    #[test]
    fn buckets_ascend_without_a_hole() {
        for index in 0..BUCKETS as u16 {
            assert_eq!(bucket(representative(index)), index);
        }
        assert_eq!((bucket(127), bucket(128), bucket(129), bucket(130)), (127, 128, 128, 129));
        assert_eq!(bucket(i64::MAX), BUCKETS as u16 - 1);
        assert_eq!(bucket(i64::MIN), 0);
    }

    #[test]
    fn quantiles_are_nearest_ranks() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for value in 1..=100 {
            histogram.record(value);
        }
        assert_eq!(histogram.quantile(0.0), Some(1));
        assert_eq!(histogram.quantile(0.5), Some(50));
        assert_eq!(histogram.quantile(0.95), Some(95));
        assert_eq!(histogram.quantile(1.0), Some(100));
    }

    #[test]
    fn merging_is_adding() {
        let of = |durations: &[i64]| {
            let mut histogram = Histogram::default();
            durations.iter().for_each(|duration| histogram.record(*duration));
            histogram
        };
        let (mut left, right, both) = (of(&[5, 5]), of(&[900]), of(&[5, 900, 5]));
        left.merge(&right);
        assert_eq!(left, both);
        left.merge(&Histogram::default());
        assert_eq!(left.total(), 3);
    }
}
