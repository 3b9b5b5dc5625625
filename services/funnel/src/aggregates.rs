//! Durable counts of conversions by day, week and month, whole and by channel and device.
//!
//! They are made from journeys like every other count ([`compute`]), so that they are the same, and replace what was there. Only what can have changed is counted
//! again: what happens at an instant changes nothing that lies before the session which it may belong to, and [`Kept`] says how far back such sessions reach. A
//! question is answered from them ([`serve`]) where nothing has happened since that could change the answer. What changed of days, weeks and months that were over
//! is noted ([`ledger`]).

mod compute;
mod ledger;
mod rows;
mod serve;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prost::Message;
use runnel_chassis::Clock;
use runnel_contracts::{
    proto::{aggregate::v1::AggregateState, catalog::v1 as wire},
    refusal::{Reason, Refusal},
};
use runnel_journeys::Journeys;
use runnel_model::TenantName;
use runnel_storage::{AggregateError, Aggregates, Versions};
use tokio::sync::Semaphore;

pub(crate) use self::{ledger::list, serve::trend};
use crate::{
    calendar::{Calendar, Width},
    catalog::{Catalogue, damaged},
    refusal::{loading, unavailable},
};

/// The version of what is stored.
const FORMAT: u32 = 1;
/// How long ago what happened is counted in aggregates, in milliseconds; questions about earlier times are answered from journeys.
const HISTORY_MS: i64 = 3_660 * 24 * 3_600_000;
/// How often another process may be faster before one gives up.
const ATTEMPTS: usize = 5;
/// How long a tenant's aggregates are left as they are when they were made in the background.
const PACE: Duration = Duration::from_secs(10);
/// Tenants whose aggregates are made in the background at a time.
const TOGETHER: usize = 1;

/// The lengths of time that have counts, with the numbers that they are stored under.
const GRAINS: [(u8, Width); 3] = [(1, Width::Day), (2, Width::Week), (3, Width::Month)];

/// Makes the aggregates of all tenants. Clones share one.
#[derive(Debug, Clone)]
pub(crate) struct Aggregator {
    journeys: Journeys,
    clock: Clock,
    /// Tenants that are looked after in the background.
    busy: Arc<Mutex<HashSet<TenantName>>>,
    turns: Arc<Semaphore>,
}

/// What a tenant's aggregates were made of, as it is read.
struct Kept {
    made_of: Versions,
    state: AggregateState,
    calendar: Calendar,
}

impl Kept {
    /// What is stored; `None` where there is nothing that this program made.
    fn of(stored: &Aggregates) -> Result<Option<Kept>, Refusal> {
        let Some(stored) = &stored.state else { return Ok(None) };
        let state = AggregateState::decode(stored.body.clone()).map_err(|_| damaged())?;
        if state.format_version != FORMAT {
            return Ok(None);
        }
        let calendar = Calendar::of("settings.time_zone", &state.time_zone)?;
        Ok(Some(Kept { made_of: stored.made_of, state, calendar }))
    }

    /// Whether they count by these settings.
    fn has_settings(&self, catalogue: &Catalogue) -> bool {
        self.state.time_zone == catalogue.settings.time_zone && self.state.settings == settings(catalogue)
    }

    /// Whether nothing lies behind the instant that they are as of, so that they are the same as of any later one.
    fn is_settled(&self) -> bool {
        self.state.last_ms.is_none_or(|last_ms| last_ms < self.state.as_of_ms)
    }

    /// From when on they may be outdated: `None` when they are not, and the beginning of time when it is not known.
    async fn outdated_from(
        &self,
        journeys: &Journeys,
        tenant: &TenantName,
        head: Versions,
    ) -> Result<Option<i64>, Refusal> {
        if head.alias != self.made_of.alias {
            return Ok(Some(i64::MIN));
        }
        let mut earliest = (!self.is_settled()).then_some(self.state.as_of_ms);
        if head.sequence != self.made_of.sequence {
            let since = journeys.earliest_since(tenant, self.made_of.sequence, head.sequence);
            let first_ms = since.await.map_err(|fault| loading(&fault))?;
            let Some(first_ms) = first_ms else { return Ok(Some(i64::MIN)) };
            earliest = Some(earliest.map_or(first_ms, |other| other.min(first_ms)));
        }
        Ok(earliest.map(|earliest| self.reach(earliest)))
    }

