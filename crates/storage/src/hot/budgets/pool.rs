//! The tokens that this process has of one tenant's budget.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, futures::Notified};

use crate::hot::{Lease, Limit, bucket::Bucket};

/// Tokens of a lease: what the rate gives in this many milliseconds.
const QUANTUM_MS: u64 = 100;
/// Leased tokens are good for this long, in milliseconds.
const GOOD_MS: i64 = 1_000;
/// When a lease brought less than was wanted, the next one is asked for after at most this long, in milliseconds …
const PAUSE_MS: u64 = 50;
/// … and when there was no answer, after this long.
const AWAY_MS: i64 = 100;

/// Tokens, and whoever waits for more.
#[derive(Debug)]
pub(super) struct Pool {
    state: Mutex<State>,
    told: Notify,
}

#[derive(Debug)]
struct State {
    /// Leased and not spent.
    tokens: u64,
    leased_ms: i64,
    /// No lease is asked for before.
    next_ms: i64,
    /// One lease at a time.
    leasing: bool,
    /// The last one got no answer.
    away: bool,
    /// What goes while there is no answer.
    own: Bucket,
    used_ms: i64,
}

/// What a call is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It may go. Perhaps so many tokens should be leased for those who come next.
    Taken { lease: Option<u64> },
    /// It may not go for so many milliseconds.
    Refused { ms: u64 },
    /// Nobody can say; [`Pool::take_alone`] decides.
    Alone,
    /// Tokens are being leased, or so many should be.
    Wait { lease: Option<u64> },
}

impl Pool {
    pub(super) fn new(limit: Limit, now_ms: i64) -> Pool {
        let state = State {
            tokens: 0,
            leased_ms: now_ms,
            next_ms: i64::MIN,
            leasing: false,
            away: false,
            own: Bucket::new(limit.burst() / 2, now_ms),
            used_ms: now_ms,
        };
        Pool { state: Mutex::new(state), told: Notify::new() }
    }

