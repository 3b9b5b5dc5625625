//! A token bucket in whole numbers: what the script does on a server, for this process alone.

use super::{Lease, Limit};

/// A clock that is further ahead than this, in milliseconds, is not waited for.
pub(crate) const AHEAD_MS: i64 = 5_000;
/// Thousandths of a token.
const MILLI: u64 = 1_000;

/// A bucket. It keeps thousandths of tokens: a rate a second times milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    milli: u64,
    at_ms: i64,
}

impl Bucket {
    /// A bucket with so many tokens.
    pub(crate) fn new(tokens: u64, now_ms: i64) -> Bucket {
        Bucket { milli: tokens.saturating_mul(MILLI), at_ms: now_ms }
    }

    /// Takes as many tokens as there are, up to `want`.
    pub(crate) fn lease(&mut self, want: u64, limit: Limit, now_ms: i64) -> Lease {
        self.refill(limit, now_ms);
        let granted = want.min(self.milli / MILLI);
        self.milli -= granted * MILLI;
        let missing = want.min(limit.burst()).saturating_sub(granted);
        Lease { granted, wait_ms: self.until(missing, limit), sharers: 1 }
    }

    /// Takes all tokens or none. Otherwise, how many milliseconds it takes until they are there.
    pub(crate) fn take(&mut self, amount: u64, limit: Limit, now_ms: i64) -> Result<(), u64> {
        self.refill(limit, now_ms);
        match self.milli.checked_sub(amount.saturating_mul(MILLI)) {
            Some(rest) => {
                self.milli = rest;
                Ok(())
            }
            None => Err(self.until(amount, limit).max(1)),
        }
    }

    /// Puts back what was taken and not used.
    pub(crate) fn give_back(&mut self, amount: u64, limit: Limit, now_ms: i64) {
        self.refill(limit, now_ms);
        self.milli = self.milli.saturating_add(amount.saturating_mul(MILLI)).min(limit.burst() * MILLI);
    }

    /// Whether it has been full for a while, so that nothing is lost with it.
    pub(crate) fn is_idle(&self, limit: Limit, now_ms: i64) -> bool {
        let mut full = *self;
        full.refill(limit, now_ms.saturating_sub(60_000));
        full.milli >= limit.burst() * MILLI
    }

    /// Milliseconds until so many tokens are there.
    fn until(&self, tokens: u64, limit: Limit) -> u64 {
        (tokens.saturating_mul(MILLI)).saturating_sub(self.milli).div_ceil(limit.rate())
    }

    /// Lets time pass. It holds no more than the limit's burst then.
    pub(crate) fn refill(&mut self, limit: Limit, now_ms: i64) {
        let most = limit.burst() * MILLI;
        if self.at_ms.saturating_sub(now_ms) > AHEAD_MS {
            self.at_ms = now_ms;
        }
        if let Ok(elapsed) = u64::try_from(now_ms.saturating_sub(self.at_ms)) {
            self.milli = self.milli.saturating_add(elapsed.saturating_mul(limit.rate()).min(most));
            self.at_ms = now_ms;
        }
        self.milli = self.milli.min(most);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A bucket that lives through every millisecond.
    struct Slow {
        milli: u64,
        at_ms: i64,
    }

    impl Slow {
        fn take(&mut self, amount: u64, limit: Limit, now_ms: i64) -> bool {
            while self.at_ms < now_ms {
                self.at_ms += 1;
                self.milli = (self.milli + limit.rate()).min(limit.burst() * MILLI);
            }
            let enough = self.milli >= amount * MILLI;
            self.milli -= if enough { amount * MILLI } else { 0 };
            enough
        }
    }

    proptest! {
        #[test]
        fn it_equals_a_bucket_that_lives_through_every_millisecond(
            rate in 1u64..5_000,
            burst in 1u64..500,
            steps in prop::collection::vec((-50i64..2_000, 0u64..600), 1..100),
        ) {
            let limit = Limit::new(rate, burst);
            let mut slow = Slow { milli: burst * MILLI, at_ms: 0 };
            let mut bucket = Bucket::new(burst, 0);
            let mut now_ms = 0;
            for (pause, amount) in steps {
                now_ms += pause;
                let before = bucket;
                let taken = bucket.take(amount, limit, now_ms);
                prop_assert_eq!(taken.is_ok(), slow.take(amount, limit, now_ms));
                if let Err(wait_ms) = taken && amount <= burst {
                    // Not sooner, and not later.
                    let (mut sooner, mut then) = (before, before);
                    let at = now_ms.max(before.at_ms);
                    prop_assert!(then.take(amount, limit, at + wait_ms as i64).is_ok());
                    prop_assert!(sooner.take(amount, limit, at + wait_ms as i64 - 1).is_err());
                }
            }
        }

        #[test]
        fn leases_never_exceed_the_limit(
            rate in 1u64..5_000,
            burst in 1u64..500,
            steps in prop::collection::vec((0i64..300, 0u64..600), 1..100),
        ) {
            let limit = Limit::new(rate, burst);
            let (mut bucket, mut now_ms, mut granted) = (Bucket::new(burst, 0), 0, 0);
            for (pause, want) in steps {
                now_ms += pause;
                granted += bucket.lease(want, limit, now_ms).granted;
                prop_assert!(granted * MILLI <= burst * MILLI + rate * now_ms as u64);
            }
        }
    }

    #[test]
    fn a_clock_that_ran_ahead_is_not_waited_for() {
        let limit = Limit::new(1_000, 10);
        let mut bucket = Bucket::new(10, 0);
        assert!(bucket.take(10, limit, 3_600_000).is_ok());
        assert!(bucket.take(1, limit, 1).is_err());
        assert!(bucket.take(10, limit, 11).is_ok());
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let limit = Limit::new(u64::MAX, u64::MAX);
        let mut bucket = Bucket::new(u64::MAX, i64::MIN);
        let lease = bucket.lease(u64::MAX, limit, i64::MAX);
        assert_eq!(lease.granted, limit.burst());
        assert!(bucket.take(u64::MAX, limit, i64::MAX).is_err());
    }
}
