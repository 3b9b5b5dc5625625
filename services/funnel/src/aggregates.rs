//! Durable counts of conversions by day, week and month, whole and by channel and device.
//!
//! They are made from journeys like every other count ([`compute`]), so that they are the same, and replace what was there. Only what can have changed is counted
//! again: what happens at an instant changes nothing that lies before the session which it may belong to, and [`Kept`] says how far back such sessions reach. A
//! question is answered from them ([`serve`]) where nothing has happened since that could change the answer. What changed of days, weeks and months that were over
//! is noted ([`ledger`]). They outlive the events ([`retain`]): what begins before events are kept stays as it was.

mod compute;
mod ledger;
mod retain;
mod rows;
mod serve;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use prost::Message;
use runnel_chassis::Clock;
use runnel_contracts::{
    proto::{aggregate::v1::AggregateState, catalog::v1 as wire},
    refusal::{Reason, Refusal},
};
use runnel_definitions::{
    catalogue::{Catalogue, damaged},
    refusal::{loading, unavailable},
};
use runnel_journeys::Journeys;
use runnel_model::{TenantName, hour};
use runnel_storage::{AggregateError, Aggregates, Versions};
use tokio::sync::Semaphore;

pub use self::retain::retain;
pub(crate) use self::{ledger::list, serve::trend};
use crate::calendar::{Calendar, Width};

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
    /// Whose aggregates are being made in this process, so that those who ask for the same wait for it instead of doing it as well.
    making: Arc<Mutex<HashMap<TenantName, Weak<tokio::sync::Mutex<()>>>>>,
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

    /// Whether they count all conversions of a catalogue, and no others, as it defines them and by its settings.
    fn counts_as(&self, catalogue: &Catalogue) -> bool {
        let counted = self.state.conversions.iter().map(|one| (&one.name, one.version));
        let defined = catalogue.conversions.iter().map(|(name, known)| (name, known.wire.version));
        self.has_settings(catalogue) && counted.eq(defined)
    }

    /// Whether they count by these settings.
    fn has_settings(&self, catalogue: &Catalogue) -> bool {
        self.state.time_zone == catalogue.settings.time_zone && self.state.settings == settings(catalogue)
    }

    /// How many of the versions of the erasures that they are made of erased somebody. That older events are not kept changes no count.
    fn erased(&self) -> u64 {
        erased(self.made_of, self.state.retentions)
    }

    /// Whether they are made of everything that was there when somebody asked.
    fn knows(&self, asked: &Aggregates) -> bool {
        self.is_settled()
            && self.made_of.sequence >= asked.head.sequence
            && self.made_of.alias >= asked.head.alias
            && self.erased() >= erased(asked.head, asked.retentions)
    }

    /// Whether nothing lies behind the instant that they are as of, so that they are the same as of any later one.
    fn is_settled(&self) -> bool {
        self.state.last_ms.is_none_or(|last_ms| last_ms < self.state.as_of_ms)
    }

    /// The first and the last event of all times, when those that are there are known.
    fn spanned(&self, there: Option<(i64, i64)>, kept_from_ms: i64) -> Option<(i64, i64)> {
        let before = self.state.first_ms.zip(self.state.last_ms);
        let gone = before.filter(|(first_ms, _)| *first_ms < kept_from_ms);
        let gone = gone.map(|(first_ms, last_ms)| (first_ms, last_ms.min(kept_from_ms - 1)));
        let both = gone.into_iter().chain(there);
        both.reduce(|(from, until), (first, last)| (from.min(first), until.max(last)))
    }

    /// From when on they may be outdated: `None` when they are not, and the beginning of time when it is not known.
    async fn outdated_from(
        &self,
        journeys: &Journeys,
        tenant: &TenantName,
        Aggregates { head, retentions, .. }: &Aggregates,
    ) -> Result<Option<i64>, Refusal> {
        let (head, retentions) = (*head, *retentions);
        if (head.alias, erased(head, retentions)) != (self.made_of.alias, self.erased()) {
            return Ok(Some(i64::MIN));
        }
        let mut earliest = (!self.is_settled()).then_some(self.state.as_of_ms);
        if head.sequence != self.made_of.sequence {
            let since = journeys.earliest_since(tenant, self.made_of.sequence, head.sequence);
            let first_ms = since.await.map_err(|fault| loading(&fault))?;
            let Some(first_ms) = first_ms else { return Ok(Some(i64::MIN)) };
            // What is unobserved counts wherever its hour reaches.
            let first_ms = hour(first_ms);
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

/// How many versions of the erasures erased somebody, of those that there are.
fn erased(versions: Versions, retentions: u64) -> u64 {
    versions.erasure.saturating_sub(retentions)
}

/// Settings as they are compared.
fn settings(catalogue: &Catalogue) -> Vec<u8> {
    catalogue.set.as_ref().map(wire::Settings::encode_to_vec).unwrap_or_default()
}

impl Aggregator {
    /// An aggregator over journeys.
    #[must_use]
    pub(crate) fn new(journeys: Journeys, clock: Clock) -> Aggregator {
        let turns = Arc::new(Semaphore::new(TOGETHER));
        Aggregator { journeys, clock, busy: Arc::default(), turns, making: Arc::default() }
    }

    /// The lock of those who make a tenant's aggregates.
    fn making(&self, tenant: &TenantName) -> Arc<tokio::sync::Mutex<()>> {
        let mut making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        making.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = making.get(tenant).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        making.insert(tenant.clone(), Arc::downgrade(&lock));
        lock
    }

    /// Brings a tenant's aggregates up to date with what was committed before. What they are made of then, and their number.
    pub(crate) async fn refresh(&self, tenant: &TenantName) -> Result<(Versions, u64), Refusal> {
        let store = self.journeys.store();
        let asked = store.aggregates(tenant, 0, 0, 0).await.map_err(|fault| unavailable(&fault))?;
        let making = self.making(tenant);
        let _alone = making.lock().await;
        for _ in 0..ATTEMPTS {
            let stored = store.aggregates(tenant, 0, 0, 0).await.map_err(|fault| unavailable(&fault))?;
            let catalogue = Catalogue::read(store, tenant).await?;
            let kept = Kept::of(&stored)?;
            let number = stored.state.as_ref().map_or(0, |state| state.number);
            if let Some(kept) = &kept
                && kept.counts_as(&catalogue)
                && kept.knows(&asked)
            {
                // Of other definitions and erasures nothing changes them.
                let Versions { definition, erasure, .. } = asked.head;
                return Ok((Versions { definition, erasure, ..kept.made_of }, number));
            }
            let now_ms = self.clock.now_ms();
            let made = compute::make(&self.journeys, tenant, &catalogue, kept.as_ref(), now_ms).await?;
            let Some(made) = made else { continue };
            let Some(change) = made.change(store, tenant, kept.as_ref(), number).await? else { continue };
            let made_of = change.made_of;
            match store.change_aggregates(tenant, change).await {
                Ok(()) => return Ok((made_of, number + 1)),
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
