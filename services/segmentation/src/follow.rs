//! Follows the tenants that are asked about, so that a question finds little to do, and what was lost is filled again though nobody asks.

use std::sync::{Arc, PoisonError};

use crate::open::{OpenSessions, Round, Tenant};

/// While nothing is appended the journal is looked at less and less often, down to once in so many paces; then hot state is looked at, too.
const IDLE: u32 = 8;

impl OpenSessions {
    /// Follows a tenant until nobody has asked for a while. One task for each tenant that is asked about, none for others.
    pub(crate) fn follow(&self, tenant: &Arc<Tenant>) {
        let (inner, tenant) = (Arc::downgrade(&self.inner), tenant.clone());
        let (pace, patience) = (self.inner.options.pace, self.inner.options.followed);
        tokio::spawn(async move {
            let (mut rest, mut sequence) = (pace, 0);
            loop {
                tokio::time::sleep(rest).await;
                let Some(inner) = inner.upgrade() else { return };
                let open = OpenSessions { inner };
                if !open.knows(&tenant) {
                    return;
                }
                if tenant.is_cold(patience) {
                    open.leave(&tenant).await;
                    return;
                }
                let listing = open.inner.journeys.store().list(&tenant.name, sequence).await;
                let appended = listing.is_ok_and(|listing| listing.sequence != sequence);
                rest = if appended { pace } else { (rest * 2).min(pace * IDLE) };
                if !appended && rest < pace * IDLE {
                    continue;
                }
                match open.catch_up(&tenant).await {
                    Ok(Round::Counted(counted)) => sequence = counted.revision.sequence,
                    Ok(Round::Lost(shards)) => open.rebuild(&tenant, shards),
                    Ok(Round::Away) => {}
                    Err(error) => tracing::debug!(%error, "the journal could not be followed"),
                }
                open.renew(&tenant).await;
            }
        });
    }

    /// Holds on to a tenant that this process owns.
    async fn renew(&self, tenant: &Tenant) {
        if tenant.owner.is_owner() {
            let (holder, lease) = (self.inner.holder, self.inner.options.lease);
            let renewed =
                tenant.owner.epoch(&tenant.sessions, holder, lease, self.inner.clock.now_ms()).await;
            if let Err(error) = renewed {
                tracing::debug!(%error, "the lease on a tenant's open sessions was not renewed");
            }
        }
    }

    /// Whether this is still how a tenant is followed; it is not after somebody was erased or the gap of sessions was changed.
    fn knows(&self, tenant: &Arc<Tenant>) -> bool {
        let tenants = self.inner.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.get(&tenant.name).is_some_and(|known| Arc::ptr_eq(known, tenant))
    }

    /// Follows a tenant no more.
    async fn leave(&self, tenant: &Tenant) {
        self.inner
            .tenants
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, known| !std::ptr::eq(&**known, tenant));
        tenant.owner.release(&tenant.sessions, self.inner.holder).await;
    }
}
