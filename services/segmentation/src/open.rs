//! How many sessions are open: exactly, at the head of the journal at the time of the question.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use runnel_chassis::{Clock, Metrics};
use runnel_contracts::{
    proto::{query::v1::Revision, segmentation::v1::OpenSessionsSource as Source},
    refusal::Refusal,
};
use runnel_definitions::{
    catalogue,
    refusal::{loading, unavailable},
};
use runnel_failpoints::hit;
use runnel_journeys::{Journeys, LoadError, Presence, SeenSince, off_site};
use runnel_model::TenantName;
use runnel_storage::{
    Hot,
    hot::{Holder, HotError, Sessions, ShardCount, Step},
};
use tokio::{sync::Semaphore, time::Instant};

use crate::owner::Owner;

/// Most tenants that are followed at a time. Others are answered as well, with more to do for each question.
const FOLLOWED: usize = 1_000;
/// Commands with events on their way at a time.
const TOGETHER: usize = 16;
/// How often counting is tried again when another process writes in between, or looked at a later instant.
const ATTEMPTS: usize = 4;
/// Tenants whose hot state is filled again at a time.
const REBUILT: usize = 2;

/// How open sessions are followed.
#[derive(Debug, Clone)]
pub struct SegmentationOptions {
    /// How long a process owns a tenant's hot state unless it renews that.
    pub lease: Duration,
    /// How long a tenant that nobody asks about is followed.
    pub followed: Duration,
    /// How often a followed tenant's journal is looked at.
    pub pace: Duration,
    /// How often, at least, a tenant of whom something is watched is looked at, and its watchers told that all is told.
    pub looked: Duration,
}

impl Default for SegmentationOptions {
    fn default() -> SegmentationOptions {
        SegmentationOptions {
            lease: Duration::from_secs(10),
            followed: Duration::from_secs(600),
            pace: Duration::from_secs(1),
            looked: Duration::from_millis(500),
        }
    }
}

/// A count of open sessions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) open: u64,
    pub(crate) as_of_ms: i64,
    pub(crate) revision: Revision,
    pub(crate) source: Source,
}

/// Open sessions of all tenants. Clones share one.
#[derive(Clone, Debug)]
pub(crate) struct OpenSessions {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) journeys: Journeys,
    hot: Hot,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) holder: Holder,
    pub(crate) options: SegmentationOptions,
    pub(crate) tenants: Mutex<HashMap<TenantName, Arc<Tenant>>>,
    pub(crate) rebuilds: Arc<Semaphore>,
}

/// A tenant that is asked about.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) name: TenantName,
    pub(crate) sessions: Sessions,
    /// The version of the erasures that its hot state is of.
    erasure: u64,
    /// How long a session stays open without events.
    pub(crate) gap_ms: i64,
    pub(crate) owner: Owner,
    pub(crate) rebuilding: AtomicBool,
    asked: Mutex<Instant>,
    /// Rounds that have begun.
    begun: AtomicU64,
    /// Held by the round that goes on; the last that ended, and what it counted.
    round: tokio::sync::Mutex<Option<(u64, Counted)>>,
}

/// What a look at hot state came to.
#[derive(Debug)]
pub(crate) enum Round {
    /// It is complete.
    Counted(Counted),
    /// These shards are lost.
    Lost(Vec<usize>),
    /// It cannot be had, or another process owns it and has not caught up.
    Away,
}

impl Tenant {
    /// Whether nobody has asked for a while.
    pub(crate) fn is_cold(&self, patience: Duration) -> bool {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > patience
    }

    /// The time that matters for sessions that are open at an instant.
    pub(crate) fn presence(&self, now_ms: i64) -> Presence {
        Presence { from_ms: now_ms.saturating_sub(self.gap_ms), now_ms }
    }

