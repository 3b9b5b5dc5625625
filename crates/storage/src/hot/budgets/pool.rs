//! The tokens that this process has of one tenant's budget.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, futures::Notified};

use crate::hot::{
    Lease, Limit,
    bucket::{AHEAD_MS, Bucket},
};

/// Tokens of a lease: what the rate gives in this many milliseconds.
const QUANTUM_MS: u64 = 100;
/// Leased tokens are good for this long, in milliseconds.
const GOOD_MS: i64 = 1_000;
/// When a lease brought less than was wanted, the next one is asked for after at most this long, in milliseconds …
const PAUSE_MS: u64 = 50;
/// … and when there was no answer, after this long.
const AWAY_MS: i64 = 100;
/// Most processes that half of a limit is divided by, so that no number is too large.
const MOST_SHARERS: u64 = 1_000;

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
    /// The last one got no answer, or the one that is asked for is overdue.
    away: bool,
    /// What goes while there is no answer; see [`weigh`].
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
    /// Nobody can say; [`Pool::take_alone`] decides. Perhaps so many tokens should be leased for those who come next.
    Alone { lease: Option<u64> },
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
            own: Bucket::new(limit.burst(), now_ms),
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
        state.follow(now_ms);
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
        let lease = may_lease.then(|| (amount - state.tokens).max(quantum));
        state.leasing |= may_lease;
        if state.away {
            return Turn::Alone { lease };
        }
        if state.leasing {
            return Turn::Wait { lease };
        }
        let missing = (amount - state.tokens).saturating_mul(1_000).div_ceil(limit.rate());
        let pause = u64::try_from(state.next_ms.saturating_sub(now_ms)).unwrap_or(0);
        Turn::Refused { ms: missing.max(pause).max(1) }
    }

    /// Takes from what this process has of half of the limit, or says in how many milliseconds that will do.
    pub(super) fn take_alone(&self, amount: u64, limit: Limit, sharers: u64, now_ms: i64) -> Result<(), u64> {
        let (amount, limit) = weigh(amount, limit, sharers);
        self.state().own.take(amount, limit, now_ms)
    }

    /// Puts back what was taken and not used.
    pub(super) fn give_back(&self, amount: u64) {
        let mut state = self.state();
        state.tokens = state.tokens.saturating_add(amount);
        drop(state);
        self.told.notify_waiters();
    }

    /// Puts back what was taken while nobody could say.
    pub(super) fn give_back_alone(&self, amount: u64, limit: Limit, sharers: u64, now_ms: i64) {
        let (amount, limit) = weigh(amount, limit, sharers);
        self.state().own.give_back(amount, limit, now_ms);
    }

    /// Somebody waited for a lease for as long as a call waits.
    pub(super) fn overdue(&self, limit: Limit, now_ms: i64) {
        let mut state = self.state();
        if state.leasing {
            state.lose(limit, now_ms);
        }
    }

    /// A lease has ended; `None` when there was no answer.
    pub(super) fn leased(&self, lease: Option<Lease>, limit: Limit, now_ms: i64) {
        let mut state = self.state();
        state.leasing = false;
        match lease {
            Some(lease) => {
                state.away = false;
                state.tokens = state.tokens.saturating_add(lease.granted);
                state.leased_ms = state.leased_ms.max(now_ms);
                state.next_ms = now_ms.saturating_add_unsigned(lease.wait_ms.min(PAUSE_MS));
            }
            None => {
                state.lose(limit, now_ms);
                state.next_ms = now_ms.saturating_add(AWAY_MS);
            }
        }
        drop(state);
        self.told.notify_waiters();
    }

    /// Whether nobody has used it for a while.
    pub(super) fn is_idle(&self, now_ms: i64, patience_ms: i64) -> bool {
        let mut state = self.state();
        state.follow(now_ms);
        !state.leasing && now_ms.saturating_sub(state.used_ms) > patience_ms
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Follows a clock that goes back: what is further ahead than clocks differ is not waited for, and no pause gets longer.
    fn follow(&mut self, now_ms: i64) {
        for time_ms in [&mut self.used_ms, &mut self.leased_ms] {
            if time_ms.saturating_sub(now_ms) > AHEAD_MS {
                *time_ms = now_ms;
            }
        }
        self.next_ms = self.next_ms.min(now_ms.saturating_add(AWAY_MS));
    }

    /// There is no answer from now on. What goes alone begins with its part of half of the burst, however long nothing went alone.
    fn lose(&mut self, limit: Limit, now_ms: i64) {
        if !self.away {
            self.away = true;
            self.own.refill(limit, now_ms);
        }
    }
}

