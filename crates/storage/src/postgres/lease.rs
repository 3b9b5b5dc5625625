//! One compaction of a tenant at a time, over all processes.
//!
//! Two at a time would do no harm, because a swap looks whether its inputs are live; they would do work for nothing. So a lease that a process which ended
//! never gives back just runs out. As long as a round holds its lock, however long one of its steps takes, a task renews the lease; when the round lets go, however
//! it ended, the task ends the lease. A token says whose lease it is, so that one who comes late does not end another's.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::FutureExt;
use runnel_model::TenantName;
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    task::unconstrained,
    time::{sleep, timeout},
};

use super::{Database, failure::unavailable, pool::Pool, session::Session, sqlx};
use crate::{Unavailable, backend::Purpose::Compaction};

/// How long a lease holds unless it is renewed.
const LEASE_MS: i64 = 20_000;
/// How often it is renewed, so that some of these may fail.
const RENEWAL: Duration = Duration::from_secs(5);
/// How often giving a lease back is tried.
const ATTEMPTS: usize = 10;
/// How often one who waits looks again.
const POLL: Duration = Duration::from_millis(200);

/// Takes the lease, by the clock of the database, if nobody holds it. A token is higher than all before it; the clock stands for those of which nothing is known any
/// more.
const TAKE: &str = "INSERT INTO chores AS known (tenant_id, waiting, sweep_ms, leased_until_ms, lease_token) \
                    SELECT $1, 0, clock.ms, clock.ms + $2, clock.ms \
                    FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms) AS clock \
                    ON CONFLICT (tenant_id) DO UPDATE SET leased_until_ms = excluded.leased_until_ms, \
                    lease_token = CASE WHEN excluded.lease_token > known.lease_token THEN excluded.lease_token \
                    ELSE known.lease_token + 1 END \
                    WHERE known.leased_until_ms <= excluded.sweep_ms RETURNING lease_token";
/// Holds the tenant for longer. Its row may be gone, when there was nothing else to note.
const RENEW: &str = "INSERT INTO chores AS known (tenant_id, waiting, sweep_ms, leased_until_ms, lease_token) \
                     SELECT $1, 0, clock.ms, clock.ms + $2, $3 \
                     FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms) AS clock \
                     ON CONFLICT (tenant_id) DO UPDATE SET leased_until_ms = excluded.leased_until_ms \
                     WHERE known.lease_token = excluded.lease_token";
/// Ends the lease, for good: a renewal that is still on its way finds another token.
const END: &str = "UPDATE chores SET leased_until_ms = $2, lease_token = lease_token + 1 \
                   WHERE tenant_id = $1 AND lease_token = $3";

/// Waits until a round has let go of its lock.
type Over = Pin<Box<dyn Future<Output = OwnedMutexGuard<()>> + Send>>;

impl Database {
    /// Keeps other compactions of the tenant out for as long as the guard is there. `None` when one runs and `wait` is not set.
    pub(crate) async fn compaction_lock(
        &self,
        tenant: &TenantName,
        wait: bool,
    ) -> Result<Option<OwnedMutexGuard<()>>, Unavailable> {
        let Some(alone) = self.compacting.take(tenant, wait).await else { return Ok(None) };
        let token = loop {
            if let Some(token) = self.take_lease(tenant).await? {
                break token;
            }
            if !wait {
                return Ok(None);
            }
            sleep(POLL).await;
        };
        let round = Arc::new(Mutex::new(()));
        let guard = round.clone().lock_owned().await;
        // Asked once now, it is the first in the row of those who wait.
        let mut over: Over = Box::pin(unconstrained(round.lock_owned()));
        drop((&mut over).now_or_never());
        let lease = Lease { pool: self.pools.compaction.clone(), tenant: tenant.clone(), token };
        tokio::spawn(lease.keep(over, alone));
        Ok(Some(guard))
    }

    /// Lets others in.
    pub(crate) async fn compaction_ends(&self, _: &TenantName, guard: OwnedMutexGuard<()>) {
        let round = OwnedMutexGuard::mutex(&guard).clone();
        drop(guard);
        // Whoever keeps the lease comes first, and lets go when that has ended.
        drop(round.lock().await);
    }

    /// The token of a new lease; `None` when somebody holds the tenant.
    async fn take_lease(&self, tenant: &TenantName) -> Result<Option<i64>, Unavailable> {
        let owner = tenant.clone();
        self.write(Compaction, Some(tenant), move |connection| {
            Box::pin(async move {
                let token: Option<(i64,)> = sqlx::query_as(TAKE)
                    .bind(owner.as_str())
                    .bind(LEASE_MS)
                    .fetch_optional(connection)
                    .await
                    .map_err(unavailable)?;
                Ok(token.map(|(token,)| token))
            })
        })
        .await
    }
}

/// A lease that this process holds.
struct Lease {
    pool: Pool,
    tenant: TenantName,
    token: i64,
}

impl Lease {
    /// Renews it until the round is over, then ends it. Only then the next one of this process has its turn.
    async fn keep(self, mut over: Over, alone: OwnedMutexGuard<()>) {
        let tenant = &self.tenant;
        let over = loop {
            if let Ok(over) = timeout(RENEWAL, &mut over).await {
                break over;
            }
            match self.set(RENEW, LEASE_MS).await {
                Ok(true) => {}
                Ok(false) => tracing::debug!(%tenant, "another worker has a tenant's compaction by now"),
                Err(error) => {
                    tracing::warn!(%error, %tenant, "a lease on a tenant's compaction was not renewed")
                }
            }
        };
        for attempt in 1..=ATTEMPTS {
            match self.set(END, 0).await {
                Ok(_) => break,
                Err(error) if attempt == ATTEMPTS || matches!(error, Unavailable::Closed) => {
                    tracing::warn!(%error, %tenant, "the lease on a tenant's compaction runs out by itself");
                    break;
                }
                Err(_) => sleep(POLL).await,
            }
        }
        drop((alone, over));
    }

    /// Sets until when the tenant is held. `false` when another one has it.
    async fn set(&self, statement: &'static str, lease_ms: i64) -> Result<bool, Unavailable> {
        let (owner, token) = (self.tenant.clone(), self.token);
        let mut session = Session::begin(&self.pool, Some(&self.tenant), false).await?;
        let set = session.work(move |connection| {
            Box::pin(async move {
                let set = sqlx::query(statement)
                    .bind(owner.as_str())
                    .bind(lease_ms)
                    .bind(token)
                    .execute(connection)
                    .await
                    .map_err(unavailable)?;
                Ok(set.rows_affected() == 1)
            })
        });
        match set.await {
            Ok(set) => session.commit().await.map(|()| set),
            Err(error) => {
                session.roll_back().await;
                Err(error)
            }
        }
    }
}