    /// The earliest instant whose counts an event at an instant may change.
    fn reach(&self, instant_ms: i64) -> i64 {
        let Some(midnight_ms) = self.calendar.before(instant_ms, Width::Day, 0) else { return i64::MIN };
        let reaches = &self.state.reaches;
        match reaches.binary_search_by_key(&midnight_ms, |reach| reach.midnight_ms) {
            Ok(at) => reaches[at].start_ms.min(midnight_ms),
            Err(_) => midnight_ms,
        }
    }
}

/// Settings as they are compared.
fn settings(catalogue: &Catalogue) -> Vec<u8> {
    catalogue.set.as_ref().map(wire::Settings::encode_to_vec).unwrap_or_default()
}

impl Aggregator {
    /// An aggregator over journeys.
    #[must_use]
    pub(crate) fn new(journeys: Journeys, clock: Clock) -> Aggregator {
        Aggregator { journeys, clock, busy: Arc::default(), turns: Arc::new(Semaphore::new(TOGETHER)) }
    }

    /// Brings a tenant's aggregates up to date. What they are made of then.
    pub(crate) async fn refresh(&self, tenant: &TenantName) -> Result<Versions, Refusal> {
        for _ in 0..ATTEMPTS {
            let store = self.journeys.store();
            let stored = store.aggregates(tenant, 0, 0, 0).await.map_err(|fault| unavailable(&fault))?;
            let catalogue = Catalogue::read(store, tenant).await?;
            let kept = Kept::of(&stored)?;
            let mut from_ms = i64::MIN;
            if let Some(kept) = &kept
                && kept.has_settings(&catalogue)
                && kept.state.conversions.len() == catalogue.conversions.len()
                && kept.state.conversions.iter().all(|one| {
                    catalogue
                        .conversions
                        .get(&one.name)
                        .is_some_and(|known| known.wire.version == one.version)
                })
            {
                match kept.outdated_from(&self.journeys, tenant, stored.head).await? {
                    None => return Ok(stored.head),
                    Some(outdated_from) => from_ms = outdated_from,
                }
            }
            let number = stored.state.as_ref().map_or(0, |state| state.number);
            let now_ms = self.clock.now_ms();
            let made =
                compute::make(&self.journeys, tenant, &catalogue, kept.as_ref(), from_ms, now_ms).await?;
            let Some(change) = made.change(store, tenant, kept.as_ref(), number).await? else { continue };
            let made_of = change.made_of;
            match store.change_aggregates(tenant, change).await {
                Ok(()) => return Ok(made_of),
                Err(AggregateError::Stale) => {}
                Err(AggregateError::Unavailable(fault)) => return Err(unavailable(&fault)),
            }
        }
        let text = "The tenant's definitions or aggregates change too quickly to be counted.";
        Err(Refusal::new(Reason::Overloaded, text).retry_after(PACE))
    }

    /// Brings a tenant's aggregates up to date in the background, unless that goes on already.
    fn wish(&self, tenant: &TenantName) {
        if !self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone()) {
            return;
        }
        let (aggregator, tenant) = (self.clone(), tenant.clone());
        tokio::spawn(async move {
            if let Ok(_turn) = aggregator.turns.acquire().await
                && let Err(refusal) = aggregator.refresh(&tenant).await
            {
                tracing::warn!(%tenant, reason = refusal.reason.name(), "aggregates were not brought up to date");
            }
            tokio::time::sleep(PACE).await;
            aggregator.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&tenant);
        });
    }
}
