//! Wakes those who wait for a tenant's next batch.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use runnel_model::TenantName;
use tokio::sync::watch;

/// The highest known sequence number of each tenant that someone waits for.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    tenants: Mutex<HashMap<TenantName, watch::Sender<u64>>>,
}

impl Watchers {
    /// Follows a tenant. The value starts at 0 when nobody followed it before.
    pub(crate) fn follow(&self, tenant: &TenantName) -> watch::Receiver<u64> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.entry(tenant.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// A number was committed.
    pub(crate) fn raise(&self, tenant: &TenantName, sequence: u64) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = tenants.get(tenant) else { return };
        if sender.receiver_count() == 0 {
            tenants.remove(tenant);
            return;
        }
        sender.send_if_modified(|known| {
            let higher = sequence > *known;
            *known = (*known).max(sequence);
            higher
        });
    }

    /// Nothing more will come.
    pub(crate) fn clear(&self) {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
