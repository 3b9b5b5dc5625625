//! The cache of journeys: one slot a tenant, a byte budget over all, cold tenants evicted first.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use runnel_model::{Selector, Settings, TenantName};
use runnel_storage::{Listing, Store};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    dimension::sources,
    load::{LoadError, Refreshed, Wanted, load, refresh},
    loaded::Loaded,
};

/// How the cache behaves.
#[derive(Debug, Clone)]
pub struct JourneysOptions {
    /// Bytes that journeys may take in memory. A tenant that is larger alone is still loaded; all others are then evicted.
    pub budget_bytes: usize,
    /// Threads that decode, merge and count.
    pub threads: usize,
    /// The threads themselves, where others use them as well; then `threads` says nothing.
    pub pool: Option<Arc<rayon::ThreadPool>>,
    /// How long a tenant that is not asked about is kept fresh.
    pub followed: Duration,
}

impl Default for JourneysOptions {
    fn default() -> JourneysOptions {
        JourneysOptions {
            budget_bytes: 4 << 30,
            threads: std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
            pool: None,
            followed: Duration::from_secs(60),
        }
    }
}

/// In the background, commits are taken in together after this long: who asks about everybody more often than that keeps journeys fresh, and every time costs something.
const GATHERED: Duration = Duration::from_millis(100);

/// Bytes that an event takes while it is loaded: in its block, decoded, and in the journeys.
const LOADING_BYTES: u64 = 60;
/// Bytes of one permit to load.
const PERMIT_BYTES: u64 = 1 << 20;

/// The journeys of all tenants of a store. Clones share one cache.
#[derive(Debug, Clone)]
pub struct Journeys {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    options: JourneysOptions,
    pool: Arc<rayon::ThreadPool>,
    slots: Mutex<HashMap<TenantName, Arc<Slot>>>,
    uses: AtomicU64,
    /// Tenants that were loaded from the store, each time.
    loads: AtomicU64,
    /// Loads that go on together take a quarter of the budget beside what is loaded; one that takes more goes on alone.
    loading: Semaphore,
    permits: u32,
}

/// Leads to journeys without keeping them or their store alive; for whoever looks at them from outside.
#[derive(Debug, Clone)]
pub struct WeakJourneys {
    inner: Weak<Inner>,
}

impl WeakJourneys {
    /// The journeys, if somebody still has them.
    #[must_use]
    pub fn get(&self) -> Option<Journeys> {
        self.inner.upgrade().map(|inner| Journeys { inner })
    }
}

/// One tenant's place in the cache.
#[derive(Debug, Default)]
struct Slot {
    /// Held by whoever loads or refreshes. The last of `begun` that ended well.
    work: tokio::sync::Mutex<u64>,
    /// How many loads and refreshes have begun to look at the store.
    begun: AtomicU64,
    loaded: Mutex<Option<Arc<Loaded>>>,
    /// The same, though it was given up for others: as long as somebody has it, nothing is won by reading it anew.
    held: Mutex<Weak<Loaded>>,
    /// When it was last asked for, as a count of uses.
    used: AtomicU64,
    /// When it was last asked for.
    asked: Mutex<Option<tokio::time::Instant>>,
    followed: Mutex<bool>,
}

impl Slot {
    fn current(&self) -> Option<Arc<Loaded>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it was not asked for in a while.
    fn cold(&self, patience: Duration) -> bool {
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.is_none_or(|asked| asked.elapsed() >= patience)
    }

    /// What is at hand, also if only others hold it.
    fn at_hand(&self) -> Option<Arc<Loaded>> {
        self.current().or_else(|| self.held.lock().unwrap_or_else(PoisonError::into_inner).upgrade())
    }

    fn put(&self, loaded: Option<Arc<Loaded>>) {
        if let Some(loaded) = &loaded {
            *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(loaded);
        }
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = loaded;
    }
}