/// What a call counts for, and by which limit, where a process has its part of half of the limit. The bucket fills at the whole rate, and every token counts twice
/// for each process that shares it: nothing is rounded, and whatever fits the burst goes at some time.
fn weigh(amount: u64, limit: Limit, sharers: u64) -> (u64, Limit) {
    let weight = 2 * sharers.clamp(1, MOST_SHARERS);
    (amount.saturating_mul(weight), Limit { burst: limit.burst * weight, ..limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { rate: 1_000, burst: 500 };

    fn granted(granted: u64, wait_ms: u64) -> Option<Lease> {
        Some(Lease { granted, wait_ms, sharers: 1 })
    }

    #[test]
    fn one_lease_at_a_time_serves_many() {
        let pool = Pool::new(LIMIT, 0);
        assert_eq!(pool.take(1, LIMIT, 0), Turn::Wait { lease: Some(100) });
        assert_eq!(pool.take(1, LIMIT, 0), Turn::Wait { lease: None });
        pool.leased(granted(100, 0), LIMIT, 0);
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
        pool.leased(granted(150, 250), LIMIT, 0);
        assert_eq!(pool.take(400, LIMIT, 1), Turn::Refused { ms: 250 });
        assert_eq!(pool.take(150, LIMIT, 2), Turn::Taken { lease: None });
        assert_eq!(pool.take(1, LIMIT, 3), Turn::Refused { ms: 47 });
        assert_eq!(pool.take(1, LIMIT, 50), Turn::Wait { lease: Some(100) });
    }

    #[test]
    fn tokens_do_not_keep() {
        let pool = Pool::new(LIMIT, 0);
        assert_eq!(pool.take(1, LIMIT, 0), Turn::Wait { lease: Some(100) });
        pool.leased(granted(100, 0), LIMIT, 0);
        assert_eq!(pool.take(1, LIMIT, GOOD_MS + 1), Turn::Wait { lease: Some(100) });
    }

    /// What goes in so many milliseconds without answers.
    fn alone(pool: &Pool, sharers: u64, from_ms: i64, for_ms: i64) -> u64 {
        let mut gone = 0;
        for now_ms in from_ms..from_ms + for_ms {
            loop {
                match pool.take(1, LIMIT, now_ms) {
                    Turn::Wait { lease: Some(_) } => pool.leased(None, LIMIT, now_ms),
                    Turn::Alone { lease } => {
                        if lease.is_some() {
                            pool.leased(None, LIMIT, now_ms);
                        }
                        if pool.take_alone(1, LIMIT, sharers, now_ms).is_err() {
                            break;
                        }
                        gone += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        gone
    }

    #[test]
    fn without_answers_half_of_the_limit_goes() {
        let pool = Pool::new(LIMIT, 0);
        assert_eq!(alone(&pool, 1, 0, 10_000), (LIMIT.burst + 9_999) / 2);
        assert_eq!(pool.take(1, LIMIT, 10_200), Turn::Alone { lease: Some(100) });
        pool.leased(granted(100, 0), LIMIT, 10_200);
        assert_eq!(pool.take(100, LIMIT, 10_200), Turn::Taken { lease: Some(100) });
        // The next time it is no more, though nothing went alone for hours.
        pool.leased(granted(0, 1), LIMIT, 10_200);
        assert_eq!(alone(&pool, 1, 9_000_000, 10_000), (LIMIT.burst + 9_999) / 2);
    }

    #[test]
    fn without_answers_processes_share_half_of_the_limit() {
        for sharers in [2, 5, 30] {
            let pools = (0..sharers).map(|_| Pool::new(LIMIT, 0));
            let gone: u64 = pools.map(|pool| alone(&pool, sharers, 0, 10_000)).sum();
            let half = (LIMIT.burst + 9_999) / 2;
            assert!((half - sharers..=half).contains(&gone), "{gone} through {sharers} processes");
        }
        // What fits the burst goes at some time, through however many processes.
        let (pool, limit) = (Pool::new(LIMIT, 0), Limit::new(u64::MAX, u64::MAX));
        let wait_ms = pool.take_alone(LIMIT.burst, LIMIT, 4, 0).unwrap_err();
        assert_eq!(pool.take_alone(LIMIT.burst, LIMIT, 4, wait_ms as i64), Ok(()));
        assert!(pool.take_alone(limit.burst, limit, u64::MAX, i64::MAX).is_ok());
    }

    #[test]
    fn no_limit_waits_for_a_clock_that_jumps() {
        const HOUR_MS: i64 = 3_600_000;
        const YEAR_MS: i64 = 365 * 24 * HOUR_MS;
        let start_ms = 50 * YEAR_MS;
        let pool = Pool::new(LIMIT, start_ms);
        let jumps = [0, -HOUR_MS, 0, YEAR_MS, 0, -start_ms, 0].map(|jump_ms| start_ms + jump_ms);
        for now_ms in jumps {
            // Of what was leased before nothing is left, so a lease is asked for: at once, or after the pause that there is in any case.
            let turn = pool.take(1, LIMIT, now_ms);
            assert!(
                matches!(turn, Turn::Wait { .. } | Turn::Refused { ms: 1..=100 }),
                "{turn:?} at {now_ms}"
            );
            let then_ms = now_ms + AWAY_MS;
            if !matches!(turn, Turn::Wait { .. }) {
                assert_eq!(pool.take(1, LIMIT, then_ms), Turn::Wait { lease: Some(100) });
            }
            pool.leased(granted(1, 1_000), LIMIT, then_ms);
            assert_eq!(pool.take(1, LIMIT, then_ms), Turn::Taken { lease: None });
            assert!(!pool.is_idle(then_ms, 10_000));
        }
        // Looking is enough: nobody has to come again for a pool to be given up.
        let gone_back_ms = start_ms - HOUR_MS;
        assert!(!pool.is_idle(gone_back_ms, 10_000));
        assert!(pool.is_idle(gone_back_ms + 10_001, 10_000));
    }

    #[test]
    fn no_limit_waits_for_a_clock_that_jumps_while_there_is_no_answer() {
        const HOUR_MS: i64 = 3_600_000;
        let pool = Pool::new(LIMIT, 2 * HOUR_MS);
        for now_ms in [2 * HOUR_MS, HOUR_MS, 2 * HOUR_MS, 0] {
            alone(&pool, 1, now_ms, 10);
            let wait_ms = pool.take_alone(LIMIT.burst, LIMIT, 1, now_ms + 10).unwrap_err();
            assert!(wait_ms <= 1_000, "{wait_ms}");
            assert_eq!(pool.take(1, LIMIT, now_ms + 10 + AWAY_MS), Turn::Alone { lease: Some(100) });
            pool.leased(None, LIMIT, now_ms + 10 + AWAY_MS);
        }
    }
}
