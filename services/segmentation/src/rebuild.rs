//! Fills lost shards of hot state from the journeys, in the background, once at a time for a tenant and for few tenants at a time.

use std::sync::{Arc, atomic::Ordering};

use futures_util::{StreamExt, stream};
use runnel_chassis::observe::causes;
use runnel_failpoints::hit;
use runnel_journeys::{Loaded, off_site};
use runnel_storage::{compute, hot::HotError};

use crate::open::{OpenSessions, Tenant};

/// Shards that are filled at a time.
const TOGETHER: usize = 4;

impl OpenSessions {
    /// Fills shards again, unless that goes on already or enough other tenants are served first. Whoever finds them lost later tries again.
    pub(crate) fn rebuild(&self, tenant: &Arc<Tenant>, shards: Vec<usize>) {
        if tenant.rebuilding.swap(true, Ordering::SeqCst) {
            return;
        }
        let Ok(permit) = self.inner.rebuilds.clone().try_acquire_owned() else {
            tenant.rebuilding.store(false, Ordering::SeqCst);
            return;
        };
        let (open, tenant) = (self.clone(), tenant.clone());
        tokio::spawn(async move {
            open.fill(&tenant, shards).await;
            tenant.rebuilding.store(false, Ordering::SeqCst);
            drop(permit);
        });
    }

    async fn fill(&self, tenant: &Tenant, shards: Vec<usize>) {
        let (holder, lease) = (self.inner.holder, self.inner.options.lease);
        let now_ms = self.inner.clock.now_ms();
        let Ok(Some(epoch)) = tenant.owner.epoch(&tenant.sessions, holder, lease, now_ms).await else {
            return;
        };
        let loaded = match self.inner.journeys.at(&tenant.name, &[off_site()].into()).await {
            Ok(loaded) => loaded,
            Err(fault) => {
                tracing::error!(fault = causes(&fault), "hot state could not be filled again");
                return;
            }
        };
        let count = shards.len();
        let filled = shards.into_iter().map(|shard| self.fill_shard(tenant, &loaded, shard, epoch));
        let filled: Vec<Result<u64, HotError>> =
            stream::iter(filled).buffer_unordered(TOGETHER).collect().await;
        let mut visitors = 0;
        for outcome in filled {
            match outcome {
                Ok(open) => visitors += open,
                Err(fault) => {
                    if let HotError::Fenced { epoch } = fault {
                        tenant.owner.overtaken(epoch);
                    }
                    tracing::debug!(%fault, tenant = %tenant.name, "hot state is not whole yet");
                    return;
                }
            }
        }
        self.inner.metrics.hot_rebuilt();
        tracing::info!(tenant = %tenant.name, shards = count, visitors, "hot state was filled again");
    }

    /// Fills one shard. How many sessions are open in it.
    async fn fill_shard(
        &self,
        tenant: &Tenant,
        loaded: &Arc<Loaded>,
        shard: usize,
        epoch: u64,
    ) -> Result<u64, HotError> {
        let now_ms = self.inner.clock.now_ms();
        let (journeys, sequence) = (loaded.clone(), loaded.sequence);
        let presence = tenant.presence(now_ms);
        let seen = compute(move || journeys.seen(shard, presence)).await;
        let seen = seen.map_err(|_| HotError::Lost)?;
        hit("hot.mid_rebuild").await.map_err(|_| HotError::Lost)?;
        let filled = tenant.sessions.reset(shard, epoch, sequence, &seen, now_ms).await?;
        Ok(filled.open)
    }
}
