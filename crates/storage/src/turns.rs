//! One at a time for each tenant, within a process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use runnel_model::TenantName;
use tokio::sync::OwnedMutexGuard;

/// Whose turn it is, by tenant. A tenant is there while somebody has the turn or waits for it.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    tenants: Mutex<HashMap<TenantName, Arc<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    /// Waits for the tenant's turn. It lasts until the guard is dropped.
    pub(crate) async fn wait(&self, tenant: &TenantName) -> OwnedMutexGuard<()> {
        let turn = {
            let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
            tenants.retain(|_, turn| Arc::strong_count(turn) > 1);
            tenants.entry(tenant.clone()).or_default().clone()
        };
        turn.lock_owned().await
    }
}
