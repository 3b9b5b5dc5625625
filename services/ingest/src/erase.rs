//! Carries out erasures, those of a few tenants at a time.

use std::{collections::HashMap, time::Duration};

use runnel_chassis::{Clock, observe::causes};
use runnel_model::TenantName;
use runnel_storage::Store;
use tokio::{
    task::{Id, JoinSet},
    time::{Instant, sleep},
};

/// How often it is looked whether there is something to erase.
const REST: Duration = Duration::from_millis(250);
/// How long a tenant is left alone whose erasure failed, at first and at most.
const PATIENCE: Duration = Duration::from_secs(1);
const MOST_PATIENCE: Duration = Duration::from_secs(60);
/// Tenants whose persons are erased at the same time: a long erasure, or one that waits for its turn, holds up no other.
const AT_ONCE: usize = 4;

/// A tenant whose erasure failed.
struct Failed {
    patience: Duration,
    again: Instant,
}

/// Deletes what is to be erased until the task is dropped. What fails is tried again, less and less often.
pub(crate) async fn run(store: &Store, clock: &Clock) {
    let mut under_way = JoinSet::new();
    let mut tenants: HashMap<Id, TenantName> = HashMap::new();
    let mut failed: HashMap<TenantName, Failed> = HashMap::new();
    loop {
        while let Some(ended) = under_way.try_join_next_with_id() {
            let (id, done) = ended.unwrap_or_else(|fault| (fault.id(), false));
            let Some(tenant) = tenants.remove(&id) else { continue };
            if done {
                failed.remove(&tenant);
                continue;
            }
            let before = failed.get(&tenant).map(|failed| failed.patience);
            let patience = before.map_or(PATIENCE, |patience| (patience * 2).min(MOST_PATIENCE));
            failed.insert(tenant, Failed { patience, again: Instant::now() + patience });
        }
        match store.to_erase().await {
            Ok(waiting) => {
                failed.retain(|tenant, _| waiting.contains(tenant));
                let rests =
                    |tenant: &TenantName| failed.get(tenant).is_some_and(|one| Instant::now() < one.again);
                let new = waiting
                    .into_iter()
                    .filter(|tenant| !rests(tenant) && !tenants.values().any(|known| known == tenant));
                for tenant in new.take(AT_ONCE - tenants.len()).collect::<Vec<_>>() {
                    let task = under_way.spawn(carry_out(store.clone(), tenant.clone(), clock.now_ms()));
                    tenants.insert(task.id(), tenant);
                }
            }
            Err(fault) => {
                tracing::error!(fault = causes(&fault), "the erasures to carry out could not be listed");
            }
        }
        sleep(REST).await;
    }
}

/// Whether that succeeded.
async fn carry_out(store: Store, tenant: TenantName, now_ms: i64) -> bool {
    match store.carry_out_erasures(&tenant, now_ms).await {
        Ok(report) => {
            tracing::info!(%tenant, ?report, "erased");
            true
        }
        Err(fault) => {
            tracing::error!(%tenant, fault = causes(&fault), "an erasure is not done yet");
            false
        }
    }
}
