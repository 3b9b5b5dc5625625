//! Buckets between instants.

/// Ascending instants in milliseconds: bucket `b` holds `edges[b] <= t < edges[b + 1]`. A bucket between equal instants
/// is empty; fewer than two instants make no bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edges<'a>(pub(crate) &'a [i64]);

impl Edges<'_> {
    /// Number of buckets.
    pub(crate) fn buckets(self) -> usize {
        self.0.len().saturating_sub(1)
    }

    /// The bucket of an instant; `None` outside all of them.
    #[inline]
    pub(crate) fn bucket(self, instant_ms: i64) -> Option<usize> {
        let after = self.0.partition_point(|edge| *edge <= instant_ms);
        after.checked_sub(1).filter(|bucket| *bucket < self.buckets())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_half_open() {
        let edges = Edges(&[10, 20, 20, 30]);
        let found = [9, 10, 19, 20, 29, 30].map(|instant| edges.bucket(instant));
        assert_eq!(found, [None, Some(0), Some(0), Some(2), Some(2), None]);
        assert_eq!((Edges(&[]).bucket(0), Edges(&[0]).bucket(0)), (None, None));
    }
}
