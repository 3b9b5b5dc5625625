//! What budgets promise.

use std::time::Duration;

use runnel_model::TenantName;
use runnel_storage::hot::{Budgets, Charge, Hot, Limit, OverBudget};

use super::{Random, tenant};

const NOW: i64 = 1_700_000_000_000;

/// Takes tokens of one kind.
pub(crate) async fn take(
    budgets: &Budgets,
    tenant: &TenantName,
    kind: &'static str,
    amount: u64,
    limit: Limit,
    now_ms: i64,
) -> Result<(), OverBudget> {
    budgets.take(tenant, &[Charge { kind, amount, limit }], now_ms).await.map_err(|(_, over)| over)
}

/// A bucket that lives through every millisecond. It keeps thousandths of tokens.
struct Slow {
    milli: u64,
    at_ms: i64,
}

impl Slow {
    fn lease(&mut self, want: u64, limit: Limit, now_ms: i64) -> (u64, u64) {
        while self.at_ms < now_ms {
            self.at_ms += 1;
            self.milli = (self.milli + limit.rate()).min(limit.burst() * 1_000);
        }
        let granted = want.min(self.milli / 1_000);
        self.milli -= granted * 1_000;
        let (mut wait, mut milli) = (0, self.milli);
        while milli < (want.min(limit.burst()) - granted) * 1_000 {
            milli += limit.rate();
            wait += 1;
        }
        (granted, wait)
    }
}

pub(crate) async fn leases_equal_those_of_a_bucket_that_lives_through_every_millisecond(hot: &Hot) {
    for seed in 1..=12 {
        let (mut random, tenant) = (Random(seed), tenant());
        let limit = Limit::new(1 + random.below(3_000), 1 + random.below(400));
        let mut slow = Slow { milli: limit.burst() * 1_000, at_ms: NOW };
        let mut now_ms = NOW;
        for _ in 0..60 {
            // Now and then a clock that lags behind.
            now_ms += random.below(700) as i64 - 30;
            let want = random.below(limit.burst() * 3 / 2 + 1);
            let lease = hot.lease(&tenant, "events", want, limit, now_ms).await.unwrap();
            let expected = slow.lease(want, limit, now_ms);
            assert_eq!((lease.granted, lease.wait_ms), expected, "seed {seed}, {want} of {limit:?}");
        }
    }
}

pub(crate) async fn processes_together_let_through_no_more_than_the_limit(hot: &Hot) {
    let limit = Limit::new(2_000, 300);
    let tenant = tenant();
    // In one process there is nothing to share the limit with.
    let patience = Duration::from_secs(10);
    let processes =
        [Budgets::with_patience(hot.clone(), patience), Budgets::with_patience(hot.clone(), patience)];
    let (mut random, mut gone) = (Random(5), 0);
    let time_ms = 3_000;
    for at in (0..time_ms).step_by(2) {
        for process in &processes {
            for _ in 0..random.below(4) {
                let amount = 1 + random.below(20);
                match take(process, &tenant, "events", amount, limit, NOW + at).await {
                    Ok(()) => gone += amount,
                    Err(OverBudget::Wait { ms }) => assert!((1..1_000).contains(&ms), "{ms}"),
                    Err(OverBudget::Never) => panic!("it fits the burst"),
                }
            }
        }
        let most = limit.burst() + limit.rate() * at as u64 / 1_000;
        assert!(gone <= most, "{gone} of {most} after {at} ms");
    }
    let most = limit.burst() + limit.rate() * time_ms as u64 / 1_000;
    assert!(gone * 10 >= most * 8, "{gone} of {most}: what is allowed is let through");
}

pub(crate) async fn a_limit_is_kept_and_refuses_nobody_for_long_when_clocks_jump(hot: &Hot) {
    const HOUR: i64 = 3_600_000;
    let (budgets, tenant) = (Budgets::with_patience(hot.clone(), Duration::from_secs(10)), tenant());
    let limit = Limit::new(1_000, 100);
    for jump in [0, -HOUR, 0, 365 * 24 * HOUR, 0, -NOW, 0] {
        let mut gone = 0;
        for at in 0..1_000 {
            for _ in 0..2 {
                let taken = take(&budgets, &tenant, "events", 1, limit, NOW + jump + at).await;
                gone += u64::from(taken.is_ok());
            }
        }
        assert!((800..=1_200).contains(&gone), "{gone} in the second after {jump} ms");
    }
}

pub(crate) async fn more_than_ever_fits_is_refused_for_good(hot: &Hot) {
    let (budgets, tenant) = (Budgets::with_patience(hot.clone(), Duration::from_secs(10)), tenant());
    let limit = Limit::new(10, 100);
    assert_eq!(take(&budgets, &tenant, "bytes", 101, limit, NOW).await, Err(OverBudget::Never));
    assert_eq!(take(&budgets, &tenant, "bytes", 100, limit, NOW).await, Ok(()));
    let Err(OverBudget::Wait { ms }) = take(&budgets, &tenant, "bytes", 100, limit, NOW + 1).await else {
        panic!()
    };
    assert!((9_000..=10_000).contains(&ms), "{ms}");
    assert_eq!(take(&budgets, &tenant, "events", 100, limit, NOW).await, Ok(()), "kinds are apart");
    assert_eq!(take(&budgets, &tenant, "bytes", 100, limit, NOW + 10_000).await, Ok(()));
}

pub(crate) async fn a_call_that_is_refused_takes_nothing(hot: &Hot) {
    let (budgets, tenant) = (Budgets::with_patience(hot.clone(), Duration::from_secs(10)), tenant());
    let limit = Limit::new(1, 100);
    let charge = |kind, amount| Charge { kind, amount, limit };
    let both = |events, bytes| [charge("events", events), charge("bytes", bytes)];
    assert_eq!(budgets.take(&tenant, &both(10, 90), NOW).await, Ok(()));
    for _ in 0..5 {
        let (over, _) = budgets.take(&tenant, &both(60, 20), NOW).await.unwrap_err();
        assert_eq!(over, charge("bytes", 20), "it says of what there is too little");
    }
    assert_eq!(budgets.take(&tenant, &both(90, 10), NOW).await, Ok(()), "nothing was taken of the events");
}

pub(crate) async fn only_those_who_send_are_in_memory(hot: &Hot) {
    let budgets = Budgets::with_patience(hot.clone(), Duration::from_secs(10));
    let limit = Limit::new(100, 100);
    for round in 0..4 {
        for number in 0..3_000 {
            let tenant = TenantName::parse(&format!("many-{round}-{number}")).unwrap();
            take(&budgets, &tenant, "events", 1, limit, NOW + round * 60_000).await.unwrap();
        }
    }
    assert!(budgets.resident() <= 8_000, "{}", budgets.resident());
}
