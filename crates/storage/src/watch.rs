//! Wakes those who wait for a tenant's next batch.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use runnel_model::TenantName;
use tokio::sync::Notify;

/// The highest known sequence number of each tenant that someone waits for. Whoever waits is woken in the order in which they came, and tenants in that of their names, so that a
/// simulated run is the same run again.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    tenants: Mutex<BTreeMap<TenantName, Arc<Newest>>>,
}

#[derive(Debug, Default)]
struct Newest {
    sequence: AtomicU64,
    closed: AtomicBool,
    changed: Notify,
}

/// Somebody who follows a tenant.
#[derive(Debug)]
pub(crate) struct Following(Arc<Newest>);

impl Following {
    /// Waits for a higher number; `None` when nothing more will come.
    pub(crate) async fn beyond(&self, sequence: u64) -> Option<u64> {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if self.0.closed.load(Ordering::Acquire) {
                return None;
            }
            let newest = self.0.sequence.load(Ordering::Acquire);
            if newest > sequence {
                return Some(newest);
            }
            changed.await;
        }
    }
}

impl Watchers {
    /// Follows a tenant. The number is 0 when nobody followed it before.
    pub(crate) fn follow(&self, tenant: &TenantName) -> Following {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        Following(tenants.entry(tenant.clone()).or_default().clone())
    }

    /// A number was committed.
    pub(crate) fn raise(&self, tenant: &TenantName, sequence: u64) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(newest) = tenants.get(tenant) else { return };
        if Arc::strong_count(newest) == 1 {
            tenants.remove(tenant);
            return;
        }
        if newest.sequence.fetch_max(sequence, Ordering::AcqRel) < sequence {
            newest.changed.notify_waiters();
        }
    }

    /// Nothing more will come.
    pub(crate) fn clear(&self) {
        let tenants = std::mem::take(&mut *self.tenants.lock().unwrap_or_else(PoisonError::into_inner));
        for newest in tenants.into_values() {
            newest.closed.store(true, Ordering::Release);
            newest.changed.notify_waiters();
        }
    }
}
