//! Event and property names: each tenant has room for so many, and what it has is kept at hand.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use runnel_contracts::{
    receive::{NoRoom, Received},
    refusal::Refusal,
};
use runnel_model::{ColumnKey, EventBatch, TenantName, limits};
use runnel_storage::{NameKind, Store};

use crate::append::unavailable;

/// Bytes of names that are kept at hand over all tenants.
const MEMORY: usize = 128 << 20;

/// The names of every tenant that appended of late.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    tenants: Arc<Mutex<HashMap<TenantName, Arc<Known>>>>,
}

/// The names that a tenant is known to have.
#[derive(Debug, Default, Clone)]
pub(crate) struct Known {
    events: HashSet<String>,
    properties: HashSet<String>,
    bytes: usize,
    /// The tenant has as many of a kind as it may, and all of them are known.
    full: HashSet<NameKind>,
}

/// Names of a batch that are not known yet.
#[derive(Debug, Default)]
pub(crate) struct New {
    events: Vec<String>,
    properties: Vec<String>,
}

impl Names {
    /// Claims the names of a batch that the tenant did not have, and answers those that there is no room for.
    pub(crate) async fn claim(
        &self,
        store: &Store,
        tenant: &TenantName,
        received: &Received,
    ) -> Result<NoRoom, Refusal> {
        let mut known = self.at_hand(tenant);
        let mut new = known.lacks(&received.batch);
        if known.bytes == 0 {
            known = Arc::new(Known::read(store, tenant).await?);
            new = known.lacks(&received.batch);
        }
        let keep = !received.validate_only;
        let claim = async |kind, names: &Vec<String>, limit| {
            if names.is_empty() || known.full.contains(&kind) {
                return Ok(names.clone());
            }
            store.claim_names(tenant, kind, names.clone(), limit, keep).await
        };
        let events = claim(NameKind::Event, &new.events, limits::EVENT_NAMES).await;
        let properties = claim(NameKind::Property, &new.properties, limits::PROPERTY_NAMES).await;
        let no_room = NoRoom {
            events: events.map_err(|fault| unavailable(&fault))?.into_iter().collect(),
            properties: properties.map_err(|fault| unavailable(&fault))?.into_iter().collect(),
        };
        let full = [
            (NameKind::Event, no_room.events.is_empty()),
            (NameKind::Property, no_room.properties.is_empty()),
        ];
        let full = full.into_iter().filter(|(kind, room)| !room && !known.full.contains(kind));
        let full: Vec<NameKind> = full.map(|(kind, _)| kind).collect();
        if keep && !full.is_empty() {
            // Names are never given back: when all that there are are known, the store need not be asked about any other.
            let mut all = Known::read(store, tenant).await?;
            all.full = known.full.iter().copied().chain(full).collect();
            self.keep(tenant, all);
        } else if keep {
            let mut more = Known::clone(&known);
            let events = new.events.into_iter().filter(|name| !no_room.events.contains(name));
            events.for_each(|name| more.add(NameKind::Event, name));
            let properties = new.properties.into_iter().filter(|name| !no_room.properties.contains(name));
            properties.for_each(|name| more.add(NameKind::Property, name));
            self.keep(tenant, more);
        }
        Ok(no_room)
    }

    /// What a tenant is known to have; nothing, if it did not append of late.
    pub(crate) fn at_hand(&self, tenant: &TenantName) -> Arc<Known> {
        let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.get(tenant).cloned().unwrap_or_default()
    }

    /// What a tenant is known to have only grows, so it does not matter which of two wins: the other one claims again.
    fn keep(&self, tenant: &TenantName, known: Known) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.insert(tenant.clone(), Arc::new(known));
        if tenants.values().map(|known| known.bytes).sum::<usize>() > MEMORY {
            tenants.retain(|kept, _| kept == tenant);
        }
    }
}

impl New {
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.properties.is_empty()
    }
}

impl Known {
    async fn read(store: &Store, tenant: &TenantName) -> Result<Known, Refusal> {
        let mut known = Known::default();
        for kind in [NameKind::Event, NameKind::Property] {
            let names = store.names(tenant, kind).await.map_err(|fault| unavailable(&fault))?;
            names.into_iter().for_each(|name| known.add(kind, name));
        }
        Ok(known)
    }

    fn add(&mut self, kind: NameKind, name: String) {
        self.bytes += name.len() + size_of::<String>();
        match kind {
            NameKind::Event => self.events.insert(name),
            NameKind::Property => self.properties.insert(name),
        };
    }

    /// The names of a batch that are not known.
    pub(crate) fn lacks(&self, batch: &EventBatch) -> New {
        let mut new = New::default();
        let mut seen = vec![false; batch.strings.len()];
        for &name in &batch.names {
            if !std::mem::replace(&mut seen[name as usize], true) {
                let name = batch.strings.get(name);
                if !self.events.contains(name) {
                    new.events.push(name.to_owned());
                }
            }
        }
        let mut properties: Vec<&str> = batch
            .columns
            .iter()
            .filter_map(|column| match column.key {
                ColumnKey::Property(name) => Some(batch.strings.get(name)),
                ColumnKey::Field(_) => None,
            })
            .filter(|name| !self.properties.contains(*name))
            .collect();
        // A property with values of two types has two columns.
        properties.sort_unstable();
        properties.dedup();
        new.properties = properties.into_iter().map(str::to_owned).collect();
        new
    }
}