/// The computing threads could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the computing threads could not be started")]
pub struct PoolError(#[from] rayon::ThreadPoolBuildError);

impl Journeys {
    /// An empty cache over a store.
    pub fn new(store: Store, options: JourneysOptions) -> Result<Journeys, PoolError> {
        let pool = match &options.pool {
            Some(pool) => pool.clone(),
            None => {
                let threads = rayon::ThreadPoolBuilder::new().num_threads(options.threads);
                Arc::new(threads.thread_name(|at| format!("journeys-{at}")).build()?)
            }
        };
        let permits =
            u32::try_from(options.budget_bytes as u64 / 4 / PERMIT_BYTES).unwrap_or(u32::MAX).max(1);
        let loading = Semaphore::new(permits as usize);
        let (slots, uses, loads) = (Mutex::default(), AtomicU64::new(0), AtomicU64::new(0));
        let inner = Inner { store, options, pool, slots, uses, loads, loading, permits };
        Ok(Journeys { inner: Arc::new(inner) })
    }

    /// The computing threads.
    #[must_use]
    pub fn pool(&self) -> &Arc<rayon::ThreadPool> {
        &self.inner.pool
    }

    /// The store below.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// A way to these journeys that does not keep them.
    #[must_use]
    pub fn weak(&self) -> WeakJourneys {
        WeakJourneys { inner: Arc::downgrade(&self.inner) }
    }

    /// Bytes that journeys take in memory now, approximately; with those that were given up and are still looked at.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let slots = self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.values().filter_map(|slot| slot.at_hand()).map(|loaded| loaded.memory() as u64).sum()
    }

    /// How often a tenant's journeys were loaded from the store, rather than brought up to date.
    #[must_use]
    pub fn loads(&self) -> u64 {
        self.inner.loads.load(Ordering::Relaxed)
    }

    /// A tenant's journeys with at least these columns of events themselves, holding every batch that was committed before the call.
    pub async fn at(
        &self,
        tenant: &TenantName,
        columns: &BTreeSet<Selector>,
    ) -> Result<Arc<Loaded>, LoadError> {
        self.by(tenant, columns, None).await
    }

    /// As [`Journeys::at`], with columns that are made of sessions as well, which the settings say how to tell.
    pub async fn with_sessions(
        &self,
        tenant: &TenantName,
        columns: &BTreeSet<Selector>,
        settings: &Settings,
    ) -> Result<Arc<Loaded>, LoadError> {
        match of_sessions(columns, settings) {
            None => self.at(tenant, columns).await,
            Some(wanted) => self.by(tenant, &wanted, Some(settings)).await,
        }
    }

    /// What is in memory of a tenant's journeys, where it has these columns, whatever was committed since.
    pub(crate) fn at_hand(
        &self,
        tenant: &TenantName,
        columns: &BTreeSet<Selector>,
        settings: &Settings,
    ) -> Option<Arc<Loaded>> {
        let slot = self.asked(tenant);
        let wanted = of_sessions(columns, settings);
        let settings = wanted.is_some().then_some(settings);
        let current =
            slot.current().filter(|current| current.serves(wanted.as_ref().unwrap_or(columns), settings))?;
        self.follow(tenant, &slot);
        Some(current)
    }

    /// The journeys of the batches that are numbered up to `until` alone, by who is who now, with the columns that other journeys have. They are read anew, and not kept.
    pub async fn until(&self, tenant: &TenantName, until: u64, like: &Loaded) -> Result<Loaded, LoadError> {
        let columns = like.columns.iter().map(|(selector, _)| selector.clone()).collect();
        let wanted = Wanted { columns: &columns, settings: like.settings.clone(), identities: false, until };
        let _turn = self.turn(tenant).await?;
        load(&self.inner.store, tenant, wanted, self.inner.pool.clone()).await
    }

    /// Waits until there is room to load a tenant.
    async fn turn(&self, tenant: &TenantName) -> Result<SemaphorePermit<'_>, LoadError> {
        let Listing { journal, blocks, .. } = self.inner.store.list(tenant, 0).await?;
        let journal: u64 = journal.iter().map(|row| u64::from(row.events)).sum();
        let events = journal + blocks.iter().map(|block| block.events).sum::<u64>();
        let permits = u32::try_from(events * LOADING_BYTES / PERMIT_BYTES).unwrap_or(u32::MAX);
        let turn = self.inner.loading.acquire_many(permits.min(self.inner.permits)).await;
        turn.map_err(|_| LoadError::Stopped)
    }

    async fn by(
        &self,
        tenant: &TenantName,
        columns: &BTreeSet<Selector>,
        settings: Option<&Settings>,
    ) -> Result<Arc<Loaded>, LoadError> {
        let slot = self.asked(tenant);
        let loaded = self.freshen(tenant, &slot, columns, settings).await?;
        self.follow(tenant, &slot);
        Ok(loaded)
    }

    /// The slot of a tenant that is asked about now.
    fn asked(&self, tenant: &TenantName) -> Arc<Slot> {
        let mut slots = self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry(tenant.clone()).or_default().clone();
        slot.used.store(self.inner.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        *slot.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(tokio::time::Instant::now());
        slot
    }

    async fn freshen(
        &self,
        tenant: &TenantName,
        slot: &Slot,
        columns: &BTreeSet<Selector>,
        settings: Option<&Settings>,
    ) -> Result<Arc<Loaded>, LoadError> {
        let begun = slot.begun.load(Ordering::SeqCst);
        let mut ended = slot.work.lock().await;
        // Whatever was committed before this call is in what began later: those who wait together need one refresh.
        if *ended > begun
            && let Some(current) = slot.current()
            && current.serves(columns, settings)
        {
            return Ok(current);
        }
        let begun = slot.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let loaded = self.renew(tenant, slot, columns, settings).await?;
        *ended = begun;
        Ok(loaded)
    }

    /// Brings journeys up to date, or loads them. Only one does so at a time.
    async fn renew(
        &self,
        tenant: &TenantName,
        slot: &Slot,
        columns: &BTreeSet<Selector>,
        settings: Option<&Settings>,
    ) -> Result<Arc<Loaded>, LoadError> {
        let (store, pool) = (&self.inner.store, &self.inner.pool);
        let mut wanted = columns.clone();
        let mut identities = false;
        let mut by = settings.cloned().map(Arc::new);
        if let Some(current) = slot.at_hand() {
            identities = current.identities;
            if current.serves(columns, settings) {
                match refresh(store, tenant, &current, pool.clone()).await? {
                    None => {
                        if slot.current().is_none() {
                            slot.put(Some(current.clone()));
                            self.evict(tenant);
                        }
                        return Ok(current);
                    }
                    Some(Refreshed::Done(loaded)) => {
                        let loaded = Arc::new(loaded);
                        slot.put(Some(loaded.clone()));
                        self.evict(tenant);
                        return Ok(loaded);
                    }
                    Some(Refreshed::NeedsIdentities) => identities = true,
                    // As before, with the journeys told apart anew.
                    Some(Refreshed::Parted) => {}
                    Some(Refreshed::Foreign) => {
                        tracing::warn!("the store went back to an earlier state; its events are read anew");
                        identities = false;
                    }
                }
            }
            // A tenant that takes most of the memory keeps only what it was asked about last.
            if current.memory() <= self.inner.options.budget_bytes / 2 {
                wanted.extend(current.columns.iter().map(|(selector, _)| selector.clone()));
            }
            by = by.or(Some(current.settings.clone()));
        }
        self.inner.loads.fetch_add(1, Ordering::Relaxed);
        let settings = by.unwrap_or_default();
        let wanted = Wanted { columns: &wanted, settings, identities, until: u64::MAX };
        let turn = self.turn(tenant).await?;
        let loaded = Arc::new(load(store, tenant, wanted, pool.clone()).await?);
        drop(turn);
        slot.put(Some(loaded.clone()));
        self.evict(tenant);
        Ok(loaded)
    }

    /// Frees the tenants that were not asked for the longest, but for `kept`, until the budget holds.
    fn evict(&self, kept: &TenantName) {
        let slots = self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held: Vec<(u64, usize, &TenantName, &Arc<Slot>)> = slots
            .iter()
            .filter_map(|(name, slot)| {
                Some((slot.used.load(Ordering::Relaxed), slot.at_hand()?.memory(), name, slot))
            })
            .collect();
        held.sort_unstable_by_key(|(used, ..)| *used);
        let mut total: usize = held.iter().map(|(_, bytes, ..)| bytes).sum();
        for (_, bytes, name, slot) in held {
            if total <= self.inner.options.budget_bytes {
                return;
            }
            if name != kept {
                slot.put(None);
                // Whoever watches it keeps its memory, which then has to come from others.
                if slot.at_hand().is_none() {
                    total -= bytes;
                }
            }
        }
    }

    /// Keeps a tenant fresh in the background while it is asked about, so that a question finds little to do.
    fn follow(&self, tenant: &TenantName, slot: &Arc<Slot>) {
        let mut followed = slot.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *followed, true) {
            return;
        }
        let (inner, slot, tenant) = (Arc::downgrade(&self.inner), slot.clone(), tenant.clone());
        let (store, patience) = (self.inner.store.clone(), self.inner.options.followed);
        tokio::spawn(async move {
            while let Some(sequence) = slot.current().map(|loaded| loaded.sequence) {
                let committed = async {
                    let beyond = store.wait_beyond(&tenant, sequence).await;
                    tokio::time::sleep(GATHERED).await;
                    beyond.is_ok()
                };
                match tokio::time::timeout(patience, committed).await {
                    Ok(false) => break,
                    _ if slot.cold(patience) => break,
                    Err(_) => continue,
                    Ok(true) => {}
                }
                let Some(inner) = inner.upgrade() else { break };
                let journeys = Journeys { inner };
                // Somebody else keeps it fresh.
                if slot.current().is_some_and(|current| current.sequence != sequence)
                    || slot.work.try_lock().is_err()
                {
                    continue;
                }
                if slot.current().is_none()
                    || journeys.freshen(&tenant, &slot, &BTreeSet::new(), None).await.is_err()
                {
                    break;
                }
            }
            *slot.followed.lock().unwrap_or_else(PoisonError::into_inner) = false;
        });
    }
}