    /// Done when a lease has ended.
    pub(super) fn told(&self) -> Notified<'_> {
        self.told.notified()
    }

    pub(super) fn take(&self, amount: u64, limit: Limit, now_ms: i64) -> Turn {
        let mut state = self.state();
        state.used_ms = state.used_ms.max(now_ms);
        if now_ms.saturating_sub(state.leased_ms) > GOOD_MS {
            state.tokens = 0;
        }
        let quantum = (limit.rate() / (1_000 / QUANTUM_MS)).clamp(1, limit.burst());
        let may_lease = !state.leasing && now_ms >= state.next_ms;
        if let Some(rest) = state.tokens.checked_sub(amount) {
            state.tokens = rest;
            let lease = may_lease && rest < quantum / 2;
            state.leasing |= lease;
            return Turn::Taken { lease: lease.then_some(quantum) };
        }
        if state.leasing {
            return Turn::Wait { lease: None };
        }
        if may_lease {
            state.leasing = true;
            return Turn::Wait { lease: Some((amount - state.tokens).max(quantum)) };
        }
        if state.away {
            return Turn::Alone;
        }
        let missing = (amount - state.tokens).saturating_mul(1_000).div_ceil(limit.rate());
        let pause = u64::try_from(state.next_ms.saturating_sub(now_ms)).unwrap_or(0);
        Turn::Refused { ms: missing.max(pause).max(1) }
    }

    /// Takes from half of the limit, or says in how many milliseconds that will do.
    pub(super) fn take_alone(&self, amount: u64, limit: Limit, now_ms: i64) -> Result<(), u64> {
        let half = Limit::new(limit.rate() / 2, limit.burst());
        self.state().own.take(amount, half, now_ms)
    }

    /// Puts back what was taken and not used.
    pub(super) fn give_back(&self, amount: u64) {
        let mut state = self.state();
        state.tokens = state.tokens.saturating_add(amount);
        drop(state);
        self.told.notify_waiters();
    }

    /// Puts back what was taken while nobody could say.
    pub(super) fn give_back_alone(&self, amount: u64, limit: Limit, now_ms: i64) {
        self.state().own.give_back(amount, limit, now_ms);
    }

    /// A lease has ended; `None` when there was no answer.
    pub(super) fn leased(&self, lease: Option<Lease>, now_ms: i64) {
        let mut state = self.state();
        state.leasing = false;
        state.away = lease.is_none();
        match lease {
            Some(lease) => {
                state.tokens = state.tokens.saturating_add(lease.granted);
                state.leased_ms = state.leased_ms.max(now_ms);
                state.next_ms = now_ms.saturating_add_unsigned(lease.wait_ms.min(PAUSE_MS));
            }
            None => state.next_ms = now_ms.saturating_add(AWAY_MS),
        }
        drop(state);
        self.told.notify_waiters();
    }

    /// Whether nobody has used it for a while.
    pub(super) fn is_idle(&self, now_ms: i64, patience_ms: i64) -> bool {
        let state = self.state();
        !state.leasing && now_ms.saturating_sub(state.used_ms) > patience_ms
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { rate: 1_000, burst: 500 };

    fn granted(granted: u64, wait_ms: u64) -> Option<Lease> {
        Some(Lease { granted, wait_ms })
    }

    #[test]
    fn one_lease_at_a_time_serves_many() {
        let pool = Pool::new(LIMIT, 0);
        assert_eq!(pool.take(1, LIMIT, 0), Turn::Wait { lease: Some(100) });
        assert_eq!(pool.take(1, LIMIT, 0), Turn::Wait { lease: None });
        pool.leased(granted(100, 0), 0);
        for _ in 0..50 {
            assert_eq!(pool.take(1, LIMIT, 1), Turn::Taken { lease: None });
        }
        assert_eq!(pool.take(1, LIMIT, 1), Turn::Taken { lease: Some(100) });
        assert_eq!(pool.take(1, LIMIT, 1), Turn::Taken { lease: None });
    }

    #[test]
    fn more_than_a_lease_is_leased_for_who_wants_more() {
        let pool = Pool::new(LIMIT, 0);
        assert_eq!(pool.take(400, LIMIT, 0), Turn::Wait { lease: Some(400) });
        pool.leased(granted(150, 250), 0);
        assert_eq!(pool.take(400, LIMIT, 1), Turn::Refused { ms: 250 });
        assert_eq!(pool.take(150, LIMIT, 2), Turn::Taken { lease: None });
        assert_eq!(pool.take(1, LIMIT, 3), Turn::Refused { ms: 47 });
        assert_eq!(pool.take(1, LIMIT, 50), Turn::Wait { lease: Some(100) });
    }

    #[test]
    fn tokens_do_not_keep() {
        let pool = Pool::new(LIMIT, 0);
        assert_eq!(pool.take(1, LIMIT, 0), Turn::Wait { lease: Some(100) });
        pool.leased(granted(100, 0), 0);
        assert_eq!(pool.take(1, LIMIT, GOOD_MS + 1), Turn::Wait { lease: Some(100) });
    }

    #[test]
    fn without_answers_half_of_the_limit_goes() {
        let pool = Pool::new(LIMIT, 0);
        let mut gone = 0;
        for now_ms in 0..10_000 {
            while gone < 1_000_000 {
                match pool.take(1, LIMIT, now_ms) {
                    Turn::Wait { lease: Some(_) } => pool.leased(None, now_ms),
                    Turn::Alone if pool.take_alone(1, LIMIT, now_ms).is_ok() => gone += 1,
                    Turn::Alone => break,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(gone, LIMIT.burst / 2 + 9_999 / 2);
        pool.leased(granted(100, 0), 10_200);
        assert_eq!(pool.take(1, LIMIT, 10_200), Turn::Taken { lease: None });
    }
}
