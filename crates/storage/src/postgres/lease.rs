//! One compaction of a tenant at a time, over all processes.
//!
//! Two at a time would do no harm, because a swap looks whether its inputs are live; they would do work for nothing. So a lease that a process which ended
//! never gives back just runs out.

use std::time::Duration;

use runnel_model::TenantName;
use tokio::sync::OwnedMutexGuard;

use super::{Database, failure::unavailable, sqlx};
use crate::{Unavailable, backend::Purpose::Compaction};

/// How long a lease holds unless it is renewed.
const LEASE_MS: i64 = 20_000;
/// How often giving a lease back is tried again.
const ATTEMPTS: usize = 10;
/// How often one who waits looks again.
const POLL: Duration = Duration::from_millis(200);

impl Database {
    /// Keeps other compactions of the tenant out. `None` when one runs and `wait` is not set.
    pub(crate) async fn compaction_lock(
        &self,
        tenant: &TenantName,
        wait: bool,
    ) -> Result<Option<OwnedMutexGuard<()>>, Unavailable> {
        let alone = self.compacting.wait(tenant).await;
        while !self.lease(tenant, true, LEASE_MS).await? {
            if !wait {
                return Ok(None);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(Some(alone))
    }

    /// Holds the tenant for longer.
    pub(crate) async fn compaction_goes_on(&self, tenant: &TenantName) -> Result<(), Unavailable> {
        self.lease(tenant, false, LEASE_MS).await.map(|_| ())
    }

    /// Lets others in.
    pub(crate) async fn compaction_ends(&self, tenant: &TenantName, alone: OwnedMutexGuard<()>) {
        let mut ended = self.lease(tenant, false, 0).await;
        for _ in 0..ATTEMPTS {
            if ended.is_ok() {
                break;
            }
            tokio::time::sleep(POLL).await;
            ended = self.lease(tenant, false, 0).await;
        }
        if let Err(error) = ended {
            tracing::warn!(%error, %tenant, "the lease on a tenant's compaction runs out by itself");
        }
        drop(alone);
    }

    /// Sets how long the tenant is held, by the clock of the database, if nobody holds it or `only_free` is not set.
    async fn lease(&self, tenant: &TenantName, only_free: bool, lease_ms: i64) -> Result<bool, Unavailable> {
        let owner = tenant.clone();
        self.write(Compaction, Some(tenant), move |connection| {
            Box::pin(async move {
                let leased = sqlx::query(
                    "INSERT INTO chores AS known (tenant_id, waiting, sweep_ms, leased_until_ms) \
                     SELECT $1, 0, clock.ms, clock.ms + $2 \
                     FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms) AS clock \
                     ON CONFLICT (tenant_id) DO UPDATE SET leased_until_ms = excluded.leased_until_ms \
                     WHERE NOT $3 OR known.leased_until_ms <= excluded.sweep_ms",
                )
                .bind(owner.as_str())
                .bind(lease_ms)
                .bind(only_free)
                .execute(connection)
                .await
                .map_err(unavailable)?;
                Ok(leased.rows_affected() == 1)
            })
        })
        .await
    }
}
