//! Sessions by gap: a visitor's events split wherever two neighbours lie more than a gap apart.

use std::ops::Range;

use crate::slice::Slice;

/// The index ranges of the sessions in sorted instants (milliseconds). A gap of exactly `gap_ms` does not split.
pub fn sessions(times: &[i64], gap_ms: i64) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut start = 0;
    std::iter::from_fn(move || {
        if start >= times.len() {
            return None;
        }
        let splits = |at: &usize| times[*at].saturating_sub(times[at - 1]) > gap_ms;
        let end = (start + 1..times.len()).find(splits).unwrap_or(times.len());
        let session = start..end;
        start = end;
        Some(session)
    })
}

/// Number of sessions in a slice, and of those among them that have a single event. Skipped visitors do not count.
pub fn count_sessions(slice: &Slice<'_>, gap_ms: i64) -> (u64, u64) {
    let (mut total, mut single) = (0, 0);
    let mut times = Vec::new();
    for visitor in (0..slice.visitors()).filter(|visitor| !slice.skipped(*visitor)) {
        times.clear();
        times.extend(slice.range(visitor).map(|event| slice.time(event)));
        for session in sessions(&times, gap_ms) {
            total += 1;
            single += u64::from(session.len() == 1);
        }
    }
    (total, single)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slice::{Kinds, Layout, Times};

    #[test]
    fn a_gap_splits_only_when_it_is_longer() {
        let split: Vec<_> = sessions(&[0, 30, 60, 91, 91], 30).collect();
        assert_eq!(split, [0..3, 3..5]);
        assert_eq!(sessions(&[], 30).count(), 0);
    }

    #[test]
    fn skipped_visitors_have_no_sessions() {
        let layout = Layout {
            offsets: &[0, 2, 2, 5],
            kinds: Kinds::U8(&[0; 5]),
            times: Times::Narrow { epoch_ms: 7, since_epoch_ms: &[0, 40, 0, 31, 62] },
            span_ms: (7, 69),
            kind_sets: &[1, 0, 1],
            ties: &[0],
            skip: None,
        };
        let slice = Slice::new(layout).expect("a valid slice");
        assert_eq!(count_sessions(&slice, 31), (3, 2));
        let slice = Slice::new(Layout { skip: Some(&[1]), ..layout }).expect("a valid slice");
        assert_eq!(count_sessions(&slice, 31), (1, 0));
    }
}
