//! How many processes share the budgets.

use std::time::Duration;

use tokio::time::Instant;

/// What was told is remembered for as long as this, and up to twice as long.
const KEPT: Duration = Duration::from_secs(60);

/// The most that was told lately. While nothing is told it is what was told last, as nobody can say whether that has changed.
#[derive(Debug)]
pub(super) struct Sharers {
    since: Instant,
    latest: u64,
    before: u64,
}

impl Sharers {
    pub(super) fn new(now: Instant) -> Sharers {
        Sharers { since: now, latest: 1, before: 1 }
    }

    /// A lease told how many leased from its bucket. Those of another bucket may be more.
    pub(super) fn told(&mut self, sharers: u64, now: Instant) {
        if now.saturating_duration_since(self.since) > KEPT {
            (self.since, self.before, self.latest) = (now, self.latest, 1);
        }
        self.latest = self.latest.max(sharers);
    }

    pub(super) fn most(&self) -> u64 {
        self.latest.max(self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_that_was_told_lately_counts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut sharers = Sharers::new(start);
        assert_eq!(sharers.most(), 1);
        for (second, told, most) in
            [(1, 5, 5), (30, 2, 5), (61, 1, 5), (100, 2, 5), (122, 2, 2), (123, 3, 3), (9_000, 1, 3)]
        {
            sharers.told(told, at(second));
            assert_eq!(sharers.most(), most, "after {second} s");
        }
    }
}