    fn is_asked(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl OpenSessions {
    pub(crate) fn new(
        journeys: Journeys,
        hot: Hot,
        clock: Clock,
        metrics: Metrics,
        options: SegmentationOptions,
    ) -> OpenSessions {
        let inner = Inner {
            journeys,
            hot,
            clock,
            metrics,
            holder: Holder::random(),
            options,
            tenants: Mutex::default(),
            rebuilds: Arc::new(Semaphore::new(REBUILT)),
        };
        OpenSessions { inner: Arc::new(inner) }
    }

    /// Counts a tenant's open sessions. Every batch that was committed before the call is in.
    pub(crate) async fn count(&self, name: &TenantName) -> Result<Counted, Refusal> {
        let tenant = self.tenant(name).await?;
        tenant.is_asked();
        match self.catch_up(&tenant).await.map_err(|fault| loading(&fault))? {
            Round::Counted(counted) => return Ok(counted),
            Round::Lost(shards) => self.rebuild(&tenant, shards),
            Round::Away => {}
        }
        self.count_journeys(&tenant).await.map_err(|fault| loading(&fault))
    }

    /// Counts without hot state.
    async fn count_journeys(&self, tenant: &Tenant) -> Result<Counted, LoadError> {
        let journeys = &self.inner.journeys;
        let loaded = journeys.at(&tenant.name, &[off_site()].into()).await?;
        let now_ms = self.inner.clock.now_ms();
        let (sequence, alias, erasure) = (loaded.sequence, loaded.people.version(), loaded.erasure);
        let revision = Revision { sequence, alias, erasure, ..Revision::default() };
        let open = journeys.present(loaded, tenant.presence(now_ms)).await?;
        Ok(Counted { open, as_of_ms: now_ms, revision, source: Source::Journeys })
    }

    /// The tenant as it is followed; it is followed from now on, if there is room.
    async fn tenant(&self, name: &TenantName) -> Result<Arc<Tenant>, Refusal> {
        let gap_ms = catalogue::settings(self.inner.journeys.store(), name).await?.session_gap_ms;
        let known = |open: &OpenSessions| {
            open.inner.tenants.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
        };
        match known(self) {
            Some(tenant) if tenant.gap_ms == gap_ms => return Ok(tenant),
            // The setting was changed.
            Some(tenant) => self.forget(&tenant).await,
            None => {}
        }
        let record = self.inner.journeys.store().get_tenant(name).await;
        let created_ms = record.map_err(|fault| unavailable(&fault))?.map_or(0, |record| record.created_ms);
        let listing = self.inner.journeys.store().list(name, u64::MAX).await;
        let erasure = listing.map_err(|fault| unavailable(&fault))?.erasure;
        let tenant = Arc::new(Tenant {
            name: name.clone(),
            sessions: self.inner.hot.sessions(name, created_ms, erasure).with_gap(gap_ms),
            erasure,
            gap_ms,
            owner: Owner::default(),
            rebuilding: AtomicBool::new(false),
            asked: Mutex::new(Instant::now()),
            begun: AtomicU64::new(0),
            round: tokio::sync::Mutex::default(),
        });
        let mut tenants = self.inner.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if tenants.len() >= FOLLOWED {
            return Ok(tenant);
        }
        // Somebody may have been faster.
        let kept = tenants.entry(name.clone()).or_insert_with(|| {
            self.follow(&tenant);
            tenant
        });
        Ok(kept.clone())
    }

    /// Somebody was erased, or sessions end after another gap: what hot state knows is thrown away, and what comes next has another place.
    async fn forget(&self, tenant: &Tenant) {
        self.inner
            .tenants
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, known| !std::ptr::eq(&**known, tenant));
        tenant.owner.release(&tenant.sessions, self.inner.holder).await;
        if let Err(fault) = tenant.sessions.forget().await {
            tracing::debug!(%fault, "what hot state knows of a tenant is left to expire");
        }
    }

    /// Brings hot state up to the head of the journal and counts. Those who ask while a round goes on share the next one, as that begins after they asked.
    pub(crate) async fn catch_up(&self, tenant: &Tenant) -> Result<Round, LoadError> {
        let before = tenant.begun.load(Ordering::SeqCst);
        let mut last = tenant.round.lock().await;
        if let Some((round, counted)) = *last
            && round > before
        {
            return Ok(Round::Counted(counted));
        }
        let number = tenant.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let round = self.round(tenant).await?;
        if let Round::Counted(counted) = round {
            *last = Some((number, counted));
        }
        Ok(round)
    }

    async fn round(&self, tenant: &Tenant) -> Result<Round, LoadError> {
        let mut now_ms = self.inner.clock.now_ms();
        for _ in 0..ATTEMPTS {
            // Hot state first: then its numbers are of the past, and the journal's head is no lower.
            let counts = match sort(tenant.sessions.count_all(now_ms).await) {
                Ok(counts) => counts,
                Err(other) => return Ok(other),
            };
            now_ms = counts.iter().fold(now_ms, |latest, count| latest.max(count.as_of_ms));
            let least = counts.iter().map(|count| count.sequence).min().unwrap_or(0);
            let since = self.inner.journeys.seen_since(&tenant.name, least, tenant.presence(now_ms)).await?;
            // Hot state knows visitors as sent. Where some of them are one, the journeys tell.
            if since.erasure != tenant.erasure {
                self.forget(tenant).await;
                return Ok(Round::Away);
            }
            if since.alias > 0 {
                return Ok(Round::Away);
            }
            let foreign = |(_, count): &(usize, &ShardCount)| count.sequence > since.sequence;
            let lost: Vec<usize> =
                counts.iter().enumerate().filter(foreign).map(|(shard, _)| shard).collect();
            if !lost.is_empty() {
                return Ok(Round::Lost(lost));
            }
            let counts = if least == since.sequence {
                counts
            } else {
                match self.apply(tenant, least, since, now_ms).await {
                    Ok(counts) => counts,
                    Err(other) => return Ok(other),
                }
            };
            if let Some(counted) = sum(&counts, tenant.erasure) {
                return Ok(Round::Counted(counted));
            }
            now_ms = counts.iter().fold(now_ms, |latest, count| latest.max(count.as_of_ms));
        }
        Ok(Round::Away)
    }

    /// Applies what came since to every shard, if this process owns the tenant.
    async fn apply(
        &self,
        tenant: &Tenant,
        from: u64,
        since: SeenSince,
        now_ms: i64,
    ) -> Result<Vec<ShardCount>, Round> {
        let Inner { holder, options, .. } = &*self.inner;
        let epoch = tenant.owner.epoch(&tenant.sessions, *holder, options.lease, now_ms).await;
        let Ok(Some(epoch)) = epoch else { return Err(Round::Away) };
        hit("hot.before_write").await.map_err(|_| Round::Away)?;
        let step = Step { epoch, from, to: since.sequence };
        let mut applied = Vec::with_capacity(since.shards.len());
        for (shard, seen) in since.shards.iter().enumerate() {
            applied.push(tenant.sessions.apply(shard, step, seen, now_ms));
        }
        let applied: Vec<_> = stream::iter(applied).buffered(TOGETHER).collect().await;
        if let Some(epoch) = applied.iter().find_map(|applied| match applied {
            Err(HotError::Fenced { epoch }) => Some(*epoch),
            _ => None,
        }) {
            tenant.owner.overtaken(epoch);
        }
        sort(applied)
    }

    /// Lets other processes own what this one does.
    pub(crate) async fn close(&self) {
        let tenants: Vec<Arc<Tenant>> = {
            let mut tenants = self.inner.tenants.lock().unwrap_or_else(PoisonError::into_inner);
            tenants.drain().map(|(_, tenant)| tenant).collect()
        };
        let released = tenants.iter().map(|tenant| tenant.owner.release(&tenant.sessions, self.inner.holder));
        stream::iter(released).buffer_unordered(TOGETHER).collect::<Vec<()>>().await;
    }
}

/// The counts of all shards, or why there are none.
fn sort(counts: Vec<Result<ShardCount, HotError>>) -> Result<Vec<ShardCount>, Round> {
    let is_lost = |(_, count): &(usize, &Result<ShardCount, HotError>)| matches!(count, Err(HotError::Lost));
    let lost: Vec<usize> = counts.iter().enumerate().filter(is_lost).map(|(shard, _)| shard).collect();
    let away =
        counts.iter().find_map(|count| count.as_ref().err().filter(|fault| !matches!(fault, HotError::Lost)));
    if let Some(fault) = away {
        tracing::debug!(%fault, "hot state is not used");
        return Err(Round::Away);
    }
    if !lost.is_empty() {
        return Err(Round::Lost(lost));
    }
    counts.into_iter().collect::<Result<_, _>>().map_err(|_| Round::Away)
}

/// The count over all shards, if all are about the same events at the same instant.
fn sum(counts: &[ShardCount], erasure: u64) -> Option<Counted> {
    let first = counts.first()?;
    let revision = Revision { sequence: first.sequence, erasure, ..Revision::default() };
    let alike = |count: &ShardCount| (count.sequence, count.as_of_ms) == (first.sequence, first.as_of_ms);
    counts.iter().all(alike).then(|| Counted {
        open: counts.iter().map(|count| count.open).sum(),
        as_of_ms: first.as_of_ms,
        revision,
        source: Source::Hot,
    })
}
