//! One at a time for each tenant, within a process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use runnel_model::TenantName;
use tokio::sync::OwnedMutexGuard;

/// Whose turn it is, by tenant. A tenant is there while somebody has the turn or waits for it.
#[derive(Debug, Default)]
pub struct Turns {
    tenants: Mutex<HashMap<TenantName, Arc<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    /// The tenant's turn, which lasts until the guard is dropped. Where it is somebody else's, it is waited for, or `None` comes at once.
    pub async fn take(&self, tenant: &TenantName, wait: bool) -> Option<OwnedMutexGuard<()>> {
        let turn = {
            let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
            tenants.retain(|_, turn| Arc::strong_count(turn) > 1);
            tenants.entry(tenant.clone()).or_default().clone()
        };
        match wait {
            true => Some(turn.lock_owned().await),
            false => turn.try_lock_owned().ok(),
        }
    }
}