/// All columns that are needed, where some of these are made of sessions.
fn of_sessions(columns: &BTreeSet<Selector>, settings: &Settings) -> Option<BTreeSet<Selector>> {
    let session = columns.iter().any(|column| matches!(column, Selector::Session(_)));
    session.then(|| columns.iter().cloned().chain(sources(settings)).collect())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use runnel_model::{EventBatch, EventRef};
    use runnel_storage::{Admitted, EmbeddedOptions};

    use super::*;

    async fn append(store: &Store, tenant: &TenantName, visitor: &str) {
        let mut batch = EventBatch::default();
        let (name, event_id) = ("purchase", visitor);
        batch.push(&EventRef {
            visitor,
            time_ms: 1,
            name,
            event_id,
            sequence: 0,
            fields: &[],
            properties: &[],
        });
        store.append(tenant, Admitted::new(batch, None, Bytes::new()).unwrap(), 1).await.unwrap();
    }

    #[tokio::test]
    async fn journeys_of_a_store_that_went_back_are_loaded_anew() {
        let folder = tempfile::tempdir().unwrap();
        let tenant = TenantName::parse("shop").unwrap();
        let mut kept = Vec::new();
        for (name, visitors) in [("ahead", &["a", "b", "c"][..]), ("restored", &["a", "d"])] {
            let path = folder.path().join(name);
            let store = Store::open_embedded(&path, EmbeddedOptions::default()).await.unwrap();
            store.create_tenant(&tenant, 1).await.unwrap();
            for visitor in visitors {
                append(&store, &tenant, visitor).await;
            }
            kept.push(Journeys::new(store, JourneysOptions::default()).unwrap());
        }
        let ahead = kept[0].at(&tenant, &BTreeSet::new()).await.unwrap();
        kept[1].asked(&tenant).put(Some(ahead));
        let found = kept[1].at(&tenant, &BTreeSet::new()).await.unwrap();
        assert_eq!((found.sequence, found.events()), (2, 2));
        assert!(found.find("d").is_some() && found.find("c").is_none());
    }
}
