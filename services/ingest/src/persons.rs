//! Persons of whom nothing may be known: what is known of that is kept at hand for each tenant.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use runnel_chassis::seal::random;
use runnel_contracts::refusal::{Reason, Refusal};
use runnel_model::{Privacy, Secret, TenantName, shard_of};
use runnel_storage::Store;

use crate::append::unavailable;

/// Erased ids that are kept at hand over all tenants: some 40 bytes each.
const MEMORY: usize = 4_000_000;

/// Tenants about which the store is asked at a time.
const READING: usize = 16;

/// What is known of every tenant that appended of late. What is outdated shows when it is used: the store refuses what was checked against it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Persons {
    tenants: Arc<Mutex<HashMap<TenantName, Arc<Privacy>>>>,
    /// Held while the store is asked about a tenant, each by the tenants of a shard: who waits for what another reads need not read it.
    reading: Arc<[tokio::sync::Mutex<()>; READING]>,
}

impl Persons {
    /// What is known of a tenant; of one that did not append of late, as if nobody had been erased.
    pub(crate) fn at_hand(&self, tenant: &TenantName) -> Arc<Privacy> {
        let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.get(tenant).cloned().unwrap_or_default()
    }

    /// Whether what is at hand was read from the store.
    pub(crate) fn knows(&self, tenant: &TenantName) -> bool {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner).contains_key(tenant)
    }

    /// What the store knows, where that is more than `known`; with `secret`, it has one then.
    pub(crate) async fn read(
        &self,
        store: &Store,
        tenant: &TenantName,
        known: &Arc<Privacy>,
        secret: bool,
    ) -> Result<Arc<Privacy>, Refusal> {
        let _turn = self.reading[shard_of(tenant.as_str()) % READING].lock().await;
        let newest = self.at_hand(tenant);
        if newest.version > known.version && (!secret || newest.secret.is_some()) {
            return Ok(newest);
        }
        let secret = if secret { Some(new_secret()?) } else { None };
        let privacy = store.privacy(tenant, secret).await.map_err(|fault| unavailable(&fault))?;
        let privacy = Arc::new(privacy);
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.insert(tenant.clone(), privacy.clone());
        if tenants.values().map(|known| known.erased.len()).sum::<usize>() > MEMORY {
            tenants.retain(|kept, _| kept == tenant);
        }
        Ok(privacy)
    }
}

/// Random bytes to hash with.
pub(crate) fn new_secret() -> Result<Secret, Refusal> {
    random().map(Secret).map_err(|fault| Refusal::new(Reason::Internal, format!("{fault}.")))
}
