//! When to send again.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::Refusal;

/// How long and how often a batch is sent again. By default only time ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Most attempts, the first included.
    pub attempts: u32,
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
    /// The wait before the second attempt; it doubles from attempt to attempt.
    pub first_wait: Duration,
    /// The longest wait, unless the server asks for more.
    pub longest_wait: Duration,
    /// No attempt starts later than this after the first one started.
    pub patience: Duration,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            attempts: u32::MAX,
            attempt_timeout: Duration::from_secs(30),
            first_wait: Duration::from_millis(50),
            longest_wait: Duration::from_secs(5),
            patience: Duration::from_secs(120),
        }
    }
}

impl RetryPolicy {
    /// A policy that never sends again.
    #[must_use]
    pub fn never() -> RetryPolicy {
        RetryPolicy { attempts: 1, ..RetryPolicy::default() }
    }

    /// How long to wait after attempt number `attempt` (from 1) failed with `refusal` and `spent` has passed since the first; `None` means give up.
    ///
    /// Waits grow exponentially. Each is shortened by up to a half, by an amount that depends on `request_id` and attempt only, so that many clients that failed
    /// together do not come back together. A wait that the server asks for is kept in full.
    #[must_use]
    pub fn wait(
        &self,
        request_id: &str,
        attempt: u32,
        refusal: &Refusal,
        spent: Duration,
    ) -> Option<Duration> {
        if attempt >= self.attempts || !refusal.may_be_repeated() {
            return None;
        }
        let doubled =
            self.first_wait.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(self.longest_wait);
        let share =
            (xxh3_64_with_seed(request_id.as_bytes(), u64::from(attempt)) >> 40) as f64 / (1u64 << 24) as f64;
        let jittered = doubled.mul_f64(1.0 - share / 2.0);
        let wait = match refusal.retry_after {
            Some(asked) => asked.max(self.first_wait) + (doubled - jittered),
            None => jittered,
        };
        (spent.saturating_add(wait) < self.patience).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn waits_grow_within_bounds_and_end() {
        let policy = RetryPolicy::default();
        let refusal = Refusal::unavailable("gone".into());
        for attempt in 1..60 {
            let full = Duration::from_millis(50)
                .saturating_mul(1 << (attempt - 1).min(20))
                .min(Duration::from_secs(5));
            let wait = policy.wait("r", attempt, &refusal, Duration::ZERO).unwrap();
            assert!(wait <= full && wait >= full / 2, "attempt {attempt}: {wait:?} of {full:?}");
        }
        assert_ne!(
            policy.wait("a", 5, &refusal, Duration::ZERO),
            policy.wait("b", 5, &refusal, Duration::ZERO),
            "clients spread"
        );
        assert_eq!(policy.wait("r", 1, &refusal, Duration::from_secs(120)), None);
        assert_eq!(RetryPolicy::never().wait("r", 1, &refusal, Duration::ZERO), None);
    }

    #[test]
    fn the_servers_wait_is_kept() {
        let asked = Duration::from_secs(20);
        let refusal = Refusal {
            code: Code::ResourceExhausted,
            retry_after: Some(asked),
            ..Refusal::unavailable("full".into())
        };
        assert!(RetryPolicy::default().wait("r", 1, &refusal, Duration::ZERO).unwrap() >= asked);
        assert_eq!(RetryPolicy::default().wait("r", 1, &refusal, Duration::from_secs(101)), None);
    }
}
