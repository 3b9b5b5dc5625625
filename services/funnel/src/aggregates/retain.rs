//! Keeps events for as long as each tenant says, and the counts of what is older for ever.
//!
//! What is too old is refused from some instant on; then aggregates are brought up to date, so that they know all there ever will be of it; and in one transaction that
//! makes sure that they still do, it is given over to be deleted. Whoever is interrupted, or was not alone, finds a step done and goes on with the next.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use runnel_chassis::Clock;
use runnel_contracts::refusal::{Reason, Refusal};
use runnel_definitions::{catalogue::Catalogue, refusal::unavailable};
use runnel_journeys::Journeys;
use runnel_model::TenantName;
use runnel_storage::Retain;
use tokio::time::{Instant, sleep};

use super::{ATTEMPTS, Aggregator, PACE};
use crate::calendar::{Calendar, Width};

/// How often it is looked for how long events are kept.
const LOOK: Duration = Duration::from_secs(1);
/// How long a tenant of whom nothing has to go is left alone.
const REST: Duration = Duration::from_secs(60);
/// By how much the clock may go otherwise than time, in milliseconds, and how long it is not believed after it jumped further: what is deleted by a wrong clock is gone.
const DRIFT_MS: i64 = 3_600_000;
const DISTRUST: Duration = Duration::from_secs(24 * 3_600);

/// A day, and the time after midnight over which tenants are spread, in milliseconds.
const DAY_MS: i64 = 24 * 3_600_000;
const SPREAD_MS: i64 = 30 * 60_000;

/// Whether the clock is believed.
#[derive(Debug)]
struct Trust {
    /// What it said, and when.
    said_ms: i64,
    at: Instant,
    /// Until when it is not believed.
    again: Option<Instant>,
}

impl Trust {
    fn new(now_ms: i64) -> Trust {
        Trust { said_ms: now_ms, at: Instant::now(), again: None }
    }

    /// Whether the clock, which says this, has gone with time.
    fn holds(&mut self, now_ms: i64) -> bool {
        let passed_ms = i64::try_from(self.at.elapsed().as_millis()).unwrap_or(i64::MAX);
        let jump_ms = now_ms.saturating_sub(self.said_ms).saturating_sub(passed_ms);
        let now = Instant::now();
        (self.said_ms, self.at) = (now_ms, now);
        if jump_ms.abs() > DRIFT_MS {
            tracing::error!(jump_ms, "the clock jumped; what is not kept any more is left alone for a day");
            self.again = Some(now + DISTRUST);
        }
        self.again = self.again.filter(|again| *again > now);
        self.again.is_none()
    }
}

/// Deletes what is not kept any more until the task is dropped.
pub async fn retain(journeys: Journeys, clock: Clock) {
    let aggregator = Aggregator::new(journeys, clock);
    let mut rests: HashMap<(TenantName, u32), Instant> = HashMap::new();
    let mut trust = Trust::new(aggregator.clock.now_ms());
    // Another one in each process, and for each tenant: whoever is first has done it for all.
    let turns = RandomState::new();
    loop {
        let trusted = trust.holds(aggregator.clock.now_ms());
        match aggregator.journeys.store().retained().await {
            Ok(_) if !trusted => {}
            Ok(retained) => {
                rests.retain(|one, until| *until > Instant::now() && retained.contains(one));
                for (tenant, days) in retained {
                    if rests.contains_key(&(tenant.clone(), days)) {
                        continue;
                    }
                    let turn_ms = (turns.hash_one(&tenant) % SPREAD_MS as u64) as i64;
                    let done = aggregator.retain(&tenant, days, turn_ms).await;
                    let rest = match &done {
                        Ok(()) => REST,
                        Err(refusal) => {
                            let reason = refusal.reason.name();
                            tracing::warn!(%tenant, reason, "what is not kept any more was not deleted");
                            PACE
                        }
                    };
                    rests.insert((tenant, days), Instant::now() + rest);
                }
            }
            Err(fault) => drop(unavailable(&fault)),
        }
        sleep(LOOK).await;
    }
}

impl Aggregator {
    /// Deletes what is older than so many days of the tenant's time zone, today among them. What only a day more makes too old goes so long after midnight.
    async fn retain(&self, tenant: &TenantName, days: u32, turn_ms: i64) -> Result<(), Refusal> {
        let store = self.journeys.store();
        self.agree(tenant).await?;
        for _ in 0..ATTEMPTS {
            let now_ms = self.clock.now_ms();
            let settings = Catalogue::read(store, tenant).await?.settings;
            let calendar = Calendar::of("settings.time_zone", &settings.time_zone)?;
            let Some(kept_from_ms) = calendar.before(now_ms, Width::Day, days.saturating_sub(1) as usize)
            else {
                return Ok(());
            };
            let before = store.retention(tenant).await.map_err(|fault| unavailable(&fault))?;
            let before = before.unwrap_or_default();
            if before.days != Some(days) || before.kept_from_ms >= Some(kept_from_ms) {
                return Ok(());
            }
            let midnight_ms = calendar.before(now_ms, Width::Day, 0).unwrap_or(now_ms);
            let by_a_day = before.kept_from_ms.is_some_and(|before_ms| kept_from_ms - before_ms < 2 * DAY_MS);
            if by_a_day && now_ms < midnight_ms.saturating_add(turn_ms) {
                return Ok(());
            }
            store.refuse_before(tenant, days, kept_from_ms).await.map_err(|fault| unavailable(&fault))?;
            let (made_of, aggregates) = self.refresh(tenant).await?;
            let retain = Retain { days, kept_from_ms, aggregates, made_of };
            if store.keep_from(tenant, retain, now_ms).await.map_err(|fault| unavailable(&fault))? {
                tracing::info!(%tenant, kept_from_ms, "what happened before is not kept any more");
                return Ok(());
            }
        }
        let text = "The tenant's definitions or aggregates change too quickly to be counted.";
        Err(Refusal::new(Reason::Overloaded, text).retry_after(PACE))
    }

    /// Refuses to go on where the database's clock says another day.
    async fn agree(&self, tenant: &TenantName) -> Result<(), Refusal> {
        let theirs_ms = self.journeys.store().clock_ms().await.map_err(|fault| unavailable(&fault))?;
        let apart_ms = theirs_ms.map_or(0, |theirs_ms| self.clock.now_ms().saturating_sub(theirs_ms));
        if apart_ms.abs() < DAY_MS {
            return Ok(());
        }
        tracing::error!(%tenant, apart_ms, "this clock and the database's are too far apart to delete by");
        Err(Refusal::new(Reason::Internal, "This clock and the database's are more than a day apart."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_jumps_is_not_believed_for_a_day() {
        const YEAR_MS: i64 = 365 * 24 * 3_600_000;
        let mut trust = Trust::new(1_000);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(trust.holds(11_000));
        // Small steps either way are what clocks do.
        assert!(trust.holds(11_000 - DRIFT_MS) && trust.holds(11_000));
        assert!(!trust.holds(11_000 + YEAR_MS));
        assert!(!trust.holds(11_000 + YEAR_MS), "that it says the same again proves nothing");
        assert!(!trust.holds(11_000), "nor that it is back");
        tokio::time::advance(DISTRUST - Duration::from_secs(1)).await;
        let nearly_ms = 11_000 + DISTRUST.as_millis() as i64 - 1_000;
        assert!(!trust.holds(nearly_ms));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(trust.holds(nearly_ms + 1_000));
    }
}
